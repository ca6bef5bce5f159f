"""What no ray has measured of a part, without a prior: solid, or walls, inside the outline of what was measured.

The outline is the bounding box of what looks like a box, else the convex hull. What rays have passed through is empty.
Where that is a good share of the inside, the part is a hollow body (a cupboard, an oven, a table), and the rest of the
inside, which lies behind its front or in a corner, is taken for empty too, but for a wall along the outline: the
shadows of a single viewpoint are no surfaces.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from art_perception.estimation.free_space import THICKNESS
from art_perception.estimation.measured import Measured, gradients
from art_perception.geometry.convex import flat_directions
from art_perception.geometry.voxels import Grid, refine

BOX_FLAT = 0.85  # share of a box's surface that faces along one of three directions,
BOX_SIDE = 0.05  # and along the second most common of them
STRAY = 1.0  # percent of measured points at either end that do not count for a part's outline
HOLLOW = 0.1  # share of the inside of an outline that must be known to be empty for walls instead of a solid


def outline_fill(
    grid: Grid, measured: Measured, moves: bool, barred: np.ndarray, factor: int, truncation_m: float
) -> np.ndarray:
    """Field of the unmeasured space in truncations, -1 to 1: solid or walls inside the outline of what was measured.

    Args:
        grid: of the part.
        measured: what the depth images say about it.
        moves: places count as often as they were seen: what a part shows in few frames is more often a wrong label
            than, as of a body behind doors, a sight that is rare.
        barred: on ``grid.coarser(factor)``, in truncations: positive where the part cannot be.
        factor: of the coarser grid.
        truncation_m: width of the measured band, metres.
    """
    points = grid.positions(measured.confirmed)
    counts = measured.sightings if moves else np.ones(len(points))
    planes = _outline(points, counts, _cell_normals(measured.field, measured.confirmed))
    if not len(planes):  # one flat layer of cells
        return np.ones(grid.shape, np.float32)
    coarse = grid.coarser(factor)
    places = coarse.positions(np.arange(np.prod(coarse.shape)))
    outside = _distance_outside(planes, places).reshape(coarse.shape) / truncation_m
    fill = refine(np.maximum(outside, barred), factor, grid.shape)
    away = _distance_to(points, coarse) / truncation_m
    if _is_hollow(outside, away, barred, coarse.voxel_m / truncation_m):
        wall, behind = (refine(field, factor, grid.shape) - THICKNESS for field in (-outside, away))
        fill = np.maximum(fill, np.minimum(wall, behind))
    return np.clip(fill, -1, 1)


def _is_hollow(outside: np.ndarray, away: np.ndarray, barred: np.ndarray, cell: float) -> bool:
    """Whether much of the inside is known to be empty; ``cell``, the size of the grid's cells, counts as border."""
    inside = outside < -1.5 * cell
    return bool((barred[inside & (away > 1.5 * cell)] > 0).sum() > HOLLOW * inside.sum())


def _distance_to(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Distance, metres, of the grid's samples to the nearest one that holds any of the points (N > 0, 3)."""
    empty = np.ones(grid.shape, bool)
    empty.ravel()[grid.flat_index(points)] = False
    return (grid.voxel_m * ndimage.distance_transform_edt(empty)).astype(np.float32)


def _cell_normals(field: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Normals (N, 3) of the surface at those ``cells`` (flat indices) whose neighbours are measured."""
    gradient = gradients(field, cells)
    gradient = gradient[np.isfinite(gradient).all(-1)]
    return gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-9)


def _outline(measured: np.ndarray, counts: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Planes (P, 4) around measured points: the bounding box of what looks like a box, else the convex hull.

    Points of the outermost ``STRAY`` percent along each of three directions are not trusted: few wrong labels would
    make a balloon of a door.
    """
    if len(normals) > 50:
        sample = normals[:: max(1, len(normals) // 2000)]
        axes = flat_directions(sample, np.ones(len(sample)))
        along = np.abs(sample @ axes.T) > 0.9
        low, high = np.percentile(
            measured @ axes.T, [STRAY, 100 - STRAY], axis=0, weights=counts, method="inverted_cdf"
        )
        if along.any(-1).mean() > BOX_FLAT and np.sort(along.mean(0))[1] > BOX_SIDE:
            return np.block([[axes, -high[:, None]], [-axes, low[:, None]]]).astype(np.float32)
        measured = measured[((measured @ axes.T >= low) & (measured @ axes.T <= high)).all(-1)]
    if not len(measured):
        return np.zeros((0, 4), np.float32)
    try:
        planes = ConvexHull(measured).equations.astype(np.float32)
    except QhullError:
        return np.zeros((0, 4), np.float32)
    return np.unique(planes.round(3), axis=0)


def _distance_outside(planes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Largest signed distance (N,) of points to any of the planes (P > 0): negative inside."""
    out = np.full(len(points), -np.inf, np.float32)
    for block in np.array_split(planes, max(1, len(planes) // 16)):
        np.maximum(out, (points @ block[:, :3].T + block[:, 3]).max(-1), out=out)
    return out
