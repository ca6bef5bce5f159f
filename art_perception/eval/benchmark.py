"""Which clips accuracy is measured on, and where the numbers go; ``benchmarks/bench_accuracy.py`` is the command."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from art_perception.data.partnet import load_asset
from art_perception.errors import ObjectError, UsageError
from art_perception.eval.scoring import ClipScore, JointScore
from art_perception.io.results import code_version


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """A clip to simulate.

    Attributes:
        name: unique, file-system safe.
        category: what the object is.
        asset: folder of the object, or None for a procedural one.
        object_seed: seed of a procedural object.
        seed: of motion, camera, light and noise.
        moving: how many joints move.
        batch: which of the repetitions (seeds) the clip belongs to.
    """

    name: str
    category: str
    asset: Path | None
    object_seed: int
    seed: int
    moving: int
    batch: int


@dataclass(frozen=True, slots=True)
class Asset:
    """An object of a collection: its folder, what it is, and how many of its joints visibly move."""

    folder: Path
    category: str
    joints: int


def read_assets(collection: Path, split: str = "val") -> list[Asset]:
    """List the objects of a split of an asset collection; ``val`` is for measuring.

    Args:
        collection: holds ``index.json`` (a list with id, category and split) and a folder per id.
        split: which part of it.

    Raises:
        ObjectError: there is no such collection, or an object of it cannot be read.
    """
    index = collection / "index.json"
    if not index.is_file():
        raise ObjectError(f"{index} is missing: give the folder of an asset collection, or measure procedural objects")
    entries = [entry for entry in json.loads(index.read_text()) if entry["split"] == split]
    folders = [collection / str(entry["id"]) for entry in entries]
    return [
        Asset(folder, entry["category"].lower(), len(load_asset(folder).joints))
        for entry, folder in zip(entries, folders, strict=True)
    ]


def asset_clips(assets: Sequence[Asset], count: int, moving: int, batch: int) -> list[ClipSpec]:
    """Choose ``count`` clips, categories by turns; objects come again with another seed when there are fewer.

    Args:
        assets: to choose from.
        count: of clips.
        moving: joints that move; 2 means two or three by turns. Objects with fewer joints are not chosen.
        batch: number of the repetition; the same arguments always choose the same clips.

    Raises:
        ObjectError: no object has that many joints.
    """
    chosen = _by_turns([asset for asset in assets if asset.joints >= moving])
    if not chosen:
        raise ObjectError(f"none of {len(assets)} objects has {moving} joints that move")
    specs = []
    for i in range(count):
        asset, seed = chosen[i % len(chosen)], 10_000 * batch + i
        want = min(moving + i % 2, asset.joints) if moving > 1 else 1
        name = f"{asset.category}_{asset.folder.name}_m{want}_s{seed}"
        specs.append(ClipSpec(name, asset.category, asset.folder, 0, seed, want, batch))
    return specs


def _by_turns(assets: Sequence[Asset]) -> list[Asset]:
    """Order assets so that every category comes once before any comes again."""
    seen: Counter[str] = Counter()
    rank = []
    for asset in assets:
        rank.append((seen[asset.category], asset.category, asset.folder.name))
        seen[asset.category] += 1
    return [assets[i] for i in sorted(range(len(assets)), key=lambda i: rank[i])]


def procedural_clips(categories: Sequence[str], count: int, moving: int, batch: int) -> list[ClipSpec]:
    """Choose ``count`` clips of procedural objects, categories by turns; object seeds no test or default uses."""
    specs = []
    for i in range(count):
        category, seed = categories[i % len(categories)], 10_000 * batch + i
        object_seed = 900_000 + seed
        specs.append(ClipSpec(f"{category}_m{moving}_s{seed}", category, None, object_seed, seed, moving, batch))
    return specs


def to_json(score: ClipScore) -> str:
    """One line that :func:`from_json` reads back."""
    return json.dumps(asdict(score))


def from_json(line: str) -> ClipScore:
    """Read a line written by :func:`to_json`."""
    fields = json.loads(line)
    joints = tuple(JointScore(**j) for j in fields["joints"])
    return replace(ClipScore(**fields), joints=joints, unmatched=tuple(fields.get("unmatched", ())))


def write_section(document: Path, name: str, text: str) -> None:
    """Replace the text between ``<!-- name:begin -->`` and ``<!-- name:end -->`` of a document, or append it."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = document.read_text(encoding="utf-8") if document.exists() else "# Benchmarks\n"
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        new = before + section + rest.split(end, 1)[1]
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(new, encoding="utf-8")


def claim(out: Path, now: Mapping[str, Any]) -> str:
    """Make ``out`` the folder of scores of one benchmark; return the commit they belong to.

    Args:
        out: folder, maybe of an earlier run that goes on.
        now: settings and weights, as JSON knows them.

    Raises:
        UsageError: ``out`` was measured with others.
    """
    path, told = out / "settings.json", json.loads(json.dumps(now))
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told | {"commit": code_version()}), encoding="utf-8")
    known = json.loads(path.read_text())
    if {key: known[key] for key in told} != told:
        raise UsageError(f"{out} holds scores of other settings or weights: give another --out")
    return str(known["commit"])


def seeds_line(batches: Mapping[int, Sequence[ClipScore]]) -> str:
    """Success per repetition, with mean and spread over repetitions."""
    rates = [100 * float(np.mean([j.success for s in scores for j in s.joints])) for scores in batches.values()]
    each = ", ".join(f"{rate:.0f}" for rate in rates)
    return f"success {np.mean(rates):.1f} ± {np.std(rates):.1f} % over {len(rates)} seeds ({each})"
