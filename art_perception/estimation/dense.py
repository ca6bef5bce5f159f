"""The window as stacked, reduced arrays: what labelling and alignment look things up in."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from art_perception.geometry.camera import unproject
from art_perception.geometry.lie import transform
from art_perception.geometry.normals import disparity_noise, surface_normals
from art_perception.types import RgbdFrame, Window

_BEFORE_M = 0.03  # how far a wire stands before what is around it
_MASK_EDGE = 5  # pixels across: what masks may be off by, to both sides
_DETAIL_PX = 3.0  # brightness that varies more slowly than this is shading


@dataclass(frozen=True, slots=True, eq=False)
class DenseWindow:
    """T reduced frames.

    Attributes:
        points: (T, h, w, 3) float32 metres, optical frame of each image.
        depth_m: (T, h, w) float32, 0 without measurement.
        nearest_m: (T, h, w) float32, the smallest depth of the 3x3 neighbourhood, infinite without any.
        slack_m: (T, h, w) float32, depth range within it: tolerance for lookups on slopes.
        normals: (T, h, w, 3) float32, optical frame, zero where undefined.
        wire: (T, h, w) bool, thinner than a normal takes, and nothing but what is well behind it around.
        color: (T, h, w, 3) uint8 RGB.
        gray: (T, h, w) float32, intensity divided by the image's mean.
        detail: (T, h, w) float32, intensity without its slow part, so that shading and exposure drop out.
        gradient: (T, h, w, 2) float32, its derivative by column and row, per pixel.
        ripple: (T, h, w) float32, how much it varies within a pixel's error of the lookup.
        usable: (T, h, w) bool: measured, off depth edges, inside the mask when there is one.
        off_object: (T, h, w) bool: outside the mask by more than masks are usually off; nowhere without masks.
        K: (3, 3) of the reduced images.
        T_world_camera: (T, 4, 4).
        step: full-resolution pixels per reduced pixel.
        masked: whether the frames came with an object mask.
    """

    points: np.ndarray
    depth_m: np.ndarray
    nearest_m: np.ndarray
    slack_m: np.ndarray
    normals: np.ndarray
    wire: np.ndarray
    color: np.ndarray
    gray: np.ndarray
    detail: np.ndarray
    gradient: np.ndarray
    ripple: np.ndarray
    usable: np.ndarray
    off_object: np.ndarray
    K: np.ndarray
    T_world_camera: np.ndarray
    step: int
    masked: bool

    def world_points(self) -> np.ndarray:
        """Points (T, h, w, 3) float32 in the fixed frame."""
        R, t = self.T_world_camera[:, :3, :3], self.T_world_camera[:, :3, 3]
        moved = np.einsum("tij,thwj->thwi", R.astype(np.float32), self.points)
        return moved + t[:, None, None].astype(np.float32)

    def clouds(self, own: np.ndarray, T_parent_camera: np.ndarray) -> list[np.ndarray]:
        """Points (n, 3) of the pixels ``own`` (T, h, w) of every frame, in the frame the poses (T, 4, 4) lead to."""
        return [
            transform(T, p[mask].astype(float)) for T, p, mask in zip(T_parent_camera, self.points, own, strict=True)
        ]

    def object_pixels(self, changed: np.ndarray) -> np.ndarray:
        """Where the object must be: the mask's pixels (T, h, w), or without one, those around what changed (n, 3).

        Half as much again on every side, 10 cm at least, holds most of what the moving parts are attached to.
        """
        if self.masked:
            return self.usable
        if len(changed) == 0:
            return np.zeros_like(self.usable)
        low, high = np.quantile(changed, [0.02, 0.98], axis=0)
        margin = np.maximum(0.5 * (high - low).max(), 0.1)
        world = self.world_points()
        return self.usable & ((world > low - margin) & (world < high + margin)).all(-1)

    def at(self, frames: np.ndarray) -> DenseWindow:
        """Only the frames of these indices (F,)."""
        whole = ("K", "step", "masked")
        return replace(self, **{f.name: getattr(self, f.name)[frames] for f in fields(self) if f.name not in whole})

    def coarser(self, factor: int) -> DenseWindow:
        """Every ``factor``-th pixel; brightness detail keeps the finer image's scale."""

        def every(images: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(images[:, ::factor, ::factor])  # strided ones are copied at every lookup

        K = np.array(self.K)
        K[:2] /= factor
        depth = every(self.depth_m)
        return DenseWindow(
            points=every(self.points),
            depth_m=depth,
            nearest_m=_nearest(depth),
            slack_m=np.minimum(factor * every(self.slack_m), 0.05 * depth),
            normals=every(self.normals),
            wire=every(self.wire),
            color=every(self.color),
            gray=every(self.gray),
            detail=every(self.detail),
            gradient=factor * every(self.gradient),
            ripple=factor * every(self.ripple),
            usable=every(self.usable),
            off_object=every(self.off_object),
            K=K,
            T_world_camera=self.T_world_camera,
            step=factor * self.step,
            masked=self.masked,
        )


def _reduce(frame: RgbdFrame, step: int) -> tuple[np.ndarray, ...]:
    height, width = (s // step for s in frame.depth_m.shape)
    crop = slice(0, height * step), slice(0, width * step)
    full = cv2.medianBlur(np.ascontiguousarray(frame.depth_m[crop]), 5)
    depth = np.ascontiguousarray(full[step // 2 :: step, step // 2 :: step])
    kernel = np.ones((3, 3), np.uint8)
    high = cv2.dilate(depth, kernel)
    low: np.ndarray = cv2.erode(np.where(depth > 0, depth, 100.0).astype(np.float32), kernel)
    slack = np.where(depth > 0, np.minimum(high - low, 0.05 * depth), 0).astype(np.float32)
    color = np.ascontiguousarray(frame.color[crop])
    gray = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gray = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    mask = np.ones(depth.shape, bool)
    if frame.mask is not None:
        mask = frame.mask[crop][step // 2 :: step, step // 2 :: step]
    color = cv2.resize(color, (width, height), interpolation=cv2.INTER_AREA)
    return depth, slack, color, gray / max(float(gray.mean()), 1.0), mask


def _nearest(depth: np.ndarray) -> np.ndarray:
    """Smallest measured depth (T, h, w) of the 3x3 neighbourhood, infinite where nothing was measured."""
    known = np.where(depth > 0, depth, np.inf).astype(np.float32)
    return np.stack([cv2.erode(image, np.ones((3, 3), np.uint8)) for image in known])


def _outside(mask: np.ndarray) -> np.ndarray:
    """Which pixels (h, w) are further outside a mask than masks are off; of an empty one, none is known to be."""
    return (cv2.dilate(mask.astype(np.uint8), np.ones((_MASK_EDGE, _MASK_EDGE), np.uint8)) == 0) & mask.any()


def _wire(depth: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Which pixels (h, w) stand before all ``surface`` around them, of which they are no edge."""
    behind = np.where(surface, depth, np.inf).astype(np.float32)
    return (depth > 0) & ~surface & (cv2.erode(behind, np.ones((5, 5), np.uint8)) > depth + _BEFORE_M)


def _detail(gray: np.ndarray, depth: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brightness detail, gradient and ripple of a frame; near depth edges, where surfaces mix, they say nothing."""
    detail = cv2.GaussianBlur(gray, (0, 0), 1.0) - cv2.GaussianBlur(gray, (0, 0), _DETAIL_PX)
    mixed = (depth <= 0) | (slack > 0.045 * depth)
    reach = 2 * int(_DETAIL_PX) + 1
    mixed = cv2.dilate(mixed.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    detail[mixed] = 0
    gradient = np.stack([np.gradient(detail, axis=1), np.gradient(detail, axis=0)], -1)
    gradient[mixed] = 0
    return detail, gradient, np.where(mixed, 1.0, np.linalg.norm(gradient, axis=-1)).astype(np.float32)


def densify(window: Window, width: int) -> DenseWindow:
    """Reduce every frame of ``window`` to about ``width`` px across."""
    step = max(1, round(window.frames[0].depth_m.shape[1] / width))
    reduced = zip(*(_reduce(f, step) for f in window.frames), strict=True)
    depth, slack, color, gray, mask = (np.stack(x) for x in reduced)
    K = np.array(window.frames[0].K, float)
    K[:2, 2] -= step // 2  # reduced pixel (0, 0) is full pixel (step // 2, step // 2)
    K[:2] /= step
    points = np.stack([unproject(d, K) for d in depth])
    noise = disparity_noise(depth)
    normals = np.stack([surface_normals(d, K, noise) for d in depth])
    detail, gradient, ripple = (np.stack(x) for x in zip(*map(_detail, gray, depth, slack), strict=True))
    return DenseWindow(
        points=points,
        depth_m=depth,
        nearest_m=_nearest(depth),
        slack_m=slack,
        normals=normals,
        wire=np.stack([_wire(d, n.any(-1)) for d, n in zip(depth, normals, strict=True)]),
        color=color,
        gray=gray,
        detail=detail,
        gradient=gradient,
        ripple=ripple,
        usable=(depth > 0) & mask,
        off_object=np.stack([_outside(m) for m in mask]),
        K=K,
        T_world_camera=np.stack([f.T_world_camera for f in window.frames]),
        step=step,
        masked=window.frames[0].mask is not None,
    )


def project_rounded(
    points: np.ndarray, K: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest pixel of optical-frame points (..., 3): row, column (clipped) and whether inside and in front."""
    K = K.astype(points.dtype)  # or NumPy computes with twice the digits
    z = points[..., 2]
    front = z > 1e-3
    safe = np.where(front, z, points.dtype.type(1))
    u = np.rint(points[..., 0] / safe * K[0, 0] + K[0, 2]).astype(np.int32)
    v = np.rint(points[..., 1] / safe * K[1, 1] + K[1, 2]).astype(np.int32)
    row, column = np.clip(v, 0, shape[0] - 1), np.clip(u, 0, shape[1] - 1)
    return row, column, front & (row == v) & (column == u)


def brightness_gap(
    dense: DenseWindow, s: np.ndarray, v: np.ndarray, u: np.ndarray, camera: np.ndarray, detail: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Brightness that frames show where points are, less the points' own, to first order within the pixel.

    Args:
        dense: the frames.
        s: (...,) frame that the points project to.
        v: (...,) row there.
        u: (...,) column there.
        camera: (..., 3) the points in that frame's camera.
        detail: (...,) brightness detail of the points.

    Returns:
        Differences (...,) and their gradients (..., 3) by the point in the camera.
    """
    K, z = dense.K, np.maximum(camera[..., 2], 1e-3)
    pixel = (s * dense.depth_m.shape[1] + v) * dense.depth_m.shape[2] + u
    gu, gv = np.moveaxis(dense.gradient.reshape(-1, 2).take(pixel, 0), -1, 0)
    du = K[0, 0] * camera[..., 0] / z + K[0, 2] - u
    dv = K[1, 1] * camera[..., 1] / z + K[1, 2] - v
    x, y = gu * K[0, 0] / z, gv * K[1, 1] / z
    gradient = np.stack([x, y, -(x * camera[..., 0] + y * camera[..., 1]) / z], -1)
    return dense.detail.reshape(-1).take(pixel) + gu * du + gv * dv - detail, gradient
