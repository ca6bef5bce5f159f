"""Depth images prepared for fusion: which pixel sees a point of a moving part, how far away, and from which side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.geometry.camera import rays
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import inverse
from art_perception.types import UNLABELLED, PartMotion, RgbdFrame, Window


@dataclass(frozen=True, slots=True, eq=False)
class DepthView:
    """One frame, flattened; all but ``color`` have one more pixel that stands for everything outside the image.

    Attributes:
        depth_m: (H*W + 1,) measured depth, 0 where there is none.
        nearest_m: (H*W + 1,) smallest depth of the 3x3 neighbourhood, 0 where one of them has none.
        slope: (2, H*W + 1) change of depth per pixel to the right and down, metres.
        slant: (H*W + 1,) distance to the surface per difference in depth.
        label: (H*W + 1,) part of the pixel; UNLABELLED also where it mixes two surfaces.
        color: (H*W, 3) uint8.
        K: (3, 3) camera matrix.
        size: H and W.
        T_camera_world: (4, 4) fixed frame to optical frame.
        D: (J + 1, 4, 4) displacement of every part at this frame, the base first.
    """

    depth_m: np.ndarray
    nearest_m: np.ndarray
    slope: np.ndarray
    slant: np.ndarray
    label: np.ndarray
    color: np.ndarray
    K: np.ndarray
    size: tuple[int, int]
    T_camera_world: np.ndarray
    D: np.ndarray


def depth_views(window: Window, motion: PartMotion, max_frames: int) -> list[DepthView]:
    """Prepare up to ``max_frames`` frames, spread evenly over the window."""
    count = len(window.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(count, max_frames)).round().astype(int))
    D = with_base(displacements(chain_of(motion.joints), motion.q))
    return [_view(window.frames[t], motion.labels[t], D[t]) for t in chosen]


def _view(frame: RgbdFrame, label: np.ndarray, D: np.ndarray) -> DepthView:
    slope = _slope(frame.depth_m)
    nearest, on_surface = _neighbourhood(frame.depth_m, frame.K[0, 0])
    return DepthView(
        depth_m=np.append(frame.depth_m, np.float32(0)),
        nearest_m=np.append(nearest, np.float32(0)),
        slope=np.concatenate([slope.reshape(2, -1), np.zeros((2, 1))], 1).astype(np.float16),
        slant=np.append(_slant(frame.depth_m, slope, frame.K), 1).astype(np.float16),
        label=np.append(np.where(on_surface, _without_speckles(label), np.uint8(UNLABELLED)), np.uint8(UNLABELLED)),
        color=frame.color.reshape(-1, 3),
        K=frame.K,
        size=(frame.depth_m.shape[0], frame.depth_m.shape[1]),
        T_camera_world=inverse(frame.T_world_camera),
        D=D,
    )


def look_up(view: DepthView, label: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (fractional) pixel and depth (N, 3) at which a view sees a part's points, and its flat index (N,)."""
    T = (view.T_camera_world @ view.D[label]).astype(np.float32)
    local = points @ T[:3, :3].T + T[:3, 3]
    z = local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = local[:, 0] / z * np.float32(view.K[0, 0]) + np.float32(view.K[0, 2])
        v = local[:, 1] / z * np.float32(view.K[1, 1]) + np.float32(view.K[1, 2])
    height, width = view.size
    inside = (z > 0.05) & (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    index = np.full(len(points), height * width)
    index[inside] = (v[inside] + 0.5).astype(np.int64) * width + (u[inside] + 0.5).astype(np.int64)
    return np.stack([u, v, z], -1), index


def depth_at(view: DepthView, pixel: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Depth (N,) at fractional pixels inside the image, from the nearest one and the slope there."""
    row, column = np.divmod(index, view.size[1])
    across, down = view.slope[:, index]
    return view.depth_m[index] + across * (pixel[:, 0] - column) + down * (pixel[:, 1] - row)


def octant(view: DepthView, label: int, points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Number 0..7 (N,) of the octant, in the frame of ``axes``, from which a view sees each point."""
    eye = inverse(view.T_camera_world @ view.D[label])[:3, 3].astype(np.float32)
    return ((eye - points) @ axes.T > 0) @ np.array([1, 2, 4])


def _neighbourhood(depth_m: np.ndarray, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Nearest depth of the 3x3 neighbourhood (0 when one pixel lacks depth), and which pixels lie on a surface.

    A pixel well behind one neighbour and well before another mixes the two sides of a depth step.
    """
    import cv2

    kernel = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(depth_m, kernel)
    farthest = cv2.dilate(depth_m, kernel)
    step = max(0.01, 3 / focal_px) * depth_m  # three pixels of a surface at 45 degrees
    return nearest, (depth_m > 0) & ((depth_m - nearest < step) | (farthest - depth_m < step))


def _slope(depth_m: np.ndarray, step: int = 3) -> np.ndarray:
    """Change of depth per pixel to the right and down (2, H, W); the flatter of both sides, so never a depth step."""
    import cv2

    z = cv2.medianBlur(depth_m, 5)
    slopes = []
    for axis in (1, 0):
        ahead = (np.roll(z, -step, axis) - z) / step
        behind = (z - np.roll(z, step, axis)) / step
        slopes.append(np.where(np.abs(ahead) < np.abs(behind), ahead, behind))
    return np.stack(slopes)


def _slant(depth_m: np.ndarray, slope: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Distance to the surface per difference in depth (H, W): 1 facing the camera, towards 0 seen edge-on.

    A surface with slopes ``z_u, z_v`` has the normal ``(fx z_u, fy z_v, -z - (u - cx) z_u - (v - cy) z_v)`` and lies
    ``z / |normal|`` times the difference in depth away.
    """
    x, y, _ = np.moveaxis(rays(depth_m.shape, K), -1, 0)
    a, b = np.float32(K[0, 0]) * slope[0], np.float32(K[1, 1]) * slope[1]
    length = np.sqrt(a * a + b * b + (depth_m + x * a + y * b) ** 2)
    return np.clip(depth_m / np.maximum(length, 1e-6), 0.15, 1).astype(np.float32)


def _without_speckles(label: np.ndarray) -> np.ndarray:
    """Labels (H, W) without pixels that fewer than two of their eight neighbours agree with."""
    import cv2

    out = np.full_like(label, UNLABELLED)
    for k in np.unique(label):
        same = (label == k).astype(np.uint8)
        out[(cv2.boxFilter(same, -1, (3, 3), normalize=False) >= 3) & (same > 0)] = k
    return out
