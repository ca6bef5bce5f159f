"""Point operations: against brute force, and the pytorch3d path against the pure one."""

import types

import numpy as np
import pytest
import torch

from art_perception.geometry import points


def clouds(shape_a, shape_b, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(*shape_a, generator=g) * 2 + 3, torch.rand(*shape_b, generator=g) * 2 + 3


def brute_distances(a, b):
    return (a[..., :, None, :] - b[..., None, :, :]).norm(dim=-1)


def test_knn_finds_the_nearest_in_order():
    a, b = clouds((2, 50, 3), (2, 80, 3))
    distance, index = points.knn(a, b, 5)
    expected = brute_distances(a, b).sort(-1)
    assert torch.equal(index, expected.indices[..., :5])
    assert torch.allclose(distance, expected.values[..., :5], atol=1e-6)


def test_knn_in_blocks_equals_knn_at_once(monkeypatch):
    a, b = clouds((2, 50, 3), (2, 80, 3))
    whole = points.knn(a, b, 3)[1]
    monkeypatch.setattr(points, "CHUNK", 1000)
    assert torch.equal(points.knn(a, b, 3)[1], whole)


def test_knn_is_accurate_far_from_the_origin():
    a = torch.tensor([[[100.0, 0, 0]]])
    b = a + torch.tensor([[[0.002, 0, 0], [0, 0.001, 0], [0, 0, 0.003]]])
    assert points.knn(a, b, 3)[1].tolist() == [[[1, 0, 2]]]


def test_farthest_points_are_spread_and_start_at_the_first():
    cloud, _ = clouds((3, 200, 3), (1, 1, 3))
    index = points.farthest_points(cloud, 20)
    for b in range(3):
        chosen = [0]
        for _ in range(19):
            chosen.append(int(brute_distances(cloud[b], cloud[b, chosen]).min(-1).values.argmax()))
        assert index[b].tolist() == chosen


def test_ball_query_gives_the_first_in_index_order():
    a, b = clouds((2, 30, 3), (2, 60, 3))
    index = points.ball_query(a, b, 0.5, 8)
    inside = brute_distances(a, b) < 0.5
    for i in range(2):
        for j in range(30):
            expected = inside[i, j].nonzero()[:8, 0].tolist()
            assert index[i, j].tolist() == expected + [-1] * (8 - len(expected))


def test_ball_query_with_more_neighbours_than_points():
    a, b = clouds((1, 4, 3), (1, 3, 3))
    index = points.ball_query(a, b, 100.0, 5)
    assert index.tolist() == [[[0, 1, 2, -1, -1]] * 4]


def test_gather_takes_any_index_shape():
    _, b = clouds((1, 1, 3), (2, 10, 3))
    index = torch.randint(0, 10, (2, 4, 5))
    picked = points.gather(b, index)
    assert picked.shape == (2, 4, 5, 3)
    assert torch.equal(picked[1, 2, 3], b[1, index[1, 2, 3]])


def test_chamfer_of_a_shifted_grid_is_the_shift():
    grid = torch.stack(torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert torch.isclose(points.chamfer(grid, grid + torch.tensor([0.1, 0, 0])), torch.tensor(0.1), atol=1e-6)
    assert points.chamfer(grid, grid.flip(0)) == 0


def test_chamfer_distances_match_brute_force():
    a, b = clouds((70, 3), (90, 3))
    to_b, to_a = points.chamfer_distances(a, b)
    full = brute_distances(a, b)
    assert torch.allclose(to_b, full.min(1).values, atol=1e-6)
    assert torch.allclose(to_a, full.min(0).values, atol=1e-6)


def test_gradient_of_chamfer_matches_finite_differences():
    a, b = (x.double() for x in clouds((6, 3), (7, 3)))
    a.requires_grad_()
    b.requires_grad_()
    assert torch.autograd.gradcheck(points.chamfer, (a, b))


def test_gradient_of_knn_distance_is_finite_at_coincident_points():
    a = torch.ones(1, 2, 3, requires_grad=True)
    points.knn(a, torch.ones(1, 2, 3), 2)[0].sum().backward()
    assert torch.isfinite(a.grad).all()


def fake_pytorch3d():
    """The three functions of ``pytorch3d.ops`` with their documented signatures, by brute force."""

    def knn_points(p1, p2, K, return_sorted):
        assert return_sorted
        return types.SimpleNamespace(idx=torch.cdist(p1, p2).topk(K, -1, largest=False).indices)

    def sample_farthest_points(cloud, K, random_start_point):
        assert not random_start_point
        out = [[0] for _ in cloud]
        for row, p in zip(out, cloud, strict=True):
            while len(row) < K:
                row.append(int(brute_distances(p, p[row]).min(-1).values.argmax()))
        index = torch.tensor(out)
        return points.gather(cloud, index), index

    def ball_query(p1, p2, K, radius, return_nn):
        assert not return_nn
        index = torch.full((*p1.shape[:2], K), -1)
        for b, i in np.ndindex(*p1.shape[:2]):
            found = ((p1[b, i] - p2[b]).norm(dim=-1) < radius).nonzero()[:K, 0]
            index[b, i, : len(found)] = found
        return types.SimpleNamespace(idx=index)

    return types.SimpleNamespace(
        knn_points=knn_points, sample_farthest_points=sample_farthest_points, ball_query=ball_query
    )


def results(a, b):
    return points.knn(a, b, 4)[1], points.farthest_points(b, 9), points.ball_query(a, b, 0.4, 6)


def test_pytorch3d_path_asks_the_right_questions(monkeypatch):
    a, b = clouds((2, 20, 3), (2, 40, 3))
    pure = results(a, b)
    ops = fake_pytorch3d()
    monkeypatch.setattr(points, "_backend", lambda x: ops)
    for mine, theirs in zip(pure, results(a, b), strict=True):
        assert torch.equal(mine, theirs)


def test_real_pytorch3d_agrees(monkeypatch):
    ops = pytest.importorskip("pytorch3d.ops")
    a, b = clouds((2, 200, 3), (2, 400, 3))
    pure = results(a, b)
    monkeypatch.setattr(points, "_backend", lambda x: ops)
    for mine, theirs in zip(pure, results(a, b), strict=True):
        assert torch.equal(mine, theirs)


def test_cpu_tensors_never_use_pytorch3d():
    assert points._backend(torch.zeros(1)) is None
