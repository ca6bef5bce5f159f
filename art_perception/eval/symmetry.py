"""Rotations that leave a surface where it is, which no view of it can tell from none."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_SAMPLES = 4000
TOLERANCE = 0.005
"""Mean distance, in diagonals, by which the turned surface may be further away than another sample of the surface."""


def half_turns(points: np.ndarray) -> list[np.ndarray]:
    """Half-turns (3, 3) about the centroid that map a surface on itself, whatever its parts are called.

    The axis of such a turn is a principal axis of the surface; where two of these are alike and any pair will do, the
    frame's own axes are tried as well. So a pair of scissors turned over, its halves changing roles, is found. Turns
    that are alike are returned once.

    Args:
        points: (N, 3) samples of the surface.
    """
    a, b = np.array_split(points[np.random.default_rng(0).permutation(len(points))[: 2 * _SAMPLES]], 2)
    middle = points.mean(0)
    tree = cKDTree(b - middle)
    own = tree.query(a - middle)[0].mean()
    found: list[np.ndarray] = []
    for axis in (*np.eye(3), *np.linalg.svd(points - middle, full_matrices=False)[2]):
        turn = 2 * np.outer(axis, axis) - np.eye(3)
        known = any(np.trace(turn.T @ other) > 2.9 for other in found)
        if not known and tree.query((a - middle) @ turn.T)[0].mean() - own < TOLERANCE:
            found.append(turn)
    return found
