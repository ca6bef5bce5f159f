"""A perfect result scores perfectly, whatever its conventions; every way to fail is counted."""

from dataclasses import replace

import numpy as np
import pytest

from art_perception.errors import BagError
from art_perception.eval import scoring, tables
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import transform
from art_perception.types import Joint, JointType

STAMPS = np.linspace(100.0, 102.0, 21)
Z, X = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])


def true_joints() -> tuple[Joint, ...]:
    door = Joint("door", "base", "door_link", JointType.REVOLUTE, Z, np.array([0.5, 0, 0]), (0, 1.5))
    drawer = Joint("drawer", "base", "drawer_link", JointType.PRISMATIC, X, np.zeros(3), (0, 0.4))
    flap = Joint("flap", "door_link", "flap_link", JointType.REVOLUTE, X, np.array([0, 0.2, 0.3]), (0, 1.0))
    still = Joint("still", "base", "still_link", JointType.REVOLUTE, Z, np.array([-1.0, 0, 0]), (0, 1.0))
    return door, drawer, flap, still


def make_truth() -> scoring.Truth:
    s = np.linspace(0, 1, len(STAMPS))
    q = np.stack([0.3 + 0.9 * s, 0.05 + 0.2 * s, 0.1 + 0.5 * s**2, np.full_like(s, 0.4)], 1)
    return scoring.truth_from(true_joints(), ["door", "drawer", "flap", "still"], STAMPS, q)


def make_samples(truth: scoring.Truth, frames: int = 6, per_part: int = 30) -> scoring.Samples:
    """Points rigidly attached to each part, seen at some of the stamps."""
    rng = np.random.default_rng(1)
    stamps = STAMPS[:: len(STAMPS) // frames]
    q = np.stack([np.interp(stamps, truth.stamps_s, c) for c in truth.q.T], -1)
    D = with_base(displacements(chain_of(truth.joints), q))
    rest = rng.normal(scale=0.1, size=(5, per_part, 3)) + rng.normal(size=(5, 1, 3))
    point = transform(D, rest[None]).reshape(len(stamps), -1, 3)
    true_id = np.broadcast_to(np.repeat([1, 2, 3, 4, 5], per_part), point.shape[:2])
    part = np.broadcast_to(np.repeat([0, 1, 2, 3, 0], per_part), point.shape[:2])
    return scoring.Samples(stamps, point, part, true_id)


def perfect(truth: scoring.Truth) -> scoring.Prediction:
    """The truth as an ideal estimator would report it: moving joints only, zero at the first stamp."""
    joints = []
    for j in scoring.moving_joints(truth):
        axis, origin = scoring.joint_at(truth, j, STAMPS[0])
        joints.append(replace(truth.joints[j], name=f"joint_{j + 1}", axis=axis, origin=origin))
    return scoring.Prediction(tuple(joints), STAMPS, truth.q[:, :3] - truth.q[0, :3], STAMPS[0])


def worst(score: scoring.ClipScore) -> np.ndarray:
    return np.array([[j.axis_deg, j.position_cm or 0, j.line_cm or 0, j.state] for j in score.joints])


def test_a_perfect_result_scores_perfectly() -> None:
    truth = make_truth()
    score = scoring.score_clip("c", perfect(truth), truth, make_samples(truth))
    assert [j.name for j in score.joints] == ["door", "drawer", "flap"]
    assert score.miou == pytest.approx(1.0)
    np.testing.assert_allclose(worst(score), 0, atol=1e-6)
    assert score.success
    assert score.count_correct
    assert score.spurious == 0
    assert score.joints[1].position_cm is None


def test_the_axis_of_a_nested_joint_is_where_its_parent_has_carried_it() -> None:
    truth = make_truth()
    axis, origin = scoring.joint_at(truth, 2, STAMPS[0])
    D = displacements(chain_of(truth.joints), truth.q[0])[0]
    np.testing.assert_allclose(axis, D[:3, :3] @ X, atol=1e-12)
    assert np.linalg.norm(np.cross(D[:3, :3] @ [0, 0.2, 0.3] + D[:3, 3] - origin, axis)) < 1e-9


def flip(prediction: scoring.Prediction) -> scoring.Prediction:
    joints = tuple(replace(j, axis=-np.asarray(j.axis)) for j in prediction.joints)
    return replace(prediction, joints=joints, q=-prediction.q)


def slide(prediction: scoring.Prediction) -> scoring.Prediction:
    joints = tuple(replace(j, origin=j.origin + 0.7 * j.axis) for j in prediction.joints)
    return replace(prediction, joints=joints)


def noisy(prediction: scoring.Prediction) -> scoring.Prediction:
    rng = np.random.default_rng(3)
    joints = []
    for joint in prediction.joints:
        axis = joint.axis + 0.02 * rng.normal(size=3)
        origin = joint.origin + 0.01 * rng.normal(size=3)
        joints.append(replace(joint, axis=axis / np.linalg.norm(axis), origin=origin))
    return replace(prediction, joints=tuple(joints), q=prediction.q + 0.01 * rng.normal(size=prediction.q.shape))


@pytest.mark.parametrize("change", [flip, slide])
def test_conventions_change_nothing(change) -> None:
    truth = make_truth()
    samples, prediction = make_samples(truth), noisy(perfect(truth))
    before = scoring.score_clip("c", prediction, truth, samples)
    after = scoring.score_clip("c", change(prediction), truth, samples)
    assert np.abs(worst(before)).max() > 0.1
    np.testing.assert_allclose(worst(after), worst(before), atol=1e-9)


def test_renumbering_parts_changes_nothing() -> None:
    truth = make_truth()
    samples, prediction = make_samples(truth), noisy(perfect(truth))
    order = [2, 0, 1]
    shuffled = replace(prediction, joints=tuple(prediction.joints[k] for k in order), q=prediction.q[:, order])
    table = np.array([0, *(np.argsort(order) + 1)])
    before = scoring.score_clip("c", prediction, truth, samples)
    after = scoring.score_clip("c", shuffled, truth, replace(samples, part=table[samples.part]))
    assert after == before


def test_renumbering_true_joints_changes_nothing() -> None:
    truth = make_truth()
    samples, prediction = make_samples(truth), noisy(perfect(truth))
    order = np.array([2, 3, 0, 1])
    joints = tuple(truth.joints[k] for k in order)
    shuffled = scoring.Truth(joints, truth.part_ids[order], truth.stamps_s, truth.q[:, order])
    before = scoring.score_clip("c", prediction, truth, samples)
    after = scoring.score_clip("c", prediction, shuffled, samples)
    assert sorted(after.joints, key=lambda j: j.name) == sorted(before.joints, key=lambda j: j.name)
    assert after.miou == pytest.approx(before.miou)


def test_a_part_whose_joint_stays_still_belongs_to_its_parent() -> None:
    truth = make_truth()
    assert scoring.rigid_groups(truth, [0, 1, 2]) == {1: 1, 2: 2, 3: 3, 4: 4, 5: 1}
    assert scoring.rigid_groups(truth, [0]) == {1: 1, 2: 2, 3: 1, 4: 2, 5: 1}


def test_a_missing_joint_scores_the_worst() -> None:
    truth = make_truth()
    samples, full = make_samples(truth), perfect(truth)
    without_door = replace(full, joints=full.joints[1:], q=full.q[:, 1:])
    relabelled = replace(samples, part=np.array([0, 0, 1, 2])[samples.part])
    door = scoring.score_clip("c", without_door, truth, relabelled).joints[0]
    assert (door.found, door.type_correct, door.axis_deg, door.position_cm) == (False, False, 90, 100)
    assert door.state == pytest.approx(np.degrees(0.45), rel=1e-6)
    assert not door.success


def test_a_wrong_type_fails_even_with_the_right_axis() -> None:
    truth = make_truth()
    full = perfect(truth)
    swapped = {JointType.REVOLUTE: JointType.PRISMATIC, JointType.PRISMATIC: JointType.REVOLUTE}
    wrong = replace(full, joints=tuple(replace(j, type=swapped[j.type]) for j in full.joints))
    score = scoring.score_clip("c", wrong, truth, make_samples(truth))
    assert [j.type_correct for j in score.joints] == [False] * 3
    assert [j.position_cm for j in score.joints] == [100, None, 100]
    assert not any(j.success for j in score.joints)


def test_a_joint_on_the_wrong_part_is_spurious_and_missing() -> None:
    truth = make_truth()
    samples = make_samples(truth)
    on_the_body = replace(
        samples, part=np.where(samples.true_id == 1, 1, np.where(samples.true_id == 2, 0, samples.part))
    )
    score = scoring.score_clip("c", perfect(truth), truth, on_the_body)
    assert [j.found for j in score.joints] == [False, True, True]
    assert score.spurious == 1
    assert score.miou == pytest.approx((1 + 1 + 30 / 60 + 30 / 60) / 4)


def test_without_labels_joints_are_paired_by_axis() -> None:
    truth = make_truth()
    order = [1, 2, 0]
    full = noisy(perfect(truth))
    shuffled = replace(full, joints=tuple(full.joints[k] for k in order), q=full.q[:, order])
    score = scoring.score_clip("c", shuffled, truth)
    assert score.success
    assert score.miou == 0


def test_a_crashed_clip_is_a_row() -> None:
    truth = make_truth()
    score = scoring.failed_clip("c", truth, "nothing moved")
    assert [j.axis_deg for j in score.joints] == [90] * 3
    assert (score.miou, score.predicted_joints, score.spurious, score.success, score.count_correct) == (
        0,
        0,
        0,
        False,
        False,
    )
    assert tables.summarise([score])["crashed"] == 1


def test_states_of_another_recording_are_refused() -> None:
    truth = make_truth()
    other = perfect(truth)
    with pytest.raises(BagError, match="same recording"):
        scoring.score_clip("c", replace(other, stamps_s=STAMPS + 50), truth, make_samples(truth))


def test_part_ids_are_looked_up_at_the_same_stamp() -> None:
    ids = np.arange(12).reshape(3, 4)
    pixel = np.array([[[3, 0], [0, 2]], [[1, 1], [2, 1]]])
    found = scoring.sample_part_ids(np.array([1.0, 2.0]), pixel, [(0.5, ids + 100), (2.0001, ids)])
    np.testing.assert_array_equal(found, [[0, 0], [5, 6]])


def test_summary_counts_every_failure() -> None:
    truth = make_truth()
    good = scoring.score_clip("a", perfect(truth), truth, make_samples(truth), "desk", {"total": 2.0, "flow": 1.0}, 500)
    bad = scoring.failed_clip("b", truth, "crashed", "desk", {"total": 1.0}, 700)
    summary = tables.summarise([good, bad])
    assert (summary["clips"], summary["crashed"], summary["joints"]) == (2, 1, 6)
    assert (summary["success"], summary["type"], summary["clip_success"], summary["count"]) == (50, 50, 50, 50)
    assert summary["axis_deg"] == pytest.approx(45, abs=1e-4)
    assert summary["seconds"] == pytest.approx(1.5)
    assert (summary["seconds.flow"], summary["memory_mb"]) == (1.0, 700)
    assert len(tables.flat_rows([good, bad])) == 6
    assert list(tables.by_category([good, bad])) == ["desk"]


def test_tables_have_one_line_per_row() -> None:
    truth = make_truth()
    rows = tables.by_category([scoring.failed_clip("b", truth, "crashed", "desk")])
    markdown, terminal = tables.markdown_table(rows, "category"), tables.terminal_table(rows, "category")
    assert [line.count("|") for line in markdown.splitlines()] == [len(tables.COLUMNS) + 2] * 3
    assert "90.00 ± 0.00 (90.00)" in markdown
    assert len({len(line) for line in terminal.splitlines()}) == 1
    assert tables.summarise([]) == {"clips": 0, "crashed": 0, "joints": 0}
