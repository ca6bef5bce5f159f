"""Cubic cells of space that hold points."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

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


def connected_cells(points: np.ndarray, size: float) -> np.ndarray:
    """Index (n,) of the set of touching cells of edge ``size`` that each point (n, 3) lies in."""
    cells, index = occupied_cells(points, size)
    pairs = cKDTree(cells).query_pairs(1.8, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))
    return connected_components(graph, directed=False)[1][index]
