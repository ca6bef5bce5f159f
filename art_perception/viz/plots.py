"""Line plots as inline SVG: sharp at any size, a few kilobytes, no script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 34
_MAX_POINTS = 800

Scale = Callable[[np.ndarray | float], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A line to plot.

    Attributes:
        x, y: (F,) in the units of the labels; gaps where ``y`` is not finite.
        color: ``#rrggbb``.
        x_label, y_label: axis captions with units.
        band: (from, to) on the x axis to shade, such as the frames the joint was estimated from.
    """

    x: np.ndarray
    y: np.ndarray
    color: str
    x_label: str
    y_label: str
    band: tuple[float, float]


def nice_ticks(low: float, high: float, count: int = 5) -> np.ndarray:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover ``low`` to ``high`` in about ``count`` steps."""
    span = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-9)
    raw = span / count
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return np.arange(np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9) + 1) * step


def line_plot(curve: Curve, title: str) -> str:
    """SVG element of one curve with axes, grid, shaded band and a dot at the last value."""
    finite = np.isfinite(curve.y)
    low, high = (curve.y[finite].min(), curve.y[finite].max()) if finite.any() else (0.0, 1.0)
    y_ticks = nice_ticks(min(low, 0.0), max(high, 0.0, low + 1e-3))
    x_ticks = nice_ticks(float(curve.x[0]), float(curve.x[-1]), 6)
    x_ticks = x_ticks[(x_ticks >= curve.x[0]) & (x_ticks <= curve.x[-1] + 1e-9)]
    px = _scale(curve.x[0], curve.x[-1], _LEFT, _WIDTH - _RIGHT)
    py = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    body = [_band(*px(np.array(curve.band))), *_grid(x_ticks, y_ticks, px, py), *_captions(curve)]
    body += _path(px(curve.x), py(curve.y), curve.color)
    label = f'role="img" aria-label="{escape(title)}"'
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" {label}>{"".join(body)}</svg>'


def _scale(a: float, b: float, p: float, q: float) -> Scale:
    """Linear map from [a, b] to pixels [p, q]."""
    gain = (q - p) / (b - a) if b > a else 0.0
    return lambda value: p + (np.asarray(value, float) - a) * gain


def _band(left: float, right: float) -> str:
    height = _HEIGHT - _TOP - _BOTTOM
    return f'<rect class="band" x="{left:.1f}" y="{_TOP}" width="{max(right - left, 1):.1f}" height="{height}"/>'


def _grid(x_ticks: np.ndarray, y_ticks: np.ndarray, px: Scale, py: Scale) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    out = []
    for value, y in zip(y_ticks, py(y_ticks), strict=True):
        kind = "zero" if abs(value) < 1e-12 else "grid"
        out.append(f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value, x in zip(x_ticks, px(x_ticks), strict=True):
        out.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    return out


def _captions(curve: Curve) -> list[str]:
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        f'<text class="caption" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">'
        f"{escape(curve.x_label)}</text>",
        f'<text class="caption" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(curve.y_label)}</text>",
    ]


def _path(x: np.ndarray, y: np.ndarray, color: str) -> list[str]:
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_POINTS)).astype(int))
    x, y = x[keep], y[keep]
    finite = np.isfinite(y)
    if not finite.any():
        return []
    runs = np.split(np.arange(len(x)), np.flatnonzero(~finite))
    line = "".join(_polyline(x[r][finite[r]], y[r][finite[r]]) for r in runs)
    last = np.flatnonzero(finite)[-1]
    dot = f'<circle cx="{x[last]:.1f}" cy="{y[last]:.1f}" r="4" fill="{color}"/>'
    return [f'<path d="{line}" fill="none" stroke="{color}" stroke-width="2.5" stroke-linejoin="round"/>', dot]


def _polyline(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> str:
    return "".join(f"{'L' if i else 'M'}{a:.1f} {b:.1f}" for i, (a, b) in enumerate(zip(x, y, strict=True)))
