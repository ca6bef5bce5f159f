"""How one RGB-D image sees posed surfels: which are visible, how far the measured surface is, what a mismatch costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from art_perception.estimation.surfels import Surfels
from art_perception.types import RgbdFrame

HIDDEN_COST = 0.4
"""Cost of a surfel behind something else or without a depth: between agreement (0) and contradiction (1)."""
SELF_OCCLUSION_M = 0.01
"""A surfel this far behind another one is hidden by it."""
_COLOR_COST = 0.5  # cost of a surfel at the right distance in the wrong colour
_COLOR_TOLERANCE = 50.0  # of 255; a difference this large is the wrong colour
_MAX_SHADE = 40.0  # largest colour offset that is explained by light or exposure
_MIN_DEPTH_M = 0.05
_MIN_COSINE = 0.1  # surfaces seen more obliquely carry no usable depth
_BEHIND_M = -1e3  # residual of a pixel known not to be the object


class Reading(NamedTuple):
    """What the image says about N posed surfels.

    Attributes:
        residual: (N,) distance of the measured surface along the normal, positive towards the camera, in units of the
            largest distance that counts as agreement.
        measured: (N,) bool, a depth was measured and the surfel faces the camera.
        pixel: (N,) flat pixel index.
        band_m: (N,) that largest distance, metres.
    """

    residual: np.ndarray
    measured: np.ndarray
    pixel: np.ndarray
    band_m: np.ndarray

    @property
    def agrees(self) -> np.ndarray:
        """(N,) bool, the surface is where it was expected."""
        return self.measured & (np.abs(self.residual) < 1)


class FrontLayer(NamedTuple):
    """The nearest surfel of every image cell: (cells,) index into ``p``, ``n`` (3, N), or -1."""

    nearest: np.ndarray
    p: np.ndarray
    n: np.ndarray

    def hides(self, p: np.ndarray, cell: np.ndarray, margin_m: float = SELF_OCCLUSION_M) -> np.ndarray:
        """Whether points (3, N) in cells (N,) lie ``margin_m`` behind the plane of their cell's nearest surfel."""
        front = self.nearest[cell]
        if not self.p.shape[1]:
            return front >= 0
        n = self.n[:, front]
        plane = (n * self.p[:, front]).sum(0) / np.minimum((n * p).sum(0), -1e-6)
        return (front >= 0) & ((1 - plane) * p[2] > margin_m)


class FrameView:
    """One frame, ready to be compared with posed surfels (all in its optical frame)."""

    def __init__(self, frame: RgbdFrame, sigma: tuple[float, float]) -> None:
        """Prepare; ``sigma`` is the depth error at zero distance (m) and its growth with distance squared (1/m)."""
        self._sigma = sigma
        self._height, self._width = frame.depth_m.shape
        self._depth = np.ascontiguousarray(frame.depth_m, np.float32).reshape(-1)
        self._color = frame.color.reshape(-1, 3)
        self._mask = None if frame.mask is None else np.ascontiguousarray(frame.mask, bool).reshape(-1)
        self._f = np.array([[frame.K[0, 0]], [frame.K[1, 1]]], np.float32)
        self._c = np.array([[frame.K[0, 2]], [frame.K[1, 2]]], np.float32)

    def _pixels(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest pixels (2, N) float32 and whether they lie inside the image."""
        uv = np.rint(self._f * (p[:2] / np.maximum(p[2], _MIN_DEPTH_M)) + self._c)
        inside = (uv[0] >= 0) & (uv[0] < self._width) & (uv[1] >= 0) & (uv[1] < self._height)
        return uv, inside & (p[2] > _MIN_DEPTH_M)

    def facing(self, p: np.ndarray, n: np.ndarray, cell_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices (M,) of surfels that face the camera inside the image, and their image cells (M,)."""
        uv, seen = self._pixels(p)
        seen &= (p * n).sum(0) < -_MIN_COSINE * np.sqrt((p * p).sum(0))
        index = np.flatnonzero(seen)
        column, row = (uv[:, index] / np.float32(cell_px)).astype(np.int64)
        return index, row * (int(self._width / cell_px) + 1) + column

    def cell_px(self, p: np.ndarray, spacing_m: float) -> float:
        """Size of the image cells that surfels with this spacing fill."""
        z = p[2, p[2] > _MIN_DEPTH_M]
        return max(2.0, 1.5 * spacing_m * float(self._f[0, 0]) / float(np.median(z))) if len(z) else float(self._width)

    def front(self, p: np.ndarray, n: np.ndarray, cell: np.ndarray, cell_px: float) -> FrontLayer:
        """Nearest of the facing surfels per cell."""
        nearest = np.full((int(self._width / cell_px) + 1) * (int(self._height / cell_px) + 1), -1)
        order = np.argsort(-p[2])
        nearest[cell[order]] = order
        return FrontLayer(nearest, p, n)

    def read(self, p: np.ndarray, n: np.ndarray, tolerance_m: float = 0.0) -> Reading:
        """Look up posed surfels (3, N); agreement means within the noise or ``tolerance_m``.

        Pixels outside the mask are no match: what is there is either nearer (an occluder) or counts as free space.
        """
        uv, inside = self._pixels(p)
        pixel = (uv[1] * np.float32(self._width) + uv[0]).astype(np.int64)
        pixel *= inside
        depth = self._depth[pixel] * inside
        ray = (uv - self._c) / self._f * depth
        r = n[0] * (ray[0] - p[0]) + n[1] * (ray[1] - p[1]) + n[2] * (depth - p[2])
        band = 3 * np.hypot(np.float32(self._sigma[0]), np.float32(self._sigma[1]) * p[2] ** 2)
        band = np.maximum(band, np.float32(tolerance_m))
        if self._mask is not None:
            r[~self._mask[pixel] & (r < band)] = _BEHIND_M
        return Reading(r / band, (depth > 0) & ((p * n).sum(0) < 0), pixel, band)

    def shading(self, surfels: Surfels, reading: Reading, parts: int) -> np.ndarray:
        """(3, parts) median colour offset of the agreeing surfels: light and exposure are not those of the model."""
        out = np.zeros((3, parts), np.float32)
        known = np.flatnonzero(reading.agrees & (surfels.colors[0] >= 0))
        difference, part = self._color_difference(surfels, reading, known), surfels.part[known]
        for k in np.unique(part):
            out[:, k] = np.median(difference[:, part == k], 1)
        return np.clip(out, -_MAX_SHADE, _MAX_SHADE)

    def costs(self, surfels: Surfels, reading: Reading, shade: np.ndarray) -> np.ndarray:
        """(N,) -HIDDEN_COST (agrees), 0 (hidden) to 1 - HIDDEN_COST (seen through), more in the wrong colour."""
        s = reading.residual
        cost = np.minimum(_hinge(s), np.where(s > 0, HIDDEN_COST, 1.0)) - HIDDEN_COST
        known = np.flatnonzero(reading.agrees & (surfels.colors[0] >= 0))
        if len(known):
            difference = self._color_difference(surfels, reading, known) - shade[:, surfels.part[known]]
            cost[known] += _COLOR_COST * _hinge(np.minimum(np.abs(difference).mean(0) / _COLOR_TOLERANCE, 1))
        return cost * reading.measured

    def _color_difference(self, surfels: Surfels, reading: Reading, index: np.ndarray) -> np.ndarray:
        return self._color[reading.pixel[index]].T.astype(np.float32) - surfels.colors[:, index]


def _hinge(s: np.ndarray) -> np.ndarray:
    """0 up to |s| = 0.5, then quadratically to 1 at |s| = 1: noise inside the band costs nothing."""
    return np.square(np.maximum(2 * np.abs(s) - 1, 0))
