"""Surface normals of noisy depth: planes fitted to the largest window that is one surface."""

from __future__ import annotations

import cv2
import numpy as np

_RADII = (4, 3, 2, 1)  # px; a wide window averages the noise, a narrow one follows edges and curves
_FLAT = 3.0  # standard deviations of the noise by which a window's pixels may leave its plane
_FINEST = 2e-4  # of the inverse depth: what even perfect depth is rounded to
_FULL = 0.7  # share of a window that needs depth


def disparity_noise(depth_m: np.ndarray) -> float:
    """Standard deviation of the inverse depth (1/m) of images (..., h, w) from its second differences along rows.

    Noise of stereo and structured light is even in inverse depth, in which planes are linear functions of the pixel.
    """
    a, b, c = (depth_m[..., i : depth_m.shape[-1] - 2 + i] for i in range(3))
    known = (a > 0) & (b > 0) & (c > 0)
    if not known.any():
        return 0.0
    bend = 1 / a[known] - 2 / b[known] + 1 / c[known]
    return float(1.4826 * np.median(np.abs(bend)) / np.sqrt(6))


def surface_normals(depth_m: np.ndarray, K: np.ndarray, noise: float) -> np.ndarray:
    """Unit normals (h, w, 3) float32 in the optical frame, facing the camera; zero where there is no surface.

    Least squares in every window (Holzer et al., IROS 2012, with planes in inverse depth). Of all windows around a
    pixel the widest one counts that a plane fits within the noise; at depth steps none does.

    Args:
        depth_m: (h, w), 0 without measurement.
        K: (3, 3).
        noise: of the inverse depth, :func:`disparity_noise`.
    """
    valid = depth_m > 0
    disparity = np.where(valid, 1 / np.where(valid, depth_m, 1), 0).astype(np.float64)
    u, v = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in depth_m.shape[::-1]))
    out = np.zeros((*depth_m.shape, 3), np.float32)
    missing = valid.copy()
    for radius in _RADII:
        slope_u, slope_v, level, misfit, share = _fit(disparity, valid, u, v, radius)
        allowed = _FLAT * noise + (_FINEST if radius > 1 else 0.025) * disparity
        take = missing & (share >= _FULL) & (misfit < allowed)
        n = np.stack(
            [slope_u * K[0, 0], slope_v * K[1, 1], level - slope_u * (u - K[0, 2]) - slope_v * (v - K[1, 2])], -1
        )
        out[take] = -n[take] / np.linalg.norm(n[take], axis=-1, keepdims=True)
        missing &= ~take
    return out


def _fit(
    disparity: np.ndarray, valid: np.ndarray, u: np.ndarray, v: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slopes by column and row, value at the pixel, misfit (rms) and share of valid pixels of every window."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (2 * radius + 1,) * 2, borderType=cv2.BORDER_CONSTANT)

    w = valid.astype(np.float64)
    share = mean(w)
    s = np.maximum(share, 1e-9)
    mu, mv, md = (mean(w * x) / s for x in (u, v, disparity))
    uu, uv, vv = (mean(w * x) / s for x in (u * u, u * v, v * v))
    ud, vd, dd = (mean(x * disparity) / s for x in (u, v, disparity))
    uu, uv, vv, ud, vd, dd = uu - mu * mu, uv - mu * mv, vv - mv * mv, ud - mu * md, vd - mv * md, dd - md * md
    det = np.maximum(uu * vv - uv * uv, 1e-6)
    slope_u, slope_v = (vv * ud - uv * vd) / det, (uu * vd - uv * ud) / det
    misfit = np.sqrt(np.maximum(dd - slope_u * ud - slope_v * vd, 0))
    return slope_u, slope_v, md + slope_u * (u - mu) + slope_v * (v - mv), misfit, share
