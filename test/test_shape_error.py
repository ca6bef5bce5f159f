"""Chamfer errors of meshes: their floor, known offsets, units, pairing; true surfaces where images see them."""

from dataclasses import replace

import numpy as np
import pytest
from object_tools import box_mesh
from scipy.spatial import cKDTree

from art_perception.data.config import SimulateConfig
from art_perception.data.objects import make_object
from art_perception.data.shade import surface_points
from art_perception.data.simulate import simulate
from art_perception.eval.benchmark_shapes import oracle_prior, place, true_shape
from art_perception.eval.scoring import moving_joints, truth_from
from art_perception.eval.shape_error import MISSING, TrueShape, paired_parts, shape_score, surface_error
from art_perception.geometry.mesh import empty_mesh, merged, sample_surface, transformed
from art_perception.types import Mesh
from art_perception.urdf.reader import load_urdf

COUNT = 30_000
BOXES = (box_mesh(np.zeros(3), np.array([0.4, 0.5, 0.6])), box_mesh(np.array([0.3, 0, 0]), np.array([0.02, 0.5, 0.6])),
         box_mesh(np.array([0, 0.4, 0]), np.array([0.4, 0.02, 0.6])))  # fmt: skip
SQUARE = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))


def truth(meshes, size_m):
    rng = np.random.default_rng(9)
    parts = tuple(sample_surface(mesh, COUNT, rng) for mesh in meshes)
    return TrueShape(sample_surface(merged(meshes), COUNT, rng), parts, size_m)


def shifted(mesh, shift):
    T = np.eye(4)
    T[:3, 3] = shift
    return transformed(mesh, T)


def test_a_mesh_against_itself_has_the_floor_of_its_samples():
    points = sample_surface(SQUARE, COUNT, np.random.default_rng(1))
    floor = 1000 * 0.5 / np.sqrt(COUNT)  # mean distance to the nearest of COUNT random points per unit of area
    assert surface_error(SQUARE, points, 1.0, np.random.default_rng(2)) == pytest.approx(floor, rel=0.05)


@pytest.mark.parametrize("gap_m", [0.05, 0.1])
def test_a_known_offset_gives_the_known_value(gap_m):
    points = sample_surface(shifted(SQUARE, [0, 0, gap_m]), COUNT, np.random.default_rng(1))
    assert surface_error(SQUARE, points, 2.0, np.random.default_rng(2)) == pytest.approx(1000 * gap_m / 2, rel=0.01)


def test_errors_have_no_unit():
    grown = [Mesh(10 * mesh.vertices, mesh.faces) for mesh in BOXES]
    moved = [shifted(mesh, [0.02, 0, 0]) for mesh in BOXES]
    moved_grown = [Mesh(10 * mesh.vertices, mesh.faces) for mesh in moved]
    small, large = shape_score(moved, truth(BOXES, 0.9)), shape_score(moved_grown, truth(grown, 9.0))
    assert (small.whole, small.static, small.moving) == pytest.approx((large.whole, large.static, large.moving))


def test_moving_parts_are_paired_whatever_their_order():
    true = truth(BOXES, 0.9)
    straight, turned = shape_score(BOXES, true), shape_score((BOXES[0], BOXES[2], BOXES[1]), true)
    assert straight.moving == pytest.approx(turned.moving, rel=0.05)
    assert paired_parts((BOXES[0], BOXES[2], BOXES[1]), true) == {0: 0, 1: 2, 2: 1}


def test_a_part_without_a_mesh_counts_as_much_as_possible():
    true = truth(BOXES, 0.9)
    perfect, lacking = shape_score(BOXES, true), shape_score((BOXES[0], BOXES[1], empty_mesh()), true)
    assert lacking.moving == pytest.approx((perfect.moving + MISSING) / 2, rel=0.05)
    assert lacking.static == pytest.approx(perfect.static, rel=0.05)
    assert shape_score((empty_mesh(),), true).static == MISSING


def test_a_part_too_many_counts_in_the_whole_alone():
    true = truth(BOXES, 0.9)
    perfect, more = shape_score(BOXES, true), shape_score((*BOXES, shifted(BOXES[1], [1.0, 0, 0])), true)
    assert more.whole > 2 * perfect.whole
    assert more.moving == pytest.approx(perfect.moving, rel=0.05)


@pytest.fixture(scope="module")
def clip():
    return simulate(make_object("laptop", 3), SimulateConfig(frames=12, width=160, height=120), 4)


@pytest.fixture(scope="module")
def clip_truth(clip):
    joints = load_urdf(clip.robot_description, load_meshes=False).joints
    return truth_from(joints, clip.joint_names, clip.stamps_ns * 1e-9, clip.q)


@pytest.mark.parametrize("t", [0, 11])
def test_true_surfaces_are_where_exact_depth_sees_them(clip, clip_truth, t):
    placed = place(clip.obj, clip.plan.T_world_object, clip_truth, clip.stamps_ns[t] * 1e-9)
    exact = clip.exact(t)
    points = surface_points(exact.depth_m, clip.plan.K, clip.plan.T_world_camera[t])
    assert len(placed.surfaces) == 1 + len(moving_joints(clip_truth))
    for k, surface in enumerate(placed.surfaces):
        dense, _ = surface.sample(200_000, np.random.default_rng(0))
        seen = points[exact.part_ids == k + 1]
        assert len(seen) > 100
        assert np.percentile(cKDTree(dense).query(seen)[0], 99) < 0.003


def test_the_size_is_that_of_the_closed_object(clip, clip_truth):
    placed = place(clip.obj, clip.plan.T_world_object, clip_truth, 0.0)
    away = place(clip.obj, clip.plan.T_world_object, clip_truth, clip.stamps_ns[-1] * 1e-9)
    assert placed.size_m == away.size_m
    low, high = clip.obj.bounds
    assert 0.5 < placed.size_m / np.linalg.norm(high - low) < 1.5


def test_an_oracle_prior_is_zero_on_the_true_surface_and_knows_only_its_parts(clip, clip_truth):
    placed = place(clip.obj, clip.plan.T_world_object, clip_truth, 0.0)
    true = true_shape(placed, samples=2000)
    prior = oracle_prior(placed, {0: 0, 1: 1})
    for k, points in enumerate(true.parts):
        assert np.percentile(np.abs(prior(k, points)), 90) < 0.006 * true.size_m
    assert prior(2, true.whole).min() > 10
    swapped = replace(prior, part_of={0: 1})
    assert np.allclose(swapped(0, true.parts[1]), prior(1, true.parts[1]))
