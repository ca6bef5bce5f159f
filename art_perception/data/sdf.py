"""Signed distances of surfaces that need not be closed: triangle soups, overlapping solids, sheets without thickness.

Inside is what air from far away cannot reach. The air is a flood fill on a voxel grid; within a few voxels of the
surface, where voxels are too coarse, a point is outside when short rays from it get to that air without meeting the
surface. Distances are exact and go to the outer triangles alone: those that some air touches. A sheet, or a plate
thinner than one, gets the thickness that marching cubes can still find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from art_perception.data.model import Surface
from art_perception.errors import ObjectError
from art_perception.geometry.voxels import Grid, grid_around

_NEAR, _REACH, _STEP = 3.0, 6.0, 0.75  # voxels


@dataclass(frozen=True, slots=True)
class SdfConfig:
    """How inside and outside are told apart; lengths in the units of the surface."""

    voxels: int = 128
    """Voxels along the longest side."""
    rays: int = 16
    """Rays per examined point."""
    half_sheet: float = 0.004
    """Half the thickness given to what is thinner than this."""


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """The closed body a surface stands for.

    Attributes:
        points: (N, 3) on its outside, evenly by area.
        normals: (N, 3) unit, outwards.
        sheet: (F,) bool, outer triangles that are thickened.
        whole, outer: Open3D ray casting scenes of all triangles and of the outer ones.
        grid, air: voxels and which of them (X, Y, Z) air reaches.
        config: how it was made.
    """

    points: np.ndarray
    normals: np.ndarray
    sheet: np.ndarray
    whole: Any
    outer: Any
    grid: Grid
    air: np.ndarray
    config: SdfConfig

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance of points (N, 3) to the closed body: (N,) float32, negative inside."""
        found = self.outer.compute_closest_points(_tensor(points))
        distance = np.linalg.norm(found["points"].numpy() - points, axis=1)
        outside = self.is_outside(points)
        thick = self.config.half_sheet * self.sheet[found["primitive_ids"].numpy()]
        return (np.where(outside, distance, -distance) - thick).astype(np.float32)

    def is_outside(self, points: np.ndarray) -> np.ndarray:
        """Whether air reaches points (N, 3): (N,) bool."""
        near = self.whole.compute_distance(_tensor(points)).numpy() < _NEAR * self.grid.voxel_m
        outside = _in_air(self.grid, self.air, points)
        outside[near] = _escapes(self.whole, self.grid, self.air, points[near], self.config.rays)
        return outside


def solid_of(surface: Surface, probes: int, config: SdfConfig, rng: np.random.Generator) -> Solid:
    """Find the closed body of a surface.

    Args:
        surface: triangles, open or closed, either way round.
        probes: points on it whose two sides are examined; those that see air become the body's points.
        config: how.
        rng: randomness.

    Raises:
        ObjectError: the surface has no area that air can touch.
    """
    if surface.areas.sum() <= 0:
        raise ObjectError("a part has no surface: choose another object, or freeze its joint")
    grid, air = _flooded(surface, config, rng)
    whole = _scene(surface)
    face, points, normals = _probes(surface, probes, rng)
    up, down = (
        _escapes(whole, grid, air, points + side * config.half_sheet * normals, config.rays) for side in (1, -1)
    )
    touched = up | down
    keep = np.unique(face[touched])
    if not len(keep):
        raise ObjectError("no side of a part can be seen from outside: its mesh is broken, choose another object")
    thin = np.bincount(face, up & down, len(surface.faces)) > 0.5 * np.bincount(face, touched, len(surface.faces))
    outer = Surface(surface.vertices, surface.faces[keep], surface.material[keep])
    sign = np.where(up & down, rng.choice([-1.0, 1.0], len(face)), np.where(up, 1.0, -1.0))[:, None]
    on_plate = thin[face][:, None] * config.half_sheet
    outwards = sign * normals
    drawn = touched & (np.arange(len(face)) >= len(surface.faces))  # the probes before are not spread by area
    return Solid(
        (points + on_plate * outwards)[drawn], outwards[drawn], thin[keep], whole, _scene(outer), grid, air, config
    )


def _flooded(surface: Surface, config: SdfConfig, rng: np.random.Generator) -> tuple[Grid, np.ndarray]:
    """Voxels, and which of them air reaches; slits narrower than about two voxels are sealed."""
    used = surface.vertices[np.unique(surface.faces)]
    voxel = float(np.ptp(used, axis=0).max()) / config.voxels
    grid = grid_around(used, voxel, 4 * voxel)
    points, _ = surface.sample(int(8 * surface.areas.sum() / voxel**2) + 1000, rng)
    solid = np.zeros(grid.shape, bool)
    solid.ravel()[grid.flat_index(points)] = True
    regions, _ = ndimage.label(~ndimage.binary_dilation(solid))
    return grid, regions == regions[0, 0, 0]


def _probes(surface: Surface, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces (N,), points (N, 3) and normals (N, 3) to examine: the centre of every face, then ``count`` by area."""
    a, b, c = (surface.vertices[surface.faces[:, i]] for i in range(3))
    share = surface.areas / surface.areas.sum()
    face = np.concatenate([np.arange(len(a)), rng.choice(len(a), count, p=share)])
    u, v = rng.random((2, len(face), 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    u[: len(a)] = v[: len(a)] = 1 / 3
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)
    return face, a[face] + u * (b - a)[face] + v * (c - a)[face], normals[face]


def _escapes(whole: Any, grid: Grid, air: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    """Whether at least two of ``count`` rays from points (N, 3) get to the air before they meet the surface."""
    if not len(points):
        return np.zeros(0, bool)
    directions = _sphere(count)
    packed = np.empty((len(points), count, 6), np.float32)
    packed[..., :3], packed[..., 3:] = points[:, None], directions
    free = whole.cast_rays(_tensor(packed))["t_hit"].numpy()
    arrived = np.zeros((len(points), count), bool)
    for step in np.arange(_STEP, _REACH + _STEP, _STEP) * grid.voxel_m:
        todo = (free > step) & ~arrived
        rows, rays = np.nonzero(todo)
        arrived[rows, rays] = _in_air(grid, air, points[rows] + step * directions[rays])
    return arrived.sum(1) >= 2


def _sphere(count: int) -> np.ndarray:
    """Directions (count, 3) spread evenly (Fibonacci lattice), turned out of the axes that furniture likes."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z**2)
    return np.column_stack([r * np.cos(turn), r * np.sin(turn), z])


def _in_air(grid: Grid, air: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Look points (N, 3) up in the flooded voxels; everything beyond the grid is air."""
    index = np.round((points - grid.origin) / grid.voxel_m).astype(int)
    inside = ((index >= 0) & (index < grid.shape)).all(1)
    x, y, z = np.where(inside[:, None], index, 0).T
    return ~inside | air[x, y, z]


def _tensor(array: np.ndarray) -> Any:
    import open3d as o3d

    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(array, np.float32))


def _scene(surface: Surface) -> Any:
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    faces = o3d.core.Tensor.from_numpy(np.ascontiguousarray(surface.faces, np.uint32))
    scene.add_triangles(_tensor(surface.vertices), faces)
    return scene
