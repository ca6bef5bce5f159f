"""Joint hypotheses from moving planes: what is left when a white door has no texture to follow.

A flat part that turns about a fixed axis keeps its distance to the axis and its angle with it, so the axis follows
from the planes alone: its direction is what all normals have in common, its position solves ``n_t . c - r = d_t``
for all frames. A flat part that slides along its normal is a drawer front. Planes are followed from frame to frame
through the surface that no known motion explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.estimation.joint_fit import Motion
from art_perception.types import JointType

_SEEDS = 16
_MIN_POINTS = 25
_MIN_FRAMES = 4
_HINGE_OFFSET_M = 0.02  # how far a hinge usually lies from the plane of what it turns

_PLANE_NOISE_M = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class MovingPlane:
    """Planes ``normals . p = offsets`` of one patch per frame (ascending), and how many points they hold."""

    frames: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray
    support: int


def _fit(points: np.ndarray, normal: np.ndarray, offset: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Robust plane near a starting plane: scale shrinks from 3 cm to 6 mm; also the inliers (N,)."""
    for scale in (0.03, 0.015, 0.008, 0.006):
        r = points @ normal - offset
        w = 1 / (1 + (r / scale) ** 2) ** 2
        centre = w @ points / w.sum()
        e = points - centre
        n = np.linalg.eigh(e.T @ (w[:, None] * e))[1][:, 0]
        normal = n if n @ normal >= 0 else -n
        offset = float(normal @ centre)
    return normal, offset, np.abs(points @ normal - offset) < 0.012


def _follow(points: list[np.ndarray], start: int, patch: np.ndarray) -> MovingPlane | None:
    """Follow the plane of ``patch`` (N, 3), a piece of frame ``start``, both ways in time."""
    e = patch - patch.mean(0)
    normal = np.linalg.eigh(e.T @ e)[1][:, 0]
    seed = _fit(patch, normal, float(normal @ patch.mean(0)))
    if seed[2].mean() < 0.7:
        return None
    planes = {start: (seed[0], seed[1], int(seed[2].sum()))}
    for direction in (1, -1):
        n, d = seed[0], seed[1]
        centre, size = patch.mean(0), float(np.linalg.norm(e, axis=-1).max())
        t = start + direction
        while 0 <= t < len(points):
            near = points[t][np.linalg.norm(points[t] - centre, axis=-1) < 1.5 * size + 0.05]
            near = near[np.abs(near @ n - d) < 0.06] if len(near) else near
            if len(near) < _MIN_POINTS:
                break
            n_new, d, inlier = _fit(near, n, d)
            if inlier.sum() < _MIN_POINTS or n_new @ n < np.cos(np.deg2rad(20)):
                break
            n, centre = n_new, near[inlier].mean(0)
            size = max(size, float(np.linalg.norm(near[inlier] - centre, axis=-1).max()))
            planes[t] = (n, d, int(inlier.sum()))
            t += direction
    order = sorted(planes)
    return MovingPlane(
        np.array(order),
        np.stack([planes[t][0] for t in order]),
        np.array([planes[t][1] for t in order]),
        sum(planes[t][2] for t in order),
    )


def revolute_of(plane: MovingPlane, count: int, frames: np.ndarray) -> Motion | None:
    """Hinge of a turning plane; None when it turned less than 6 degrees."""
    n = plane.normals
    if np.arccos(np.clip((n @ n.T).min(), -1, 1)) < np.deg2rad(6):
        return None
    axis = np.linalg.svd(n - n.mean(0))[2][2]
    rows = np.concatenate([n, -np.ones((len(n), 1))], 1)
    prior = np.concatenate([np.concatenate([axis, [0]])[None], np.array([[0, 0, 0, _PLANE_NOISE_M / _HINGE_OFFSET_M]])])
    solution = np.linalg.lstsq(np.concatenate([rows, prior]), np.concatenate([plane.offsets, [0, 0]]), rcond=None)[0]
    across = n - (n @ axis)[:, None] * axis
    turn = np.arctan2(np.cross(across[0], across) @ axis, across @ across[0])
    q = np.interp(np.arange(count), frames[plane.frames], np.unwrap(turn))
    return Motion(JointType.REVOLUTE, axis, solution[:3], q - q[0], source="planes")


def prismatic_of(plane: MovingPlane, count: int, frames: np.ndarray) -> Motion | None:
    """Slide of a plane along its normal; None when it moved less than 2 cm or turned."""
    n = plane.normals
    mean = n.mean(0) / np.linalg.norm(n.mean(0))
    if (n @ mean).min() < np.cos(np.deg2rad(8)) or np.ptp(plane.offsets) < 0.02:
        return None
    q = np.interp(np.arange(count), frames[plane.frames], plane.offsets)
    return Motion(JointType.PRISMATIC, mean, mean * plane.offsets[0], q - q[0], source="planes")


def plane_joints(
    points: np.ndarray, frame: np.ndarray, count: int, rng: np.random.Generator, keep: int = 5
) -> list[Motion]:
    """Joint hypotheses from the moving planes in a cloud.

    Args:
        points: (n, 3) unexplained surface points in the parent's frame.
        frame: (n,) the frame each was seen in.
        count: frames in the window.
        rng: draws the patches that planes start from.
        keep: motions returned at most, best supported first.
    """
    frames = np.unique(frame)
    clouds = [points[frame == f].astype(np.float64) for f in frames]
    rich = [i for i, c in enumerate(clouds) if len(c) >= 2 * _MIN_POINTS]
    found: list[tuple[int, Motion]] = []
    for _ in range(_SEEDS if rich else 0):
        start = int(rng.choice(rich))
        centre = clouds[start][rng.integers(len(clouds[start]))]
        near = np.linalg.norm(clouds[start] - centre, axis=-1) < rng.choice([0.06, 0.12, 0.25])
        plane = _follow(clouds, start, clouds[start][near]) if near.sum() >= _MIN_POINTS else None
        if plane is None or len(plane.frames) < _MIN_FRAMES:
            continue
        motions = (revolute_of(plane, count, frames), prismatic_of(plane, count, frames))
        found += [(plane.support, m) for m in motions if m is not None]
    return [m for _, m in sorted(found, key=lambda f: -f[0])[:keep]]
