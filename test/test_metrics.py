"""Laws and golden values of the error measures."""

import numpy as np
import pytest

from art_perception.eval import metrics
from art_perception.types import JointType


def unit(rng: np.random.Generator) -> np.ndarray:
    v = rng.normal(size=3)
    return v / np.linalg.norm(v)


def test_axis_angle_golden_values() -> None:
    x = np.array([1.0, 0, 0])
    tilted = np.array([np.cos(0.1), np.sin(0.1), 0])
    assert metrics.axis_angle_deg(x, x) == 0.0
    assert metrics.axis_angle_deg(x, tilted) == pytest.approx(np.degrees(0.1))
    assert metrics.axis_angle_deg(x, np.array([0, 0, 2.0])) == pytest.approx(90)


def test_axis_angle_is_clamped_for_rounded_unit_vectors(rng: np.random.Generator) -> None:
    axes = [unit(rng) * (1 + 1e-12) for _ in range(200)]
    assert all(np.isfinite(metrics.axis_angle_deg(a, a)) for a in axes)


def test_axis_position_is_measured_at_the_part() -> None:
    z, tilted = np.array([0, 0, 1.0]), np.array([np.sin(0.1), 0, np.cos(0.1)])
    at_origin = metrics.axis_position_cm(tilted, np.zeros(3), z, np.zeros(3), np.zeros(3))
    further = metrics.axis_position_cm(tilted, np.zeros(3), z, np.zeros(3), np.array([0, 0, 1.0]))
    assert at_origin == pytest.approx(0, abs=1e-9)
    assert further == pytest.approx(100 * np.cos(0.1) * np.sin(0.1))
    assert metrics.line_to_line_cm(tilted, np.zeros(3), z, np.zeros(3)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("tilt", [0.0, 1e-9, 1e-5])
def test_line_distance_does_not_jump_near_parallel(tilt: float) -> None:
    z, other = np.array([0, 0, 1.0]), np.array([0, np.sin(tilt), np.cos(tilt)])
    assert metrics.line_to_line_cm(other, np.array([0.03, 0, 0]), z, np.zeros(3)) == pytest.approx(3.0)


def test_flipping_axes_and_sliding_origins_change_nothing(rng: np.random.Generator) -> None:
    for _ in range(50):
        a, b, o, p, c = unit(rng), unit(rng), *rng.normal(size=(3, 3))
        angle = metrics.axis_angle_deg(a, b)
        position, line = metrics.axis_position_cm(a, o, b, p, c), metrics.line_to_line_cm(a, o, b, p)
        o2, p2 = o + rng.normal() * a, p + rng.normal() * b
        assert metrics.axis_angle_deg(-a, b) == pytest.approx(angle)
        assert metrics.axis_position_cm(-a, o2, -b, p2, c) == pytest.approx(position)
        assert metrics.line_to_line_cm(-a, o2, b, p2) == pytest.approx(line)


def test_measures_do_not_depend_on_the_frame(rng: np.random.Generator) -> None:
    from art_perception.geometry.lie import exp_se3

    a, b, o, p, c = unit(rng), unit(rng), *rng.normal(size=(3, 3))
    T = exp_se3(rng.normal(size=6))
    R, moved = T[:3, :3], [T[:3, :3] @ x + T[:3, 3] for x in (o, p, c)]
    before = metrics.axis_position_cm(a, o, b, p, c)
    assert metrics.axis_position_cm(R @ a, moved[0], R @ b, moved[1], moved[2]) == pytest.approx(before)


def test_state_error_ignores_sign_and_offset(rng: np.random.Generator) -> None:
    q = np.cumsum(rng.normal(size=40))
    noisy = q + 0.02 * rng.normal(size=40)
    error = metrics.state_error(noisy, q, JointType.REVOLUTE)
    assert 0 < error < 10
    assert metrics.state_error(-noisy + 5, q - 3, JointType.REVOLUTE) == pytest.approx(error)
    assert metrics.state_error(q + 1, q, JointType.PRISMATIC) == pytest.approx(0, abs=1e-12)


def test_state_error_units() -> None:
    q = np.array([0.0, 0.2])
    assert metrics.state_error(np.zeros(2), q, JointType.REVOLUTE) == pytest.approx(np.degrees(0.1))
    assert metrics.state_error(np.zeros(2), q, JointType.PRISMATIC) == pytest.approx(10.0)


def test_gaps_hold_the_last_value() -> None:
    q = np.array([np.nan, 0.1, np.nan, np.nan, 0.4])
    np.testing.assert_array_equal(metrics.hold_last(q), [0, 0.1, 0.1, 0.1, 0.4])


def test_mean_iou_of_equal_and_renumbered_labels(rng: np.random.Generator) -> None:
    true = rng.integers(0, 4, 1000)
    ids = np.arange(4)
    renumbered = np.array([2, 0, 3, 1])[true]
    assert metrics.mean_iou(metrics.iou_matrix(renumbered, true, ids, ids)) == pytest.approx(1.0)
    noisy = np.where(rng.random(1000) < 0.2, rng.integers(0, 4, 1000), true)
    before = metrics.mean_iou(metrics.iou_matrix(noisy, true, ids, ids))
    after = metrics.mean_iou(metrics.iou_matrix(np.array([3, 1, 0, 2])[noisy], true, ids, ids))
    assert before == pytest.approx(after)


def test_missing_and_surplus_parts_count_zero() -> None:
    true = np.repeat([0, 1], 50)
    split = np.where(np.arange(100) % 2, true, true + 2)
    one = metrics.iou_matrix(np.zeros(100, int), true, np.arange(1), np.arange(2))
    four = metrics.iou_matrix(split, true, np.arange(4), np.arange(2))
    assert metrics.mean_iou(one) == pytest.approx(0.5 / 2)
    assert metrics.mean_iou(four) == pytest.approx((0.5 + 0.5) / 4)


def test_background_claimed_by_a_part_lowers_its_iou() -> None:
    true = np.repeat([0, 1], 50)
    iou = metrics.iou_matrix(np.ones(100, int), true, np.array([1]), np.array([1]))
    assert iou[0, 0] == pytest.approx(0.5)


def test_match_leaves_worthless_pairs_out() -> None:
    assert metrics.match(np.array([[0.0, 0.9], [0.0, 0.1]])) == [(0, 1)]
    assert metrics.match(np.zeros((0, 2))) == []


def test_chamfer_of_shifted_grids(rng: np.random.Generator) -> None:
    points = rng.random((2000, 3))
    assert metrics.chamfer_l1(points, points) == 0.0
    assert metrics.chamfer_l1(points[:1], points[:1] + np.array([0, 0, 0.01])) == pytest.approx(10.0)
    half = points[points[:, 0] < 0.5]
    assert metrics.chamfer_l1(half, points) == pytest.approx(metrics.chamfer_l1(points, half))


def test_both_conventions_of_chamfer_on_two_points():
    a, b = np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]])
    assert metrics.chamfers(a, b) == pytest.approx((5000.0, 50_000.0))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
