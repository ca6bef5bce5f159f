"""Looks closer at small objects: the part of the images that the mask ever covers, less reduced.

What an estimate costs goes by the pixels of the object. Reduced like a cupboard that fills the image, the temples of
eyeglasses are a pixel wide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.types import UNLABELLED, RgbdFrame, Window

_OBJECT_PX = 20_000  # of the object and
_CROP_PX = 160_000  # of the crop that are left of a reduced frame at most
_MARGIN = 0.08  # of the crop's size, on every side


@dataclass(frozen=True, slots=True, eq=False)
class Closeup:
    """A window cropped to the object.

    Attributes:
        window: what is left of it.
        width: to reduce it to, px.
        rows, columns: of the whole images.
        shape: (H, W) of the whole images.
    """

    window: Window
    width: int
    rows: slice
    columns: slice
    shape: tuple[int, int]

    def whole(self, labels: np.ndarray) -> np.ndarray:
        """Labels (T, h, w) of the crop in the whole images (T, H, W), ``UNLABELLED`` around it."""
        out = np.full((len(labels), *self.shape), UNLABELLED, np.uint8)
        out[:, self.rows, self.columns] = labels
        return out


def closeup(window: Window, width: int) -> Closeup:
    """Crop a window whose object is small, to be reduced less; one without masks or with a large object stays whole.

    Args:
        window: frames, with masks or without.
        width: what whole images are reduced to, px.
    """
    height, full = window.frames[0].depth_m.shape
    usual = max(1, round(full / width))
    box = _covered(window)
    if box is not None:
        rows, columns, area = box
        size = (rows.stop - rows.start) * (columns.stop - columns.start)
        step = int(np.ceil(np.sqrt(max(area / _OBJECT_PX, size / _CROP_PX, 1))))
        if step < usual:
            view = Window(tuple(_cut(f, rows, columns) for f in window.frames), window.fixed_frame)
            return Closeup(view, (columns.stop - columns.start) // step, rows, columns, (height, full))
    return Closeup(window, width, slice(0, height), slice(0, full), (height, full))


def _covered(window: Window) -> tuple[slice, slice, float] | None:
    """Rows and columns that the masks ever cover, with a margin, and their area (90 % of the frames have less)."""
    masks = [f.mask for f in window.frames if f.mask is not None]
    if len(masks) < len(window.frames):
        return None
    ever = np.any(masks, 0)
    if not ever.any():
        return None
    return (
        _padded(np.flatnonzero(ever.any(1)), ever.shape[0]),
        _padded(np.flatnonzero(ever.any(0)), ever.shape[1]),
        float(np.quantile([m.sum() for m in masks], 0.9)),
    )


def _padded(covered: np.ndarray, size: int) -> slice:
    low, high = int(covered[0]), int(covered[-1]) + 1
    margin = 8 + round(_MARGIN * (high - low))
    return slice(max(0, low - margin), min(size, high + margin))


def _cut(frame: RgbdFrame, rows: slice, columns: slice) -> RgbdFrame:
    K = np.array(frame.K, float)
    K[:2, 2] -= columns.start, rows.start
    return replace(
        frame,
        color=frame.color[rows, columns],
        depth_m=frame.depth_m[rows, columns],
        mask=None if frame.mask is None else frame.mask[rows, columns],
        K=K,
    )
