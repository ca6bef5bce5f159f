"""Approximate convex decomposition by cutting along a solid's own flat faces.

Furniture is made of panels, so the best cuts lie on the planes of large faces. Greedy: cut the piece that is furthest
from convex so that as much material as possible ends up in convex pieces and as little air as possible in their hulls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.geometry.mesh import Solid, convex_hull, face_areas, from_manifold, simplified, to_manifold
from art_perception.types import Mesh

CONVEX_AIR = 0.1  # a solid that fills all but this share of its hull, and its roughness, counts as convex
ROUGH_AIR = 0.45  # but never one that leaves more than this share of its hull empty
CRUMB = 0.002  # share of the volume below which a loose bit is dropped
MATERIAL = 4.0  # how much more it matters to free material from non-convex pieces than to free air


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A solid and what is wrong with its hull: nothing if it counts as convex, else its air and its material."""

    solid: Solid
    cost: float


def convex_pieces(mesh: Mesh, max_pieces: int, margin_m: float = 0.002, max_faces: int = 2000) -> tuple[Mesh, ...]:
    """Cover a closed mesh by convex pieces.

    Args:
        mesh: watertight; anything else gives its convex hull as the only piece.
        max_pieces: upper bound of the number of pieces.
        margin_m: cuts stay this far from the flat faces they follow; about the roughness of the mesh.
        max_faces: the mesh is simplified to this many faces first.

    Returns:
        Convex meshes that together cover the mesh up to the simplification; none when the mesh has no volume.
    """
    whole = convex_hull(mesh)
    if not len(whole.faces):
        return ()
    light = simplified(mesh, margin_m / 3, max_faces)
    solid = to_manifold(light)
    if solid.is_empty() or len(light.faces) > 4 * max_faces:  # not closed, or too rough to be taken apart
        return (whole,)
    axes = flat_directions(_normals(light), face_areas(light))
    crumb = CRUMB * solid.volume()
    done: list[_Piece] = []
    waiting = [_piece(solid, margin_m)]
    while waiting:
        worst = max(waiting, key=lambda p: p.cost)
        waiting.remove(worst)
        room = max_pieces - len(done) - len(waiting)
        parts = _best_cut(worst, axes, margin_m, crumb, room) if worst.cost > 0 else None
        waiting += parts or []
        done += [] if parts else [worst]
    hulls = [convex_hull(from_manifold(p.solid)) for p in done]
    return tuple(h for h in hulls if len(h.faces))


def _piece(solid: Solid, margin_m: float) -> _Piece:
    volume, hull = solid.volume(), solid.hull()
    air = max(hull.volume() - volume, 0.0)
    allowed = min(CONVEX_AIR * hull.volume() + margin_m * hull.surface_area(), ROUGH_AIR * hull.volume())
    return _Piece(solid, air + MATERIAL * volume if air > allowed else 0.0)


def flat_directions(normals: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Three orthonormal directions (3, 3) along which most of a surface is flat.

    Args:
        normals: (N, 3) unit normals.
        areas: (N,) area of the surface around each.
    """

    def densest(candidates: np.ndarray) -> np.ndarray:
        some = candidates[np.linspace(0, len(candidates) - 1, min(len(candidates), 200)).astype(int)]
        best = some[((np.abs(some @ normals.T) > 0.98) @ areas).argmax()]
        cosine = normals @ best
        mean = (areas * np.sign(cosine) * (np.abs(cosine) > 0.95)) @ normals
        return mean / np.linalg.norm(mean)

    first = densest(normals[np.argsort(-areas)[:200]])
    across = normals[np.abs(normals @ first) < 0.3]
    second = densest(across) if len(across) else np.linalg.svd(first[None])[2][1]
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def _normals(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    n = np.cross(b - a, c - a)
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12)


def _cut_offsets(mesh: Mesh, axis: np.ndarray, margin_m: float, count: int = 2) -> np.ndarray:
    """Offsets along ``axis`` just above the largest flat faces that look up or down it, and the middle."""
    height, facing, areas = mesh.vertices @ axis, _normals(mesh) @ axis, face_areas(mesh)
    low, high = height.min(), height.max()
    bins = int(np.clip((high - low) / (3 * margin_m), 4, 200))
    offsets = [np.array([(low + high) / 2])]
    for sign in (-1, 1):
        flat = sign * facing > 0.9
        where = height[mesh.faces[flat]].mean(1)
        inner = where - low > 0.05 * (high - low) if sign < 0 else high - where > 0.05 * (high - low)
        area, _ = np.histogram(where[inner], bins, (low, high), weights=areas[flat][inner])
        total = np.histogram(where[inner], bins, (low, high), weights=(areas[flat] * where)[inner])[0]
        best = [i for i in np.argsort(-area)[:count] if area[i] > 0]
        offsets.append(total[best] / area[best] + sign * 1.5 * margin_m)
    return np.concatenate(offsets)


def _best_cut(piece: _Piece, axes: np.ndarray, margin_m: float, crumb_m3: float, max_parts: int) -> list[_Piece] | None:
    """Connected parts of the cheapest cut, without crumbs; None when no cut helps."""
    mesh = from_manifold(piece.solid)
    best: list[_Piece] | None = None
    least = 0.99 * piece.cost
    for axis in axes:
        for offset in _cut_offsets(mesh, axis, margin_m):
            halves = piece.solid.split_by_plane(tuple(axis), float(offset))
            solids = [s for half in halves for s in half.decompose() if s.volume() > crumb_m3]
            if len(solids) > max_parts or sum(s.volume() for s in solids) < 0.95 * piece.solid.volume():
                continue
            parts = [_piece(s, margin_m) for s in solids]
            cost = sum(p.cost for p in parts)
            if cost < least:
                best, least = parts, cost
    return best
