"""Joint values of every frame of a clip, from an estimate that saw only the frames of its window."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from art_perception.estimation.tracking import Tracker, TrackingConfig
from art_perception.pipeline import Reconstruction
from art_perception.types import RgbdFrame


def joint_values(
    found: Reconstruction, frames: Iterable[RgbdFrame], config: TrackingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Joint values of a whole clip.

    Frames of the window keep the values estimated with all of them together. The tracker adds what happens in between:
    its value, less its deviation from the window's values nearby, which is the model's error and not a motion. Where a
    part is not visible, its value is interpolated.

    Args:
        found: the object and its motion within the window.
        frames: all frames of the clip, the window's among them, in time order.
        config: settings of the tracker.

    Returns:
        Stamps (F,) in seconds and values (F, J), rad or m.
    """
    window_ns = np.array([frame.stamp_ns for frame in found.window.frames])
    tracker = Tracker(found.object, config)
    stamps_ns, rows = [], []
    for frame in frames:
        guess = interpolate(np.array([frame.stamp_ns]), window_ns, found.motion.q)[0]
        state = tracker.update(frame, guess)
        visible = state.tracked & (state.joint_quality >= config.min_quality)
        stamps_ns.append(frame.stamp_ns)
        rows.append(np.where(visible, state.q, np.nan))
    stamps = np.array(stamps_ns)
    return stamps * 1e-9, combine(stamps, np.array(rows), window_ns, found.motion.q)


def combine(stamps_ns: np.ndarray, tracked: np.ndarray, window_ns: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Merge tracked values (F, J), NaN where there is none, with the window's values (T, J) into values (F, J)."""
    base = interpolate(stamps_ns, window_ns, q)
    deviation = tracked - base
    in_window = np.isin(stamps_ns, window_ns)
    for j, column in enumerate(deviation.T):
        known = in_window & np.isfinite(column)
        if known.any():
            column -= interpolate(stamps_ns, stamps_ns[known], deviation[known, j : j + 1])[:, 0]
    return base + np.where(np.isfinite(deviation) & ~in_window[:, None], deviation, 0.0)


def interpolate(stamps_ns: np.ndarray, known_ns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate values (T, J) known at ``known_ns`` (T,) linearly; constant outside. Returns (F, J)."""
    seconds, known = (1e-9 * (stamps - known_ns[0]) for stamps in (stamps_ns, known_ns))
    return np.stack([np.interp(seconds, known, column) for column in values.T], -1)
