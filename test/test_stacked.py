"""Parts that hinge on one line are cut apart across it, if each has its own stretch."""

from __future__ import annotations

import numpy as np

from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.stacked import cut_apart
from art_perception.types import JointType

FRAMES = 20


def door(angle: float, y: float = 0.0) -> np.ndarray:
    """Displacements (T, 4, 4) of a door that opens by ``angle`` about an upright hinge."""
    q = np.linspace(0, angle, FRAMES)
    return Motion(JointType.REVOLUTE, np.array([0.0, 0, 1]), np.array([1.0, y, 0]), q).displacement(q)


def cabinet(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3) of two doors one above the other, their true labels, and costs (n, 3) that grow vague at the hinge.

    The hinge is at x = 1; a point a width away from it is told apart without doubt.
    """
    points = np.stack([rng.uniform(0.5, 1, 4000), np.zeros(4000), rng.uniform(0, 1, 4000)], -1)
    label = np.where(points[:, 2] < 0.4, 1, 2)
    gap = 1 - points[:, 0]
    favour = 0.5 * gap + rng.normal(0, 0.05, 4000)
    costs = np.full((4000, 3), 0.9)
    costs[:, 1], costs[:, 2] = 0.2, 0.2
    costs[np.arange(4000), 3 - label] += favour
    return points, label, costs


def test_doubtful_points_at_the_hinge_go_with_their_door():
    points, label, costs = cabinet(np.random.default_rng(0))
    still = np.broadcast_to(np.eye(4), (FRAMES, 4, 4))
    guess = costs.argmin(1)
    assert (guess == label).mean() < 0.95
    found = cut_apart(points, guess, costs, np.stack([still, door(0.9), door(1.0)]))
    assert (found == label).mean() > 0.99


def test_parts_on_other_lines_stay_as_they_are():
    points, _, costs = cabinet(np.random.default_rng(1))
    still = np.broadcast_to(np.eye(4), (FRAMES, 4, 4))
    guess = costs.argmin(1)
    found = cut_apart(points, guess, costs, np.stack([still, door(0.9), door(1.0, y=0.2)]))
    np.testing.assert_array_equal(found, guess)


def test_a_part_within_the_stretch_of_another_stays():
    """A flap in the middle of a door: no cut across the line leaves it alone."""
    points, _, costs = cabinet(np.random.default_rng(2))
    still = np.broadcast_to(np.eye(4), (FRAMES, 4, 4))
    inner = np.abs(points[:, 2] - 0.5) < 0.25
    costs[:, 1], costs[:, 2] = np.where(inner, 0.2, 0.6), np.where(inner, 0.6, 0.2)
    guess = costs.argmin(1)
    found = cut_apart(points, guess, costs, np.stack([still, door(0.9), door(1.0)]))
    np.testing.assert_array_equal(found, guess)
