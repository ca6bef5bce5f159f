"""A small chart drawn with OpenCV: training machines and benchmarks need no plotting library for a curve."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_WIDTH, _HEIGHT, _PAD, _EDGE = 460, 240, 36, 8
_GREY = (225, 225, 225)
_INK = (60, 60, 60)
Color = tuple[int, int, int]


class Chart:
    """A picture with a title and axes, to be drawn into.

    Attributes:
        image: (H, W, 3) uint8, BGR.
    """

    def __init__(self, title: str, x: tuple[float, float], y: tuple[float, float], note: str) -> None:
        """Draw title, grid and the note under the axis.

        Args:
            title: above the chart.
            x: lowest and highest value across.
            y: lowest and highest value upwards.
            note: what the horizontal axis is.
        """
        self.image = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
        self._low = np.array([x[0], y[0]], float)
        self._span = np.array([x[1] - x[0], y[1] - y[0]], float)
        for share in np.linspace(0, 1, 5):
            v = int(_HEIGHT - _PAD - share * (_HEIGHT - 2 * _PAD))
            cv2.line(self.image, (_PAD, v), (_WIDTH - _EDGE, v), _GREY, 1)
            self._write(f"{y[0] + share * (y[1] - y[0]):.3g}", (2, v + 4), 0.34)
        self._write(title, (_PAD, 20), 0.5)
        self._write(note, (_WIDTH - 120, _HEIGHT - 12), 0.4)

    def line(self, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, color: Color, width: int) -> None:
        """Connect points (n,); what is beyond the axes lies on their edge."""
        cv2.polylines(self.image, [self._pixels(x, y)], False, color, width, cv2.LINE_AA)

    def dot(self, x: float, y: float, color: Color) -> None:
        """Mark a point."""
        u, v = (int(c) for c in self._pixels([x], [y])[0])
        cv2.circle(self.image, (u, v), 4, color, -1, cv2.LINE_AA)

    def label(self, text: str, x: float, y: float) -> None:
        """Write under a point."""
        u, v = (int(c) for c in self._pixels([x], [y])[0])
        self._write(text, (min(u - 6, _WIDTH - 20), v + 16), 0.34)

    def _pixels(self, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> np.ndarray:
        share = np.clip((np.stack([x, y], -1) - self._low) / self._span, 0, 1)
        u = _PAD + share[:, 0] * (_WIDTH - _PAD - _EDGE)
        v = _HEIGHT - _PAD - share[:, 1] * (_HEIGHT - 2 * _PAD)
        return np.rint(np.stack([u, v], -1)).astype(np.int32)

    def _write(self, text: str, at: tuple[int, int], size: float) -> None:
        cv2.putText(self.image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
