"""Cubic cells of space that hold points."""

from __future__ import annotations

import numpy as np

_TABLE = 1 << 25  # cells of a bounding box for which a table is quicker than sorting


def occupied_cells(points: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Cells of edge ``size`` that hold points (n, d) of the plane or of space.

    Returns:
        The cells (m, d) int64 in lexicographic order, and which of them (n,) holds each point.
    """
    cells = np.floor(points / size).astype(np.int64)
    if len(cells) == 0:
        return cells, np.zeros(0, np.int64)
    low = cells.min(0)
    span = cells.max(0) - low + 1
    key = np.ravel_multi_index(tuple((cells - low).T), tuple(span))
    used, index = _distinct(key, int(np.prod(span)))
    return np.stack(np.unravel_index(used, tuple(span)), -1) + low, index


def _distinct(key: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct values (m,) of keys (n,) in [0, span), and which of them each key is.

    The same as ``np.unique`` with its inverse, without sorting where a table of all possible keys is small.
    """
    if span > max(_TABLE, 4 * len(key)):
        return np.unique(key, return_inverse=True)
    present = np.zeros(span, bool)
    present[key] = True
    used = np.flatnonzero(present)
    place = np.empty(span, np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    return used, place[key]
