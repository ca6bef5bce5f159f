"""Fusing a rendered cabinet with shape priors that are exact, a little wrong, hollow, too large or ignorant."""

from dataclasses import replace

import numpy as np
import pytest
from fuse_tools import BODY, DOOR, VOXEL, cabinet, distance_to, render
from object_tools import box_mesh
from scipy import ndimage

from art_perception.estimation.fuse import fuse_parts
from art_perception.estimation.measured import Oriented
from art_perception.estimation.prior_fill import PriorFillConfig, bent_field
from art_perception.geometry.mesh import is_watertight, sample_oriented, sample_surface, signed_volume
from art_perception.geometry.voxels import grid_around, surface
from art_perception.types import UNLABELLED

DEEP = (BODY[0] - [0.1, 0, 0], BODY[1] + [0.2, 0, 0])  # the body grown to the back, which no camera sees
FAR = 10.0


def box_distance(points, box):
    """Exact signed distance (N,) to an axis-aligned box."""
    center, size = box
    beyond = np.abs(points - center) - size / 2
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0)


def prior_of(*boxes):
    """A prior whose k-th part is the k-th box; it knows nothing of the parts beyond."""
    return lambda part, x: box_distance(x, boxes[part]) if part < len(boxes) else np.full(len(x), FAR)


def error(mesh, box, share=95):
    """Larger of the two one-way distances between a mesh and a box that ``share`` percent of the surface keep."""
    true = box_mesh(*box)
    there = distance_to(true, sample_surface(mesh, 6000, np.random.default_rng(0)))
    back = distance_to(mesh, sample_surface(true, 6000, np.random.default_rng(0)))
    return max(np.percentile(there, share), np.percentile(back, share))


@pytest.fixture(scope="module")
def scene():
    return cabinet()


@pytest.fixture(scope="module")
def exact(scene):
    return fuse_parts(*scene, None, prior_of(BODY, DOOR))


@pytest.mark.parametrize("k", [0, 1])
def test_an_exact_prior_completes_what_no_camera_saw(exact, k):
    assert error(exact[k].visual, (BODY, DOOR)[k]) < VOXEL
    assert is_watertight(exact[k].visual)
    assert signed_volume(exact[k].visual) == pytest.approx(np.prod((BODY, DOOR)[k][1]), rel=0.12)


def test_the_grid_grows_to_what_the_prior_adds(scene):
    window, motion = render(
        (DEEP, DOOR), scene[1].joints, scene[1].q, [f.T_world_camera for f in scene[0].frames], 0.001
    )
    base = fuse_parts(window, motion, None, prior_of(DEEP, DOOR))[0]
    assert error(base.visual, DEEP) < 1.5 * VOXEL


def test_colours_reach_what_was_filled(exact):
    back = exact[0].visual.vertices[:, 0] < BODY[0][0] - BODY[1][0] / 2 + VOXEL
    assert back.sum() > 10
    assert np.abs(exact[0].visual.colors[back].mean(0) - [200, 100, 50]).max() < 8


def test_a_prior_a_centimetre_off_is_bent_to_the_measured_surface(scene):
    off = [(center + [0.012, -0.01, 0.008], 1.03 * size) for center, size in (BODY, DOOR)]
    found = fuse_parts(*scene, None, prior_of(*off))
    for part, box in zip(found, (BODY, DOOR), strict=True):
        assert error(part.visual, box, 90) < 1.8 * VOXEL


def test_rays_that_passed_win_over_the_prior(scene):
    wide = (BODY[0], BODY[1] * [1, 1.5, 1])
    base = fuse_parts(*scene, None, prior_of(wide, DOOR))[0]
    assert (np.abs(base.visual.vertices[:, 1]) - BODY[1][1] / 2).max() < 4 * VOXEL


def test_a_hollow_prior_leaves_the_inside_empty(scene):
    wall = 0.04
    inner = (BODY[0], BODY[1] - 2 * wall)
    open_below = (inner[0] - [0, 0, wall], inner[1] + [0, 0, 2 * wall])  # a sealed cavity would count as solid

    def hollow(part, x):
        return np.maximum(box_distance(x, BODY), -box_distance(x, open_below)) if part == 0 else box_distance(x, DOOR)

    base = fuse_parts(*scene, None, hollow)[0]
    boards = np.prod(BODY[1]) - np.prod(inner[1] + [0, 0, wall])
    assert signed_volume(base.visual) == pytest.approx(boards, rel=0.15)
    assert is_watertight(base.visual)


def test_a_part_without_pixels_comes_from_the_prior(scene):
    window, motion = scene
    hidden = replace(motion, labels=np.where(motion.labels == 1, np.uint8(UNLABELLED), motion.labels))
    door = fuse_parts(window, hidden, None, prior_of(BODY, DOOR))[1]
    assert error(door.visual, DOOR) < 1.5 * VOXEL
    assert door.observed == 0
    assert is_watertight(door.visual)


def test_a_part_the_prior_does_not_know_is_filled_as_without(scene):
    known, plain = fuse_parts(*scene, None, prior_of(BODY))[1], fuse_parts(*scene)[1]
    assert np.array_equal(known.visual.vertices, plain.visual.vertices)


def test_no_piece_of_a_prior_floats(scene):
    speck = (BODY[0] - [0.25, 0, 0.1], np.full(3, 0.05))  # behind the body, where no ray could prove it wrong

    def with_speck(part, x):
        return np.minimum(box_distance(x, (BODY, DOOR)[part]), box_distance(x, speck) if part == 0 else FAR)

    base = fuse_parts(*scene, None, with_speck)[0].visual
    assert base.vertices[:, 0].min() > BODY[0][0] - BODY[1][0] / 2 - 3 * VOXEL


def test_observed_does_not_count_what_the_prior_added(scene, exact):
    assert exact[0].observed < 0.8  # the back and the bottom are a third of the surface


def test_a_bent_prior_passes_through_the_measured_points():
    size = np.array([0.3, 0.4, 0.5])
    true, off = (np.zeros(3), size), (np.array([0.01, -0.008, 0.006]), 1.04 * size)
    grid = grid_around(np.stack([-size / 2, size / 2]), 0.006, 0.05)
    points, normals = sample_oriented(box_mesh(*true), 8000, np.random.default_rng(0))
    front = points[:, 0] > -0.1  # all but the back
    met = Oriented(points[front], normals[front])
    bent = bent_field(lambda x: box_distance(x, off), grid, met, float(np.linalg.norm(size)), PriorFillConfig())
    at = ndimage.map_coordinates(bent, ((met.points - grid.origin) / grid.voxel_m).T, order=1)
    before = np.abs(box_distance(met.points, off))
    assert np.abs(at).mean() < 0.2 * before.mean()
    assert error(surface(bent, grid), true) < 0.012


def test_without_measured_points_a_prior_stays_as_it_is():
    size = np.array([0.3, 0.4, 0.5])
    grid = grid_around(np.stack([-size / 2, size / 2]), 0.006, 0.05)
    nothing = Oriented(np.zeros((0, 3)), np.zeros((0, 3)))
    field = bent_field(lambda x: box_distance(x, (np.zeros(3), size)), grid, nothing, 1.0, PriorFillConfig())
    assert error(surface(field, grid), (np.zeros(3), size)) < 0.004
