"""Follows an articulated object at camera rate: joint values (and base pose when it is moved) per RGB-D frame.

Every frame is fitted to the model, never to the previous frame, so nothing drifts. The previous states only predict
where to start; when the fit stops explaining the image the joints are searched for over their whole range.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

import numpy as np

from art_perception.bounds import bounded
from art_perception.errors import ObjectError
from art_perception.estimation.articulated_icp import Alignment, Evidence, Model, Pose
from art_perception.estimation.surfels import Surfels, sample_surfels
from art_perception.geometry.kinematics import chain_of
from art_perception.geometry.lie import exp_se3, inverse, log_se3, transform
from art_perception.geometry.screw import line_distance
from art_perception.types import ArticulatedObject, Joint, JointType, RgbdFrame

_log = logging.getLogger(__name__)

_DENSITY = 10  # surfels that hide others per surfel that is measured
_COARSENESS = 4
_MIN_EVIDENCE = 15  # visible surfels below which a part's quality says nothing
_MAX_GAP_S = 0.5
_MIN_LEVER_M = 0.02
_SEARCH_CANDIDATES = 60
_SEARCH_FINALISTS = 3
_SEARCH_PAUSE = 30  # frames between searches at most
_SEARCH_REACH = np.pi  # rad or m either way, for joints without limits
_COASTING = 0.9  # share of the velocity that is predicted, so that motion nobody sees comes to rest
_BASE_PATIENCE = 15  # frames that the base stays free after it last moved
_BASE_REST = 5  # frames before freeing the base is tried again
_BASE_STILL_M = 0.003


class BaseMotion(str, Enum):
    """Whether the object as a whole may move."""

    NEVER = "never"
    AUTO = "auto"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class TrackingConfig:
    """How a known object is followed."""

    surfels_per_part: int = bounded(400, 10, 100_000)
    """Surface samples compared with each image, per part; time grows with it."""
    sigma_m: float = bounded(0.002, 1e-5, 1.0)
    """One-sigma error of mesh and depth at zero distance, metres; adapted by up to a factor of 2 while tracking."""
    sigma_per_m2: float = bounded(0.002, 0.0, 1.0)
    """Growth of that error with the squared distance, 1/m; adapted with it."""
    gate_m: float = bounded(0.05, 1e-3, 10.0)
    """Largest residual that may attract a part in the first iteration, metres."""
    iterations: int = bounded(6, 1, 1000)
    """Gauss-Newton iterations per frame."""
    search_step_m: float = bounded(0.025, 1e-4, 10.0)
    """Distance between the candidates of a search, metres at the part's far end."""
    limit_margin_rad: float = bounded(0.3, 0.0, 10.0)
    """How far a revolute joint may exceed the model's limits (they are the observed range), rad."""
    limit_margin_m: float = bounded(0.05, 0.0, 10.0)
    """How far a prismatic joint may exceed the model's limits, metres."""
    min_quality: float = bounded(0.4, 0.0, 1.0)
    """Below this quality a frame counts as not explained."""
    lost_frames: int = bounded(3, 1, 10_000)
    """Unexplained frames in a row before the joints are searched for over their whole range."""
    estimate_base: BaseMotion = BaseMotion.AUTO
    """Whether the base pose is estimated: never, when the static body has clearly moved, or in every frame."""
    base_moved_m: float = bounded(0.006, 0.0, 10.0)
    """Displacement of the static body that frees the base in mode ``auto``, metres."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackState:
    """Where the object is at one image stamp.

    Attributes:
        stamp_ns: the image's stamp.
        q: (J,) joint values, rad or m.
        T_world_base: (4, 4) base link to fixed frame.
        quality: share of the predicted-visible surface that the image confirms, worst visible part, in [0, 1].
        tracked: whether q can be used; False after ``lost_frames`` unexplained frames or with nothing visible.
        joint_quality: (J,) the same share for each joint's own part; 0 when it is hidden or out of view.
    """

    stamp_ns: int
    q: np.ndarray
    T_world_base: np.ndarray
    quality: float
    tracked: bool
    joint_quality: np.ndarray


class Tracker:
    """Tracks one object; see the module's docstring.

    Raises:
        ObjectError: no part of the object has a mesh.
    """

    def __init__(self, obj: ArticulatedObject, config: TrackingConfig | None = None) -> None:
        self._config = config or TrackingConfig()
        self._T_world_base = np.asarray(obj.T_world_base, float)
        self._model = _make_model(obj, self._config)
        self._movable = np.flatnonzero(self._model.upper > self._model.lower).tolist()
        self._centre = self._model.dense.points.mean(1).astype(float)
        self.reset()

    def reset(self, q: np.ndarray | None = None) -> None:
        """Forget the past; start from ``q`` (J,), or from zero and a search when None."""
        J = len(self._model.lower)
        start = np.zeros(J) if q is None else np.asarray(q, float).reshape(J)
        self._pose = Pose(np.clip(start, self._model.lower, self._model.upper), np.eye(4))
        self._velocity = np.zeros(J + 6)
        self._stamp_ns: int | None = None
        self._unexplained = self._config.lost_frames
        self._search_at = 0 if q is None else 1
        self._base_free = self._base_rest = 0
        self._noise = 1.0

    def update(self, frame: RgbdFrame, q_init: np.ndarray | None = None) -> TrackState:
        """Estimate the state in ``frame``, starting from ``q_init`` (J,) when given."""
        if q_init is not None:
            self.reset(q_init)
        alignment = self._alignment(frame, self._predict(frame.stamp_ns))
        pose = self._follow(alignment)
        evidence = alignment.evidence(pose)
        self._unexplained = self._unexplained + 1 if self._is_suspicious(evidence) else 0
        if self._unexplained >= self._search_at:
            pose, evidence = self._search(alignment, frame, pose, evidence)
        elif not self._unexplained:
            self._search_at = self._config.lost_frames
            self._noise = float(np.clip(self._noise * (0.9 + 0.1 * alignment.noise_ratio(pose)), 0.5, 2.0))
        return self._commit(frame.stamp_ns, pose, evidence)

    def _alignment(self, frame: RgbdFrame, predicted: Pose) -> Alignment:
        sigma = self._noise * self._config.sigma_m, self._noise * self._config.sigma_per_m2
        return Alignment(self._model, frame, predicted, sigma)

    def _predict(self, stamp_ns: int) -> Pose:
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        step = _COASTING * self._velocity * (dt if 0 < dt < _MAX_GAP_S else 0.0)
        J = len(self._pose.q)
        q = np.clip(self._pose.q + step[:J], self._model.lower, self._model.upper)
        return Pose(q, exp_se3(step[J:]) @ self._pose.base)

    def _follow(self, alignment: Alignment) -> Pose:
        """Refine from the best of a few candidates around the prediction; free the base if that is clearly better."""
        start = self._nearby(alignment)
        if start is not alignment.predicted:
            alignment.look(start)
        mode = self._config.estimate_base
        moving = mode is BaseMotion.ALWAYS or (mode is BaseMotion.AUTO and self._base_free > 0)
        pose = self._refine(alignment, start, moving)
        if mode is BaseMotion.AUTO and not moving:
            self._base_rest = max(self._base_rest - 1, 0)
            if not self._base_rest and self._base_displaced(alignment, pose):
                pose = self._try_base(alignment, pose)
        return pose

    def _refine(self, alignment: Alignment, pose: Pose, base: bool) -> Pose:
        free = np.concatenate([self._model.upper > self._model.lower, np.full(6, base)])
        return alignment.refine(pose, self._config.iterations, self._config.gate_m, free)

    def _nearby(self, alignment: Alignment) -> Pose:
        """Try each joint a little before and after its prediction: what constant velocity misses."""
        best, lowest = alignment.predicted, alignment.cost(alignment.predicted)
        for j in self._movable:
            centre, step = best, self._config.search_step_m / self._model.lever_m[j]
            for offset in (-2, -1, 1, 2):
                value = centre.q[j] + offset * step
                candidate = centre.with_joint(j, np.clip(value, self._model.lower[j], self._model.upper[j]))
                cost = alignment.cost(candidate)
                if cost < lowest:
                    best, lowest = candidate, cost
        return best

    def _base_displaced(self, alignment: Alignment, pose: Pose) -> bool:
        evidence = alignment.evidence(pose)
        if evidence.visible[0] < _MIN_EVIDENCE:
            return False
        return evidence.quality[0] < 0.7 or alignment.base_offset_m(pose) > self._config.base_moved_m

    def _try_base(self, alignment: Alignment, pose: Pose) -> Pose:
        moved = self._refine(alignment, pose, True)
        gain = alignment.cost(pose) - alignment.cost(moved)
        if gain < 0.05 * alignment.evidence(pose).visible.sum():
            self._base_rest = _BASE_REST
            return pose
        _log.info("the object's base has moved: estimating its pose")
        self._base_free = _BASE_PATIENCE
        return moved

    def _is_suspicious(self, evidence: Evidence) -> bool:
        """Whether some part in view is not where it was expected: seen through, or behind something."""
        seen = evidence.visible >= _MIN_EVIDENCE
        return not seen.any() or bool((evidence.quality[seen] < self._config.min_quality).any())

    def _search(self, alignment: Alignment, frame: RgbdFrame, pose: Pose, evidence: Evidence) -> tuple[Pose, Evidence]:
        """Search every joint over its whole range; keep what the image confirms."""
        self._search_at = self._unexplained + max(self._config.lost_frames, min(self._unexplained, _SEARCH_PAUSE))
        found = self._scan_all(alignment, frame, pose)
        for _ in range(2):
            found, found_evidence = self._settle(frame, found)
            changed = np.abs(found.q - pose.q) * self._model.lever_m > self._config.search_step_m
            wrong = changed & ~self._confirmed(evidence, found_evidence)
            if changed.any() and not wrong.any():
                _log.info("the joints were searched for and found elsewhere")
                self._pose, self._stamp_ns = found, None
                self._unexplained = self._unexplained if self._is_suspicious(found_evidence) else 0
                return found, found_evidence
            found = Pose(np.where(wrong, pose.q, found.q), found.base)
        return pose, evidence

    def _settle(self, frame: RgbdFrame, start: Pose) -> tuple[Pose, Evidence]:
        """Follow from a pose far from the prediction."""
        alignment = self._alignment(frame, start)
        pose = self._follow(alignment)
        alignment.look(pose)
        return pose, alignment.evidence(pose)

    def _confirmed(self, old: Evidence, new: Evidence) -> np.ndarray:
        """(J,) whether the image confirms a part well, and hardly less than before."""
        floor = np.maximum(self._config.min_quality, old.quality - 0.1)[1:]
        return (new.visible[1:] >= _MIN_EVIDENCE) & (new.quality[1:] >= floor)

    def _scan_all(self, alignment: Alignment, frame: RgbdFrame, pose: Pose) -> Pose:
        """Improve one joint after the other, parents first, until nothing changes."""
        for _ in range(len(pose.q)):
            before = pose
            for j in self._movable:
                found = self._scan(alignment, pose, j)
                pose = max(found, key=lambda p: _quality(self._settle(frame, p)[1])) if len(found) > 1 else found[0]
            if pose is before:
                break
        return pose

    def _scan(self, alignment: Alignment, pose: Pose, j: int) -> list[Pose]:
        """Poses with the best values of one joint, or ``pose`` itself when none is clearly better."""
        lower = max(self._model.lower[j], pose.q[j] - _SEARCH_REACH)
        upper = min(self._model.upper[j], pose.q[j] + _SEARCH_REACH)
        count = int(np.ceil((upper - lower) * self._model.lever_m[j] / self._config.search_step_m)) + 1
        values = np.linspace(lower, upper, min(max(count, 2), _SEARCH_CANDIDATES))
        costs, visible = alignment.scan(pose, j, np.append(values, pose.q[j]), self._config.search_step_m)
        good = [i for i in _minima(costs[:-1]) if costs[-1] - costs[i] > max(5.0, 0.03 * visible)]
        return [pose.with_joint(j, values[i]) for i in good[:_SEARCH_FINALISTS]] or [pose]

    def _commit(self, stamp_ns: int, pose: Pose, evidence: Evidence) -> TrackState:
        seen = evidence.visible >= _MIN_EVIDENCE
        self._learn_velocity(stamp_ns, pose, evidence)
        self._pose, self._stamp_ns = pose, stamp_ns
        quality = _quality(evidence)
        unsure = quality < self._config.min_quality and self._unexplained >= self._config.lost_frames
        tracked = quality > 0 and not unsure
        joint_quality = np.where(seen, evidence.quality, 0.0)[1:]
        return TrackState(stamp_ns, pose.q.copy(), pose.base @ self._T_world_base, quality, tracked, joint_quality)

    def _learn_velocity(self, stamp_ns: int, pose: Pose, evidence: Evidence) -> None:
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        step = pose.base @ inverse(self._pose.base)
        moved = np.linalg.norm(transform(step, self._centre[None]) - self._centre) > _BASE_STILL_M
        self._base_free = _BASE_PATIENCE if moved else max(self._base_free - 1, 0)
        if not 0 < dt < _MAX_GAP_S:
            self._velocity[:] = 0
            return
        known = np.concatenate([evidence.agree[1:] >= _MIN_EVIDENCE, np.full(6, evidence.agree[0] >= _MIN_EVIDENCE)])
        measured = np.concatenate([pose.q - self._pose.q, log_se3(step)]) / dt
        self._velocity = 0.3 * self._velocity + 0.7 * np.where(known, measured, 0.0)


def _quality(evidence: Evidence) -> float:
    """Worst share of agreement among the parts of which something is measured; 0 when nothing is."""
    known = evidence.agree + evidence.contradict >= _MIN_EVIDENCE
    return float(evidence.quality[known].min()) if known.any() else 0.0


def _minima(costs: np.ndarray) -> np.ndarray:
    """Indices of the local minima, lowest first."""
    padded = np.concatenate([[np.inf], costs, [np.inf]])
    index = np.flatnonzero((costs <= padded[:-2]) & (costs < padded[2:]))
    return index[np.argsort(costs[index])]


def _make_model(obj: ArticulatedObject, config: TrackingConfig) -> Model:
    dense = sample_surfels(obj.parts, config.surfels_per_part * _DENSITY)
    if not dense.points.shape[1]:
        raise ObjectError(f"no part of '{obj.name}' has a mesh, so there is nothing to track: give a URDF with visuals")
    chain = chain_of(obj.joints)
    bounds = np.array([_bounds(j, config) for j in obj.joints]).reshape(-1, 2)
    moves = _moved_parts(chain.parents)
    levers = np.array([_lever(joint, dense, moved) for joint, moved in zip(obj.joints, moves, strict=True)])
    coarse = dense.every(_COARSENESS)
    return Model(chain, moves, dense, coarse, config.surfels_per_part, bounds[:, 0], bounds[:, 1], levers)


def _bounds(joint: Joint, config: TrackingConfig) -> tuple[float, float]:
    """Allowed joint values, possibly infinite."""
    if joint.type is JointType.FIXED:
        return 0.0, 0.0
    margin = config.limit_margin_rad if joint.type is JointType.REVOLUTE else config.limit_margin_m
    return joint.limits[0] - margin, joint.limits[1] + margin


def _moved_parts(parents: tuple[int, ...]) -> np.ndarray:
    """(J, J + 1) bool, whether joint j moves part k: its own child and everything that hangs on it."""
    moves = np.zeros((len(parents), len(parents) + 1), bool)
    for k, parent in enumerate(parents):
        moves[:, k + 1] = moves[:, parent + 1]
        moves[k, k + 1] = True
    return moves


def _lever(joint: Joint, surfels: Surfels, moved: np.ndarray) -> float:
    points = surfels.points[:, moved[surfels.part]].T
    if joint.type is not JointType.REVOLUTE or not len(points):
        return 1.0
    distance = line_distance(points, np.asarray(joint.origin, float), np.asarray(joint.axis, float))
    return max(float(np.percentile(distance, 90)), _MIN_LEVER_M)
