"""The axes of surfaces of revolution follow from points and normals; other surfaces have none."""

from __future__ import annotations

import numpy as np
import pytest

from art_perception.data.model import Surface
from art_perception.data.shapes import box, cylinder, ellipsoid, lathe, placed
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.screw import line_distance
from art_perception.geometry.slippage import revolutions, slippage

CELL = 0.004
TURN = exp_so3(np.array([0.5, -0.4, 0.2]))
BOTTLE = lathe(np.array([[0, 0], [0.04, 0], [0.04, 0.12], [0.015, 0.15], [0.015, 0.19], [0, 0.19]]), segments=64)


def cloud(surface: Surface, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Points and noisy normals of what is seen from (1, 0.3, 1)."""
    rng = np.random.default_rng(0)
    points, normals = surface.sample(9000, rng)
    facing = normals @ np.array([1, 0.3, 1]) > 0.2
    normals = normals[facing] + rng.normal(0, noise, (int(facing.sum()), 3))
    return points[facing] + rng.normal(0, 3e-4, normals.shape), normals / np.linalg.norm(normals, axis=-1)[:, None]


def test_a_bottle_has_one_axis():
    shift = np.array([0.3, 0.1, 0.9])
    points, normals = cloud(placed(BOTTLE, TURN, shift))
    seeds = points[:: len(points) // 20]
    found = revolutions(points, normals, seeds, CELL)
    best = found[0]
    assert len(best.seeds) > len(seeds)
    assert abs(best.axis @ TURN[:, 2]) > np.cos(np.deg2rad(1))
    assert line_distance(best.origin, shift, TURN[:, 2]) < 0.001
    assert best.axis_std_rad < np.deg2rad(3)
    assert best.origin_std_m < 0.004
    assert all(len(other.seeds) < 0.1 * len(best.seeds) for other in found[1:])


@pytest.mark.parametrize("surface", [box((-0.1, -0.1, 0), (0.1, 0.1, 0.2)), ellipsoid((0.08, 0.08, 0.08), segments=48)])
def test_what_turns_about_no_axis_or_about_all_has_none(surface: Surface):
    points, normals = cloud(surface)
    middle = points.mean(0)
    assert slippage(points, normals, middle, 0.15) is None


def test_two_bottles_have_two_axes():
    clouds = [cloud(placed(BOTTLE, np.eye(3), np.array([x, 0, 0]))) for x in (0, 0.2)]
    points, normals = (np.concatenate(parts) for parts in zip(*clouds, strict=True))
    found = revolutions(points, normals, points[:: len(points) // 30], CELL)
    seen = [line for line in found if len(line.seeds) > 10]
    assert sorted(round(float(line.origin[0]), 2) + 0.0 for line in seen) == [0.0, 0.2]


def test_a_cylinder_seen_from_the_side_alone_slides_as_well():
    """Without an end it may also slide along its axis: no single motion, no axis."""
    points, normals = cloud(cylinder(0.05, 0.4, segments=64))
    side = (points[:, 2] > 0.1) & (points[:, 2] < 0.3)
    assert slippage(points[side], normals[side], points[side].mean(0), 0.1) is None
