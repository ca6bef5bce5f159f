"""The tracker's model: oriented surface samples of every part, and how one depth image sees them.

Coordinates are stored as rows, (3, N) float32, so that every operation of the tracker's inner loop runs over contiguous
memory. Surfels are sorted by part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_perception.types import Mesh, Part, RgbdFrame

MIN_DEPTH_M = 0.05
"""Surfels nearer to the camera than this are not visible."""
MIN_COSINE = 0.15
"""Surfels seen more obliquely than this carry no usable depth."""
_SELF_OCCLUSION_M = 0.01
_BEHIND_M = -1e3  # residual of a pixel known not to be the object


@dataclass(frozen=True, slots=True, eq=False)
class Surfels:
    """Oriented points of an object's surface in the fixed frame at zero joint values.

    Attributes:
        points, normals: (3, N) float32, metres; normals point outwards.
        part: (N,) index of the part, ascending.
        two_sided: (N,) bool, the part's mesh does not tell inside from outside.
        spacing_m: typical distance between neighbours.
    """

    points: np.ndarray
    normals: np.ndarray
    part: np.ndarray
    two_sided: np.ndarray
    spacing_m: float

    def subset(self, index: np.ndarray | slice) -> Surfels:
        """Return the surfels selected by ``index``, which keeps their order."""
        return Surfels(
            self.points[:, index], self.normals[:, index], self.part[index], self.two_sided[index], self.spacing_m
        )

    def posed(self, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move every part k by ``T[k]`` (P, 4, 4): points and normals, (3, N) each."""
        p, n = np.empty_like(self.points), np.empty_like(self.normals)
        T = T.astype(np.float32)
        bounds = np.searchsorted(self.part, np.arange(len(T) + 1))
        for k, (lo, hi) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
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
    points = np.concatenate([s[0] for s in samples], 1).astype(np.float32)
    normals = np.concatenate([s[1] for s in samples], 1).astype(np.float32)
    return Surfels(points, normals, part, two_sided.astype(bool), spacing)


def _corners(mesh: Mesh) -> np.ndarray:
    return np.asarray(mesh.vertices, float).reshape(-1, 3)[np.asarray(mesh.faces, int).reshape(-1, 3)]


def _face_areas(mesh: Mesh) -> np.ndarray:
    a, b, c = _corners(mesh).transpose(1, 0, 2)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def _sample(mesh: Mesh, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and face normals (3, count), area-weighted; barycentric coordinates follow Roberts' R2 sequence."""
    if count == 0:
        return np.zeros((3, 0)), np.zeros((3, 0))
    cumulative = np.cumsum(_face_areas(mesh))
    i = np.arange(count)
    face = np.searchsorted(cumulative, (i + 0.5) / count * cumulative[-1])
    s, t = (i * 0.7548776662466927) % 1, (i * 0.5698402909980532) % 1
    s, t = np.where(s + t > 1, 1 - s, s)[:, None], np.where(s + t > 1, 1 - t, t)[:, None]
    a, b, c = _corners(mesh)[face].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return (a + s * (b - a) + t * (c - a)).T, normal.T


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


class DepthView:
    """One depth image, ready to be compared with posed surfels (all in its optical frame)."""

    def __init__(self, frame: RgbdFrame) -> None:
        self._height, self._width = frame.depth_m.shape
        self._depth = np.ascontiguousarray(frame.depth_m, np.float32).reshape(-1)
        self._mask = None if frame.mask is None else np.ascontiguousarray(frame.mask, bool).reshape(-1)
        self._f = np.array([[frame.K[0, 0]], [frame.K[1, 1]]], np.float32)
        self._c = np.array([[frame.K[0, 2]], [frame.K[1, 2]]], np.float32)

    def _pixels(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest pixels (2, N) float32 and whether they lie inside the image."""
        uv = np.rint(self._f * (p[:2] / np.maximum(p[2], MIN_DEPTH_M)) + self._c)
        inside = (uv[0] >= 0) & (uv[0] < self._width) & (uv[1] >= 0) & (uv[1] < self._height)
        return uv, inside & (p[2] > MIN_DEPTH_M)

    def visible(self, p: np.ndarray, n: np.ndarray, spacing_m: float) -> np.ndarray:
        """Indices of surfels that face the camera, project into the image and are not hidden by other surfels."""
        uv, seen = self._pixels(p)
        seen &= (p * n).sum(0) < -MIN_COSINE * np.sqrt((p * p).sum(0))
        index = np.flatnonzero(seen)
        if not len(index):
            return index
        p, n, uv = p[:, index], n[:, index], uv[:, index]
        cell = max(2.0, 1.5 * spacing_m * float(self._f[0, 0]) / float(np.median(p[2])))
        columns = int(self._width / cell) + 1
        key = (uv[1] / cell).astype(np.int64) * columns + (uv[0] / cell).astype(np.int64)
        return index[~_behind_front(p, n, key)]

    def residuals(self, p: np.ndarray, n: np.ndarray, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance of the measured surface along the surfels' normals, positive towards the camera.

        Args:
            p, n: (3, N) points and normals facing the camera.
            band: (N,) metres, the largest distance that counts as agreement.

        Returns:
            (N,) metres, and (N,) bool whether a depth was measured. Pixels outside the mask are no match: what is
            there is either nearer (an occluder) or free space.
        """
        uv, inside = self._pixels(p)
        pixel = (uv[1] * np.float32(self._width) + uv[0]).astype(np.int64)
        pixel *= inside
        depth = self._depth[pixel] * inside
        ray = (uv - self._c) / self._f * depth
        r = n[0] * (ray[0] - p[0]) + n[1] * (ray[1] - p[1]) + n[2] * (depth - p[2])
        if self._mask is not None:
            r[~self._mask[pixel] & (r < band)] = _BEHIND_M
        return r, depth > 0


def _behind_front(p: np.ndarray, n: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Whether each surfel lies behind the plane of the nearest surfel of its image cell."""
    order = np.argsort(-p[2])
    nearest = np.zeros(key.max() + 1, np.int64)
    nearest[key[order]] = order
    front = nearest[key]
    plane = (n[:, front] * p[:, front]).sum(0) / np.minimum((n[:, front] * p).sum(0), -1e-6)
    return (1 - plane) * p[2] > _SELF_OCCLUSION_M
