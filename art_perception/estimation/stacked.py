"""Doors one above the other on one hinge line: which is which near the hinge, where their motions are all but equal."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from art_perception.geometry.screw import closest_on_line, on_one_line, screw_of_transform

_LEAST = np.deg2rad(4)  # of a turn, to say about which line
_AGREED = 0.7  # of the evidence, for less against: then a cut across the line tells two parts apart


def cut_apart(points: np.ndarray, best: np.ndarray, costs: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Labels of surface points, parts that turn about one line cut apart where the line is divided between them.

    Two bodies hinge side by side, each on its stretch of the line. The cut is where the points' costs agree most; it
    holds only if nearly all of them do, so a part within another's stretch stays as it is.

    Args:
        points: (n, 3) surface points, fixed frame.
        best: (n,) label of each, 0 static.
        costs: (n, K) how badly every motion explains them.
        displacements: (K, T, 4, 4) of the motions, the static body's first.
    """
    lines = [_line(D) for D in displacements]
    out = best.copy()
    for a, b in combinations(range(1, len(lines)), 2):
        one, other = lines[a], lines[b]
        own = np.flatnonzero((best == a) | (best == b))
        if one is None or other is None or len(own) == 0:
            continue
        axis, passes = other
        if not on_one_line(*one, axis, closest_on_line(points[own].mean(0), passes, axis)):
            continue
        cut = _cut(points[own] @ one[0], costs[own, b] - costs[own, a])
        if cut is not None:
            out[own] = np.where(cut, a, b)
    return out


def _line(D: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Direction and a point of the line about which D (T, 4, 4) turns; None when it hardly turns."""
    widest = np.trace(D[:, :3, :3], axis1=1, axis2=2).argmin()
    axis, origin, angle, _ = screw_of_transform(D[widest])
    return (axis, origin) if angle > _LEAST else None


def _cut(along: np.ndarray, favours: np.ndarray) -> np.ndarray | None:
    """Which points (n,) lie on the first part's side of the best cut, ``favours`` (n,) their evidence for it."""
    order = along.argsort()
    before = np.concatenate([[0], favours[order].cumsum()])
    agreed = 2 * before - before[-1]  # evidence for the first part below the cut, and against it above
    at = int(np.abs(agreed).argmax())
    if abs(agreed[at]) < _AGREED * np.abs(favours).sum() or at in (0, len(order)):
        return None
    below = np.zeros(len(order), bool)
    below[order[:at]] = True
    return below if agreed[at] > 0 else ~below
