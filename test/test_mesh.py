"""Mesh helpers, voxel surfaces, convex pieces: closed, right volume, nothing lost."""

import numpy as np
import pytest
from object_tools import box_mesh, tilted_pose

from art_perception.geometry import mesh as m
from art_perception.geometry.convex import convex_pieces
from art_perception.geometry.voxels import grid_around, keep_large, refine, surface, tidy
from art_perception.types import Mesh


def ball_mesh(radius=1.0):
    trimesh = pytest.importorskip("trimesh")
    return m.from_trimesh(trimesh.creation.icosphere(4, radius))


def contains(piece, points):
    """Whether points (N, 3) lie in a convex mesh, with a millimetre of slack."""
    a, b, c = (piece.vertices[piece.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return ((points[:, None] - a) * normal).sum(-1).max(1) < 1e-3


def test_mass_properties_of_a_box_and_a_ball():
    box = m.mass_properties(box_mesh([1, 2, 3], [0.2, 0.4, 0.6]), 500)
    assert box.mass_kg == pytest.approx(500 * 0.048)
    assert np.allclose(box.center_m, [1, 2, 3])
    expected = box.mass_kg / 12 * np.array([0.4**2 + 0.6**2, 0.2**2 + 0.6**2, 0.2**2 + 0.4**2])
    assert np.allclose(box.inertia_kgm2, np.diag(expected))
    ball = m.mass_properties(ball_mesh(0.5), 1000)
    assert ball.mass_kg == pytest.approx(1000 * np.pi / 6, rel=0.01)
    assert np.allclose(ball.inertia_kgm2, 0.4 * ball.mass_kg * 0.25 * np.eye(3), rtol=0.01, atol=0.1)


def test_mass_properties_turn_with_the_mesh():
    box, T = box_mesh([0.1, 0, 0], [0.2, 0.4, 0.6]), tilted_pose()
    before, after = m.mass_properties(box, 500), m.mass_properties(m.transformed(box, T), 500)
    R = T[:3, :3]
    assert np.allclose(after.inertia_kgm2, R @ before.inertia_kgm2 @ R.T)
    assert np.allclose(after.center_m, R @ before.center_m + T[:3, 3])


@pytest.mark.parametrize(
    "mesh",
    [
        m.empty_mesh(),
        box_mesh([0, 0, 0], [1, 1, 1e-7]),
        box_mesh([0, 0, 0], [1e-5, 1e-5, 1e-5]),
        Mesh(np.eye(3), np.array([[0, 1, 2]])),
        Mesh(box_mesh([0, 0, 0], [1, 1, 1]).vertices, box_mesh([0, 0, 0], [1, 1, 1]).faces[:9]),
    ],
    ids=["empty", "flat", "tiny", "triangle", "open"],
)
def test_inertia_is_physical_whatever_the_mesh(mesh):
    found = m.mass_properties(mesh, 500)
    low, middle, high = np.linalg.eigvalsh(found.inertia_kgm2)
    assert found.mass_kg >= m.MIN_MASS_KG
    assert low > 0
    assert low + middle >= high * (1 - 1e-9)


def test_an_open_mesh_has_the_mass_of_its_hull():
    box = box_mesh([0, 0, 0], [1, 1, 1])
    assert m.mass_properties(Mesh(box.vertices, box.faces[:9]), 500).mass_kg == pytest.approx(500)


def test_watertight_means_closed_and_consistently_wound():
    box = box_mesh([0, 0, 0], [1, 1, 1])
    flipped = box.faces.copy()
    flipped[0] = flipped[0][::-1]
    assert m.is_watertight(box)
    assert not m.is_watertight(Mesh(box.vertices, box.faces[1:]))
    assert not m.is_watertight(Mesh(box.vertices, flipped))
    assert not m.is_watertight(m.empty_mesh())


def test_mirroring_keeps_outside_outside():
    mirrored = m.transformed(box_mesh([1, 0, 0], [1, 1, 2]), np.diag([-1.0, 1, 1, 1]))
    assert m.signed_volume(mirrored) == pytest.approx(2)
    assert np.isclose(mirrored.vertices[:, 0].mean(), -1)


def test_merging_keeps_shapes_and_gives_grey_to_the_colourless():
    both = m.merged([box_mesh([0, 0, 0], [1, 1, 1]), m.empty_mesh(), box_mesh([5, 0, 0], [1, 1, 1], (1, 2, 3))])
    assert m.signed_volume(both) == pytest.approx(2)
    assert both.colors[:8].tolist() == [[180, 180, 180]] * 8
    assert both.colors[8:].tolist() == [[1, 2, 3]] * 8
    assert not len(m.merged([]).faces)


def test_trimesh_round_trip_keeps_vertices_faces_and_colours():
    box = box_mesh([0, 0, 0], [1, 1, 1], (10, 20, 30))
    back = m.from_trimesh(m.to_trimesh(box))
    assert np.array_equal(back.vertices, box.vertices)
    assert np.array_equal(back.faces, box.faces)
    assert np.array_equal(back.colors, box.colors)
    assert m.from_trimesh(m.to_trimesh(box_mesh([0, 0, 0], [1, 1, 1]))).colors is None


def test_samples_are_uniform_over_the_surface():
    points = m.sample_surface(box_mesh([0, 0, 0], [1, 1, 3]), 20000, np.random.default_rng(0))
    on_ends = np.isclose(np.abs(points[:, 2]), 1.5)
    assert np.allclose(np.abs(points / [0.5, 0.5, 1.5]).max(1), 1)
    assert on_ends.mean() == pytest.approx(2 / 14, abs=0.01)
    assert m.sample_surface(m.empty_mesh(), 5, np.random.default_rng(0)).shape == (0, 3)


def test_hull_of_a_box_with_an_inner_point_is_the_box():
    box = box_mesh([0, 0, 0], [1, 2, 3])
    hull = m.convex_hull(Mesh(np.vstack([box.vertices, [[0, 0, 0]]]), box.faces))
    assert m.signed_volume(hull) == pytest.approx(6)
    assert len(hull.vertices) == 8
    assert m.is_watertight(hull)


def test_simplifying_a_ball_keeps_it_closed_and_round():
    ball = ball_mesh()
    light = m.simplified(ball, 0.0, 1000)
    assert len(light.faces) <= 1000
    assert m.is_watertight(light)
    assert m.signed_volume(light) == pytest.approx(m.signed_volume(ball), rel=0.02)


def test_smoothing_takes_away_noise_but_not_volume():
    ball = ball_mesh()
    noisy = Mesh(ball.vertices + np.random.default_rng(0).normal(size=ball.vertices.shape) * 0.01, ball.faces)
    smooth = m.smoothed(noisy, 5)
    assert np.linalg.norm(smooth.vertices, axis=1).std() < 0.5 * np.linalg.norm(noisy.vertices, axis=1).std()
    assert m.signed_volume(smooth) == pytest.approx(m.signed_volume(ball), rel=0.01)


# --- voxels ---


def sampled_ball(radius=0.3, voxel_m=0.02):
    grid = grid_around(np.array([[-radius] * 3, [radius] * 3]), voxel_m, 0.1)
    positions = grid.positions(np.arange(np.prod(grid.shape))).reshape(*grid.shape, 3)
    return grid, np.linalg.norm(positions, axis=-1) - radius


def test_surface_of_a_sampled_ball_is_closed_outward_and_exact():
    grid, field = sampled_ball()
    ball = surface(field, grid)
    assert m.is_watertight(ball)
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 0.3, atol=1e-3)
    assert m.signed_volume(ball) == pytest.approx(4 / 3 * np.pi * 0.027, rel=0.01)


def test_surface_is_closed_even_when_the_solid_touches_the_border():
    grid, field = sampled_ball()
    assert m.is_watertight(surface(field - 0.2, grid))
    assert m.is_watertight(surface(-np.ones_like(field), grid))
    assert not len(surface(np.ones_like(field), grid).faces)


def test_tidy_removes_crumbs_and_cavities():
    grid, field = sampled_ball()
    field[1, 1, 1] = -1
    hollow = np.maximum(field, 0.1 - (field + 0.3))
    clean = tidy(hollow, np.ones_like(field), 0.05)
    assert clean[1, 1, 1] > 0
    assert (clean[tuple(n // 2 for n in grid.shape)]) < 0
    assert (clean < 0).sum() == (field < 0).sum() - 1


def test_crumbs_go_and_large_pieces_stay():
    large, half, crumb = (
        box_mesh(np.array([x, 0, 0]), np.full(3, edge)) for x, edge in ((0, 1.0), (3, 0.5), (5, 0.05))
    )
    kept = m.without_crumbs(m.merged([crumb, large, half]), 0.01)
    assert m.is_watertight(kept)
    assert m.signed_volume(kept) == pytest.approx(1.0 + 0.125)
    assert m.without_crumbs(m.empty_mesh(), 0.01).faces.shape == (0, 3)


def test_keep_large_weighs_components():
    mask = np.zeros((9, 3, 3), bool)
    mask[:2], mask[4:8] = True, True
    weight = np.zeros(mask.shape)
    weight[0, 0, 0], weight[5, 0, 0] = 10, 1
    kept = keep_large(mask, weight, 0.5)
    assert kept[:2].all()
    assert not kept[4:].any()


def test_refining_a_linear_field_is_exact():
    grid = grid_around(np.array([[0.0, 0, 0], [1.0, 0.7, 0.4]]), 0.05, 0.0)
    coarse = grid.coarser(3)
    linear = np.array([1.0, -2.0, 3.0])

    def sample(g):
        return (g.positions(np.arange(np.prod(g.shape))) @ linear).reshape(g.shape)

    assert np.allclose(refine(sample(coarse), 3, grid.shape), sample(grid), atol=1e-5)


def test_cells_round_trip_through_flat_indices():
    grid, field = sampled_ball()
    index = np.arange(0, field.size, 7)
    assert np.array_equal(grid.flat_index(grid.positions(index)), index)
    assert not len(grid.flat_index(np.array([[9.0, 0, 0]])))


# --- convex pieces ---


def open_box(size=1.0, thickness=0.05):
    """Five panels joined into one solid: an open-topped crate."""
    manifold = pytest.importorskip("manifold3d").Manifold
    outer = manifold.cube((size, size, size), True)
    inner = manifold.cube((size - 2 * thickness, size - 2 * thickness, size), True).translate((0, 0, thickness))
    return m.from_manifold(outer - inner)


def test_a_convex_mesh_is_one_piece():
    pieces = convex_pieces(ball_mesh(), 8)
    assert len(pieces) == 1
    assert m.signed_volume(pieces[0]) == pytest.approx(4 / 3 * np.pi, rel=0.02)


@pytest.mark.parametrize("T", [np.eye(4), tilted_pose()], ids=["aligned", "tilted"])
def test_a_crate_comes_apart_into_its_panels(T):
    crate = m.transformed(open_box(), T)
    pieces = convex_pieces(crate, 8)
    assert len(pieces) == 5
    assert sum(m.signed_volume(p) for p in pieces) == pytest.approx(m.signed_volume(crate), rel=0.05)


def test_pieces_cover_the_mesh_and_are_convex():
    crate = open_box()
    pieces = convex_pieces(crate, 8)
    points = m.sample_surface(crate, 500, np.random.default_rng(0))
    assert np.any([contains(p, points) for p in pieces], axis=0).all()
    for piece in pieces:
        assert m.signed_volume(piece) == pytest.approx(m.signed_volume(m.convex_hull(piece)))


def test_the_number_of_pieces_is_bounded():
    assert len(convex_pieces(open_box(), 3)) <= 3
    assert len(convex_pieces(open_box(), 1)) == 1


def test_pieces_of_nothing_and_of_an_open_mesh():
    assert convex_pieces(m.empty_mesh(), 8) == ()
    box = box_mesh([0, 0, 0], [1, 1, 1])
    (piece,) = convex_pieces(Mesh(box.vertices, box.faces[:9]), 8)
    assert m.signed_volume(piece) == pytest.approx(1)
