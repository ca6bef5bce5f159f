"""Room to move: convex pieces of a moving part and of its base are cut back until nothing is in the way.

A shape prior knows no contact, and hulls hold air: a door may run through its frame, a drawer through the wall of its
bay. Cutting a convex piece by a plane leaves it convex, so pieces are trimmed, never taken apart again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from art_perception.geometry.lie import exp_se3, inverse, transform
from art_perception.geometry.mesh import convex_hull, signed_volume
from art_perception.geometry.screw import twist_of_joint
from art_perception.types import Joint, Mesh, Part

ALLOWED_M = 0.0015
"""How deep pieces may still reach into each other."""
_STATES = 97  # of a joint, from limit to limit
_DIRECTIONS = 4  # tried on either side, the shallowest ones first
_MOST_CUTS = 200  # of a pair
_PARALLEL = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class _Overlap:
    """Where two pieces interpenetrate.

    Attributes:
        normal: (D, 3) unit, from the base's piece to the moving one, in the base's frame.
        top: (D,) how far the base's piece reaches along it.
        depth: (D,) how far beyond the moving piece's begin that is, metres.
        T: (4, 4) displacement of the moving piece.
    """

    normal: np.ndarray
    top: np.ndarray
    depth: np.ndarray
    T: np.ndarray


def with_room(parts: Sequence[Part], joints: Sequence[Joint]) -> tuple[Part, ...]:
    """The parts of an object with collision pieces that do not hinder any joint, each clear of the part it hangs on.

    Args:
        parts: of a base and then of the child of every joint, at joint values 0.
        joints: of the object, parents first.
    """
    index = {part.name: k for k, part in enumerate(parts)}
    pieces = [part.collision for part in parts]
    for joint in joints:
        i, j = index[joint.parent], index[joint.child]
        pieces[i], pieces[j] = cleared(pieces[i], pieces[j], twist_of_joint(joint), np.array(joint.limits))
    return tuple(replace(part, collision=own) for part, own in zip(parts, pieces, strict=True))


def cleared(
    base: tuple[Mesh, ...], moving: tuple[Mesh, ...], twist: np.ndarray, limits: np.ndarray
) -> tuple[tuple[Mesh, ...], tuple[Mesh, ...]]:
    """Trim convex pieces so that the moving ones pass the base's from limit to limit of their joint.

    Of all cuts that free a pair where it is worst, the one that takes the least share of its part is made, on
    either side; what is left of a piece may be nothing.

    Args:
        base: convex pieces, metres.
        moving: convex pieces at joint value 0, same frame.
        twist: (6,) unit twist ``[v, w]`` of the joint.
        limits: (2,) of its values, rad or m.

    Returns:
        The pieces of both, trimmed.
    """
    D = exp_se3(np.linspace(limits[0], limits[1], _STATES)[:, None] * twist)
    fixed, free = list(base), list(moving)
    whole = tuple(sum(signed_volume(piece) for piece in pieces) for pieces in (base, moving))
    for i in range(len(fixed)):
        for j in range(len(free)):
            fixed[i], free[j] = _pair_cleared(fixed[i], free[j], D, whole)
    return _filled(fixed), _filled(free)


def _filled(pieces: list[Mesh]) -> tuple[Mesh, ...]:
    return tuple(piece for piece in pieces if len(piece.faces))


def _pair_cleared(fixed: Mesh, free: Mesh, D: np.ndarray, whole: tuple[float, ...]) -> tuple[Mesh, Mesh]:
    """Cut a pair back until it overlaps by less than what is allowed at every displacement D (S, 4, 4).

    ``whole`` are the volumes of the base and of the moving part: a door matters as much as the cabinet.
    """
    for _ in range(_MOST_CUTS):
        overlap = _deepest(fixed, free, D) if len(fixed.faces) and len(free.faces) else None
        if overlap is None:
            break
        fixed, free = _cheapest_cut(fixed, free, overlap, whole)
    return fixed, free


def _deepest(fixed: Mesh, free: Mesh, D: np.ndarray) -> _Overlap | None:
    """The overlap of two convex pieces where it is deepest; None where it is allowed at all displacements.

    Depths are those along the normals of both pieces' faces: never less than the true one.
    """
    D = D[_close(fixed, free, D)]
    if not len(D):
        return None
    R, t = D[:, :3, :3], D[:, :3, 3]
    up, down = _normals(fixed), -_normals(free) @ R.transpose(0, 2, 1)
    normal = np.concatenate([np.broadcast_to(up, (len(D), *up.shape)), down], 1)
    top = (normal @ fixed.vertices.T).max(-1)
    bottom = (normal @ R @ free.vertices.T).min(-1) + (normal @ t[..., None])[..., 0]
    depth = top - bottom
    s = int(depth.min(1).argmax())
    if depth[s].min() <= ALLOWED_M:
        return None
    return _Overlap(normal[s], top[s], depth[s], D[s])


def _close(fixed: Mesh, free: Mesh, D: np.ndarray) -> np.ndarray:
    """At which displacements (S,) the bounding boxes overlap."""
    points = transform(D, free.vertices)
    return ((points.min(1) < fixed.vertices.max(0)) & (points.max(1) > fixed.vertices.min(0))).all(-1)


def _normals(piece: Mesh) -> np.ndarray:
    """Outward normals (F, 3) of the faces, one of many that are almost parallel."""
    a, b, c = (piece.vertices[piece.faces[:, i]] for i in range(3))
    n = np.cross(b - a, c - a)
    area = np.linalg.norm(n, axis=1)
    n = n[np.argsort(-area)] / np.maximum(np.sort(area)[::-1], 1e-15)[:, None]
    first = (n @ n.T > _PARALLEL).argmax(0) == np.arange(len(n))
    return n[first]


def _cheapest_cut(fixed: Mesh, free: Mesh, overlap: _Overlap, whole: tuple[float, ...]) -> tuple[Mesh, Mesh]:
    """The pair after the cut, of either piece, that ends the overlap and takes the least share of its part."""
    T_free = inverse(overlap.T)
    best, least = (fixed, free), np.inf
    for k in np.argsort(overlap.depth)[:_DIRECTIONS]:
        n, top, depth = overlap.normal[k], overlap.top[k], overlap.depth[k]
        slack = 0.5 * ALLOWED_M  # so that the next state does not ask for another sliver
        lower = below(fixed, n, top - depth + slack)
        own = -T_free[:3, :3] @ n
        upper = below(free, own, -(top - slack) + own @ T_free[:3, 3])
        for pair in ((lower, free), (fixed, upper)):
            lost = (signed_volume(a) - signed_volume(b) for a, b in zip((fixed, free), pair, strict=True))
            share = sum(volume / total for volume, total in zip(lost, whole, strict=True))
            if share < least:
                best, least = pair, share
    return best


def below(piece: Mesh, normal: np.ndarray, offset: float) -> Mesh:
    """The part of a convex piece where ``normal . x <= offset``; empty when nothing of it has a volume."""
    height = piece.vertices @ normal - offset
    if (height <= 0).all():
        return piece
    i, j = piece.faces[:, [0, 1, 2]].ravel(), piece.faces[:, [1, 2, 0]].ravel()
    crossing = (height[i] <= 0) & (height[j] > 0)
    i, j = i[crossing], j[crossing]
    share = (height[i] / (height[i] - height[j]))[:, None]
    cut = piece.vertices[i] + share * (piece.vertices[j] - piece.vertices[i])
    return convex_hull(Mesh(np.concatenate([piece.vertices[height <= 0], cut]), piece.faces))
