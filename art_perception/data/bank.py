"""Objects as surface points: what training windows are drawn from, light enough to carry to another machine.

A bank holds the same number of points for every object, so that windows of different objects form one batch. It needs
neither meshes nor ray casting afterwards, only numpy and torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from art_perception.data.model import SimObject
from art_perception.data.objects import CATEGORIES, make_object
from art_perception.data.partnet import load_asset
from art_perception.data.strokes import observable_joints
from art_perception.errors import ObjectError
from art_perception.geometry.screw import twist_of_joint

POINTS = 4608
HELD_OUT = 900_000
"""Procedural objects of this seed and above are for measuring, never for training."""


@dataclass(frozen=True, slots=True, eq=False)
class Joints:
    """Movable joints of one object, parents first.

    Attributes:
        twists: (J, 6) unit twists in the object frame at zero joint values.
        origin: (J, 3) a point on each axis, metres.
        parents: (J,) index of the parent joint, -1 for the base.
        limits: (J, 2) rad or m.
        blocker: (J,) joint that must stand open for this one to move, -1 for none.
        observable: (J,) bool, motion changes the object's shape.
        size: (J,) largest extent of the moving part, metres.
    """

    twists: np.ndarray
    origin: np.ndarray
    parents: np.ndarray
    limits: np.ndarray
    blocker: np.ndarray
    observable: np.ndarray
    size: np.ndarray

    @property
    def revolute(self) -> np.ndarray:
        """(J,) bool."""
        return np.abs(self.twists[:, 3:]).sum(1) > 0.5

    @property
    def axis(self) -> np.ndarray:
        """(J, 3) unit vectors."""
        return np.where(self.revolute[:, None], self.twists[:, 3:], self.twists[:, :3])


_COLUMNS = tuple(field.name for field in fields(Joints))


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """O objects of P surface points each, object frame at zero joint values, z up.

    Attributes:
        names, sources: (O,) what each object is and where it comes from.
        points: (O, P, 3) float32 metres.
        normals: (O, P, 3) float32, either way round.
        part: (O, P) int64, 0 the base, k + 1 the child of joint k.
        joints: one entry per object.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    points: np.ndarray
    normals: np.ndarray
    part: np.ndarray
    joints: tuple[Joints, ...]

    def subset(self, index: Sequence[int] | np.ndarray) -> Bank:
        """Return the chosen objects."""
        pick = np.asarray(index, int)
        return Bank(
            tuple(self.names[i] for i in pick),
            tuple(self.sources[i] for i in pick),
            self.points[pick],
            self.normals[pick],
            self.part[pick],
            tuple(self.joints[i] for i in pick),
        )

    def from_sources(self, sources: Sequence[str]) -> Bank:
        """Return the objects of some sources.

        Raises:
            ObjectError: there is none.
        """
        return self.subset(chosen(self.sources, sources))


def chosen(found: Sequence[str] | np.ndarray, wanted: Sequence[str]) -> np.ndarray:
    """Index of the objects whose source (O,) is wanted.

    Raises:
        ObjectError: there is none.
    """
    index = np.flatnonzero(np.isin(found, wanted))
    if not len(index):
        raise ObjectError(f"no object of {', '.join(wanted)}: give --assets, or choose procedural")
    return index


def training_objects(assets: Path | None, split: str, seeds: int) -> Iterator[tuple[str, SimObject]]:
    """Objects of a split with their source: procedural ones, then those of the asset collections in ``assets``.

    Args:
        assets: folder that holds ``partnet_mobility`` or ``infinigen`` or both, or None.
        split: ``train`` or ``val``; procedural objects of ``val`` have seeds from ``HELD_OUT`` on.
        seeds: procedural objects per category.

    Raises:
        ObjectError: ``assets`` holds neither collection, before any object is made.
    """
    folders = _asset_folders(assets, split) if assets is not None else []
    first = HELD_OUT if split == "val" else 0
    made = (("procedural", make_object(c, first + seed)) for c in CATEGORIES for seed in range(seeds))
    return chain(made, ((source, load_asset(folder)) for source, folder in folders))


def _asset_folders(assets: Path, split: str) -> list[tuple[str, Path]]:
    """Source and place of the objects of a split."""
    index, infinigen = assets / "partnet_mobility" / "index.json", assets / "infinigen" / "objects"
    if not index.is_file() and not infinigen.is_dir():
        raise ObjectError(f"{assets} holds neither partnet_mobility/ nor infinigen/: give the folder with the assets")
    entries = json.loads(index.read_text()) if index.is_file() else []
    partnet = [("partnet", index.parent / str(entry["id"])) for entry in entries if entry["split"] == split]
    urdfs = sorted(infinigen.glob("*/*/*.urdf")) if split == "train" else []
    return partnet + [("infinigen", urdf) for urdf in urdfs]


def make_bank(objects: Iterable[tuple[str, SimObject]], seed: int = 0) -> Bank:
    """Sample the surfaces of objects; those without a movable joint are left out.

    Raises:
        ObjectError: no object has a movable joint.
    """
    rng = np.random.default_rng(seed)
    rows = [(source, obj, *_sample(obj, rng), _joints(obj)) for source, obj in objects if obj.joints]
    if not rows:
        raise ObjectError("none of the objects has a movable joint: choose others")
    sources, objs, points, normals, part, joints = zip(*rows, strict=True)
    return Bank(
        tuple(o.name for o in objs), tuple(sources), np.stack(points), np.stack(normals), np.stack(part), tuple(joints)
    )


def _sample(obj: SimObject, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and parts; small parts get more than their share of area, so that handles keep their shape."""
    area = np.array([p.areas.sum() for p in obj.parts])
    weight = np.where(area > 0, np.maximum(area / area.sum(), 1e-3) ** 0.8, 0)
    count = np.floor(POINTS * weight / weight.sum()).astype(int)
    count[area.argmax()] += POINTS - count.sum()
    drawn = [part.sample(n, rng) for part, n in zip(obj.parts, count, strict=True) if n]
    points, normals = (np.concatenate(x).astype(np.float32) for x in zip(*drawn, strict=True))
    return points, normals, np.repeat(np.arange(len(count)), count)


def _joints(obj: SimObject) -> Joints:
    blocked = dict(obj.blockers)
    seen = set(observable_joints(obj))
    count = range(len(obj.joints))
    return Joints(
        twists=np.stack([twist_of_joint(j) for j in obj.joints]),
        origin=np.stack([np.asarray(j.origin, float) for j in obj.joints]),
        parents=np.array(obj.chain.parents),
        limits=np.array([j.limits for j in obj.joints], float),
        blocker=np.array([blocked.get(k, -1) for k in count]),
        observable=np.array([k in seen for k in count]),
        size=np.array([_extent(obj, k + 1) for k in count]),
    )


def _extent(obj: SimObject, part: int) -> float:
    vertices = obj.parts[part].vertices
    return float(np.ptp(vertices, axis=0).max()) if len(vertices) else 0.1


def save_bank(path: Path, bank: Bank) -> None:
    """Write a bank: points to a 32767th of the object's largest coordinate, normals to a 127th."""
    extent = np.abs(bank.points).max((1, 2)).astype(np.float32)
    joints: dict[str, Any] = {name: np.concatenate([getattr(j, name) for j in bank.joints]) for name in _COLUMNS}
    np.savez_compressed(
        path,
        names=np.array(bank.names),
        sources=np.array(bank.sources),
        extent=extent,
        points=np.rint(bank.points / extent[:, None, None] * 32767).astype(np.int16),
        normals=np.rint(bank.normals * 127).astype(np.int8),
        part=bank.part.astype(np.uint8),
        joint_count=np.array([len(j.parents) for j in bank.joints]),
        **joints,
    )


def load_bank(path: Path) -> Bank:
    """Read a bank written by :func:`save_bank`.

    Raises:
        ObjectError: there is none at ``path``.
    """
    if not path.is_file():
        raise ObjectError(f"{path} does not exist: it is made when training starts from an asset folder")
    try:
        with np.load(path) as data:
            return _unpacked(data)
    except (BadZipFile, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ObjectError(f"{path} is not a bank of objects: delete it, and it will be made again") from error


def _unpacked(data: Mapping[str, np.ndarray]) -> Bank:
    stop = np.cumsum(data["joint_count"])
    columns = [np.split(data[name], stop[:-1]) for name in _COLUMNS]
    return Bank(
        names=tuple(map(str, data["names"])),
        sources=tuple(map(str, data["sources"])),
        points=data["points"].astype(np.float32) * (data["extent"][:, None, None] / 32767),
        normals=data["normals"].astype(np.float32) / 127,
        part=data["part"].astype(np.int64),
        joints=tuple(Joints(*row) for row in zip(*columns, strict=True)),
    )
