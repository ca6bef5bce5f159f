"""Dense voxel grids: signed fields in, closed meshes out.

A field is negative inside the solid. Its zero level set, surrounded by a layer of outside, is watertight by
construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from art_perception.geometry.mesh import empty_mesh
from art_perception.types import Mesh

Distance = Callable[[np.ndarray], np.ndarray]
"""Signed distance (N,) of points (N, 3) float32, negative inside."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """An axis-aligned grid of sample points.

    Attributes:
        origin: (3,) position of sample (0, 0, 0), metres.
        voxel_m: spacing.
        shape: number of samples along x, y and z.
    """

    origin: np.ndarray
    voxel_m: float
    shape: tuple[int, int, int]

    def positions(self, flat_index: np.ndarray) -> np.ndarray:
        """Return the positions (N, 3) float32 of samples given by their flat index (N,)."""
        index = np.stack(np.unravel_index(flat_index, self.shape), -1)
        return (self.origin + self.voxel_m * index).astype(np.float32)

    def flat_index(self, points: np.ndarray) -> np.ndarray:
        """Return the flat index of the sample nearest to each point (N, 3); points outside the grid are dropped."""
        index = np.round((points - self.origin) / self.voxel_m).astype(np.int64)
        index = index[((index >= 0) & (index < self.shape)).all(-1)]
        return np.ravel_multi_index(tuple(index.T), self.shape)

    def coarser(self, factor: int) -> Grid:
        """Return a grid of ``factor`` times the spacing that covers this one."""
        shape = tuple(int(np.ceil((n - 1) / factor)) + 1 for n in self.shape)
        return Grid(self.origin, self.voxel_m * factor, shape)  # type: ignore[arg-type]


def grid_around(points: np.ndarray, voxel_m: float, margin_m: float) -> Grid:
    """Return the grid that covers ``points`` (N, 3) and ``margin_m`` around them."""
    low, high = points.min(0) - margin_m, points.max(0) + margin_m
    shape = np.ceil((high - low) / voxel_m).astype(int) + 1
    return Grid(low, voxel_m, (int(shape[0]), int(shape[1]), int(shape[2])))


def refine(field: np.ndarray, factor: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Interpolate a field of ``grid.coarser(factor)`` linearly to the ``shape`` of ``grid``."""
    out = field
    for axis, n in enumerate(shape):
        position = np.arange(n) / factor
        low = np.minimum(position.astype(int), out.shape[axis] - 2)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = out.take(low, axis) * (1 - weight) + out.take(low + 1, axis) * weight
    return out


def near_surface(distance: Distance, grid: Grid) -> np.ndarray:
    """Sample a distance field on a grid: exact near its zero, interpolated from coarser grids elsewhere."""
    coarse = grid.coarser(4)
    field = distance(coarse.positions(np.arange(np.prod(coarse.shape)))).reshape(coarse.shape)
    for factor in (2, 1):
        finer = grid.coarser(factor)
        field = refine(field, 2, finer.shape).astype(np.float32)
        near = np.flatnonzero(np.abs(field) < 2 * np.sqrt(3) * finer.voxel_m)
        field.ravel()[near] = distance(finer.positions(near))
    return field


def keep_large(mask: np.ndarray, weight: np.ndarray, min_share: float) -> np.ndarray:
    """Keep the connected components of ``mask`` that hold at least ``min_share`` of the heaviest one's ``weight``."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    mass = np.bincount(labels.ravel(), weight.ravel(), count + 1)
    mass[0] = -1
    return (mass >= max(min_share * mass.max(), 0))[labels]


def tidy(field: np.ndarray, weight: np.ndarray, min_share: float) -> np.ndarray:
    """Remove floating crumbs (by ``weight``) and sealed cavities, which nobody can have seen, from a field."""
    solid = field < 0
    kept = keep_large(solid, weight, min_share)
    field = np.where(solid & ~kept, np.float32(1), field)
    air, _ = ndimage.label(np.pad(~kept, 1, constant_values=True))
    cavity = (~np.pad(kept, 1) & (air != air[0, 0, 0]))[1:-1, 1:-1, 1:-1]
    return np.where(cavity, np.float32(-1), field)


def surface(field: np.ndarray, grid: Grid) -> Mesh:
    """Extract the closed zero level set (marching cubes, Lewiner et al. 2003); empty when nothing is inside."""
    from skimage.measure import marching_cubes

    if not (field < 0).any():
        return empty_mesh()
    padded = np.pad(field, 1, constant_values=max(1.0, float(field.max())))
    vertices, faces, _, _ = marching_cubes(padded, 0.0, allow_degenerate=False)
    used, faces = np.unique(faces, return_inverse=True)  # faces without area are left out, their vertices are not
    return Mesh(grid.origin + grid.voxel_m * (vertices[used] - 1.0), faces.reshape(-1, 3))
