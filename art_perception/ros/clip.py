"""The frames of one continuous recording, what was seen to move in them, and how much of that has been tried."""

from __future__ import annotations

import math
import time

from art_perception.estimation.onset import Seen
from art_perception.estimation.window import WindowBuffer, WindowConfig
from art_perception.types import RgbdFrame, Window

NOTICEABLE = 1.05  # a clip this many times longer than the last one tried is worth another attempt when it has ended
FURTHER = 1.1  # motion this many times larger is motion that goes on
STILL = 0.005  # share of the surface that noise may change


class Clip:
    """Collects frames on the executor's thread; the worker's thread adds what it saw.

    Attributes:
        count: frames so far.
        span_s: time from the first to the last, s.
        tried_s, tried: clip length behind the last attempt on all frames, and motion behind the last early one.
        failed_s: clip length behind an early attempt that came to nothing.
        seen: the largest motion seen.
        still: whether the window is full of frames that all show the same.
        guessed: whether the shape prior was asked already.

    Args:
        config: of the window.
        tried_s: clip length of the complete estimate that is known already, s.
        tried: motion behind the estimate that is known already.
        seen: no motion.
    """

    def __init__(self, config: WindowConfig, tried_s: float, tried: Seen, seen: Seen) -> None:
        self._buffer = WindowBuffer(config)
        self._room = config.max_frames * config.stride
        self._first_ns = 0
        self._last_s = time.monotonic()
        self._moved_s = self._rest_s = 0.0  # clip length when something last moved further, and time since
        self.count = 0
        self.span_s = 0.0
        self.tried_s = tried_s
        self.tried = tried
        self.failed_s = math.inf
        self.seen = seen
        self.still = False
        self.guessed = False

    def __len__(self) -> int:
        """Frames in the window."""
        return len(self._buffer)

    def push(self, frame: RgbdFrame) -> None:
        """Add a frame.

        Raises:
            FrameError: time runs backwards, or the image size changed.
        """
        self._buffer.push(frame)
        self._first_ns = self._first_ns if self.count else frame.stamp_ns
        self.span_s = (frame.stamp_ns - self._first_ns) * 1e-9
        self._last_s = time.monotonic()
        self.count += 1

    def window(self, fixed_frame: str) -> Window:
        """Return the frames so far.

        Raises:
            FrameError: too few of them, or nothing to see in them.
        """
        return Window(self._buffer.window().frames, fixed_frame)

    def add(self, seen: Seen, span_s: float) -> None:
        """Remember the largest motion; ``span_s`` is the length of the clip in which it was seen."""
        if seen.share > FURTHER * self.seen.share or seen.changed > FURTHER * self.seen.changed + STILL:
            self._moved_s = span_s
        self._rest_s = span_s - self._moved_s
        self.seen = self.seen.joined(seen)
        self.still = self.count >= self._room and self.seen.changed < STILL

    def has_moved(self, growth: float) -> bool:
        """Whether enough was seen to move, and ``growth`` times as much as when it was tried last.

        If that came to nothing a clip ``growth`` times as long will do: two frames may be too far apart to tell more.
        """
        return self.seen.exceeds(self.tried, growth) or self.span_s > self.failed_s * growth

    def has_grown(self, growth: float, idle_s: float) -> bool:
        """Whether the clip is worth an attempt on all its frames.

        It is when no frame came for ``idle_s``; or when something moved, nothing moved further for ``idle_s``, and the
        clip has become ``growth`` times longer since the last attempt.
        """
        if time.monotonic() - self._last_s > idle_s:
            return self.is_longer()
        at_rest = self.seen.changed >= STILL and self._rest_s > idle_s
        return at_rest and self.span_s >= self.tried_s * growth

    def is_longer(self) -> bool:
        """Whether it is noticeably longer than what was tried."""
        return self.span_s > self.tried_s * NOTICEABLE
