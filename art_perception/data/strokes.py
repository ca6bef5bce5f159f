"""Which joints move, how far and when."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from art_perception.data.config import SimulateConfig
from art_perception.data.model import SimObject
from art_perception.data.motion import smoothstep
from art_perception.geometry.lie import exp_se3, transform
from art_perception.geometry.screw import twist_of_joint
from art_perception.types import JointType


def stroke(
    times: np.ndarray, begin: float, end: float, start: float, stop: float, rng: np.random.Generator
) -> np.ndarray:
    """One joint's values (T,) going from ``start`` to ``stop`` between ``begin`` and ``end`` (fractions of the clip).

    Some strokes pause half-way, some come part of the way back.
    """
    kind = rng.choice(["once", "pause", "return"], p=[0.5, 0.25, 0.25])
    length = end - begin
    if kind == "once":
        s = smoothstep((times - begin) / length)
    elif kind == "pause":
        share = rng.uniform(0.35, 0.65)
        first = smoothstep((times - begin) / (0.42 * length))
        s = share * first + (1 - share) * smoothstep((times - begin - 0.58 * length) / (0.42 * length))
    else:
        back = rng.uniform(0.2, 0.7)
        first = smoothstep((times - begin) / (0.6 * length))
        s = first - back * smoothstep((times - begin - 0.62 * length) / (0.38 * length))
    return start + (stop - start) * s


def observable_joints(obj: SimObject) -> tuple[int, ...]:
    """Joints whose motion changes the shape of the object: the moved part leaves the surface it had before.

    A drawer, a lid or a sliding pane does; a round knob turning about its own axis does not.
    """
    rng = np.random.default_rng(0)
    leave_m = max(0.012, 0.02 * float(np.linalg.norm(np.ptp(obj.bounds, axis=0))))
    good = []
    for j, joint in enumerate(obj.joints):
        surface = obj.parts[j + 1]
        if not len(surface.faces):
            continue
        most = 0.3 if joint.type is JointType.PRISMATIC else 1.0
        step = exp_se3(twist_of_joint(joint) * min(joint.limits[1] - joint.limits[0], most))
        moved = transform(step, surface.sample(500, rng)[0])
        distance, _ = cKDTree(surface.sample(4000, rng)[0]).query(moved)
        if float(np.quantile(distance, 0.9)) > leave_m:
            good.append(j)
    return tuple(good)


def choose_joints(obj: SimObject, config: SimulateConfig, rng: np.random.Generator) -> tuple[int, ...]:
    """Indices of the joints that move: the ones asked for, else some whose motion shows."""
    if config.moving:
        return config.moving
    pool = observable_joints(obj) or tuple(range(len(obj.joints)))
    count = min(config.moving_count, len(pool))
    return tuple(sorted(int(j) for j in rng.choice(pool, count, replace=False)))


def joint_values(
    obj: SimObject, moving: tuple[int, ...], config: SimulateConfig, rng: np.random.Generator
) -> np.ndarray:
    """(T, J) values: the moving joints make one stroke each, together or one after another; others stay put."""
    u = np.linspace(0, 1, config.frames)
    blocked = dict(obj.blockers)
    q = np.tile([_resting(j.limits, k in blocked, rng) for k, j in enumerate(obj.joints)], (config.frames, 1))
    first = {blocked[j] for j in moving if j in blocked}
    order = sorted(rng.permutation(moving), key=lambda j: j not in first)
    together = not first & set(moving) and rng.random() < 0.5
    for place, joint in enumerate(order):
        begin, end = rng.uniform(0.0, 0.12), rng.uniform(0.82, 1.0)
        if not together:
            begin, end = (place + begin) / len(order), (place + end) / len(order)
        if joint in first:
            q[:, joint] = _opening(obj.joints[joint].limits, (u - begin) / (end - begin), rng)
        else:
            q[:, joint] = stroke(u, begin, end, *_extent(obj, joint, rng), rng)
    for joint in first - set(moving):
        q[:, joint] = _opening(obj.joints[joint].limits, np.ones(1), rng)
    return q


def _opening(limits: tuple[float, float], progress: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values of a door that opens wide enough to let out what is behind it."""
    low, high = limits
    return low + (high - low) * rng.uniform(0.85, 1.0) * smoothstep(progress)


def _resting(limits: tuple[float, float], closed: bool, rng: np.random.Generator) -> float:
    """Value of a joint that does not move: mostly closed, always if ``closed``."""
    low, high = limits
    shut = closed or rng.random() < 0.8
    return float(np.clip(0.0, low, high)) if shut else float(rng.uniform(low, high))


def _extent(obj: SimObject, index: int, rng: np.random.Generator) -> tuple[float, float]:
    """First and last value of a joint's stroke, inside its limits."""
    joint = obj.joints[index]
    low, high = joint.limits
    slide = joint.type is JointType.PRISMATIC
    size = float(np.ptp(obj.parts[index + 1].vertices, axis=0).max()) if len(obj.parts[index + 1].vertices) else 0.1
    most = max(0.9 * size, 0.03) if slide else np.radians(110)
    least = min(0.02, 0.2 * size) if slide else np.radians(20)
    amount = np.clip((high - low) * rng.uniform(0.45, 1.0), least, most)
    amount = min(float(amount), high - low)
    closed = float(np.clip(0.0, low, high))
    away = 1.0 if high - closed >= closed - low else -1.0
    first = closed + away * rng.uniform(0, 0.5) * max(0.0, abs((high if away > 0 else low) - closed) - amount)
    last = float(np.clip(first + away * amount, low, high))
    return (first, last) if rng.random() < 0.7 else (last, first)
