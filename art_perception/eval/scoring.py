"""One clip's result against its ground truth.

The truth comes from a robot description and its joint states; only joints that move in the clip are expected to be
found. Predicted and true joints are paired through the pixels of the parts they move, so names and order do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from art_perception.errors import BagError
from art_perception.eval import metrics
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.geometry.lie import inverse, transform
from art_perception.types import Joint, JointType

MIN_RANGE = {JointType.REVOLUTE: np.deg2rad(5.0), JointType.PRISMATIC: 0.02}
"""Least range (rad, m) within a clip that makes a true joint count as moving."""
SUCCESS_DEG = 5.0
SUCCESS_CM = 5.0
STATIC_ID = 1  # the static body in part-id images; 0 is background, moving parts start at 2
_NO_OVERLAP = (
    "the estimated states cover {:.2f}..{:.2f} s and the ground truth {:.2f}..{:.2f} s: "
    "they must come from the same recording; check the stamps of /ground_truth/joint_states"
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Ground truth of a clip.

    Attributes:
        joints: every joint of the robot description, geometry in the fixed frame at zero joint values.
        part_ids: (J,) value of each joint's child part in the part-id images, 0 for a joint without one.
        stamps_s: (F,) seconds.
        q: (F, J) joint values, rad or m.
    """

    joints: tuple[Joint, ...]
    part_ids: np.ndarray
    stamps_s: np.ndarray
    q: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What was estimated for a clip.

    Attributes:
        joints: in the fixed frame at ``zero_stamp_s``; ``joints[k]`` moves the part labelled k + 1.
        stamps_s: (F,) seconds, same clock as the truth.
        q: (F, J) joint values, rad or m, NaN where the object was lost.
        zero_stamp_s: stamp of the first window frame, where all joint values are zero.
    """

    joints: tuple[Joint, ...]
    stamps_s: np.ndarray
    q: np.ndarray
    zero_stamp_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Labelled pixels with the true part under each of them.

    Attributes:
        stamps_s: (T,) seconds.
        point: (T, N, 3) metres, fixed frame.
        part: (T, N) predicted: 0 static body, k child of the k-th joint.
        true_id: (T, N) value of the part-id image: 0 background, 1 static body, 2.. moving parts.
    """

    stamps_s: np.ndarray
    point: np.ndarray
    part: np.ndarray
    true_id: np.ndarray


@dataclass(frozen=True, slots=True)
class JointScore:
    """Errors of one true joint; a joint that was not found scores the worst value everywhere.

    Attributes:
        name, type: of the true joint.
        found: whether a predicted joint was paired with it.
        type_correct: whether the pair agrees on revolute or prismatic.
        axis_deg: unsigned angle between the axes.
        position_cm: distance of the axes at the part, None for a true prismatic joint.
        line_cm: shortest distance of the two lines, None for a true prismatic joint.
        state: mean absolute state error, degrees or centimetres by the true type; a joint not found or of the
            wrong type scores as one predicted never to move.
        motion: true range of the joint in the clip, degrees or centimetres.
        iou: of the paired parts.
        valid, confidence, proposed_by: what the estimator said about the joint.
    """

    name: str
    type: str
    found: bool
    type_correct: bool
    axis_deg: float
    position_cm: float | None
    line_cm: float | None
    state: float
    motion: float
    iou: float
    valid: bool
    confidence: float
    proposed_by: str = ""

    @property
    def success(self) -> bool:
        """Type right, axis within 5 degrees and (revolute) position within 5 centimetres."""
        near = self.position_cm is None or self.position_cm < SUCCESS_CM
        return self.type_correct and self.axis_deg < SUCCESS_DEG and near


@dataclass(frozen=True, slots=True)
class ClipScore:
    """One row of an evaluation; a clip that crashed is a row with an ``error``.

    Attributes:
        clip, category: what was evaluated.
        joints: one score per expected joint.
        miou: mean IoU over parts, the static body being one of them.
        predicted_joints: how many joints the result has.
        seconds: per stage and ``total``.
        peak_memory_mb: of the process that made the result, 0 when not measured.
        error: why there is no result, or None.
        unmatched: confidence of every predicted joint that is no true one.
    """

    clip: str
    category: str
    joints: tuple[JointScore, ...]
    miou: float
    predicted_joints: int
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    error: str | None = None
    unmatched: tuple[float, ...] = ()

    @property
    def success(self) -> bool:
        """Whether every expected joint was recovered."""
        return all(j.success for j in self.joints)

    @property
    def count_correct(self) -> bool:
        """Whether the result has as many joints as moved."""
        return self.error is None and self.predicted_joints == len(self.joints)

    @property
    def spurious(self) -> int:
        """Predicted joints without a true one."""
        return self.predicted_joints - sum(j.found for j in self.joints)


def truth_from(joints: Sequence[Joint], joint_names: Sequence[str], stamps_s: np.ndarray, q: np.ndarray) -> Truth:
    """Align a robot description's joints with recorded joint states.

    Args:
        joints: all joints of the description, any order.
        joint_names: names of the movable joints in the order of the recorded values and of the part ids.
        stamps_s: (F,) seconds.
        q: (F, len(joint_names)) recorded values; joints that are not recorded stay at zero.
    """
    column = {name: i for i, name in enumerate(joint_names)}
    values = np.zeros((len(stamps_s), len(joints)))
    part_ids = np.zeros(len(joints), int)
    for j, joint in enumerate(joints):
        if joint.name in column:
            values[:, j] = q[:, column[joint.name]]
            part_ids[j] = STATIC_ID + 1 + column[joint.name]
    return Truth(tuple(joints), part_ids, np.asarray(stamps_s, float), values)


def sample_part_ids(
    stamps_s: np.ndarray, pixel: np.ndarray, part_ids: Iterable[tuple[float, np.ndarray]], tolerance_s: float = 5e-3
) -> np.ndarray:
    """Look up the true part id under labelled pixels.

    Args:
        stamps_s: (T,) stamps of the labels.
        pixel: (T, N, 2) integer (column, row).
        part_ids: (stamp in seconds, (H, W) ids) in any order, read once.
        tolerance_s: largest difference of stamps that still is the same frame.

    Returns:
        (T, N) ids, 0 where no part-id image belongs to the stamp.
    """
    out = np.zeros(pixel.shape[:2], int)
    for stamp_s, ids in part_ids:
        for t in np.flatnonzero(np.abs(stamps_s - stamp_s) <= tolerance_s):
            out[t] = ids[pixel[t, :, 1], pixel[t, :, 0]]
    return out


def score_clip(
    clip: str,
    prediction: Prediction,
    truth: Truth,
    samples: Samples | None = None,
    category: str = "",
    seconds: Mapping[str, float] | None = None,
    peak_memory_mb: float = 0.0,
) -> ClipScore:
    """Score a result; without ``samples`` joints are paired by their axes and the mean IoU is 0."""
    expected = moving_joints(truth)
    iou = _joint_iou(prediction, truth, expected, samples)
    affinity = iou if samples is not None else _axis_affinity(prediction, truth, expected)
    pairs = {g: p for p, g in metrics.match(affinity)}
    scores = [
        _score_joint(truth, j, prediction, pairs.get(g), float(iou[pairs[g], g]) if g in pairs else 0.0, samples)
        for g, j in enumerate(expected)
    ]
    miou = _miou(prediction, truth, expected, samples) if samples is not None else 0.0
    count = len(prediction.joints)
    extra = tuple(float(j.confidence) for p, j in enumerate(prediction.joints) if p not in pairs.values())
    return ClipScore(clip, category, tuple(scores), miou, count, dict(seconds or {}), peak_memory_mb, unmatched=extra)


def failed_clip(
    clip: str,
    truth: Truth,
    error: str,
    category: str = "",
    seconds: Mapping[str, float] | None = None,
    peak_memory_mb: float = 0.0,
) -> ClipScore:
    """Row of a clip that gave no result: every expected joint is missing."""
    scores = tuple(_missing(truth, j) for j in moving_joints(truth))
    return ClipScore(clip, category, scores, 0.0, 0, dict(seconds or {}), peak_memory_mb, error)


def moving_joints(truth: Truth) -> list[int]:
    """List the joints whose value changes enough in the clip (5 degrees, 2 centimetres) to be expected."""
    motion = np.ptp(truth.q, axis=0) if len(truth.q) else np.zeros(len(truth.joints))
    return [j for j, joint in enumerate(truth.joints) if motion[j] >= MIN_RANGE.get(joint.type, np.inf)]


def true_displacements(truth: Truth, stamps_s: np.ndarray) -> np.ndarray:
    """Displacement (..., J, 4, 4) of every true part at stamps (...), joint values interpolated linearly."""
    q = np.stack([np.interp(stamps_s, truth.stamps_s, column) for column in truth.q.T], -1)
    order = parents_first(truth.joints)
    D = displacements(chain_of([truth.joints[j] for j in order]), q[..., order])
    return D[..., np.argsort(order), :, :]


def joint_at(truth: Truth, index: int, stamp_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Axis (3,) and origin (3,) of a true joint in the fixed frame at ``stamp_s``.

    A joint's own motion leaves its axis in place, so the displacement of its child moves it like its parent does.
    """
    D = true_displacements(truth, np.asarray(stamp_s))[index]
    joint = truth.joints[index]
    return D[:3, :3] @ joint.axis, D[:3, :3] @ joint.origin + D[:3, 3]


def rigid_groups(truth: Truth, expected: Sequence[int]) -> dict[int, int]:
    """Map part ids to the id of their rigid group: a part whose joint does not move belongs to its parent's."""
    of_link = {joint.child: j for j, joint in enumerate(truth.joints)}

    def group(j: int | None) -> int:
        if j is None:
            return STATIC_ID
        return int(truth.part_ids[j]) if j in expected else group(of_link.get(truth.joints[j].parent))

    return {int(part): group(j) for j, part in enumerate(truth.part_ids) if part} | {STATIC_ID: STATIC_ID}


def parents_first(joints: Sequence[Joint]) -> list[int]:
    """Order joint indices so that every joint comes after the one that moves its parent link."""
    of_link = {joint.child: j for j, joint in enumerate(joints)}

    def depth(j: int) -> int:
        parent = of_link.get(joints[j].parent)
        return 0 if parent is None else 1 + depth(parent)

    return sorted(range(len(joints)), key=depth)


def _true_groups(truth: Truth, expected: Sequence[int], samples: Samples) -> np.ndarray:
    table = np.zeros(256, int)
    for part, group in rigid_groups(truth, expected).items():
        table[part] = group
    return table[samples.true_id]


def _joint_iou(prediction: Prediction, truth: Truth, expected: Sequence[int], samples: Samples | None) -> np.ndarray:
    if samples is None or not prediction.joints or not expected:
        return np.zeros((len(prediction.joints), len(expected)))
    parts = np.arange(1, len(prediction.joints) + 1)
    return metrics.iou_matrix(samples.part, _true_groups(truth, expected, samples), parts, truth.part_ids[expected])


def _miou(prediction: Prediction, truth: Truth, expected: Sequence[int], samples: Samples) -> float:
    true_ids = np.array([STATIC_ID, *truth.part_ids[expected]])
    parts = np.arange(len(prediction.joints) + 1)
    return metrics.mean_iou(metrics.iou_matrix(samples.part, _true_groups(truth, expected, samples), parts, true_ids))


def _axis_affinity(prediction: Prediction, truth: Truth, expected: Sequence[int]) -> np.ndarray:
    """Similarity (P, G) in (0, 3] of joints without labels: same type, then close axes, then close lines."""
    out = np.zeros((len(prediction.joints), len(expected)))
    for g, j in enumerate(expected):
        axis, origin = joint_at(truth, j, prediction.zero_stamp_s)
        for p, joint in enumerate(prediction.joints):
            angle = metrics.axis_angle_deg(joint.axis, axis)
            gap = metrics.line_to_line_cm(joint.axis, joint.origin, axis, origin)
            out[p, g] = (joint.type is truth.joints[j].type) + 1 / (1 + angle / 5) + 1 / (1 + gap / 5)
    return out


def _score_joint(
    truth: Truth, index: int, prediction: Prediction, found: int | None, iou: float, samples: Samples | None
) -> JointScore:
    if found is None:
        return _missing(truth, index)
    true_joint, joint = truth.joints[index], prediction.joints[found]
    axis, origin = joint_at(truth, index, prediction.zero_stamp_s)
    type_correct = joint.type is true_joint.type
    position_cm, line_cm = None, None
    if true_joint.type is JointType.REVOLUTE:
        position_cm = line_cm = metrics.MISSING_POSITION_CM
        if type_correct:
            centroid = _centroid(truth, index, prediction.zero_stamp_s, samples)
            position_cm = metrics.axis_position_cm(joint.axis, joint.origin, axis, origin, centroid)
            line_cm = metrics.line_to_line_cm(joint.axis, joint.origin, axis, origin)
    stamps_s, q = (prediction.stamps_s, prediction.q[:, found]) if type_correct else (truth.stamps_s, None)
    return JointScore(
        name=true_joint.name,
        type=true_joint.type.value,
        found=True,
        type_correct=type_correct,
        axis_deg=metrics.axis_angle_deg(joint.axis, axis),
        position_cm=position_cm,
        line_cm=line_cm,
        state=_state_error(truth, index, stamps_s, q),
        motion=_motion(truth, index),
        iou=iou,
        valid=joint.valid,
        confidence=joint.confidence,
        proposed_by=joint.proposed_by,
    )


def _missing(truth: Truth, index: int) -> JointScore:
    joint = truth.joints[index]
    position_cm = metrics.MISSING_POSITION_CM if joint.type is JointType.REVOLUTE else None
    return JointScore(
        name=joint.name,
        type=joint.type.value,
        found=False,
        type_correct=False,
        axis_deg=metrics.MISSING_AXIS_DEG,
        position_cm=position_cm,
        line_cm=position_cm,
        state=_state_error(truth, index, truth.stamps_s, None),
        motion=_motion(truth, index),
        iou=0.0,
        valid=False,
        confidence=0.0,
    )


def _motion(truth: Truth, index: int) -> float:
    return metrics.in_display_units(float(np.ptp(truth.q[:, index])), truth.joints[index].type)


def _state_error(truth: Truth, index: int, stamps_s: np.ndarray, q: np.ndarray | None) -> float:
    """State error over the stamps that have truth; ``q`` None is a joint that never moves.

    Where the object was lost the last known value stands, which is what a robot would go on.
    """
    inside = (stamps_s >= truth.stamps_s[0] - 1e-3) & (stamps_s <= truth.stamps_s[-1] + 1e-3)
    if not inside.any():
        raise BagError(_NO_OVERLAP.format(stamps_s[0], stamps_s[-1], truth.stamps_s[0], truth.stamps_s[-1]))
    true_q = np.interp(stamps_s[inside], truth.stamps_s, truth.q[:, index])
    q = np.zeros(len(stamps_s)) if q is None else metrics.hold_last(q)
    return metrics.state_error(q[inside], true_q, truth.joints[index].type)


def _centroid(truth: Truth, index: int, stamp_s: float, samples: Samples | None) -> np.ndarray:
    """Centre (3,) of a true part at ``stamp_s``: the median of its labelled points carried there by the true motion.

    Without labels of the part the joint's own origin stands in for it.
    """
    inside = samples.true_id == truth.part_ids[index] if samples is not None else np.zeros((0, 0), bool)
    if samples is None or not inside.any():
        return joint_at(truth, index, stamp_s)[1]
    D = true_displacements(truth, samples.stamps_s)[:, index]
    carry = true_displacements(truth, np.asarray(stamp_s))[index] @ inverse(D)
    return np.median(transform(carry, samples.point)[inside], axis=0)
