"""Moving pictures of a result: the clip with labels and axes, beside the reconstructed object moving the same way."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from art_perception.types import RgbdFrame
from art_perception.viz.overlay import axis_arrows, draw_arrows, tint_parts
from art_perception.viz.render import ObjectRenderer, fitting_view

if TYPE_CHECKING:
    from art_perception.pipeline import Reconstruction

_FRAME_MS = 90
_HOLD_MS = 700


def spread_frames(q: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to ``count`` frames, first and last included, evenly spread over the motion of ``q`` (T, J)."""
    span = np.maximum(np.ptp(q, axis=0), 1e-9)
    travelled = np.concatenate([[0], np.cumsum(np.abs(np.diff(q / span, axis=0)).sum(1))])
    travelled += 1e-3 * np.arange(len(q))  # still stretches keep their order
    wanted = np.linspace(0, travelled[-1], count)
    return np.unique([int(np.abs(travelled - w).argmin()) for w in wanted])


def clip_picture(reconstruction: Reconstruction, index: int, width: int) -> np.ndarray:
    """Window frame ``index`` with parts tinted and joint axes drawn in, ``width`` pixels wide."""
    window, motion, obj = reconstruction.window, reconstruction.motion, reconstruction.object
    frame = window.frames[index]
    scale = width / frame.color.shape[1]
    size = (width, round(frame.color.shape[0] * scale))
    small = RgbdFrame(
        frame.stamp_ns,
        cv2.resize(frame.color, size, interpolation=cv2.INTER_AREA),
        frame.depth_m,
        np.diag([scale, scale, 1.0]) @ frame.K,
        frame.T_world_camera,
    )
    tinted = tint_parts(small.color, motion.labels[index])
    return draw_arrows(tinted, axis_arrows(obj.joints, obj.parts, motion.q[index]), small)


def object_pictures(reconstruction: Reconstruction, indices: Sequence[int], shape: tuple[int, int]) -> list[np.ndarray]:
    """The reconstructed object at the joint values of the given window frames, seen as in the middle of the clip."""
    obj, frames = reconstruction.object, reconstruction.window.frames
    renderer = ObjectRenderer(obj)
    view = fitting_view(obj, frames[len(frames) // 2].T_world_camera, shape)
    return [renderer.render(reconstruction.motion.q[t], view) for t in indices]


def animation(pictures: Sequence[np.ndarray], file_format: str = "WEBP") -> bytes:
    """Endless animation (WEBP or GIF) of pictures (H, W, 3) uint8 that plays forwards, rests, and plays back."""
    from PIL import Image

    images = [Image.fromarray(p) for p in pictures]
    loop = [*images, *images[-2:0:-1]]
    duration = [_FRAME_MS] * len(loop)
    duration[0] = duration[len(images) - 1] = _HOLD_MS
    out = io.BytesIO()
    options = {"quality": 72, "method": 2} if file_format == "WEBP" else {"optimize": True}
    loop[0].save(out, file_format, save_all=True, append_images=loop[1:], duration=duration, loop=0, **options)
    return out.getvalue()


def write_figure(path: Path, reconstruction: Reconstruction, height: int = 320, count: int = 16) -> Path:
    """Write the README picture: left the clip, right the object moving; GIF or WebP by the file name.

    Args:
        path: file to write, ending in ``.gif`` or ``.webp``.
        reconstruction: what to show.
        height: of the picture, pixels.
        count: frames, spread over the motion.
    """
    indices = spread_frames(reconstruction.motion.q, count)
    rows, columns = reconstruction.window.frames[0].color.shape[:2]
    width = round(height * columns / rows)
    left = [cv2.resize(clip_picture(reconstruction, int(t), width), (width, height)) for t in indices]
    right = object_pictures(reconstruction, indices.tolist(), (height, width))
    pictures = [np.hstack(pair) for pair in zip(left, right, strict=True)]
    path.write_bytes(animation(pictures, "GIF" if path.suffix.lower() == ".gif" else "WEBP"))
    return path
