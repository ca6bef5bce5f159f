"""Screw axes: what a joint does to points, and back."""

import numpy as np
import pytest

from art_perception.geometry import lie, screw
from art_perception.types import Joint, JointType


def unit(v):
    v = np.asarray(v, float)
    return v / np.linalg.norm(v)


def random_line(rng):
    return unit(rng.normal(size=3)), rng.normal(size=3)


@pytest.mark.parametrize("seed", range(5))
def test_revolute_twist_keeps_its_axis_and_turns_points_about_it(seed):
    axis, origin = random_line(np.random.default_rng(seed))
    T = lie.exp_se3(0.7 * screw.twist_of(JointType.REVOLUTE, axis, origin))
    on_axis = origin + 2.3 * axis
    assert np.allclose(lie.transform(T, on_axis[None])[0], on_axis)
    arm = np.cross(axis, [0.3, 0.1, -0.9])
    turned = lie.transform(T, (origin + arm)[None])[0] - origin
    assert np.isclose(turned @ arm / (arm @ arm), np.cos(0.7))
    assert np.isclose(np.cross(arm, turned) @ axis / (arm @ arm), np.sin(0.7))  # right-handed


def test_prismatic_twist_moves_along_its_axis_only():
    axis = unit([1, -2, 0.5])
    T = lie.exp_se3(-0.4 * screw.twist_of(JointType.PRISMATIC, axis, np.array([5.0, 6, 7])))
    assert np.allclose(T[:3, :3], np.eye(3))
    assert np.allclose(T[:3, 3], -0.4 * axis)


def test_fixed_joint_does_not_move():
    joint = Joint("j", "base", "p", JointType.FIXED, np.array([0, 0, 1.0]), np.ones(3), (0.0, 0.0))
    assert not screw.twist_of_joint(joint).any()


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.4, 2.0, np.pi - 1e-6])
def test_screw_of_transform_recovers_axis_point_angle_and_slide(angle):
    axis, origin = random_line(np.random.default_rng(7))
    twist = angle * screw.twist_of(JointType.REVOLUTE, axis, origin)
    T = lie.exp_se3(twist + np.concatenate([0.2 * axis, np.zeros(3)]))
    found_axis, point, found_angle, slide = screw.screw_of_transform(T)
    assert np.isclose(found_angle, angle)
    assert np.allclose(found_axis, axis, atol=1e-6)
    assert np.isclose(slide, 0.2)
    assert screw.line_distance(point, origin, axis) < 1e-4


def test_screw_of_translation_and_of_identity():
    T = np.eye(4)
    T[:3, 3] = [0, 3, 4]
    axis, _, angle, slide = screw.screw_of_transform(T)
    assert (angle, slide) == (0.0, 5.0)
    assert np.allclose(axis, [0, 0.6, 0.8])
    assert np.isclose(np.linalg.norm(screw.screw_of_transform(np.eye(4))[0]), 1)


def test_axis_point_is_the_nearest_to_the_origin_and_scale_free():
    axis, origin = random_line(np.random.default_rng(3))
    twist = screw.twist_of(JointType.REVOLUTE, axis, origin)
    point = screw.axis_point(np.stack([twist, -2.5 * twist]))
    assert np.allclose(point, screw.closest_on_line(np.zeros(3), origin, axis))
    assert np.allclose(point @ axis, 0)


def test_line_distance_ignores_where_on_the_line_the_origin_is():
    axis, origin = random_line(np.random.default_rng(4))
    points = np.random.default_rng(5).normal(size=(6, 2, 3))
    distance = screw.line_distance(points, origin, axis)
    assert distance.shape == (6, 2)
    assert np.allclose(distance, screw.line_distance(points, origin - 3 * axis, -axis))
    foot = screw.closest_on_line(points[0, 0], origin, axis)
    assert np.isclose(np.linalg.norm(points[0, 0] - foot), distance[0, 0])


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, -1.0, 0), (0.6, 0, 0.8), (0.36, 0.48, -0.8)])
def test_a_frame_around_an_axis_is_right_handed(axis):
    R = np.stack([*screw.across(unit(axis)), unit(axis)], -1)
    assert np.allclose(R.T @ R, np.eye(3))
    assert np.linalg.det(R) > 0
