"""Joint type by evidence, and how far a joint can be trusted.

Both joint types are refined on the same data; the Bayesian information criterion picks one (Sturm, Stachniss &
Burgard, "A probabilistic framework for learning kinematic models of articulated objects", JAIR 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from art_perception.estimation.align import Evidence, Fit, JointConfig, gather, refine
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.flow import Tracks
from art_perception.estimation.joint_fit import Motion, fit_tracks
from art_perception.estimation.segment import in_frame_of, world_displacement
from art_perception.estimation.threads import SLIM, THIN, agreement, thinness, threads
from art_perception.geometry.lie import hat, inverse
from art_perception.geometry.rigid import kabsch
from art_perception.geometry.screw import across, closest_on_line, screw_of_transform
from art_perception.types import Joint, JointType

_FOUND = 0.8  # of a slim part, seen where a fit to its points puts it: less, and its surface says more
_TURNED = 1e-6  # rad, less has no axis
_FAR_M = 10.0  # an axis so far away turns a part as a slide moves it
VALID = 0.5  # confidence from which on a joint is valid


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A fit that won against the other joint type by ``margin`` (half the BIC difference, nats)."""

    fit: Fit
    margin: float

    @property
    def motion(self) -> Motion:
        """The winning motion."""
        return self.fit.motion


def other_type(motion: Motion, points: np.ndarray, weights: np.ndarray) -> Motion | None:
    """Start value of the other joint type from the part's tracks (N, T, 3) in the parent frame; None of too few."""
    seen = weights > 0
    a, b = int(motion.q.argmin()), int(motion.q.argmax())
    both = seen[:, a] & seen[:, b]
    if both.sum() < 4:
        a, b = _best_pair(seen, motion.q)
        both = seen[:, a] & seen[:, b]
    if both.sum() < 4:
        return None
    if motion.type is JointType.REVOLUTE:
        shift = (points[both, b] - points[both, a]).mean(0)
        length = float(np.linalg.norm(shift))
        if length < 1e-3:
            return None
        gain = length / (motion.q[b] - motion.q[a])
        kind, axis, origin = JointType.PRISMATIC, shift / length, points[both, a].mean(0)
    else:
        axis, origin, angle, _ = screw_of_transform(kabsch(points[both, a], points[both, b], np.ones(both.sum())))
        gain = angle / (motion.q[b] - motion.q[a])
        if angle < _TURNED:  # then it is, as nearly as can be, about an axis far away
            axis, aside = across(motion.axis)
            origin, gain = points[both, a].mean(0) - _FAR_M * aside, 1 / _FAR_M
        kind = JointType.REVOLUTE
    start = replace(motion, type=kind, axis=axis, origin=origin, q=motion.q * gain, covariance=None)
    return fit_tracks(start, points, weights)


def _best_pair(seen: np.ndarray, q: np.ndarray) -> tuple[int, int]:
    """The two frames of largest motion that at least four tracks share."""
    shared = seen.T.astype(float) @ seen.astype(float) >= 4
    gap = np.abs(q[:, None] - q[None]) * shared
    a, b = np.unravel_index(gap.argmax(), gap.shape)
    return int(a), int(b)


def _bic(fit: Fit) -> float:
    parameters = 5 if fit.motion.type is JointType.REVOLUTE else 3
    return fit.cost + parameters * np.log(max(fit.count, 2.0))


def choose(
    dense: DenseWindow, labels: np.ndarray, part: int, evidence: Evidence, motion: Motion, config: JointConfig
) -> Choice:
    """Refine ``motion`` and its rival type on the same evidence and keep the better by BIC."""
    fit = refine(dense, labels, part, evidence, motion, config)
    rival_start = other_type(fit.motion, evidence.tracks, evidence.track_weights) if len(evidence.tracks) else None
    if rival_start is None:
        return Choice(fit, 0.0)
    rival = refine(dense, labels, part, evidence, rival_start, config)
    margin = 0.5 * (_bic(rival) - _bic(fit))
    fit, rival, margin = (fit, rival, margin) if margin >= 0 else (rival, fit, -margin)
    points = evidence.points[evidence.real] if len(evidence.points) else evidence.tracks[evidence.track_weights > 0]
    if rival.motion.type is JointType.PRISMATIC and _is_slide(fit.motion, points):
        return Choice(rival, margin)
    return Choice(fit, margin)


def _is_slide(motion: Motion, points: np.ndarray) -> bool:
    """Whether a revolute joint of points (N, 3) is a slide in disguise: a small turn about an axis far away.

    With some pixels labelled wrong its two parameters more fit better than the slide.
    """
    middle = points.mean(0)
    radius = np.sqrt(((points - middle) ** 2).sum(-1).mean())
    lever = np.linalg.norm(np.cross(middle - motion.origin, motion.axis))
    return float(np.ptp(motion.q)) < np.deg2rad(5) and lever > 6 * radius


def refine_joint(
    dense: DenseWindow,
    labels: np.ndarray,
    motions: list[Motion],
    k: int,
    tracks: Tracks,
    part_of_track: np.ndarray,
    config: JointConfig,
) -> Choice:
    """Refine motion k on its pixels (label k + 1) and tracks, in the frame of its parent.

    A thin part is also fitted to where its points are. Of both fits the one that puts more of it where it was seen is
    kept; if it has some surface, that of its points only when it is the surer one too.
    """
    motion, own = motions[k], labels == k + 1
    D_parent = parent_displacement(motions, motion.parent)
    T_parent_camera = inverse(D_parent) @ dense.T_world_camera

    def fitted(labels: np.ndarray, start: Motion, positions: np.ndarray, weights: np.ndarray) -> Choice:
        evidence = gather(dense, labels, k + 1, D_parent, positions, weights, tracks.noise_m, config)
        return choose(dense, labels, k + 1, evidence, start, config)

    def by_surface() -> Choice:
        mine = part_of_track == k
        local = in_frame_of(replace(tracks, points=tracks.points[mine].astype(float)), motions, motion.parent)
        return fitted(labels, motion, local.points, tracks.visible[mine] / tracks.sigma[mine, None] ** 2)

    def by_points(clouds: list[np.ndarray]) -> Choice:
        start, places, weights = threads(clouds, motion, tracks.noise_m)
        weights = weights * config.dense_weight / max(config.track_weight, 1e-9)  # looked up, they do not drift
        nothing = np.zeros_like(labels)  # what normals there are belong to what is behind it
        return fitted(nothing, start, places, weights)

    bare = thinness(dense, own)
    choice = by_surface()
    if bare > SLIM:
        clouds = dense.clouds(own, T_parent_camera)
        other = by_points(clouds)
        more = agreement(clouds, other.motion) > max(agreement(clouds, choice.motion), _FOUND * (bare <= THIN))
        if more and (bare > THIN or confidence(other) > confidence(choice)):
            choice = other
    if choice.motion.type is not JointType.PRISMATIC:
        return choice
    normals = np.einsum("tij,thwj->thwi", T_parent_camera[:, :3, :3], dense.normals)[own]
    return replace(choice, fit=replace(choice.fit, motion=square_to_front(choice.motion, normals)))


def square_to_front(motion: Motion, normals: np.ndarray) -> Motion:
    """Draw the axis of a slide towards the normal of the front it carries, when the two nearly agree.

    Drawers run square to their fronts, while sideways the depth of a plain front says next to nothing. A Gaussian
    prior of 1.5 degrees against the fit's own uncertainty, taken as 2 degrees at least.

    Args:
        motion: a prismatic joint.
        normals: (n, 3) surface normals of the part in the parent's frame, zero where undefined.
    """
    along = normals @ motion.axis
    facing = np.abs(along) > np.cos(np.deg2rad(15))
    front = normals[facing] * np.sign(along[facing, None])
    if len(front) < 0.3 * max((np.abs(normals).sum(-1) > 0).sum(), 1) or len(front) < 100:
        return motion
    normal = np.median(front, 0)
    own = max(uncertainty(motion, motion.origin)[0], np.deg2rad(2))
    axis = motion.axis / own**2 + normal / np.linalg.norm(normal) / np.deg2rad(1.5) ** 2
    return replace(motion, axis=axis / np.linalg.norm(axis))


def refine_all(
    dense: DenseWindow,
    labels: np.ndarray,
    motions: list[Motion],
    tracks: Tracks,
    part_of_track: np.ndarray,
    config: JointConfig,
) -> list[Choice]:
    """Refine every motion, parents first, each in its parent's refined frame."""
    refined = list(motions)
    choices: list[Choice] = []
    for k in range(len(motions)):
        choices.append(refine_joint(dense, labels, refined, k, tracks, part_of_track, config))
        refined[k] = choices[k].motion
    return choices


def parent_displacement(motions: Sequence[Motion], parent: int) -> np.ndarray:
    """Displacement (T, 4, 4) of the body that a motion hangs on, the identity where that stands still."""
    if parent < 0:
        return np.broadcast_to(np.eye(4), (len(motions[0].q), 4, 4))
    return world_displacement(motions, parent)


def confidence(choice: Choice) -> float:
    """Probability that a fitted joint is right (type, 5 deg, 5 cm), at its own origin."""
    return confidence_of(choice, *uncertainty(choice.motion, choice.motion.origin))


def trusted(choices: list[Choice], least: float) -> list[int]:
    """Indices of the joints worth reporting: ``least`` confident or more, on a trusted parent."""
    keep: list[int] = []
    for k, choice in enumerate(choices):
        motion = choice.motion
        if confidence(choice) >= least and (motion.parent < 0 or motion.parent in keep):
            keep.append(k)
    return keep


def joints_of(choices: list[Choice], dense: DenseWindow, labels: np.ndarray) -> list[Joint]:
    """Turn refined motions into joints; the origin of a revolute axis is its point nearest to the part."""
    return [_joint(k, c, _centroid(dense, labels, k + 1, c.motion)) for k, c in enumerate(choices)]


def _centroid(dense: DenseWindow, labels: np.ndarray, part: int, motion: Motion) -> np.ndarray:
    """Mean of the part's points (3,) in frame 0, or the motion's own origin when none is visible there."""
    own = labels[0] == part
    if not own.any():
        return motion.origin
    T = dense.T_world_camera[0]
    return T[:3, :3] @ dense.points[0][own].mean(0) + T[:3, 3]


def _joint(k: int, choice: Choice, centroid: np.ndarray) -> Joint:
    motion = choice.motion
    revolute = motion.type is JointType.REVOLUTE
    origin = closest_on_line(centroid, motion.origin, motion.axis) if revolute else centroid
    axis_std, origin_std = uncertainty(motion, origin)
    joint = joint_of(k, replace(motion, origin=origin), confidence_of(choice, axis_std, origin_std))
    return replace(joint, axis_std_rad=axis_std, origin_std_m=origin_std if revolute else 0.0)


def joint_of(k: int, motion: Motion, confidence: float) -> Joint:
    """The ``k``-th motion as a joint, valid from a confidence of one half on; its uncertainty is left out."""
    return Joint(
        name=f"joint_{k + 1}",
        parent="base" if motion.parent < 0 else f"part_{motion.parent + 1}",
        child=f"part_{k + 1}",
        type=motion.type,
        axis=motion.axis,
        origin=motion.origin,
        limits=(float(motion.q.min()), float(motion.q.max())),
        valid=confidence >= VALID,
        confidence=confidence,
        proposed_by=motion.source,
    )


def uncertainty(motion: Motion, origin: np.ndarray) -> tuple[float, float]:
    """One-sigma axis direction (rad) and axis position (m) at ``origin`` from the fit's covariance."""
    if motion.covariance is None:
        return float("inf"), float("inf")
    across = np.eye(3) - np.outer(motion.axis, motion.axis)
    C = motion.covariance
    lever = -hat(origin - motion.origin)
    shift = np.concatenate([lever, np.eye(3)], -1)  # how the axis moves at ``origin``: turn x lever + shift
    direction = across @ C[:3, :3] @ across
    position = across @ shift @ C @ shift.T @ across
    return float(np.sqrt(max(np.trace(direction), 0))), float(np.sqrt(max(np.trace(position), 0)))


def confidence_of(choice: Choice, axis_std_rad: float, origin_std_m: float) -> float:
    """Probability that type, axis (5 deg) and position (5 cm) are right."""
    type_ok = 1 / (1 + np.exp(-min(choice.margin, 50.0)))
    axis_ok = np.exp(-((axis_std_rad / np.deg2rad(5)) ** 2))
    position_ok = np.exp(-((origin_std_m / 0.05) ** 2)) if choice.motion.type is JointType.REVOLUTE else 1.0
    return float(np.clip(type_ok * axis_ok * position_ok, 0, 1))
