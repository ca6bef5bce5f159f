"""Whose is a surface that looks the same whether it moves or stands still?

A lens turns into itself, the side of a drawer slides along itself, and no depth image contradicts either reading. Such
a surface goes with what it continues: a harmonic function on the cells of space (Grady, "Random walks for image
segmentation", 2006), 1 where something surely moves and 0 where something surely stands still, that changes most easily
across concave creases, where things are put together (Stein et al., "Object partitioning using local convexity", 2014).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree

from art_perception.geometry.cells import occupied_cells

_REACH = 1.8  # cell edges between neighbours
_CREASE = 0.03  # how strongly cells hold together across a concave crease, next to 1 elsewhere
_CONCAVE = 0.15  # sine of the angle from which on a crease is one
_SWEPT = 0.1  # share of what is seen in a cell that surely moves and makes the cell the part's
_ANCHOR = 1e-3  # how strongly a cell stands still without any reason


def continued(
    points: np.ndarray, normals: np.ndarray, moves: np.ndarray, stands: np.ndarray, open_: np.ndarray, size: float
) -> np.ndarray:
    """Which of the open points (n,) go with the moving part.

    Args:
        points: (n, 3) fixed frame.
        normals: (n, 3) fixed frame, zero where undefined.
        moves: (n,) bool, surely moving.
        stands: (n,) bool, surely standing still.
        open_: (n,) bool, either.
        size: edge of the cells, metres.
    """
    out = np.zeros(len(points), bool)
    if not moves.any() or not open_.any():
        return out
    cells, index = occupied_cells(points, size)
    total, moving, still = (np.bincount(index, w, len(cells)) for w in (None, moves, stands))
    middle = _sums(points, index) / total[:, None]
    facing = _sums(normals, index)
    facing = facing / np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-9)
    known = np.full(len(cells), np.nan)
    known[still > 0.5 * total] = 0
    known[(moving > _SWEPT * total) & (moving > 2 * still)] = 1
    share = _harmonic(known, *_edges(cells, middle, facing))
    return open_ & (share[index] > 0.5)


def _sums(vectors: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sum (m, 3) of the vectors (n, 3) of each index."""
    return np.stack([np.bincount(index, vectors[:, i]) for i in range(3)], -1)


def _edges(cells: np.ndarray, middle: np.ndarray, facing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (m, 2) of neighbouring cells and how strongly (m,) they hold together."""
    pairs = cKDTree(cells).query_pairs(_REACH, output_type="ndarray")
    a, b = pairs.T
    apart = middle[a] - middle[b]
    apart = apart / np.maximum(np.linalg.norm(apart, axis=-1, keepdims=True), 1e-9)
    convex = ((facing[a] - facing[b]) * apart).sum(-1)
    return pairs, np.where(convex < -_CONCAVE, _CREASE, 1.0)


def _harmonic(known: np.ndarray, pairs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (n,) that equal ``known`` where it is not NaN, and elsewhere the weighted mean of their neighbours."""
    n = len(known)
    free = np.isnan(known)
    if not free.any() or not len(pairs):
        return np.nan_to_num(known)
    a, b = pairs.T
    W = coo_matrix((np.r_[weight, weight], (np.r_[a, b], np.r_[b, a])), shape=(n, n)).tocsr()
    L = (diags(np.asarray(W.sum(1)).reshape(-1) + _ANCHOR) - W).tocsr()
    value = np.nan_to_num(known)
    value[free] = spsolve(L[free][:, free].tocsc(), (W[free] @ value))
    return value
