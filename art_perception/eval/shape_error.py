"""How far reconstructed meshes are from the true, complete object: the numbers KineDiff3D reports.

Chamfer-L1 x 1000 in units of the true object's diagonal, 30,000 samples on either side, parts where they are at the
first window stamp. What was never seen counts as much as what was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_perception.eval.metrics import chamfer_l1, match
from art_perception.geometry.mesh import merged, sample_surface
from art_perception.types import Mesh

SAMPLES = 30_000
"""Points on either surface."""
MISSING = 1000.0
"""Error of a part without a mesh, a whole diagonal."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueShape:
    """The surface of a true object at the first window stamp, fixed frame.

    Attributes:
        whole: (N, 3) points of all parts, evenly by area, metres.
        parts: (N, 3) points of the static body, then of every moving part.
        size_m: diagonal of the object's bounding box with every joint shut.
    """

    whole: np.ndarray
    parts: tuple[np.ndarray, ...]
    size_m: float


@dataclass(frozen=True, slots=True)
class ShapeScore:
    """Chamfer-L1 x 1000 in diagonals of the whole object, its static body and its moving parts (their mean)."""

    whole: float
    static: float
    moving: float


def shape_score(meshes: Sequence[Mesh], true: TrueShape, seed: int = 0) -> ShapeScore:
    """Score the meshes of an object.

    Args:
        meshes: the static body, then the moving parts in any order, in the frame of ``true``, metres.
        true: what they should be.
        seed: of the samples.

    Returns:
        Errors; moving parts are paired with the true ones so that the errors are smallest, and a true part without a
        mesh counts :data:`MISSING`. A mesh that is no true part counts in ``whole`` alone.
    """
    rng = np.random.default_rng(seed)
    whole = surface_error(merged(meshes), true.whole, true.size_m, rng)
    static = surface_error(meshes[0], true.parts[0], true.size_m, rng)
    error = _errors(meshes, true, rng)
    pairs = _pairs(error)
    found = sum(error[p, g] for p, g in pairs)
    count = len(true.parts) - 1
    return ShapeScore(whole, static, float((found + MISSING * (count - len(pairs))) / count))


def surface_error(mesh: Mesh, true_points: np.ndarray, size_m: float, rng: np.random.Generator) -> float:
    """Chamfer-L1 x 1000 between a mesh and true points (N, 3), metres, in units of ``size_m``."""
    points = sample_surface(mesh, len(true_points), rng)
    return chamfer_l1(points / size_m, true_points / size_m) if len(points) else MISSING


def paired_parts(meshes: Sequence[Mesh], true: TrueShape, seed: int = 0) -> dict[int, int]:
    """Index of the true part of each mesh that :func:`shape_score` pairs with one; 0, the static body, with 0."""
    pairs = _pairs(_errors(meshes, true, np.random.default_rng(seed)))
    return {0: 0} | {p + 1: g + 1 for p, g in pairs}


def _errors(meshes: Sequence[Mesh], true: TrueShape, rng: np.random.Generator) -> np.ndarray:
    """Error (P, G) of every moving mesh against every true moving part."""
    rows = [[surface_error(mesh, part, true.size_m, rng) for part in true.parts[1:]] for mesh in meshes[1:]]
    return np.array(rows).reshape(len(meshes) - 1, len(true.parts) - 1)


def _pairs(error: np.ndarray) -> list[tuple[int, int]]:
    return match(MISSING - np.minimum(error, MISSING))
