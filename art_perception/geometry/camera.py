"""Pinhole projection and depth-map operations in the OpenCV optical frame."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def _rays(height: int, width: int, fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u, float)], -1).astype(np.float32)
    rays.setflags(write=False)
    return rays


def rays(shape: tuple[int, int], K: np.ndarray) -> np.ndarray:
    """Viewing rays (H, W, 3) float32 with z = 1, pixel centres at integer coordinates."""
    return _rays(int(shape[0]), int(shape[1]), float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


def unproject(depth_m: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (H, W, 3) float32 in the optical frame; zero where depth is zero."""
    return rays(depth_m.shape, K) * depth_m[..., None]


def project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Project optical-frame points (..., 3) to pixels (..., 2) as (column, row); callers check z > 0 themselves."""
    z = np.where(np.abs(points[..., 2]) < 1e-9, 1e-9, points[..., 2])
    return np.stack([K[0, 0] * points[..., 0] / z + K[0, 2], K[1, 1] * points[..., 1] / z + K[1, 2]], -1)


def pixels_of(points: np.ndarray, K: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which optical-frame points (N, 3) an image of ``shape`` (H, W) shows: indices (M,), their rows and columns."""
    ahead = np.flatnonzero(points[:, 2] > 0)
    column, row = np.rint(project(points[ahead], K)).astype(int).T
    inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
    return ahead[inside], row[inside], column[inside]


def scaled(K: np.ndarray, factor: float) -> np.ndarray:
    """Camera matrix of the image resized by ``factor`` (pixel centres at integer coordinates)."""
    out = np.array(K, float)
    out[:2] *= factor
    out[:2, 2] += (factor - 1) / 2
    return out
