"""Whether a joint's confidence is the share of such joints that are right: reliability over bins of confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.special import betaincinv

from art_perception.eval.chart import Chart
from art_perception.eval.scoring import ClipScore
from art_perception.eval.tables import markdown_lines

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
SURE = 0.8
"""Joints of more than this confidence are to be right 95 % of the time."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Reported joints whose confidence is above ``low`` and at most ``high``.

    Attributes:
        low, high: limits; the first bin holds 0 as well.
        count: joints.
        right: how many have the right type, axis (5 deg) and position (5 cm).
        confidence: their mean confidence.
        interval: 95 % interval (Clopper-Pearson) of the share that is right.
    """

    low: float
    high: float
    count: int
    right: int
    confidence: float
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        """Share that is right."""
        return self.right / self.count


def reported(scores: Sequence[ClipScore]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence (n,) of every joint in the results and whether it is right (n,); joints that do not exist are not."""
    matched = [(j.confidence, j.success) for s in scores for j in s.joints if j.found]
    spurious = [(confidence, False) for s in scores for confidence in s.unmatched]
    pairs = np.array([*matched, *spurious], float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1] > 0


def reliability(scores: Sequence[ClipScore], edges: Sequence[float] = EDGES) -> list[Bin]:
    """Bins between ``edges`` that hold any joint."""
    confidence, right = reported(scores)
    place = np.searchsorted(edges, confidence, side="left").clip(1)
    return [
        _bin(confidence[place == i], right[place == i], edges[i - 1], edges[i])
        for i in range(1, len(edges))
        if (place == i).any()
    ]


def sure(scores: Sequence[ClipScore], above: float = SURE) -> Bin | None:
    """All joints of more than ``above`` confidence; None when there are none."""
    confidence, right = reported(scores)
    own = confidence > above
    return _bin(confidence[own], right[own], above, 1.0) if own.any() else None


def _bin(confidence: np.ndarray, right: np.ndarray, low: float, high: float) -> Bin:
    count, hits = len(right), int(right.sum())
    return Bin(low, high, count, hits, float(confidence.mean()), binomial_interval(hits, count))


def binomial_interval(hits: int, count: int, outside: float = 0.05) -> tuple[float, float]:
    """Exact (Clopper-Pearson) interval of a probability from ``hits`` of ``count`` trials."""
    low = float(betaincinv(hits, count - hits + 1, outside / 2)) if hits else 0.0
    high = float(betaincinv(hits + 1, count - hits, 1 - outside / 2)) if hits < count else 1.0
    return low, high


def calibration_table(bins: Sequence[Bin]) -> str:
    """GitHub table of bins."""
    lines = [["confidence", "joints", "mean confidence", "right %", "95 % interval"]]
    for b in bins:
        low, high = (f"{100 * x:.0f}" for x in b.interval)
        share = f"{100 * b.share:.0f}"
        lines.append([f"{b.low:g} to {b.high:g}", str(b.count), f"{b.confidence:.2f}", share, f"{low} to {high}"])
    return markdown_lines(lines)


def sure_line(scores: Sequence[ClipScore], above: float = SURE) -> str:
    """One sentence on the joints of more than ``above`` confidence."""
    own = sure(scores, above)
    if own is None:
        return f"No joint has a confidence above {above:g}."
    low, high = (100 * x for x in own.interval)
    return (
        f"Joints with a confidence above {above:g}: {own.right} of {own.count} are right, {100 * own.share:.1f} % "
        f"(95 % interval {low:.1f} to {high:.1f}; target >= 95)."
    )


def draw_reliability(bins: Sequence[Bin], path: Path) -> None:
    """Draw the share of right joints over their confidence as a PNG, with intervals and the ideal diagonal."""
    chart = Chart(
        f"right joints over confidence, {sum(b.count for b in bins)} joints", (0, 1), (0, 1), "confidence 0 to 1"
    )
    chart.line([0, 1], [0, 1], (190, 190, 190), 1)
    for b in bins:
        chart.line([b.confidence] * 2, b.interval, (180, 90, 20), 1)
        chart.dot(b.confidence, b.share, (180, 90, 20))
        chart.label(f"{b.count}", b.confidence, b.share)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), chart.image)
