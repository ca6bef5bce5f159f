"""The true, complete surface of the object in a simulated clip, and a perfect shape prior made from it.

A recording holds bounding boxes alone, so the object itself is needed. Top layer, like ``eval.benchmark``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from art_perception.data.categories import at_rest
from art_perception.data.model import SimObject, Surface, merge
from art_perception.data.sdf import SdfConfig, Solid, solid_of
from art_perception.eval.scoring import STATIC_ID, Truth, moving_joints, rigid_groups, true_displacements
from art_perception.eval.shape_error import SAMPLES, TrueShape
from art_perception.geometry.kinematics import with_base
from art_perception.geometry.lie import transform

_EXACT = SdfConfig(half_sheet=1e-4)
_FAR_M = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class PlacedObject:
    """The rigid parts of a true object where they are at one moment, fixed frame.

    Attributes:
        surfaces: the static body, then every part that moves in the clip, metres.
        size_m: diagonal of the bounding box with every joint shut.
    """

    surfaces: tuple[Surface, ...]
    size_m: float


@dataclass(frozen=True, slots=True, eq=False)
class OraclePrior:
    """A shape prior that knows the truth: the upper bound of what a prior can add.

    Attributes:
        solids: of the static body and the moving parts, in units of ``size_m``.
        size_m: metres per unit.
        part_of: true part of every estimated one; of the others nothing is known.
    """

    solids: tuple[Solid, ...]
    size_m: float
    part_of: Mapping[int, int]

    def __call__(self, part: int, points: np.ndarray) -> np.ndarray:
        """Signed distance (N,) metres of points (N, 3), fixed frame, to an estimated part; negative inside."""
        if part not in self.part_of:
            return np.full(len(points), _FAR_M, np.float32)
        unit = (points / self.size_m).astype(np.float32)
        return self.size_m * self.solids[self.part_of[part]].signed_distance(unit)


def place(obj: SimObject, T_world_object: np.ndarray, truth: Truth, stamp_s: float) -> PlacedObject:
    """Put an object where its truth says it is.

    Args:
        obj: the object the clip was rendered from.
        T_world_object: (4, 4) of the clip.
        truth: its joints by name, and their values.
        stamp_s: when; the first window stamp for meshes of ``fuse_parts``.
    """
    names = [joint.name for joint in truth.joints]
    D = with_base(true_displacements(truth, np.asarray(stamp_s))[[names.index(joint.name) for joint in obj.joints]])
    placed = [replace(s, vertices=transform(d @ T_world_object, s.vertices)) for s, d in zip(obj.parts, D, strict=True)]
    moving = moving_joints(truth)
    groups = rigid_groups(truth, moving)
    owner = [STATIC_ID, *(groups[truth.part_ids[names.index(joint.name)]] for joint in obj.joints)]
    wanted = [STATIC_ID, *truth.part_ids[moving]]
    surfaces = tuple(merge([s for s, o in zip(placed, owner, strict=True) if o == group]) for group in wanted)
    return PlacedObject(surfaces, float(np.linalg.norm(np.ptp(at_rest(obj).bounds, axis=0))))


def true_shape(placed: PlacedObject, seed: int = 0, samples: int = SAMPLES) -> TrueShape:
    """Sample every surface of an object that air can touch when its parts are taken apart.

    Raises:
        ObjectError: a part has no such surface.
    """
    rng = np.random.default_rng(seed)
    solids = _solids(placed, _EXACT, rng, 4 * samples)
    area = np.array([s.areas.sum() * len(p.points) for s, p in zip(placed.surfaces, solids, strict=True)])
    counts = rng.multinomial(samples, area / area.sum())
    parts = [placed.size_m * solid.points for solid in solids]
    whole = [points[rng.integers(0, len(points), n)] for points, n in zip(parts, counts, strict=True)]
    return TrueShape(
        np.concatenate(whole),
        tuple(points[rng.integers(0, len(points), samples)] for points in parts),
        placed.size_m,
    )


def oracle_prior(placed: PlacedObject, part_of: Mapping[int, int], seed: int = 0) -> OraclePrior:
    """A prior that knows the object; sheets get the thickness they have in training.

    Raises:
        ObjectError: a part has no surface that air can touch.
    """
    solids = _solids(placed, SdfConfig(), np.random.default_rng(seed), 1000)
    return OraclePrior(tuple(solids), placed.size_m, part_of)


def _solids(placed: PlacedObject, config: SdfConfig, rng: np.random.Generator, probes: int) -> list[Solid]:
    """Closed bodies of the parts, in units of the object's diagonal."""
    unit = [replace(s, vertices=s.vertices / placed.size_m) for s in placed.surfaces]
    return [solid_of(surface, probes, config, rng) for surface in unit]
