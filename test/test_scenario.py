"""What happens in training windows: the stated joints are those that the parts' displacements obey."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree
from window_tools import bank_of, chest, crate, locker, scenarios

from art_perception.data import scenario as scenario_module
from art_perception.data.bank import Bank, Joints, make_bank, training_objects
from art_perception.data.scenario import MAX_PARTS, Scenario, draw_scenario
from art_perception.data.windows import EXTRAS
from art_perception.geometry.lie import exp_se3, inverse, log_se3, transform
from art_perception.geometry.screw import line_distance, twist_of
from art_perception.types import JointType

TYPES = (JointType.REVOLUTE, JointType.PRISMATIC)
LEAST = {JointType.REVOLUTE: np.deg2rad(4), JointType.PRISMATIC: 0.015}


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Procedural objects of every category and two chains."""
    return make_bank([*training_objects(None, "train", 1), ("procedural", chest()), ("procedural", locker())])


@pytest.fixture(scope="module")
def drawn(bank: Bank) -> list[Scenario]:
    return scenarios(bank, 170)


def part_of(scenario: Scenario, k: int) -> int:
    """Part (index into D) that moving part k (from 0) is, parents come first."""
    return int((scenario.label == k + 1).argmax())


def since_first(T: np.ndarray) -> np.ndarray:
    """Displacement (T, 4, 4) since the first frame."""
    return T @ inverse(T[0])


def own_values(joints: Joints, scenario: Scenario) -> np.ndarray:
    """(T, J) joint values since the first frame, read off the displacements, unscaled metres."""
    out = []
    for k, parent in enumerate(joints.parents):
        relative = inverse(scenario.D[:, parent + 1]) @ scenario.D[:, k + 1]
        xi = log_se3(inverse(relative[:1]) @ relative)
        out.append(xi[:, 3:] @ joints.axis[k] if joints.revolute[k] else xi[:, :3] @ joints.axis[k] / scenario.scale)
    return np.stack(out, 1)


def test_stated_joints_reproduce_the_displacements(bank: Bank, drawn: list[Scenario]):
    seen = set()
    for s in drawn:
        joints = bank.joints[s.index]
        for k in range(len(s.type)):
            part = part_of(s, k)
            kind = TYPES[s.type[k]]
            carried = since_first(s.D[:, joints.parents[part - 1] + 1])
            moved = carried @ exp_se3(s.amount[:, k, None] * twist_of(kind, s.axis[k], s.pivot[k]))
            points = transform(s.D[0, part], bank.points[s.index][bank.part[s.index] == part] * s.scale)
            expected = transform(since_first(s.D[:, part]), points[:50])
            np.testing.assert_allclose(transform(moved, points[:50]), expected, atol=1e-6)
            seen.add((kind, joints.parents[part - 1] >= 0, bool(s.label[joints.parents[part - 1] + 1])))
    assert {(kind, False, False) for kind in TYPES} <= seen, "no top-level joint of each type was drawn"
    assert any(on_moving for _, _, on_moving in seen), "no moving part on another moving part was drawn"


def test_axes_are_unit_and_point_where_the_motion_goes(drawn: list[Scenario]):
    for s in drawn:
        np.testing.assert_allclose(np.linalg.norm(s.axis, axis=1), 1, atol=1e-9)
        assert (s.amount[0] == 0).all()
        extreme = np.take_along_axis(s.amount, np.abs(s.amount).argmax(0)[None], 0)
        assert (extreme > 0).all()


def test_pivot_is_the_axis_point_beside_the_part(bank: Bank, drawn: list[Scenario]):
    for s in drawn:
        for k in np.flatnonzero(s.type == 0):
            part = part_of(s, k)
            own = transform(s.D[0, part], bank.points[s.index][bank.part[s.index] == part] * s.scale)
            assert line_distance(own.mean(0), s.pivot[k], s.axis[k]) == pytest.approx(
                np.linalg.norm(own.mean(0) - s.pivot[k]), abs=1e-6
            )


def test_a_part_is_what_moves_visibly_relative_to_its_parent(bank: Bank, drawn: list[Scenario]):
    still = 0
    for s in drawn:
        joints = bank.joints[s.index]
        q = own_values(joints, s)
        for k, parent in enumerate(joints.parents):
            least = LEAST[TYPES[0 if joints.revolute[k] else 1]]
            if np.ptp(q[:, k]) < least - 1e-9:
                assert s.label[k + 1] == s.label[parent + 1], "a small motion became a part"
                still += np.ptp(q[:, k]) > 1e-3
            else:
                assert s.label[k + 1] > 0
                assert part_of(s, s.label[k + 1] - 1) == k + 1
    assert still, "no small motion was drawn: the law was not tested"


def test_labels_count_from_one_and_match_the_joints(drawn: list[Scenario]):
    for s in drawn:
        assert s.label[0] == 0
        assert set(s.label) - {0} == set(range(1, len(s.type) + 1))
        assert len(s.type) <= MAX_PARTS
        assert s.amount.shape == (len(s.D), len(s.type))
        assert s.axis.shape == s.pivot.shape == (len(s.type), 3)


def test_values_stay_within_the_limits(bank: Bank, drawn: list[Scenario]):
    for s in drawn:
        joints = bank.joints[s.index]
        span = joints.limits[:, 1] - joints.limits[:, 0]
        assert (np.ptp(own_values(joints, s), axis=0) <= span + 1e-9).all()


def test_what_hangs_on_a_moving_part_takes_its_label():
    bank = bank_of(chest())
    door_alone = [s for s in scenarios(bank, 120) if s.label[1] and s.label[2] == s.label[1]]
    assert door_alone
    for s in door_alone:
        np.testing.assert_allclose(since_first(s.D[:, 1]), since_first(s.D[:, 2]), atol=0.02)


def test_a_blocker_stands_open():
    bank = bank_of(locker())
    tray_alone = [s for s in scenarios(bank, 80) if s.label[2] and not s.label[1]]
    assert len(tray_alone) > 10
    for s in tray_alone:
        angle = log_se3(inverse(s.D[:, 0]) @ s.D[:, 1])[:, 3:] @ bank.joints[0].axis[0]
        assert (angle >= 0.85 * bank.joints[0].limits[0, 1] - 1e-6).all()


def test_nothing_moves_now_and_then():
    bank = bank_of(crate())
    share = np.mean([len(s.type) == 0 for s in scenarios(bank, 400, frames=4)])
    assert 0.01 < share < 0.2


def test_true_poses_look_at_the_object(bank: Bank, drawn: list[Scenario]):
    for s in drawn:
        middle = transform(s.D[:, 0], (bank.points[s.index] * s.scale).mean(0)[None])[:, 0]
        seen = np.stack([transform(inverse(T), m[None])[0] for T, m in zip(s.T_camera, middle, strict=True)])
        assert (seen[:, 2] > 0).all(), "the object is behind the camera"
        assert np.median(np.degrees(np.arctan2(np.linalg.norm(seen[:, :2], axis=1), seen[:, 2]))) < 45


def test_half_of_the_recordings_report_exact_poses_and_the_rest_small_errors(drawn: list[Scenario]):
    error = np.stack([log_se3(inverse(s.T_camera) @ s.T_reported) for s in drawn])
    exact = np.abs(error).max((1, 2)) < 1e-9
    assert 0.3 < exact.mean() < 0.7
    assert np.linalg.norm(error[..., :3], axis=-1).max() < 0.05
    assert np.linalg.norm(error[..., 3:], axis=-1).max() < np.deg2rad(5)


def test_a_hand_moves_with_the_part_it_holds(bank: Bank, drawn: list[Scenario]):
    hands = [s for s in drawn if s.extra_label == -1]
    assert hands
    for s in hands:
        held = [p for p in np.flatnonzero(s.label) if np.abs(s.T_extra - s.D[:, p]).max() < 1e-12]
        own = bank.points[s.index][np.isin(bank.part[s.index], held)] * s.scale
        distance, _ = cKDTree(s.extra).query(own)
        assert distance.min() < 0.06, "the hand holds something that moves otherwise"


def test_surroundings_stand_still_and_hold_the_object(bank: Bank, drawn: list[Scenario]):
    floors = [s for s in drawn if s.extra_label == 0 and s.extra[0, 2] > -100]
    assert floors
    for s in floors:
        assert (s.T_extra == np.eye(4)).all()
        lowest = (bank.points[s.index] * s.scale)[:, 2].min()
        assert np.isclose(s.extra[:, 2], lowest).any()


def test_same_generator_state_same_scenario(bank: Bank):
    a, b = (draw_scenario(bank, 0, 6, EXTRAS, np.random.default_rng(5)) for _ in range(2))
    for name in Scenario.__slots__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_frames_are_uneven_but_ordered():
    rng = np.random.default_rng(0)
    for _ in range(100):
        times = scenario_module._times(9, rng)
        assert times[0] == 0
        assert (np.diff(times) > 0).all()
        assert 1.5 <= times[-1] <= 5
