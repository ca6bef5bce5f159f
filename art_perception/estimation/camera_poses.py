"""Corrects recorded camera poses by what stands still: registration of all frames of a window with each other.

Poses of visual odometry or of a hand-eye calibration are off by a centimetre and a degree, several times the depth
noise; what stands still then seems to move. Between frames t and s a still point p goes to ``T_s^-1 T_t p``, so pairs
of frames give point-to-plane and brightness residuals in the poses alone (multi-view registration, Pulli 1999;
projective association, Blais & Levine 1995; brightness, Steinbruecker et al. 2011). What moves agrees with no single
correction and is down-weighted (Geman & McClure 1987). Directions that nothing seen determines stay as recorded. The
room around the object decides: of an object alone, poses that follow its larger part would agree as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from art_perception.bounds import bounded
from art_perception.estimation.dense import DenseWindow, brightness_gap, densify, project_rounded
from art_perception.geometry.lie import exp_se3, inverse, log_se3
from art_perception.geometry.normals import disparity_noise
from art_perception.types import PoseCorrection, Window

_WIDTH = 160  # px, of the images that are registered
_POINTS = 100  # per pair of frames that tell whether poses are off
_MORE_POINTS = 500  # and by how much
_STRIDES = (3, 7, 15, 31)  # frame distances that are paired: neighbours hardly tell slow parts from still surface
_GATES = (0.1, 0.3)  # first gates that are tried, in units of what recorded poses may be off by
_STEPS = 16  # Gauss-Newton
_SHRINK = 0.75  # of the gate from step to step
_ALIKE = 0.8  # cosine between the normals of one place in two frames
_SIGMAS = 3.0  # residuals beyond so many standard deviations count little
_BRIGHTNESS = 0.05  # noise of the brightness detail, as a share of the image's mean brightness
_DEPENDENT = 0.04  # weight of a residual relative to its precision: neighbouring pixels are dependent
_SETTLED = 1e-4  # rad and m: a step that changes nothing any more
_ROOM = 0.15  # share of the images around the object's mask that shows surface, at least
_VIEW = 0.6  # and of whole images, where the object is not known


@dataclass(frozen=True, slots=True)
class PoseConfig:
    """Correction of camera poses."""

    sigma_m: float = bounded(0.02, 0.0, 1.0)
    """How far recorded camera positions may be off, metres; 0 = they are taken as they are."""
    sigma_deg: float = bounded(1.5, 0.0, 45.0)
    """How far recorded camera orientations may be off, degrees; 0 = they are taken as they are."""
    min_gain: float = bounded(0.05, 0.0, 1.0)
    """Share by which the mismatch of what stands still must decrease for a correction to be used."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Points of the room in P pairs of frames, n of each.

    Attributes:
        a, b: (P,) the frames t and s.
        points, normals: (P, n, 3) in the camera t; detail, sigma: (P, n) brightness detail and depth noise in metres.
    """

    a: np.ndarray
    b: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    detail: np.ndarray
    sigma: np.ndarray


class _Residuals(NamedTuple):
    """Values (P, n), gradients (P, n, 3) by the place of the point in camera s, weights (P, n)."""

    value: np.ndarray
    gradient: np.ndarray
    weight: np.ndarray


def corrected(window: Window, config: PoseConfig) -> Window:
    """The window with better camera poses, or as it is when the recorded ones agree with the room or none is seen.

    Args:
        window: frames with masks or without.
        config: how far poses may be off.
    """
    if not config.sigma_m or not config.sigma_deg or len(window.frames) <= _STRIDES[0]:
        return window
    dense = densify(window, _WIDTH)
    seen = _room(dense).mean((1, 2))
    if seen.mean() < (_ROOM if dense.masked else _VIEW) or not seen.all():
        return window
    rows = _draw(dense, _POINTS)
    most = (1 - config.min_gain) * _mismatch(dense, rows, dense.T_world_camera)
    poses = _registered(dense, rows, config)
    if _mismatch(dense, rows, poses) > most:
        return window
    poses = _descended(dense, _draw(dense, _MORE_POINTS), poses, 0.0, config)
    if _mismatch(dense, rows, poses) > most:
        return window
    off = np.stack([log_se3(T) for T in inverse(dense.T_world_camera) @ poses])
    shift, turn = (float(np.sqrt((part**2).sum(-1).mean())) for part in (off[:, :3], off[:, 3:]))
    frames = tuple(replace(f, T_world_camera=T) for f, T in zip(window.frames, poses, strict=True))
    return replace(window, frames=frames, correction=PoseCorrection(shift, float(np.degrees(turn))))


def _room(dense: DenseWindow) -> np.ndarray:
    """Surface (T, h, w) outside of the object's mask, or all of it."""
    surface: np.ndarray = np.abs(dense.normals).sum(-1) > 0
    return surface & ~dense.usable if dense.masked else surface


def _draw(dense: DenseWindow, count: int) -> _Rows:
    """``count`` points of every frame's room for each of its pairs.

    Along a plain wall nothing but the object would hold the camera, and a door that moves would take it along.
    """
    rng = np.random.default_rng(0)
    T = len(dense.depth_m)
    pixels = [np.flatnonzero(room) for room in _room(dense)]
    pairs = [p for d in _STRIDES for t in range(T - d) for p in ((t, t + d), (t + d, t))]
    picks = np.stack([rng.choice(pixels[a], count) for a, _ in pairs])
    a, b = np.array(pairs).T

    def pick(images: np.ndarray) -> np.ndarray:
        return images.reshape(T, -1, *images.shape[3:])[a[:, None], picks]

    sigma = np.maximum(disparity_noise(dense.depth_m), 2e-4) * np.square(pick(dense.depth_m)) * np.sqrt(2)
    return _Rows(a, b, pick(dense.points).astype(float), pick(dense.normals), pick(dense.detail), sigma)


def _registered(dense: DenseWindow, rows: _Rows, config: PoseConfig) -> np.ndarray:
    """Poses (T, 4, 4) that make what stands still agree best, from several widths of the first gate.

    A wide gate bridges large errors, and lets in what moves; a narrow one does neither.
    """
    reach = config.sigma_m + np.deg2rad(config.sigma_deg) * float(np.median(rows.points[..., 2]))
    tried = [_descended(dense, rows, dense.T_world_camera, share * reach, config) for share in _GATES]
    return min(tried, key=lambda poses: _mismatch(dense, rows, poses))


def _descended(dense: DenseWindow, rows: _Rows, poses: np.ndarray, gate: float, config: PoseConfig) -> np.ndarray:
    """Poses (T, 4, 4) after Gauss-Newton from ``poses`` with a ``gate`` that closes."""
    recorded = dense.T_world_camera
    prior = np.tile(np.r_[np.full(3, config.sigma_m), np.full(3, np.deg2rad(config.sigma_deg))] ** -2.0, len(poses))
    for step in range(_STEPS):
        A, g = _system(dense, rows, poses, gate * _SHRINK**step)
        off = np.stack([log_se3(T) for T in inverse(recorded) @ poses]).reshape(-1)
        delta = np.linalg.solve(A + np.diag(prior), -(g + prior * off)).reshape(-1, 6)
        poses = poses @ exp_se3(delta)
        if np.abs(delta).max() < _SETTLED:
            break
    return poses


def _system(dense: DenseWindow, rows: _Rows, poses: np.ndarray, gate: float) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations (6T, 6T) and (6T,) over twists ``[v, w]`` of every camera in its own frame."""
    T, (there, R) = len(poses), _arrival(rows, poses)
    A, g = np.zeros((T, T, 6, 6)), np.zeros((T, 6))
    for part in _residuals(dense, rows, there, R, gate):
        by_start = part.gradient @ R
        start = np.concatenate([by_start, np.cross(rows.points, by_start)], -1)
        end = -np.concatenate([part.gradient, np.cross(there, part.gradient)], -1)
        ends = ((rows.a, start), (rows.b, end))
        for frame, J in ends:
            weighted = (part.weight[..., None] * J).transpose(0, 2, 1)
            np.add.at(g, frame, (weighted @ part.value[..., None])[..., 0])
            for other, J_other in ends:
                np.add.at(A, (frame, other), weighted @ J_other)
    return A.transpose(0, 2, 1, 3).reshape(6 * T, 6 * T), g.reshape(-1)


def _arrival(rows: _Rows, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the points (P, n, 3) are in camera s if they stand still, and its rotations (P, 3, 3) from camera t."""
    M = inverse(poses[rows.b]) @ poses[rows.a]
    R = M[:, :3, :3]
    return rows.points @ R.transpose(0, 2, 1) + M[:, None, :3, 3], R


def _residuals(
    dense: DenseWindow, rows: _Rows, there: np.ndarray, R: np.ndarray, gate: float
) -> tuple[_Residuals, _Residuals]:
    """Distances to the tangent plane and differences in brightness of points ``there`` (P, n, 3) in camera s.

    Args:
        dense: the frames.
        rows: the points.
        there: their places in camera s.
        R: (P, 3, 3) rotation from camera t to s.
        gate: metres by which poses may still be off.
    """
    v, u, inside = project_rounded(there, dense.K, dense.depth_m.shape[1:])
    s = rows.b[:, None]
    normal = dense.normals[s, v, u].astype(float)
    distance = ((there - dense.points[s, v, u]) * normal).sum(-1)
    scale = gate + _SIGMAS * rows.sigma
    facing = ((rows.normals @ R.transpose(0, 2, 1)) * normal).sum(-1) > _ALIKE
    near = inside & facing & (np.abs(distance) < scale)
    contrast, slope = brightness_gap(dense, s, v, u, there, rows.detail)
    same = near & (np.abs(contrast) < 0.5)
    return (
        _Residuals(distance, normal, near * _precision(distance, rows.sigma, scale)),
        _Residuals(contrast, slope, same * _precision(contrast, _BRIGHTNESS, _SIGMAS * _BRIGHTNESS)),
    )


def _precision(residual: np.ndarray, sigma: np.ndarray | float, scale: np.ndarray | float) -> np.ndarray:
    """Weights of residuals of which those well beyond ``scale`` hardly count."""
    return _DEPENDENT / np.square(sigma * (1 + np.square(residual / scale)))


def _mismatch(dense: DenseWindow, rows: _Rows, poses: np.ndarray) -> float:
    """Mean robust cost of the room's distances, 1 where nothing matches."""
    distance, _ = _residuals(dense, rows, *_arrival(rows, poses), 0.0)
    x = np.square(distance.value / (_SIGMAS * rows.sigma))
    return float(np.where(distance.weight > 0, x / (1 + x), 1.0).mean())
