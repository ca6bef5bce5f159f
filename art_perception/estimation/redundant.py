"""Parts that nothing needs: what they explain, standing still or another motion explains as well."""

from __future__ import annotations

import numpy as np

from art_perception.estimation.chain import displacements
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import ExplainConfig, Surface, explain, surface_of
from art_perception.estimation.joint_fit import Motion

_REDUNDANT = 0.85  # of what a part's own motion explains, explained by another motion
BETTER = 0.07  # cost by which one explanation of a point must be better than another


def needed(
    dense: DenseWindow, labels: np.ndarray, motions: list[Motion], noise_m: float, test: ExplainConfig
) -> list[int]:
    """Indices of the motions without which their part's surface would stay unexplained.

    While the first joint is still rough, what it leaves unexplained can pass for a part of its own; once refined, the
    first joint (or standing still) explains that surface as well. Or the first is a compromise between two parts that
    are found after it, each of which explains some of it. What others explain best is dropped first, parents never.
    """
    frames = np.arange(0, len(labels), 3)
    surface = surface_of(dense, noise_m, frames)
    part = labels.reshape(len(labels), -1)[surface.frame, surface.pixel]
    D = displacements(motions, len(labels))
    keep = list(range(len(motions)))
    if len(keep) == 1:
        return keep
    own = [surface.subset(part == k + 1) for k in keep]
    good = [as_good(dense, points, D, k + 1, test) for k, points in enumerate(own)]
    while len(keep) > 1:
        leaves = [k for k in keep if len(own[k].frame) and all(motions[j].parent != k for j in keep)]
        doubled = [k for k in leaves if _explained(good[k], keep, without=k) > _REDUNDANT * good[k][k + 1].sum()]
        if not doubled:
            break
        keep.remove(max(reversed(doubled), key=lambda k: sum(_explained(each, keep, without=k) for each in good)))
    return keep


def _explained(good: list[np.ndarray], keep: list[int], without: int) -> int:
    """Of one part's points, how many standing still or one of the motions to ``keep`` explains, but for one."""
    return int(np.any([good[0], *(good[j + 1] for j in keep if j != without)], 0).sum())


def as_good(
    dense: DenseWindow, points: Surface, D: np.ndarray, own: int, test: ExplainConfig, slack: float = BETTER
) -> list[np.ndarray]:
    """For each motion of ``D`` (K, T, 4, 4), which points (n,) it explains, and as well as their ``own``-th does.

    As well means at a cost less than ``slack`` above.
    """
    verdicts = [explain(dense, points, each, test) for each in D]
    most = verdicts[own].cost + slack
    return [(v.refuted <= test.max_refuted) & (v.cost < most) for v in verdicts]
