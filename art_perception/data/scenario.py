"""What happens in a training window: which joints move and how, where the camera goes, what stands around.

Everything is varied that a user's recording varies: one joint, several together or one after another, pauses and
returns, parts that stay open, objects that are pushed, walking cameras with jittery poses, irregular frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.data.bank import Bank, Joints
from art_perception.data.motion import hand_held, pose_error, wander
from art_perception.data.strokes import stroke
from art_perception.geometry.kinematics import Chain, displacements, with_base
from art_perception.geometry.lie import exp_se3, exp_so3, transform
from art_perception.geometry.screw import closest_on_line

MAX_PARTS = 7
"""Moving parts that a window may hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One window before anything is measured, in the object frame.

    Attributes:
        index: of the object in the bank.
        scale: factor on the object's size.
        D: (T, J + 1, 4, 4) displacement of every part's (scaled) points from zero joint values.
        label: (J + 1,) 0 for parts that stand still, k for the k-th moving part and what it carries along.
        T_camera: (T, 4, 4) true camera poses.
        T_reported: (T, 4, 4) what the recording says they are.
        type, axis, pivot: (K,) 0 revolute 1 prismatic, (K, 3) unit, (K, 3) metres: moving parts' joints, first frame.
        amount: (T, K) motion since the first frame, rad or metres.
        extra: (E, 3) points of surroundings or hand, metres; extra_normals: (E, 3).
        T_extra: (T, 4, 4) their displacement.
        extra_label: 0 for surroundings, -1 for a hand.
    """

    index: int
    scale: float
    D: np.ndarray
    label: np.ndarray
    T_camera: np.ndarray
    T_reported: np.ndarray
    type: np.ndarray
    axis: np.ndarray
    pivot: np.ndarray
    amount: np.ndarray
    extra: np.ndarray
    extra_normals: np.ndarray
    T_extra: np.ndarray
    extra_label: int


def draw_scenario(bank: Bank, index: int, frames: int, extras: int, rng: np.random.Generator) -> Scenario:
    """Draw a window of object ``index`` with ``frames`` frames and ``extras`` points of surroundings."""
    joints, scale = bank.joints[index], float(np.exp(rng.normal(0, 0.15)))
    times = _times(frames, rng)
    moving = _choose(joints, rng)
    q = _values(joints, moving, times, rng)
    D = _displace(joints, q, scale)
    moving = [k for k in moving if _moves(joints, k, q)]
    points = bank.points[index] * scale
    label = _labels(joints, moving)
    own = np.isin(bank.part[index], [k + 1 for k in moving])
    middle = points[own].mean(0) if own.any() else points.mean(0)
    T_camera, azimuth = _camera(
        points, transform(D[:, (moving or [0])[0] + bool(moving)], middle[None])[:, 0], times, rng
    )
    if rng.random() < 0.04:
        D = exp_se3(wander(times, np.array([0.02, 0.02, 0.02, 0.08, 0.08, 0.08]), rng))[:, None] @ D
    extra, extra_normals, T_extra, extra_label = _surroundings(
        points, own, D, label, azimuth, extras, rng, bank.part[index]
    )
    axis, pivot, amount = _joint_truth(bank, index, scale, moving, q, D[0])
    return Scenario(
        index=index,
        scale=scale,
        D=D,
        label=label,
        T_camera=T_camera,
        T_reported=T_camera @ _pose_error(times, rng),
        type=np.where(joints.revolute[moving], 0, 1),
        axis=axis,
        pivot=pivot,
        amount=amount,
        extra=extra,
        extra_normals=extra_normals,
        T_extra=T_extra,
        extra_label=extra_label,
    )


def _times(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds (T,) of the frames: a clip of 1.5 to 5 s, steps uneven by chance, a gap now and then."""
    step = 1 + rng.uniform(0, 0.3) * rng.uniform(-1, 1, frames)
    if rng.random() < 0.2:
        step[rng.integers(1, frames)] += rng.uniform(0.5, 2)
    time = np.cumsum(step) - step[0]
    return time / time[-1] * rng.uniform(1.5, 5.0)


def _choose(joints: Joints, rng: np.random.Generator) -> list[int]:
    """Joints that move: mostly one, mostly of those whose motion shows."""
    if rng.random() < 0.03:
        return []
    shows = np.flatnonzero(joints.observable)
    pool = shows if len(shows) and rng.random() < 0.9 else np.arange(len(joints.parents))
    count = min(rng.choice([1, 2, 3, 4, 5], p=[0.52, 0.24, 0.14, 0.06, 0.04]), len(pool), MAX_PARTS)
    return [int(k) for k in rng.permutation(pool)[:count]]


def _values(joints: Joints, moving: list[int], times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Joint values (T, J): strokes of the moving joints, at once or by turns, within a window cut out of them."""
    low, high = joints.limits.T
    shut = rng.random(len(low)) < 0.75
    rest = np.where(shut, np.clip(0, low, high), rng.uniform(low, high))
    q = np.tile(rest, (len(times), 1))
    u = times / times[-1]
    first, last = (0.0, 1.0) if rng.random() < 0.7 else np.sort(rng.uniform(0, 1, 2)) * [0.6, 1.0] + [0, 0.2]
    u = first + u * max(min(last, 1.0) - first, 0.35)
    together = rng.random() < 0.5
    for place, k in enumerate(moving):
        begin, end = rng.uniform(0, 0.15), rng.uniform(0.8, 1.0)
        if not together:
            begin, end = (place + begin) / len(moving), (place + end) / len(moving)
        q[:, k] = stroke(u, begin, end, *_extent(joints, k, rng), rng)
    for k in moving:
        blocker = joints.blocker[k]
        if blocker >= 0 and blocker not in moving:
            q[:, blocker] = low[blocker] + (high - low)[blocker] * rng.uniform(0.85, 1)
    return q


def _extent(joints: Joints, k: int, rng: np.random.Generator) -> tuple[float, float]:
    """First and last value of a stroke; small motions are as frequent as large ones."""
    low, high = joints.limits[k]
    revolute = bool(joints.revolute[k])
    least, most = (np.deg2rad(6), np.deg2rad(130)) if revolute else (0.02, max(0.9 * joints.size[k], 0.03))
    amount = min(float(np.exp(rng.uniform(np.log(least), np.log(most)))), high - low)
    if rng.random() < 0.5:
        amount = min(max(amount, 0.5 * min(high - low, most)), high - low)
    closed = float(np.clip(0, low, high))
    away = 1.0 if high - closed >= closed - low else -1.0
    room = max(abs((high if away > 0 else low) - closed) - amount, 0.0)
    start = closed + away * room * (0.0 if rng.random() < 0.5 else rng.uniform(0, 1))
    stop = float(np.clip(start + away * amount, low, high))
    return (start, stop) if rng.random() < 0.6 else (stop, start)


def _moves(joints: Joints, k: int, q: np.ndarray) -> bool:
    """Whether the joint moves enough within the window to be a part of its own."""
    return float(np.ptp(q[:, k])) >= (np.deg2rad(4) if joints.revolute[k] else 0.015)


def _displace(joints: Joints, q: np.ndarray, scale: float) -> np.ndarray:
    twists = joints.twists.copy()
    twists[:, :3] *= np.where(joints.revolute, scale, 1.0)[:, None]
    values = q * np.where(joints.revolute, 1.0, scale)
    return with_base(displacements(Chain(twists, tuple(joints.parents)), values))


def _labels(joints: Joints, moving: list[int]) -> np.ndarray:
    """Label of every part (J + 1,): its own when it moves, else that of what carries it."""
    label = np.zeros(len(joints.parents) + 1, int)
    for k, parent in enumerate(joints.parents):
        label[k + 1] = moving.index(k) + 1 if k in moving else label[parent + 1]
    return label


def _joint_truth(
    bank: Bank, index: int, scale: float, moving: list[int], q: np.ndarray, D_first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes (K, 3), pivots (K, 3) and amounts (T, K) of the moving joints as the first frame shows them."""
    joints, points = bank.joints[index], bank.points[index] * scale
    D = D_first[[joints.parents[k] + 1 for k in moving]]
    amount = (q - q[0])[:, moving] * np.where(joints.revolute[moving], 1.0, scale)
    sign = np.where(np.take_along_axis(amount, np.abs(amount).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)
    axis = np.einsum("kij,kj->ki", D[:, :3, :3], joints.axis[moving])
    pivot = [_pivot(D[i], joints, k, scale, points[bank.part[index] == k + 1]) for i, k in enumerate(moving)]
    return axis * sign[:, None], np.array(pivot).reshape(-1, 3), amount * sign


def _pivot(D: np.ndarray, joints: Joints, k: int, scale: float, points: np.ndarray) -> np.ndarray:
    """Point (3,) of the joint's axis nearest to its part, in the first frame."""
    middle = points.mean(0) if len(points) else joints.origin[k] * scale
    return transform(D, closest_on_line(middle, joints.origin[k] * scale, joints.axis[k])[None])[0]


def _camera(
    points: np.ndarray, target: np.ndarray, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Poses (T, 4, 4) of a hand-held camera on an arc on the side of ``target`` (T, 3), and its azimuth."""
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    center, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    toward = target.mean(0) - center
    side = 0.8 if np.linalg.norm(toward[:2]) > 0.15 * radius else 3.0
    azimuth = float(np.arctan2(toward[1], toward[0]) + rng.normal(0, side))
    distance = max(radius * rng.uniform(1.6, 4.0), 0.3)
    arc = np.deg2rad(rng.uniform(-60, 60)) if rng.random() < 0.8 else 0.0
    shake = rng.uniform(0, 1.5) if rng.random() < 0.85 else 0.0
    aim = center + rng.uniform(0, 0.6) * toward
    return hand_held(times, aim, azimuth, float(rng.uniform(-0.05, 1.2)), distance, arc, shake, rng), azimuth


def _pose_error(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Errors (T, 4, 4) of the reported camera poses: none in half of the windows, else drift and jitter."""
    size = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0
    return pose_error(times, size * np.repeat([0.005, np.deg2rad(0.4)], 3), rng)


def _surroundings(
    points: np.ndarray,
    own: np.ndarray,
    D: np.ndarray,
    label: np.ndarray,
    azimuth: float,
    count: int,
    rng: np.random.Generator,
    part: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Floor and wall that a generous mask lets in, a hand on a moving part, or nothing (points far below)."""
    kind = rng.choice(["nothing", "floor", "hand"], p=[0.45, 0.35, 0.2])
    if kind == "hand" and own.any():
        grip = np.flatnonzero(own)[rng.integers(own.sum())]
        return *_hand(points[grip], azimuth, count, rng), D[:, part[grip]], -1
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    still = np.broadcast_to(np.eye(4), (len(D), 4, 4))
    if kind != "floor":
        return np.tile([0.0, 0.0, -1e3], (count, 1)), np.tile([0.0, 0.0, 1.0], (count, 1)), still, 0
    margin = rng.uniform(0.05, 0.6) * float(np.linalg.norm(high - low))
    flat = rng.uniform(low - margin, high + margin, (count, 3))
    normal = np.tile([0.0, 0.0, 1.0], (count, 1))
    flat[:, 2] = points[:, 2].min()
    wall = rng.random(count) < rng.choice([0.0, 0.5])
    back = -np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    reach = (points @ back).max() + rng.uniform(0.01, 0.1)
    upright = rng.uniform(low - margin, high + margin, (count, 3))
    upright += (reach - upright @ back)[:, None] * back
    return np.where(wall[:, None], upright, flat), np.where(wall[:, None], back, normal), still, 0


def _hand(grip: np.ndarray, azimuth: float, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A fist around the point ``grip`` (3,) with a forearm towards the camera: points and normals (count, 3)."""
    toward = exp_so3(rng.normal(0, 0.5, 3)) @ np.array([np.cos(azimuth), np.sin(azimuth), -0.2])
    normal = rng.normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    fist = rng.random(count) < 0.4
    along = np.where(fist, 0.0, rng.uniform(0.05, 0.5, count))
    radius = np.where(fist, rng.uniform(0.035, 0.05), rng.uniform(0.03, 0.045))
    side = normal - np.where(fist, 0.0, normal @ toward)[:, None] * toward
    return grip + along[:, None] * toward + radius[:, None] * side, normal
