"""The joint fit recovers known joints, its derivatives are derivatives, and its covariance means what it says."""

import numpy as np
import pytest

from art_perception.estimation.joint_fit import (
    Motion,
    canonical,
    fit_tracks,
    normal_equations,
    spread,
    step,
)
from art_perception.estimation.planes import MovingPlane, plane_joints, prismatic_of, revolute_of
from art_perception.estimation.select import other_type, uncertainty
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.rigid import kabsch
from art_perception.geometry.screw import line_distance
from art_perception.types import JointType

T = 20


def make_motion(joint_type: JointType, rng: np.random.Generator, travel: float) -> Motion:
    axis = rng.normal(size=3)
    q = travel * np.concatenate([np.zeros(4), np.linspace(0, 1, T - 4)])
    return Motion(joint_type, axis / np.linalg.norm(axis), rng.normal(size=3) * 0.5, q)


def make_tracks(motion: Motion, rng: np.random.Generator, count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, T, 3) of a 30 cm part moved by ``motion`` and their visibility."""
    rest = motion.origin + rng.uniform(-0.15, 0.15, (count, 3)) + 0.2 * np.cross(motion.axis, [0.3, 0.5, 0.8])
    D = motion.displacement(motion.q)
    points = np.einsum("tij,nj->nti", D[:, :3, :3], rest) + D[:, :3, 3]
    return points + noise * rng.normal(size=points.shape), rng.random((count, T)) > 0.2


def disturbed(motion: Motion, rng: np.random.Generator) -> Motion:
    delta = np.concatenate([0.15 * rng.normal(size=3), 0.05 * rng.normal(size=3), 0.05 * rng.normal(size=T)])
    delta[6] = 0
    return step(motion, delta)


@pytest.mark.parametrize("joint_type", [JointType.REVOLUTE, JointType.PRISMATIC])
@pytest.mark.parametrize(
    ("noise", "axis_deg", "position_m"), [(0.0, 0.01, 1e-4), (0.002, 1.0, 0.01), (0.008, 3.0, 0.03)]
)
def test_recovers_a_known_joint_under_rising_noise(joint_type, noise, axis_deg, position_m):
    rng = np.random.default_rng(3)
    truth = make_motion(joint_type, rng, 0.8 if joint_type is JointType.REVOLUTE else 0.25)
    points, visible = make_tracks(truth, rng, 60, noise)
    fitted = fit_tracks(disturbed(truth, rng), points, visible / max(noise, 1e-3) ** 2, iterations=40)
    assert np.rad2deg(np.arccos(min(1, abs(fitted.axis @ truth.axis)))) < axis_deg
    sign = np.sign(fitted.axis @ truth.axis)
    np.testing.assert_allclose(sign * fitted.q, truth.q, atol=3 * max(noise, 1e-5) / 0.1)
    if joint_type is JointType.REVOLUTE:
        assert line_distance(fitted.origin, truth.origin, truth.axis) < position_m


def test_outliers_do_not_pull_the_joint():
    rng = np.random.default_rng(4)
    truth = make_motion(JointType.REVOLUTE, rng, 0.8)
    points, visible = make_tracks(truth, rng, 80, 0.001)
    points[:12] += np.cumsum(0.01 * rng.normal(size=(12, T, 3)), 1)
    fitted = fit_tracks(disturbed(truth, rng), points, visible / 0.001**2, iterations=40)
    assert np.rad2deg(np.arccos(min(1, abs(fitted.axis @ truth.axis)))) < 0.5
    assert line_distance(fitted.origin, truth.origin, truth.axis) < 0.005


@pytest.mark.parametrize("joint_type", [JointType.REVOLUTE, JointType.PRISMATIC])
def test_gradient_is_the_derivative_of_the_cost(joint_type):
    rng = np.random.default_rng(5)
    motion = make_motion(joint_type, rng, 0.5)
    points, visible = make_tracks(motion, rng, 15, 0.01)
    w = visible.astype(float)
    _, g = normal_equations(motion, points, w)
    h = 1e-6
    for i in range(6 + T):
        delta = np.zeros(6 + T)
        delta[i] = h
        cost = [0.5 * (w * spread(step(motion, s * delta), points, w) ** 2).sum() for s in (1, -1)]
        assert (cost[0] - cost[1]) / (2 * h) == pytest.approx(g[i], abs=1e-4)


def test_canonical_undoes_the_displacement():
    rng = np.random.default_rng(6)
    motion = make_motion(JointType.REVOLUTE, rng, 1.0)
    points, _ = make_tracks(motion, rng, 10, 0.0)
    np.testing.assert_allclose(canonical(motion, points), np.repeat(points[:, :1], T, 1), atol=1e-12)


def test_uncertainty_predicts_the_error():
    """Over many noise draws the axis error is of the size the covariance says (within a factor of two)."""
    rng = np.random.default_rng(7)
    truth = make_motion(JointType.REVOLUTE, rng, 0.6)
    errors, predicted = [], []
    for _ in range(25):
        points, visible = make_tracks(truth, rng, 40, 0.003)
        fitted = fit_tracks(truth, points, visible / 0.003**2, iterations=15)
        errors.append(np.arccos(min(1, abs(fitted.axis @ truth.axis))))
        predicted.append(uncertainty(fitted, fitted.origin)[0])
    ratio = np.sqrt(np.mean(np.square(errors))) / np.mean(predicted)
    assert 0.5 < ratio < 2


def test_kabsch_is_exact_and_proper():
    rng = np.random.default_rng(8)
    a = rng.normal(size=(20, 3))
    R, t = exp_so3(np.array([0.3, -2.0, 0.5])), np.array([0.1, 2.0, -1.0])
    found = kabsch(a, a @ R.T + t, np.ones(20))
    np.testing.assert_allclose(found[:3, :3], R, atol=1e-10)
    np.testing.assert_allclose(found[:3, 3], t, atol=1e-10)


def door_planes(axis: np.ndarray, origin: np.ndarray, q: np.ndarray, offset: float) -> MovingPlane:
    """Planes of a door whose surface lies ``offset`` from its hinge."""
    start = np.cross(axis, [0.2, 0.9, 0.4])
    start /= np.linalg.norm(start)
    normals = np.stack([exp_so3(axis * a) @ start for a in q])
    return MovingPlane(np.arange(len(q)), normals, normals @ origin + offset, 1000)


def test_planes_of_a_turning_door_give_its_hinge():
    axis = np.array([0.0, 0.6, 0.8])
    origin = np.array([0.3, -0.2, 1.0])
    q = np.linspace(0, 0.9, 12)
    motion = revolute_of(door_planes(axis, origin, q, 0.02), 12, np.arange(12))
    assert motion is not None
    assert abs(motion.axis @ axis) == pytest.approx(1, abs=1e-6)
    assert line_distance(motion.origin, origin, axis) < 0.006
    np.testing.assert_allclose(np.sign(motion.axis @ axis) * motion.q, q, atol=1e-6)


def test_planes_that_hardly_turn_are_no_hinge_and_that_hardly_shift_no_slide():
    still = door_planes(np.array([0.0, 0.0, 1.0]), np.zeros(3), np.linspace(0, 0.05, 12), 0.0)
    assert revolute_of(still, 12, np.arange(12)) is None
    assert prismatic_of(still, 12, np.arange(12)) is None


def test_a_textureless_drawer_front_is_found_from_its_points():
    rng = np.random.default_rng(9)
    normal = np.array([0.8, 0.6, 0.0])
    u, v = np.array([-0.6, 0.8, 0.0]), np.array([0.0, 0.0, 1.0])
    points, frame = [], []
    for t in range(12):
        uv = rng.uniform(-0.2, 0.2, (150, 2))
        points.append(uv[:, :1] * u + uv[:, 1:] * v + normal * (1 + 0.02 * t) + 0.002 * rng.normal(size=(150, 3)))
        frame.append(np.full(150, t))
    found = plane_joints(np.concatenate(points), np.concatenate(frame), 12, rng)
    assert found
    assert all(m.type is JointType.PRISMATIC for m in found)
    assert np.rad2deg(np.arccos(abs(found[0].axis @ normal))) < 1
    assert np.ptp(found[0].q) == pytest.approx(0.22, abs=0.01)


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_slide_that_turns_by_nothing_has_a_turn_to_be_compared_with(noise: float):
    """About an axis far away: without any, nothing would say that the slide is the better of the two."""
    rng = np.random.default_rng(5)
    slide = make_motion(JointType.PRISMATIC, rng, 0.1)
    points, visible = make_tracks(slide, rng, 60, noise)
    turn = other_type(slide, points, visible / 0.001**2)
    assert turn is not None
    assert turn.type is JointType.REVOLUTE
    assert np.median(spread(turn, points, visible.astype(float))) < 0.003
