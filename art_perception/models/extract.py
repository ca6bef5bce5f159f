"""Meshes of decoded parts: signed fields evaluated near their surface alone, closed and without crumbs."""

from __future__ import annotations

import numpy as np
import torch

from art_perception.geometry.mesh import empty_mesh
from art_perception.geometry.voxels import Distance, Grid, grid_around, near_surface, surface, tidy
from art_perception.models.kinematic_vae import KinematicVae, Shape
from art_perception.types import Mesh

HALF = 0.56
"""Half side of the cube that holds any object: with a diagonal of 1, none reaches further than 0.5 from the middle."""

_COARSE = 32
_CHUNK = 1 << 16
_GAP = 0.004  # between parts, units


@torch.no_grad()
def extract_part(model: KinematicVae, shape: Shape, b: int, k: int, resolution: int = 128) -> Mesh:
    """Mesh of part k of the b-th decoded object, in its rest frame: canonical units, closed, in one to few pieces.

    The grid has ``resolution`` samples along the part's longest side. Pieces of less than 5 % of the largest one's
    area are removed; the mesh is empty when the field is positive everywhere.
    """
    return mesh_of_field(_field(model, shape, b, k), resolution)


@torch.no_grad()
def extract_parts(model: KinematicVae, shape: Shape, b: int, resolution: int = 128) -> tuple[Mesh, ...]:
    """Meshes of all parts of the b-th decoded object as :func:`extract_part` gives them, but none inside another.

    The fields of two parts may overlap, a door's and its frame's say. What a moving part claims is its own: the base
    is carved, so that a drawer has its bay.
    """
    count = int(shape.present[b].sum())
    moving = [extract_part(model, shape, b, k, resolution) for k in range(1, count)]
    base = _field(model, shape, b, 0)
    for k, mesh in enumerate(moving, 1):
        if len(mesh.vertices):
            base = _carved(base, _field(model, shape, b, k), mesh)
    return mesh_of_field(base, resolution), *moving


def _field(model: KinematicVae, shape: Shape, b: int, k: int) -> Distance:
    """Signed distance to part k of the b-th object, of points in its rest frame."""
    part = torch.tensor([b * shape.present.shape[1] + k], device=shape.present.device)

    def distance(points: np.ndarray) -> np.ndarray:
        chunks = torch.from_numpy(points).to(part.device).split(_CHUNK)
        return torch.cat([model.part_distance(shape, part, c[None])[0] for c in chunks]).cpu().numpy()

    return distance


def _carved(base: Distance, part: Distance, mesh: Mesh) -> Distance:
    """The base's field without what the part, whose surface is ``mesh``, fills."""
    low, high = mesh.vertices.min(0) - _GAP, mesh.vertices.max(0) + _GAP

    def distance(points: np.ndarray) -> np.ndarray:
        out = base(points)
        near = np.flatnonzero(((points > low) & (points < high)).all(1))
        if len(near):
            out[near] = np.maximum(out[near], _GAP - part(points[near]))
        return out

    return distance


def mesh_of_field(distance: Distance, resolution: int) -> Mesh:
    """Zero level set of a distance field inside the canonical unit cube."""
    overview = Grid(np.full(3, -HALF), 2 * HALF / (_COARSE - 1), (_COARSE,) * 3)
    everywhere = np.arange(_COARSE**3)
    near = np.abs(distance(overview.positions(everywhere))) < overview.voxel_m
    if not near.any():
        return empty_mesh()
    around = overview.positions(everywhere[near])
    voxel = float(np.ptp(around, axis=0).max()) / (resolution - 1)
    grid = grid_around(around, voxel, overview.voxel_m)
    field = near_surface(distance, grid)
    return surface(tidy(field, (np.abs(field) < voxel).astype(float), 0.05), grid)
