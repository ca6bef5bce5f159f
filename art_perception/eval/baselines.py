"""FeatClust, the comparison baseline of the sim2art paper (supplementary material, Eq. 12-14).

Every surface point of every frame becomes a feature ``[position, appearance, scene flow]``; k-means with the true
number of parts splits them; each cluster's points of the first frame are carried to frame t by scene flow and one rigid
transform is fitted (Kabsch), whose screw is the joint. The paper's appearance is DINO; any per-point feature, or none,
does here.

Left open by the paper, chosen by us: positions and flow are scaled together so that positions fit in [-1, 1]; the
cluster that moves least is the static body; joints come from the frame in which the cluster has moved furthest; a joint
is revolute when the rotation about its axis moves the cluster more than half as far as it was moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2

from art_perception.errors import MotionError
from art_perception.geometry.lie import transform
from art_perception.geometry.rigid import kabsch
from art_perception.geometry.screw import line_distance, screw_of_transform
from art_perception.types import Joint, JointType

HIDDEN = -1
_RESTARTS = 4
_MIN_POINTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class FeatClust:
    """Result of the baseline.

    Attributes:
        joints: one per cluster but the static one, fixed frame, zero at the first frame.
        q: (T, J) rad or m.
        part: (N, T) 0 static body, k child of the k-th joint, ``HIDDEN`` where the point is not visible.
    """

    joints: tuple[Joint, ...]
    q: np.ndarray
    part: np.ndarray


def featclust(
    points: np.ndarray, visible: np.ndarray, parts: int, seed: int = 0, appearance: np.ndarray | None = None
) -> FeatClust:
    """Segment and fit joints by clustering.

    Args:
        points: (N, T, 3) tracked surface points, metres, fixed frame: scene flow added up over frames.
        visible: (N, T) bool.
        parts: true number of parts, the static body included.
        seed: of k-means.
        appearance: (N, T, C) further features in [-1, 1], or None.

    Raises:
        MotionError: too few points are visible to form that many clusters.
    """
    part = _cluster(points, visible, parts, seed, appearance)
    motions = [_rigid_motions(points, visible & (part == k), visible) for k in range(parts)]
    travel = [_travel(points[part[:, 0] == k, 0], T) for k, T in enumerate(motions)]
    order = np.argsort([t.max() for t in travel])
    renumber = np.argsort(order)
    joints, states = [], []
    for label, cluster in enumerate(order[1:], 1):
        joint, q = _joint_of(label, points[part[:, 0] == cluster, 0], motions[cluster], travel[cluster])
        joints.append(joint)
        states.append(q)
    q = np.stack(states, 1) if states else np.zeros((points.shape[1], 0))
    return FeatClust(tuple(joints), q, np.where(part == HIDDEN, HIDDEN, renumber[part]))


def _cluster(
    points: np.ndarray, visible: np.ndarray, parts: int, seed: int, appearance: np.ndarray | None
) -> np.ndarray:
    """Cluster (N, T) of every visible point, ``HIDDEN`` elsewhere: the best of a few k-means runs."""
    step = np.diff(points, axis=1, append=points[:, -1:])
    follows = visible & np.roll(visible, -1, axis=1)
    flow = np.where(follows[..., None], step, 0.0)
    seen = points[visible]
    if len(seen) < parts * _MIN_POINTS:
        raise MotionError(f"{len(seen)} points are visible, too few for {parts} clusters: check depth and mask")
    centre = 0.5 * (seen.min(0) + seen.max(0))
    scale = max(float(np.ptp(seen, axis=0).max()) / 2, 1e-6)
    features = [(seen - centre) / scale, flow[visible] / scale]
    if appearance is not None:
        features.insert(1, appearance[visible])
    part = np.full(visible.shape, HIDDEN)
    part[visible] = _kmeans(np.concatenate(features, 1), parts, np.random.default_rng(seed))
    return part


def _kmeans(features: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    best, least = np.zeros(len(features), int), np.inf
    for _ in range(_RESTARTS):
        centres, label = kmeans2(features, clusters, minit="++", rng=rng, missing="warn")
        cost = float(((features - centres[label]) ** 2).sum())
        if cost < least:
            best, least = label, cost
    return best


def _rigid_motions(points: np.ndarray, inside: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Transform (T, 4, 4) of a cluster from the first frame to every other; frames without points keep the last one."""
    out = np.tile(np.eye(4), (points.shape[1], 1, 1))
    for t in range(1, len(out)):
        both = inside[:, 0] & visible[:, t]
        enough = both.sum() >= _MIN_POINTS
        out[t] = kabsch(points[both, 0], points[both, t], np.ones(both.sum())) if enough else out[t - 1]
    return out


def _travel(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Mean distance (T,) that rigid motions move points (N, 3), metres."""
    if not len(points):
        return np.zeros(len(T))
    return np.linalg.norm(transform(T, points[None]) - points, axis=-1).mean(1)


def _joint_of(label: int, points: np.ndarray, T: np.ndarray, travel: np.ndarray) -> tuple[Joint, np.ndarray]:
    """Joint of a cluster and its states (T,), read off the transform of the frame in which it moved furthest."""
    furthest = T[int(travel.argmax())]
    axis, origin, angle, _ = screw_of_transform(furthest)
    centre = points.mean(0) if len(points) else np.zeros(3)
    shift = transform(furthest, centre[None])[0] - centre
    turned = 2 * np.sin(angle / 2) * line_distance(points, origin, axis).mean() if len(points) else 0.0
    if turned > 0.5 * travel.max():
        q = np.array([_signed_angle(m, axis) for m in T])
        kind = JointType.REVOLUTE
    else:
        axis, origin, kind = shift / max(float(np.linalg.norm(shift)), 1e-9), centre, JointType.PRISMATIC
        q = (transform(T, centre[None, None])[:, 0] - centre) @ axis
    limits = (float(q.min()), float(q.max()))
    return Joint(f"joint_{label}", "base", f"part_{label}", kind, axis, origin, limits, confidence=0.0), q


def _signed_angle(T: np.ndarray, axis: np.ndarray) -> float:
    own, _, angle, _ = screw_of_transform(T)
    return float(angle * np.sign(own @ axis))
