"""A bounded buffer that turns a stream of frames into the window the estimator works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.bounds import bounded
from art_perception.errors import FrameError
from art_perception.types import RgbdFrame, Window


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """How many frames the estimator sees."""

    max_frames: int = bounded(60, 2, 100_000)
    """Frames kept at most; a longer stream is thinned evenly, so the window always covers all of it."""
    min_frames: int = bounded(6, 2, 1000)
    """Fewer frames than this are an error."""
    stride: int = bounded(1, 1, 1000)
    """Use every n-th frame of the stream."""


class WindowBuffer:
    """Collects frames in constant memory: when full, every other frame goes and the stride doubles."""

    def __init__(self, config: WindowConfig, fixed_frame: str = "world") -> None:
        self._config = config
        self._fixed_frame = fixed_frame
        self.clear()

    def clear(self) -> None:
        """Forget all frames."""
        self._frames: list[RgbdFrame] = []
        self._stride = self._config.stride
        self._seen = 0

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: RgbdFrame) -> None:
        """Add the next frame of the stream.

        Raises:
            FrameError: time runs backwards, or the image size changed.
        """
        if self._frames:
            _check_successor(self._frames[-1], frame)
        if self._seen % self._stride == 0:
            self._frames.append(frame)
        self._seen += 1
        if len(self._frames) > self._config.max_frames:
            self._frames = self._frames[::2]
            self._stride *= 2

    def window(self) -> Window:
        """Return the frames collected so far.

        Raises:
            FrameError: fewer than ``min_frames`` frames.
        """
        n, need = len(self._frames), self._config.min_frames
        if n < need:
            raise FrameError(
                f"the recording has {n} usable frame{'s' if n != 1 else ''}, but motion needs at least {need}: "
                "record a few seconds while the part moves, or give the object's category (prior.category)"
            )
        if not any(np.any(f.depth_m > 0) for f in self._frames):
            raise FrameError("every depth image is empty (all zero): check that the depth stream is on and aligned")
        if all(f.mask is not None and not f.mask.any() for f in self._frames):
            raise FrameError(
                "the object mask is empty in every frame: publish a mask with the object non-zero, or none"
            )
        return Window(tuple(self._frames), self._fixed_frame)


def _check_successor(last: RgbdFrame, frame: RgbdFrame) -> None:
    if frame.stamp_ns <= last.stamp_ns:
        back = (last.stamp_ns - frame.stamp_ns) * 1e-9
        raise FrameError(
            f"time went back by {back:.3f} s between two frames: record with one clock, or reset the window"
        )
    if frame.depth_m.shape != last.depth_m.shape:
        raise FrameError(
            f"the image size changed from {last.depth_m.shape} to {frame.depth_m.shape}: keep one resolution"
        )
