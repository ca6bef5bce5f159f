"""Batches of shapes: clouds and distances follow the joints, views see what a camera would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from shape_tools import small_bank

from art_perception.data.clouds import CloudsConfig, choose, draw_shapes
from art_perception.data.partial import ViewsConfig, draw_views
from art_perception.data.shape_bank import QUANTUM
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import inverse, transform
from art_perception.types import ShapeBatch, ViewBatch

INDEX = np.array([0, 1, 2] * 8)
CONFIG = CloudsConfig(points=300, labelled=400, queries=200)


def shapes(seed: int = 0, index: np.ndarray = INDEX) -> ShapeBatch:
    return draw_shapes(small_bank(), index, CONFIG, np.random.default_rng(seed), "cpu")


def views(config: ViewsConfig, seed: int = 0, index: np.ndarray = INDEX) -> tuple[ShapeBatch, ViewBatch]:
    batch = shapes(seed, index)
    return batch, draw_views(small_bank(), index, batch.q, config, np.random.default_rng(seed))


def at_rest(points: torch.Tensor, label: torch.Tensor, batch: ShapeBatch) -> torch.Tensor:
    """Points (B, N, 3) back where they are at zero joint values."""
    back = inverse(placed(batch.twists, batch.q))
    own = back[torch.arange(len(back))[:, None], label]
    return (own[..., :3, :3] @ points[..., None])[..., 0] + own[..., :3, 3]


def distance_to_bank(points: torch.Tensor, i: int) -> np.ndarray:
    from scipy.spatial import cKDTree

    return cKDTree(small_bank().points[i] * QUANTUM).query(points.numpy())[0]


def test_points_are_moved_by_their_joint():
    batch = shapes()
    rest = at_rest(batch.points, batch.label, batch)
    for b, i in enumerate(INDEX):
        assert distance_to_bank(rest[b], i).max() < 1e-5
    still = batch.label == 0
    np.testing.assert_allclose(rest[still], batch.points[still], atol=1e-6)


def test_joint_values_fill_their_ranges():
    states = torch.cat([shapes(seed).q for seed in range(20)])
    upper = torch.cat([shapes(seed).upper for seed in range(20)])
    share = (states / upper.clamp(min=1e-6))[upper > 0]
    assert share.min() == 0
    assert share.max() > 0.95
    assert not states[upper == 0].any()
    assert not torch.equal(shapes().q, shapes().q_cloud)


def test_queries_are_of_present_parts():
    batch = shapes()
    assert batch.present.sum(1).tolist() == [2, 3, 2] * 8
    assert batch.queries.shape == (24, 3, 200, 3)
    near = batch.sdf.abs() < 0.01
    for b, i in enumerate(INDEX[:3]):
        for k in range(small_bank().parts[i]):
            own = small_bank().points[i][small_bank().part[i] == k] * QUANTUM
            gap = torch.cdist(batch.queries[b, k][near[b, k]], torch.tensor(own, dtype=torch.float32)).amin(1)
            assert gap.max() < 0.06


def test_boxes_enclose_their_parts():
    batch = shapes()
    assert batch.boxes[~batch.present].isinf().all()
    for b, i in enumerate(INDEX[:3]):
        for k in range(small_bank().parts[i]):
            own = small_bank().points[i][small_bank().part[i] == k] * QUANTUM
            np.testing.assert_allclose(batch.boxes[b, k], np.stack([own.min(0), own.max(0)]), atol=1e-6)


def test_a_seed_decides_and_categories_count_alike():
    a, b = shapes(3), shapes(3)
    assert torch.equal(a.cloud, b.cloud)
    assert not torch.equal(a.cloud, shapes(4).cloud)
    bank = small_bank().subset([0, 0, 0, 0, 1, 2])
    chosen = bank.category[choose(bank, 600, np.random.default_rng(0))]
    assert np.bincount(chosen, minlength=5)[[0, 1, 4]].min() > 150


def test_exact_views_lie_on_the_surface_and_face_the_camera():
    batch, view = views(ViewsConfig(points=400, noise=0.0, occluded=0.0))
    rest = at_rest(view.canonical, view.label, batch)
    for b, i in enumerate(INDEX):
        assert distance_to_bank(rest[b], i).max() < 1e-4
    again = transform(view.T, view.size[:, None, None] * view.canonical)
    np.testing.assert_allclose(again, view.points, atol=1e-5)
    assert (view.points[..., 2] > 0).all()
    np.testing.assert_allclose(torch.linalg.det(view.T[:, :3, :3]), 1, atol=1e-5)


def test_a_closed_lid_hides_what_is_under_it():
    index = np.zeros(16, int)
    config = ViewsConfig(points=400, noise=0.0, occluded=0.0, elevation_deg=(40, 70))
    view = draw_views(small_bank(), index, torch.zeros(16, 2), config, np.random.default_rng(0))
    lid_top = view.canonical[..., 2].amax((0, 1))
    inner = (view.label == 0) & (view.canonical[..., 2] > lid_top - 0.09) & (view.canonical[..., 0].abs() < 0.2)
    assert inner.float().mean() < 0.02


def test_the_camera_is_in_front_and_the_object_upright():
    _, view = views(ViewsConfig(occluded=0.0))
    R, t = view.T[:, :3, :3], view.T[:, :3, 3:]
    camera = (-R.mT @ t)[..., 0] / view.size[:, None]
    assert (torch.rad2deg(torch.atan2(camera[:, 1], camera[:, 0])).abs() < 110).all()
    elevation = torch.rad2deg(torch.asin(camera[:, 2] / camera.norm(dim=1)))
    assert ((elevation > -30) & (elevation < 90)).all()
    assert (R[:, 1, 2] < 0.35).all(), "the object's z axis points up in the image"


def test_occlusion_and_noise():
    free, covered = (views(ViewsConfig(occluded=share))[1].visible for share in (0.0, 1.0))
    assert covered.min() >= 0.1 * free.min()
    assert (covered / free).min() < 0.4
    assert (covered / free).max() > 0.8
    exact, noisy = (views(ViewsConfig(noise=noise))[1] for noise in (0.0, 1.0))
    depth_error = (noisy.points[..., 2] - exact.points[..., 2]).abs()
    assert 1e-4 < depth_error.mean() < 0.02
    np.testing.assert_allclose(  # along the rays
        noisy.points[..., :2] / noisy.points[..., 2:], exact.points[..., :2] / exact.points[..., 2:], atol=1e-4
    )


def test_a_view_of_almost_nothing_repeats_points():
    bank = replace(small_bank(), normals=np.zeros_like(small_bank().normals))
    view = draw_views(bank, INDEX[:3], torch.zeros(3, 2), ViewsConfig(points=64), np.random.default_rng(0))
    assert torch.isfinite(view.points).all()
