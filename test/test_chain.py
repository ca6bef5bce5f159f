"""Parents of joints: two doors on one hinge line hang on the body, a door on another door stays there."""

from __future__ import annotations

import numpy as np
import pytest

from art_perception.estimation.chain import unchained
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.segment import world_displacement
from art_perception.types import JointType

T = np.linspace(0, 1, 12)
UP = np.array([0.0, 0.0, 1.0])


def hinge(axis: np.ndarray, origin: list[float], q: np.ndarray, parent: int = -1) -> Motion:
    return Motion(JointType.REVOLUTE, axis, np.array(origin), q, parent)


@pytest.mark.parametrize("sense", [1.0, -1.0])
def test_doors_on_one_hinge_line_hang_on_the_body(sense: float):
    lower = hinge(UP, [0.3, 0.1, 0.0], 1.4 * T)
    upper = hinge(sense * UP, [0.3, 0.1, 0.9], sense * (0.4 * T**2 - 1.4 * T), parent=0)
    free = unchained(upper, [lower])
    assert free.parent == -1
    np.testing.assert_allclose(world_displacement([free], 0), world_displacement([lower, upper], 1), atol=1e-12)
    np.testing.assert_allclose(np.ptp(free.q), 0.4)


def test_a_part_that_moves_less_against_its_parent_stays_on_it():
    lid = hinge(UP, [0.0, 0.0, 0.0], 1.5 * T)
    flap = hinge(UP, [0.0, 0.0, 0.0], 0.4 * T, parent=0)
    assert unchained(flap, [lid]) is flap


@pytest.mark.parametrize(("axis", "origin"), [([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]), ([0.0, 0.0, 1.0], [0.4, 0.0, 0.0])])
def test_other_axes_are_another_joint(axis: list[float], origin: list[float]):
    door = hinge(UP, [0.0, 0.0, 0.0], 1.4 * T)
    flap = hinge(np.array(axis), origin, -1.4 * T, parent=0)
    assert unchained(flap, [door]) is flap


def test_stacked_drawers_hang_on_the_body():
    first = Motion(JointType.PRISMATIC, np.array([1.0, 0.0, 0.0]), np.zeros(3), 0.3 * T)
    second = Motion(JointType.PRISMATIC, np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.4]), -0.2 * T, 0)
    free = unchained(second, [first])
    assert free.parent == -1
    np.testing.assert_allclose(free.q, 0.1 * T, atol=1e-12)
