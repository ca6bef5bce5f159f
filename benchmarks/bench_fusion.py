"""What a shape prior adds to the measured surface: Chamfer error of measured-only and of fused meshes.

    python -m benchmarks.bench_fusion --assets DIR --out OUT --publish   # val split of an asset collection
    python -m benchmarks.bench_fusion --out OUT                          # procedural objects, needs nothing

Every clip is rendered, or read when it already lies in --bags, and its parts and joints are estimated once. Then its
depth is fused without a prior and with a perfect one, the true parts, the most that any prior could add. Errors are
Chamfer-L1 x 1000 in diagonals against every surface of the true object that air can touch, 30,000 samples. They are
appended to OUT/shapes.jsonl, and a second run goes on where the first one stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tyro

from art_perception.cli.scores import require_truth
from art_perception.data.config import SimulateConfig
from art_perception.data.model import SimObject
from art_perception.data.objects import CATEGORIES, make_object
from art_perception.data.partnet import load_asset
from art_perception.errors import ArtPerceptionError
from art_perception.estimation.fuse import fuse_parts
from art_perception.eval.benchmark import ClipSpec, asset_clips, procedural_clips, read_assets, write_section
from art_perception.eval.benchmark_shapes import oracle_prior, place, true_shape
from art_perception.eval.shape_error import ShapeScore, TrueShape, paired_parts, shape_score
from art_perception.eval.tables import markdown_lines
from art_perception.io.bag import read_ground_truth
from art_perception.pipeline import Clock, Config, estimate_motion
from art_perception.types import Part
from art_perception.urdf.reader import load_urdf
from benchmarks.bench_accuracy import DOCUMENT, Job, records, render, window_of

KINDS = (
    "box",
    "dishwasher",
    "eyeglasses",
    "laptop",
    "microwave",
    "refrigerator",
    "scissors",
    "storagefurniture",
    "table",
)
"""Assets of the categories a shape prior is trained on."""
ROWS = {"measured": "measured only", "oracle": "fused with the true shape"}


@dataclass(frozen=True, slots=True)
class Options:
    """Measure how far meshes are from the true, complete object."""

    out: Path
    """Folder for scores and table; a run that was interrupted goes on from what is there."""
    assets: Path | None = None
    """Asset collection with an index.json; without it procedural objects are measured."""
    bags: Path | None = None
    """Folder in which rendered clips are kept; without it they are deleted."""
    clips: int = 9
    """Clips with one moving joint."""
    publish: bool = False
    """Write the table into docs/benchmarks.md."""
    clip: SimulateConfig = field(default_factory=SimulateConfig)
    config: Config = field(default_factory=Config)


def main() -> None:
    """Measure what is missing, then write the table."""
    options = tyro.cli(Options, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "shapes.jsonl"
    for spec in clips_of(options):
        if spec.name not in {r["clip"] for r in records(store)}:
            with store.open("a", encoding="utf-8") as out:
                out.writelines(json.dumps(line) + "\n" for line in measure(spec, options))
            print(spec.name, flush=True)
    text = table(records(store))
    (options.out / "shapes.md").write_text(text, encoding="utf-8")
    print(text)
    if options.publish:
        write_section(DOCUMENT, "fusion", text)


def clips_of(options: Options) -> list[ClipSpec]:
    if options.assets is None:
        return procedural_clips(CATEGORIES, options.clips, 1, 0)
    assets = [asset for asset in read_assets(options.assets) if asset.category in KINDS]
    return asset_clips(assets, options.clips, 1, 0)


def measure(spec: ClipSpec, options: Options) -> list[dict]:
    """Scores of all rows of a clip; one line with an error when its motion is not found."""
    with tempfile.TemporaryDirectory(prefix="bench_") as name:
        bag = (options.bags or Path(name)) / spec.name
        if not bag.exists():
            render(Job(spec, (), options.clip, options.config), bag)
        try:
            return [{"clip": spec.name, "category": spec.category, **row} for row in rows_of(spec, bag, options.config)]
        except ArtPerceptionError as error:
            return [{"clip": spec.name, "category": spec.category, "row": "skip", "text": str(error)}]


def rows_of(spec: ClipSpec, bag: Path, config: Config) -> list[dict]:
    window, _ = window_of(bag, config)
    motion = estimate_motion(window, config, Clock(None))
    true_object = placed_object(spec, bag, window.frames[0].stamp_s)
    true = true_shape(true_object)
    measured = fuse_parts(window, motion, config.fuse)
    prior = oracle_prior(true_object, paired_parts([part.visual for part in measured], true))
    fused = fuse_parts(window, motion, config.fuse, prior)
    return [scored("measured", measured, true), scored("oracle", fused, true)]


def scored(row: str, parts: Sequence[Part], true: TrueShape) -> dict:
    score = shape_score([part.visual for part in parts], true)
    return {"row": row, "score": asdict(score), "observed": [part.observed for part in parts]}


def placed_object(spec: ClipSpec, bag: Path, stamp_s: float):
    obj: SimObject = load_asset(spec.asset) if spec.asset else make_object(spec.category, spec.object_seed)
    recorded = read_ground_truth(bag)
    assert recorded is not None
    T_world_object = load_urdf(recorded.robot_description, load_meshes=False).T_world_base
    return place(obj, T_world_object, require_truth(bag), stamp_s)


def table(stored: Sequence[dict]) -> str:
    """One line per clip, errors without and with the prior, and their means."""
    score = {(r["clip"], r["row"]): ShapeScore(**r["score"]) for r in stored if r["row"] in ROWS}
    clips = list(dict.fromkeys(clip for clip, _ in score))
    lines = [["clip", *(f"{part}, {title}" for part in ("whole", "static", "moving") for title in ROWS.values())]]
    for clip in clips:
        lines.append(
            [
                clip,
                *(f"{getattr(score[clip, row], part):.1f}" for part in ("whole", "static", "moving") for row in ROWS),
            ]
        )
    means = [
        np.mean([getattr(score[clip, row], part) for clip in clips])
        for part in ("whole", "static", "moving")
        for row in ROWS
    ]
    lines.append(["mean", *(f"{m:.1f}" for m in means)])
    skipped = [f"{r['clip']}: {r['text']}" for r in stored if r["row"] == "skip"]
    return "\n".join(["## Meshes against the true object\n", markdown_lines(lines), *skipped])


if __name__ == "__main__":
    main()
