"""The tracker's model: oriented, coloured surface samples of every part.

Coordinates are stored as rows, (3, N) float32, so that every operation of the tracker's inner loop runs over contiguous
memory. Surfels are sorted by part.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from art_perception.types import Mesh, Part


@dataclass(frozen=True, slots=True, eq=False)
class Surfels:
    """Oriented points of an object's surface in the fixed frame at zero joint values.

    Attributes:
        points, normals: (3, N) float32, metres; normals point outwards.
        part: (N,) index of the part, ascending.
        colors: (3, N) float32, 0 to 255, negative where the mesh has none.
        two_sided: (N,) bool, the part's mesh does not tell inside from outside.
        spacing_m: typical distance between neighbours.
    """

    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    part: np.ndarray
    two_sided: np.ndarray
    spacing_m: float

    def subset(self, index: np.ndarray | slice) -> Surfels:
        """Return the surfels selected by ``index``, which keeps their order."""
        points, normals, colors = self.points[:, index], self.normals[:, index], self.colors[:, index]
        return Surfels(points, normals, colors, self.part[index], self.two_sided[index], self.spacing_m)

    def every(self, step: int) -> Surfels:
        """Return every ``step``-th surfel."""
        thin = self.subset(slice(None, None, step))
        return replace(thin, spacing_m=self.spacing_m * step**0.5)

    def posed(self, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move every part k by ``T[k]`` (P, 4, 4): points and normals, (3, N) each."""
        p, n = np.empty_like(self.points), np.empty_like(self.normals)
        T = T.astype(np.float32)
        bounds = np.searchsorted(self.part, np.arange(len(T) + 1))
        for k, (lo, hi) in enumerate(itertools.pairwise(bounds)):
            if lo < hi:
                np.matmul(T[k, :3, :3], self.points[:, lo:hi], out=p[:, lo:hi])
                np.matmul(T[k, :3, :3], self.normals[:, lo:hi], out=n[:, lo:hi])
                p[:, lo:hi] += T[k, :3, 3:]
        if self.two_sided.any():
            n[:, self.two_sided & ((p * n).sum(0) > 0)] *= -1
        return p, n


def sample_surfels(parts: Sequence[Part], per_part: int) -> Surfels:
    """Spread about ``per_part * len(parts)`` samples over the visual meshes, half evenly by part and half by area.

    Parts without faces get none. The samples are deterministic and evenly spaced (a low-discrepancy sequence).
    """
    areas = np.array([_face_areas(p.visual).sum() for p in parts])
    total = max(areas.sum(), 1e-12)
    share = np.where(areas > 0, 0.5 / max((areas > 0).sum(), 1) + 0.5 * areas / total, 0)
    counts = np.round(share * per_part * (areas > 0).sum()).astype(int)
    samples = [_sample(p.visual, n) for p, n in zip(parts, counts, strict=True)]
    part = np.repeat(np.arange(len(parts)), counts)
    two_sided = np.repeat([not _is_closed(p.visual) for p in parts], counts)
    spacing = float(np.sqrt(total / max(counts.sum(), 1)))
    points, normals, colors = (np.concatenate(x, 1).astype(np.float32) for x in zip(*samples, strict=True))
    return Surfels(points, normals, colors, part, two_sided.astype(bool), spacing)


def _corners(mesh: Mesh) -> np.ndarray:
    return np.asarray(mesh.vertices, float).reshape(-1, 3)[np.asarray(mesh.faces, int).reshape(-1, 3)]


def _face_areas(mesh: Mesh) -> np.ndarray:
    a, b, c = _corners(mesh).transpose(1, 0, 2)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def _sample(mesh: Mesh, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, face normals and colours (3, count), weighted by area and spread by Roberts' R2 sequence."""
    if count == 0:
        return np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((3, 0))
    cumulative = np.cumsum(_face_areas(mesh))
    i = np.arange(count)
    face = np.searchsorted(cumulative, (i + 0.5) / count * cumulative[-1])
    s, t = (i * 0.7548776662466927) % 1, (i * 0.5698402909980532) % 1
    s, t = np.where(s + t > 1, 1 - s, s), np.where(s + t > 1, 1 - t, t)
    weights = np.stack([1 - s - t, s, t], 1)
    corners = _corners(mesh)[face]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    color = np.full((count, 3, 3), -1.0) if mesh.colors is None else mesh.colors[mesh.faces[face]].astype(float)
    return np.einsum("nk,nkd->dn", weights, corners), normal.T, np.einsum("nk,nkd->dn", weights, color)


def _is_closed(mesh: Mesh) -> bool:
    """Every edge is used once in each direction (vertices at the same place count as one) and volume is positive."""
    corners = _corners(mesh)
    if not len(corners):
        return True
    _, faces = np.unique(corners.reshape(-1, 3).round(6), axis=0, return_inverse=True)
    faces = faces.reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    edges = np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2)
    key, reverse = edges @ [len(faces) * 3, 1], edges[:, ::-1] @ [len(faces) * 3, 1]
    volume = np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return bool(volume > 0 and np.array_equal(np.sort(key), np.sort(reverse)))
