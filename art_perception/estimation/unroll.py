"""A surface of revolution unrolled about its axis: rings by distance and height, brightness by angle, frame by frame.

What turns in place moves along the rings, what stands (shading, the body below) stays. So the rings are a sum of a part
that stays, one that follows the viewer (highlights, silhouettes) and one that turns: an additive model, fitted by
backfitting (Buja, Hastie & Tibshirani, "Linear smoothers and additive models", Annals of Statistics 1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.fft import irfft, rfft

from art_perception.estimation.dense import DenseWindow
from art_perception.geometry.screw import across

Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Frame, row and column (n,) of pixels."""
_EDGE_PX = 2.0  # of a ring's cross-section, and of its pieces
_PIECES = (48, 128)  # around a ring, at least and at most
_LEVEL = 0.35  # cosine from which on a surface faces the viewer enough for its brightness to tell
_OBLIQUE = 0.3  # sine of the angle between a normal and its ring's plane: more, and it belongs to something else
_FULL = 3.0  # pixels of a piece: more weigh no more
_SEEN = 2.0  # weight of a ring per frame that it takes to be kept


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """R rings of P pieces, as T frames saw them.

    Attributes:
        value: (T, R, P) float32 brightness detail; weight: (T, R, P) float32, 0 where nothing was seen.
        place: (R, 2) int, distance from the axis and height along it, in cells.
        viewer: (T,) angle of the camera about the axis, pieces, 0 in frame 0.
        cell: (T, h, w, 2) int16, such a place of every pixel that is near enough, -1 elsewhere.
    """

    value: np.ndarray
    weight: np.ndarray
    place: np.ndarray
    viewer: np.ndarray
    cell: np.ndarray

    @property
    def pieces(self) -> int:
        """Of each ring."""
        return self.value.shape[2]

    def only(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and weights of some rings."""
        return self.value[:, keep], self.weight[:, keep]


def unroll(
    dense: DenseWindow, still: np.ndarray, axis: np.ndarray, origin: np.ndarray, radius: float, heights: np.ndarray
) -> Rings:
    """Rings about the line through ``origin`` (3,) along ``axis`` (3,).

    Args:
        dense: the window.
        still: (T, h, w) bool, surface that may have stayed where it is.
        axis: of the line, fixed frame.
        origin: a point of it.
        radius: how far out the rings go, metres.
        heights: (2,) between which heights above ``origin``, metres.
    """
    pixel, offset = _around(dense, still, axis, origin, radius, heights)
    x, y = across(axis)
    along_x, along_y, height = (offset @ each.astype(np.float32) for each in (x, y, axis))
    far = np.hypot(along_x, along_y)
    edge = _EDGE_PX * float(np.median(dense.depth_m[pixel])) / dense.K[0, 0]
    place = np.stack([far / edge, (height - heights[0]) / edge], -1).astype(np.int16)
    cell = np.full((*still.shape, 2), -1, np.int16)
    cell[pixel] = place
    round_ = (_obliqueness(dense, pixel, np.cross(axis, offset)) < _OBLIQUE) | (far < 2 * edge)
    told = np.flatnonzero(round_ & _faces(dense, pixel))
    pieces = int(np.clip(2 * np.pi * radius / edge, *_PIECES))
    per_rad = pieces / (2 * np.pi)
    piece = np.floor(np.arctan2(along_y[told], along_x[told]) * per_rad).astype(int) % pieces
    camera = dense.T_world_camera[:, :3, 3] - origin
    viewer = np.unwrap(np.arctan2(camera @ y, camera @ x)) * per_rad
    detail = dense.detail[pixel][told]
    value, weight, kept = _collect(pixel[0][told], place[told], piece, detail, (len(still), pieces))
    return Rings(value, weight, kept, viewer - viewer[0], cell)


def _around(
    dense: DenseWindow, still: np.ndarray, axis: np.ndarray, origin: np.ndarray, radius: float, heights: np.ndarray
) -> tuple[Pixels, np.ndarray]:
    """Pixels of ``still`` near a line, and their offsets (n, 3) from ``origin``."""
    offset = dense.world_points() - origin.astype(np.float32)
    height = offset @ axis.astype(np.float32)
    near = (offset * offset).sum(-1) - height * height < radius**2
    inside = still & near & (height > heights[0]) & (height < heights[1])
    frame, row, column = np.nonzero(inside)
    return (frame, row, column), offset[inside]


def _obliqueness(dense: DenseWindow, pixel: Pixels, tangent: np.ndarray) -> np.ndarray:
    """Sine (n,) of the angle between pixels' normals and the planes across the ``tangent`` (n, 3) of their rings."""
    R = dense.T_world_camera[:, :3, :3].astype(np.float32)[pixel[0]]
    normals = (R @ dense.normals[pixel][..., None])[..., 0]
    return np.abs((normals * tangent).sum(-1)) / np.maximum(np.linalg.norm(tangent, axis=-1), 1e-9)


def _faces(dense: DenseWindow, pixel: Pixels) -> np.ndarray:
    """Which pixels' surface (n,) faces the camera."""
    points = dense.points[pixel]
    return -(points * dense.normals[pixel]).sum(-1) > _LEVEL * np.linalg.norm(points, axis=-1)


def _collect(
    frame: np.ndarray, place: np.ndarray, piece: np.ndarray, detail: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean brightness and weight (T, R, P) of the rings that are seen enough, and their places (R, 2)."""
    places, ring = np.unique(place, axis=0, return_inverse=True)
    shape = (size[0], len(places), size[1])
    key = np.ravel_multi_index((frame, ring.reshape(-1), piece), shape)
    count = np.bincount(key, minlength=np.prod(shape)).reshape(shape)
    value = np.bincount(key, detail, np.prod(shape)).reshape(shape) / np.maximum(count, 1)
    weight = np.minimum(count, _FULL)
    seen = weight.sum((0, 2)) > _SEEN * size[0]
    return value[:, seen].astype(np.float32), weight[:, seen].astype(np.float32), places[seen].astype(int)


def placed(ring: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Rings (R, P) as they look (T, R, P) when turned by ``q`` (T,) pieces."""
    P = ring.shape[1]
    at = (np.arange(P) - np.rint(q).astype(int)[:, None]) % P
    return ring[:, at].transpose(1, 0, 2)


def returned(rings: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Rings (T, R, P) turned back by ``q`` (T,) pieces."""
    P = rings.shape[2]
    at = (np.arange(P) + np.rint(q).astype(int)[:, None]) % P
    return np.stack([ring[:, back] for ring, back in zip(rings, at, strict=True)])


def backfit(
    value: np.ndarray,
    weight: np.ndarray,
    paths: list[np.ndarray],
    start: list[np.ndarray] | None = None,
    rounds: int = 8,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Split rings into components that turn along ``paths``.

    Args:
        value: (T, R, P) what was seen.
        weight: (T, R, P) of it.
        paths: (T,) pieces turned in every frame, one for each component.
        start: components to begin with.
        rounds: of refitting every component to what the others leave.

    Returns:
        The components (R, P), all but the first with mean zero on each ring, and what they leave (T, R, P).
    """
    parts = [np.zeros_like(value[0])] * len(paths) if start is None else list(start)
    total = [returned(weight, path).sum(0) for path in paths]
    left = value - sum(placed(part, path) for part, path in zip(parts, paths, strict=True))
    for _ in range(rounds):
        for i, path in enumerate(paths):
            new = parts[i] + (returned(left * weight, path).sum(0) - parts[i]) / (total[i] + 1)
            if i:
                seen = total[i] > 0
                mean = (new * seen).sum(1, keepdims=True) / np.maximum(seen.sum(1, keepdims=True), 1)
                new = np.where(seen, new - mean, 0)
            left = left - placed(new - parts[i], path)
            parts[i] = new
    return parts, left


def unexplained(weight: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Weighted sum of squares (R,) of what is left (T, R, P)."""
    return np.maximum((weight * left * left).sum((0, 2)), 1e-9)


class Register:
    """Finds by how many pieces a component has turned in each frame: weighted squared differences at all shifts."""

    def __init__(self, value: np.ndarray, weight: np.ndarray) -> None:
        self._pieces = value.shape[2]
        self._weighted, self._weight = rfft(weight * value, axis=-1), rfft(weight, axis=-1)

    def __call__(
        self, part: np.ndarray, trust: np.ndarray, around: np.ndarray, reach: float, frames: slice
    ) -> np.ndarray:
        """Turns (F,) of ``part`` (R, P) in some frames, within ``reach`` pieces ``around`` (F,).

        ``trust`` (R,) weighs the rings.
        """
        a = np.conj(rfft(part * trust[:, None], axis=-1))
        b = np.conj(rfft(part * part * trust[:, None], axis=-1))
        spectrum = np.einsum("rp,trp->tp", b, self._weight[frames]) - 2 * np.einsum(
            "rp,trp->tp", a, self._weighted[frames]
        )
        cost = irfft(spectrum, self._pieces, axis=-1)
        shifts = np.rint(around).astype(int)[:, None] + np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
        near = np.take_along_axis(cost, shifts % self._pieces, 1)
        best = near.argmin(1).clip(1, near.shape[1] - 2)
        row = np.arange(len(near))
        low, mid, high = near[row, best - 1], near[row, best], near[row, best + 1]
        bend = low - 2 * mid + high
        return shifts[row, best] + np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1), 0).clip(
            -0.5, 0.5
        )
