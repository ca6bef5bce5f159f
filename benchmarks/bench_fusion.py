"""What a shape prior adds to the measured surface: Chamfer error of measured-only and of fused meshes.

    python -m benchmarks.bench_fusion --assets DIR --out OUT --publish   # val split of an asset collection
    python -m benchmarks.bench_fusion --out OUT                          # procedural objects, needs nothing

Every clip is rendered, or read when it already lies in --bags, and its parts and joints are estimated once. Then its
depth is fused and nothing else, closed without a prior, with the shape prior fitted to the clip, whether or not it
would be trusted with it, and with a perfect one, the true parts, the most that any prior could add. Errors are
Chamfer-L1 x 1000 in diagonals against every surface of the true object that air can touch, 30,000 samples. They are
appended to OUT/shapes.jsonl, and a second run goes on where the first one stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from art_perception.models.checkpoint import SHIPPED
from art_perception.pipeline import Clock, Config, estimate_motion
from art_perception.prior import networks
from art_perception.prior_shape import fit_window
from art_perception.types import JointType, Part, PartMotion
from art_perception.urdf.reader import load_urdf
from benchmarks.bench_accuracy import Job, records, render, window_of
from benchmarks.publish import DOCUMENT

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
ROWS = {
    "measured": "measured surface",
    "closed": "closed, no prior",
    "fitted": "fitted prior",
    "oracle": "true shape as prior",
}


@dataclass(frozen=True, slots=True)
class Options:
    """Measure how far meshes are from the true, complete object."""

    out: Path
    """Folder for scores and table; a run that was interrupted goes on from what is there."""
    assets: Path | None = None
    """Asset collection with an index.json; without it procedural objects are measured."""
    bags: Path | None = None
    """Folder in which rendered clips are kept; without it they are deleted."""
    clips: int = 24
    """Clips with one moving joint, those of the accuracy benchmark; of assets those that a shape prior knows."""
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
    specs = asset_clips(read_assets(options.assets), options.clips, 1, 0)
    return [spec for spec in specs if spec.category in KINDS]


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
    measured = fuse_parts(window, motion, replace(config.fuse, fill_outline=False))
    closed = fuse_parts(window, motion, config.fuse)
    prior = oracle_prior(true_object, paired_parts([part.visual for part in closed], true))
    fused = fuse_parts(window, motion, config.fuse, prior)
    shape = fit_window(
        window, motion, prior_category(spec.category, motion), networks(SHIPPED), config.prior.completion
    )
    fitted = fuse_parts(window, motion, config.fuse, shape.distance) if shape else closed
    agrees = {"agrees": shape.score if shape else 0.0}
    return [
        scored("measured", measured, true),
        scored("closed", closed, true),
        scored("fitted", fitted, true) | agrees,
        scored("oracle", fused, true),
    ]


def prior_category(kind: str, motion: PartMotion) -> str:
    """What the shape prior calls an asset; furniture by the surest joint."""
    if kind not in ("storagefurniture", "table"):
        return kind
    surest = max(motion.joints, key=lambda joint: joint.confidence)
    return "drawer" if surest.type is JointType.PRISMATIC else "cabinet"


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
    """One line per clip, errors without and with the prior, their means, and how much less they become."""
    score = {(r["clip"], r["row"]): ShapeScore(**r["score"]) for r in stored if r["row"] in ROWS}
    clips = list(dict.fromkeys(clip for clip, _ in score))
    columns = [(part, row) for part in ("whole", "static", "moving") for row in ROWS]
    values = np.array([[getattr(score[clip, row], part) for part, row in columns] for clip in clips])
    mean = values.mean(0)
    first = {part: value for (part, row), value in zip(columns, mean, strict=True) if row == "measured"}
    less = ["" if row == "measured" else f"{100 * (value / first[part] - 1):+.0f} %"
            for (part, row), value in zip(columns, mean, strict=True)]  # fmt: skip
    head = ["clip", *(f"{part}: {ROWS[row]}" for part, row in columns)]
    body = [[clip, *(f"{v:.1f}" for v in line)] for clip, line in zip([*clips, "mean"], [*values, mean], strict=True)]
    skipped = [f"{r['clip']}: {r['text']}" for r in stored if r["row"] == "skip"]
    return "\n".join(["## Meshes against the true object\n", markdown_lines([head, *body, ["", *less]]), *skipped])


if __name__ == "__main__":
    main()
