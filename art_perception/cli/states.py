"""Joint values of every frame of a clip, from an estimate that saw only the frames of its window."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from art_perception.estimation.tracking import Tracker
from art_perception.pipeline import Config, Reconstruction
from art_perception.types import RgbdFrame


def joint_values(found: Reconstruction, frames: Iterable[RgbdFrame], config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Joint values of a whole clip.

    Frames of the window keep the values estimated with all of them together. A frame in between is tracked, starting
    from the interpolation of its neighbours, and falls back to that interpolation where the object is not visible.

    Args:
        found: the object and its motion within the window.
        frames: all frames of the clip, the window's among them, in time order.
        config: settings of the tracker.

    Returns:
        Stamps (F,) in seconds and values (F, J), rad or m.
    """
    stamps_ns = np.array([frame.stamp_ns for frame in found.window.frames])
    row = {int(stamp): t for t, stamp in enumerate(stamps_ns)}
    tracker: Tracker | None = None
    stamps_s, values = [], []
    for frame in frames:
        stamps_s.append(frame.stamp_s)
        if frame.stamp_ns in row:
            values.append(found.motion.q[row[frame.stamp_ns]])
            continue
        tracker = tracker or Tracker(found.object, config.tracking)
        guess = _interpolated(frame.stamp_ns, stamps_ns, found.motion.q)
        state = tracker.update(frame, guess)
        values.append(state.q if state.tracked else guess)
    return np.array(stamps_s), np.array(values)


def _interpolated(stamp_ns: int, stamps_ns: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Joint values (J,) between the window's frames; the nearest end's outside."""
    seconds = (stamps_ns - stamps_ns[0]) * 1e-9
    return np.array([np.interp((stamp_ns - stamps_ns[0]) * 1e-9, seconds, column) for column in q.T])
