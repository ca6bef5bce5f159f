"""Shapes for KineDiff3D, packed: surface points and signed distances of every part, joints in the canonical frame.

Made once from meshes (data/sdf.py); from then on numpy alone is needed. Sources are kept by name, so that a subset
free of the licences of mesh collections can be chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from art_perception.data.bank import chosen
from art_perception.data.categories import CATEGORIES, MAX_PARTS, ShapeObject, samples_of
from art_perception.data.model import SimObject
from art_perception.data.sdf import SdfConfig, Solid, solid_of
from art_perception.errors import ObjectError
from art_perception.types import JointType

_log = logging.getLogger(__name__)
QUANTUM = 2.0**-14
"""Positions are stored as multiples of this, canonical units."""
_NEAR_SIGMA = (0.005, 0.02)
_SHARES = (0.4, 0.3, 0.2)  # of the queries: near at both scales, in the part's box; the rest anywhere
_BOX_MARGIN = 0.15


@dataclass(frozen=True, slots=True)
class ShapeBankConfig:
    """What is kept of every sample."""

    points: int = 8192
    """Surface points per object."""
    queries: int = 4096
    """Signed distances per part."""
    per_object: int = 2
    """Most samples (joints) taken from one object and category."""
    seed: int = 0
    """Of all sampling."""


@dataclass(frozen=True, slots=True, eq=False)
class ShapeBank:
    """O samples, each of a base and one or two moving parts, R parts in all; canonical frame at rest.

    Attributes:
        names, sources: (O,) str, what each sample is and where it comes from.
        category: (O,) index into ``categories.NAMES``.
        points: (O, P, 3) int16, on the closed outer surface, in quanta.
        normals: (O, P, 3) int8, outwards, in 127ths.
        part: (O, P) uint8, 0 the base, k + 1 moved by joint k.
        first: (O + 1,) row of each sample's base in ``queries``; its moving parts follow.
        queries: (R, Q, 3) int16, in quanta, in the part's own rest frame.
        sdf: (R, Q) float16 distance to that part, negative inside.
        revolute: (O,) bool.
        axis, origin: (O, MAX_PARTS - 1, 3) float32, zero where there is no joint.
        limits: (O, MAX_PARTS - 1, 2) float32 rad or units.
        size_m: (O,) float32 metres per unit.
    """

    names: np.ndarray
    sources: np.ndarray
    category: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    part: np.ndarray
    first: np.ndarray
    queries: np.ndarray
    sdf: np.ndarray
    revolute: np.ndarray
    axis: np.ndarray
    origin: np.ndarray
    limits: np.ndarray
    size_m: np.ndarray

    @property
    def parts(self) -> np.ndarray:
        """(O,) number of parts, the base included."""
        return np.diff(self.first)

    @property
    def twists(self) -> np.ndarray:
        """(O, MAX_PARTS - 1, 6) float32 unit twists ``[v, w]``, zero where there is no joint."""
        turn = np.concatenate([np.cross(self.origin, self.axis), self.axis], -1)
        slide = np.concatenate([self.axis, np.zeros_like(self.axis)], -1)
        return np.where(self.revolute[:, None, None], turn, slide)

    def subset(self, index: Sequence[int] | np.ndarray) -> ShapeBank:
        """Return the chosen samples."""
        pick = np.asarray(index, int)
        rows = np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in pick])
        first = np.concatenate([[0], np.cumsum(self.parts[pick])])
        own = {"first": first, "queries": self.queries[rows], "sdf": self.sdf[rows]}
        return ShapeBank(*(own[f.name] if f.name in own else getattr(self, f.name)[pick] for f in fields(self)))

    def mirrored(self) -> ShapeBank:
        """Return every sample's image in the mirror y = 0; moving parts stay ordered from right to left (-y to +y)."""
        flip = np.array([1, -1, 1])
        two = self.parts == MAX_PARTS
        other = np.where(two[:, None], [1, 0], [0, 1])
        row = np.arange(len(self.names))[:, None]
        rows = np.arange(len(self.queries))
        base = self.first[:-1][two]
        rows[base + 1], rows[base + 2] = base + 2, base + 1
        turned = np.where(self.revolute[:, None, None], -flip, flip)
        return replace(
            self,
            names=np.char.add(self.names, "_mirrored"),
            points=self.points * flip.astype(np.int16),
            normals=self.normals * flip.astype(np.int8),
            part=np.where(two[:, None] & (self.part > 0), 3 - self.part, self.part).astype(np.uint8),
            queries=self.queries[rows] * flip.astype(np.int16),
            sdf=self.sdf[rows],
            axis=(self.axis * turned)[row, other].astype(np.float32),
            origin=(self.origin * flip)[row, other].astype(np.float32),
            limits=self.limits[row, other],
        )

    def with_mirror_images(self) -> ShapeBank:
        """Return the samples, and after them the mirror images of those whose category is handed."""
        handed = np.array([category.handed for category in CATEGORIES.values()])[self.category]
        if not handed.any():
            return self
        more = self.subset(np.flatnonzero(handed)).mirrored()
        both = {f.name: np.concatenate([getattr(self, f.name), getattr(more, f.name)]) for f in fields(self)}
        return ShapeBank(**both | {"first": np.concatenate([self.first, self.first[-1] + more.first[1:]])})

    def from_sources(self, sources: Sequence[str]) -> ShapeBank:
        """Return the samples of some sources.

        Raises:
            ObjectError: there is none.
        """
        return self.subset(chosen(self.sources, sources))


def shapes_of(objects: Iterable[tuple[str, SimObject]], config: ShapeBankConfig) -> Iterator[tuple[str, ShapeObject]]:
    """Samples of objects with their source, at most ``per_object`` of one object and category."""
    for source, obj in objects:
        rng = np.random.default_rng([config.seed, *obj.name.encode()])
        found = samples_of(obj, source)
        for category in sorted({s.category for s in found}):
            same = [s for s in found if s.category == category]
            for i in sorted(rng.permutation(len(same))[: config.per_object]):
                yield source, same[i]


def make_shape_bank(samples: Iterable[tuple[str, ShapeObject]], config: ShapeBankConfig, sdf: SdfConfig) -> ShapeBank:
    """Sample surfaces and signed distances; objects with a part that has no outside are left out with a warning.

    Args:
        samples: source and sample.
        config: how much is kept.
        sdf: how inside and outside are told apart.

    Raises:
        ObjectError: there is no sample.
    """
    rows = []
    for source, sample in samples:
        rng = np.random.default_rng([config.seed, *sample.name.encode()])
        try:
            rows.append(_row(source, sample, config, sdf, rng))
        except ObjectError as error:
            _log.warning("%s is left out: %s", sample.name, error)
    if not rows:
        raise ObjectError("none of the objects belongs to a category of KineDiff3D: choose others")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    flat = {name: np.concatenate(columns.pop(name)) for name in ("queries", "sdf")}
    first = np.concatenate([[0], np.cumsum([len(row["queries"]) for row in rows])])
    return ShapeBank(**{name: np.array(values) for name, values in columns.items()}, **flat, first=first)


def _row(
    source: str, sample: ShapeObject, config: ShapeBankConfig, sdf: SdfConfig, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    solids = [solid_of(part, config.points, sdf, rng) for part in sample.parts]
    points, normals, part = _surface(sample, solids, config.points, rng)
    queries = [_queries(solid, config.queries, rng) for solid in solids]
    blank = np.zeros((MAX_PARTS - 1 - len(sample.axis), 3))
    return {
        "names": np.array(sample.name),
        "sources": np.array(source),
        "category": np.array(sample.category),
        "points": _packed(points),
        "normals": np.rint(127 * normals).astype(np.int8),
        "part": part.astype(np.uint8),
        "queries": _packed(np.stack(queries)),
        "sdf": np.stack([s.signed_distance(q) for s, q in zip(solids, queries, strict=True)]).astype(np.float16),
        "revolute": np.array(sample.type is JointType.REVOLUTE),
        "axis": np.concatenate([sample.axis, blank]).astype(np.float32),
        "origin": np.concatenate([sample.origin, blank]).astype(np.float32),
        "limits": np.concatenate([sample.limits, blank[:, :2]]).astype(np.float32),
        "size_m": np.array(sample.size_m, np.float32),
    }


def _packed(points: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(points / QUANTUM, -32767, 32767)).astype(np.int16)


def _surface(
    sample: ShapeObject, solids: Sequence[Solid], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and parts; by outer area, which the share of probes that saw air measures."""
    area = np.array([p.areas.sum() * len(s.points) for p, s in zip(sample.parts, solids, strict=True)])
    shares = np.maximum(np.floor(count * area / area.sum()), 64).astype(int)
    shares[area.argmax()] += count - shares.sum()
    pick = [rng.integers(0, len(s.points), n) if n > len(s.points) else rng.permutation(len(s.points))[:n]
            for s, n in zip(solids, shares, strict=True)]  # fmt: skip
    points = np.concatenate([s.points[i] for s, i in zip(solids, pick, strict=True)])
    normals = np.concatenate([s.normals[i] for s, i in zip(solids, pick, strict=True)])
    return points, normals, np.repeat(np.arange(len(solids)), shares)


def _queries(solid: Solid, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places (Q, 3) float32 to know the distance at: near the surface on two scales, in the part's box, anywhere."""
    near, farther, boxed = (int(share * count) for share in _SHARES)
    base = solid.points[rng.integers(0, len(solid.points), near + farther)]
    sigma = np.repeat(_NEAR_SIGMA, (near, farther))[:, None]
    low, high = solid.points.min(0) - _BOX_MARGIN, solid.points.max(0) + _BOX_MARGIN
    places = [
        base + sigma * rng.normal(size=base.shape),
        rng.uniform(low, high, (boxed, 3)),
        rng.uniform(-1, 1, (count - near - farther - boxed, 3)),
    ]
    return (_packed(np.concatenate(places)) * QUANTUM).astype(np.float32)


def save_shape_bank(path: Path, bank: ShapeBank) -> None:
    """Write a bank."""
    np.savez(path, **{f.name: getattr(bank, f.name) for f in fields(bank)})


def load_shape_bank(path: Path) -> ShapeBank:
    """Read a bank written by :func:`save_shape_bank`.

    Raises:
        ObjectError: there is none at ``path``.
    """
    if not path.is_file():
        raise ObjectError(f"{path} does not exist: it is made when training starts")
    try:
        with np.load(path) as data:
            return ShapeBank(**{f.name: data[f.name] for f in fields(ShapeBank)})
    except (BadZipFile, OSError, EOFError, ValueError, KeyError) as error:
        raise ObjectError(f"{path} is not a bank of shapes: delete it, and it will be made again") from error
