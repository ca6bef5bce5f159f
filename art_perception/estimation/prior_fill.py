"""A completed shape as the fill of what no ray measured, bent so that it meets the measured surface.

A prior is rarely exact. Where it was measured, the distance between the prior's surface and the measured one says how
far the prior is off; a smooth field of displacements carries that into its surroundings: a shift of the whole by the
large scale, of the border of the measured surface by the small one. So a board keeps its thickness, and the filled
surface continues the measured one without a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from art_perception.bounds import bounded
from art_perception.estimation.measured import Oriented
from art_perception.geometry.voxels import Distance, Grid, near_surface, surface

Prior = Callable[[int, np.ndarray], np.ndarray]
"""Signed distance (N,) metres, negative inside, of points (N, 3) in the fixed frame at zero joint values to a part.

Parts are numbered like labels: 0 the static body, k the child of ``joints[k - 1]``. What the prior does not know is
far away from everything.
"""


@dataclass(frozen=True, slots=True)
class PriorFillConfig:
    """How a shape prior completes what was measured."""

    reach: float = bounded(0.5, 0.0, 10.0)
    """How far the prior may add to an object, in diagonals of its measured points."""
    overview_cells: int = bounded(96, 8, 1000)
    """Samples along the longest side when the prior's extent is looked for."""
    max_shift: float = bounded(0.08, 0.0, 1.0)
    """Largest distance to the measured surface that is bent away, in diagonals; further off the prior stays."""
    usual_gap: float = bounded(0.015, 1e-4, 1.0)
    """Distance to the measured surface, in diagonals, beyond which a place counts less and less: few places that are
    far off have a wrong label, many are a prior that is off."""
    scales: tuple[float, ...] = bounded((0.5, 0.15, 0.05), 1e-3, 10.0)
    """Widths of the displacements, in diagonals, one after the other."""
    normal_weight: float = bounded(0.1, 0.0, 100.0)
    """What a difference of normals by 1 counts when surfaces are compared, in diagonals."""
    samples: int = bounded(20_000, 100, 10_000_000)
    """Most measured places that are compared with the prior."""
    min_agreement: float = bounded(0.85, 0.0, 1.0)
    """Share of a part's measured surface that the prior must have nearby, or it is not used for that part."""
    stiffness: float = bounded(0.02, 0.0, 100.0)
    """Evidence for no displacement, in shares of that from all measured places."""


def extent(distance: Distance, object_points: np.ndarray, config: PriorFillConfig) -> np.ndarray:
    """Places (N, 3) on or inside a prior's surface, coarsely, no further from the object's points than ``reach``."""
    low, high = object_points.min(0), object_points.max(0)
    margin = config.reach * float(np.linalg.norm(high - low))
    voxel = (float((high - low).max()) + 2 * margin) / config.overview_cells
    low, high = low - margin, high + margin
    x, y, z = (np.ceil((high - low) / voxel).astype(int) + 1).tolist()
    grid = Grid(low, voxel, (x, y, z))
    field = near_surface(distance, grid)
    return grid.positions(np.flatnonzero(field < 0.5 * voxel))


@dataclass(frozen=True, slots=True, eq=False)
class Bent:
    """A prior bent to the measured surface.

    Attributes:
        field: (X, Y, Z) distance on a grid, metres.
        agreement: share of the measured surface that has one of the prior nearby, facing the same way; 1 when nothing
            was measured.
    """

    field: np.ndarray
    agreement: float


def bent_field(distance: Distance, grid: Grid, measured: Oriented, size_m: float, config: PriorFillConfig) -> Bent:
    """Sample a prior on a grid and bend it so that its surface meets the measured one.

    Args:
        distance: to the prior, metres.
        grid: where it is wanted.
        measured: the surface to be met; nothing is bent without.
        size_m: diagonal of the object, what the settings refer to.
        config: settings.
    """
    field = near_surface(distance, grid)
    if not len(measured.points):
        return Bent(field, 1.0)
    mesh = surface(field, grid)
    if not len(mesh.vertices):
        return Bent(field, 0.0)
    own = Oriented(mesh.vertices, _normals_at(field, grid, mesh.vertices))
    step = -(-len(measured.points) // config.samples)
    places = Oriented(measured.points[::step], measured.normals[::step])
    agreement = float(np.isfinite(_gaps(places, own, size_m, config)).mean())
    coarse = grid.coarser(4)
    shift = np.zeros((3, *coarse.shape), np.float32)
    for scale in config.scales:
        moved = Oriented(own.points + _at(shift, coarse, own.points).T, own.normals)
        gap = _gaps(places, moved, size_m, config)
        weight = (1 + (gap / (config.usual_gap * size_m)) ** 2) ** -2.0
        shift = shift + _smooth_shift(places, gap, weight, coarse, scale * size_m, config.stiffness)
    return Bent(near_surface(lambda x: distance((x - _at(shift, coarse, x).T).astype(np.float32)), grid), agreement)


def _gaps(places: Oriented, surface_points: Oriented, size_m: float, config: PriorFillConfig) -> np.ndarray:
    """How far (N,) along its normal each measured place lies before the prior's surface; NaN where too far."""
    weight = config.normal_weight * size_m
    tree = cKDTree(np.hstack([surface_points.points, weight * surface_points.normals]))
    _, nearest = tree.query(np.hstack([places.points, weight * places.normals]))
    apart = places.points - surface_points.points[nearest]
    fits = np.linalg.norm(apart, axis=-1) < config.max_shift * size_m
    fits &= (places.normals * surface_points.normals[nearest]).sum(-1) > 0.5
    return np.where(fits, (apart * places.normals).sum(-1), np.nan)


def _smooth_shift(
    places: Oriented, gap: np.ndarray, weight: np.ndarray, grid: Grid, sigma_m: float, stiffness: float
) -> np.ndarray:
    """Displacements (3, X, Y, Z) on a grid that close the gaps (N,) nearby, by local least squares.

    A gap tells the displacement along one normal alone: ``sum w (n u - gap)^2 + e |u|^2`` is least at every sample,
    w being the ``weight`` (N,) of a place and a Gaussian of its distance.
    """
    known = np.isfinite(gap)
    n, gap, weight = places.normals[known], gap[known], weight[known, None]
    index = grid.flat_index(places.points[known])
    terms = weight * np.concatenate([n[:, [0, 0, 0, 1, 1, 2]] * n[:, [0, 1, 2, 1, 2, 2]], n * gap[:, None]], 1)
    count = int(np.prod(grid.shape))
    sigma = sigma_m / grid.voxel_m
    sums = np.stack([np.bincount(index, t, count).reshape(grid.shape) for t in terms.T])
    sums = np.stack([ndimage.gaussian_filter(s, sigma, mode="constant") for s in sums]).reshape(9, -1).T
    A = sums[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    trace = np.trace(A, axis1=1, axis2=2)
    u = np.linalg.solve(A + (stiffness * trace.max() + 1e-12) * np.eye(3), sums[:, 6:, None])[..., 0]
    return u.T.reshape(3, *grid.shape).astype(np.float32)


def _at(field: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """Values (C, N) of a field (C, X, Y, Z) at points (N, 3), linear, constant beyond the grid."""
    index = ((points - grid.origin) / grid.voxel_m).T
    return np.stack([ndimage.map_coordinates(f, index, order=1, mode="nearest") for f in field])


def _normals_at(field: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """Unit gradient (N, 3) of a field at points (N, 3)."""
    gradient = _at(np.stack(np.gradient(field)), grid, points).T
    return gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-9)
