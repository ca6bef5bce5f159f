"""Accuracy over many simulated clips: what `art-perception evaluate` gives, and two rows to hold it against.

    python -m benchmarks.bench_accuracy --assets DIR --out OUT            # val split of an asset collection
    python -m benchmarks.bench_accuracy --out OUT                         # procedural objects, needs nothing

Every clip is rendered into a bag in a temporary folder, put through each row and deleted. Scores are appended to
OUT/scores.jsonl, and a second run with the same OUT goes on where the first one stopped. The tables go to
OUT/tables.md, and with --publish between the markers of docs/benchmarks.md.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro

from art_perception.cli.evaluate import run_apart
from art_perception.cli.run import Recording
from art_perception.cli.scores import read_truth, score_folder
from art_perception.cli.simulate import SimulateOptions, write_clip
from art_perception.data.config import SimulateConfig
from art_perception.data.objects import CATEGORIES, make_object
from art_perception.data.partnet import load_asset
from art_perception.data.simulate import simulate
from art_perception.errors import ArtPerceptionError, ObjectError
from art_perception.estimation.window import WindowBuffer
from art_perception.eval.benchmark import (
    Asset,
    ClipSpec,
    asset_clips,
    from_json,
    procedural_clips,
    read_assets,
    seeds_line,
    to_json,
    write_section,
)
from art_perception.eval.benchmark_rows import baseline, oracle
from art_perception.eval.scoring import ClipScore, Truth, failed_clip, moving_joints, score_clip
from art_perception.eval.tables import COLUMNS, by_category, flat_rows, markdown_table, summarise, terminal_table
from art_perception.io.bag import read_frames, read_part_ids
from art_perception.io.results import code_version
from art_perception.io.topics import Topics
from art_perception.pipeline import Config
from art_perception.types import Window

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
TITLES = {
    "mask": "one joint, object mask",
    "nomask": "one joint, no mask",
    "oracle": "one joint, true part masks",
    "featclust": "one joint, FeatClust (true part count)",
    "multi": "two or three joints, object mask",
    "multi_oracle": "two or three joints, true part masks",
}


@dataclass(frozen=True, slots=True)
class Options:
    """Measure accuracy over many simulated clips."""

    out: Path
    """Folder for scores and tables; a run that was interrupted goes on from what is there."""
    assets: Path | None = None
    """Asset collection with an index.json; without it procedural objects are measured."""
    clips: int = 40
    """Clips per seed with one moving joint."""
    multi_clips: int = 16
    """Clips per seed with two or three moving joints."""
    seeds: int = 3
    """Repetitions with other motions, cameras and noise."""
    rows: tuple[str, ...] = tuple(TITLES)
    """Which rows to measure."""
    jobs: int = 2
    """Clips at the same time."""
    publish: bool = False
    """Write the tables into docs/benchmarks.md."""
    clip: SimulateConfig = field(default_factory=SimulateConfig)
    config: Config = field(default_factory=Config)


@dataclass(frozen=True, slots=True)
class Job:
    """One clip and the rows it is put through."""

    spec: ClipSpec
    rows: tuple[str, ...]
    clip: SimulateConfig
    config: Config


def main() -> None:
    """Measure what is missing, then write tables."""
    options = tyro.cli(Options, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "scores.jsonl"
    jobs = pending(options, store)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.perf_counter()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for i, done in enumerate(as_completed([pool.submit(measure, job) for job in jobs]), 1):
            with store.open("a", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in done.result())
            print(f"{i}/{len(jobs)} clips, {time.perf_counter() - start:.0f} s", flush=True)
    write_tables(options, store)


def pending(options: Options, store: Path) -> list[Job]:
    """Jobs whose rows are not all in the store yet."""
    known = {(r["row"], r["clip"]) for r in records(store)}
    assets = read_assets(options.assets) if options.assets else []
    jobs = []
    for batch in range(options.seeds):
        for specs, multi in ((one_joint(options, assets, batch), False), (many_joints(options, assets, batch), True)):
            rows = [row for row in options.rows if row.startswith("multi") is multi]
            for spec in specs:
                missing = tuple(row for row in rows if not {(row, spec.name), ("skip", spec.name)} & known)
                jobs += [Job(spec, missing, options.clip, options.config)] if missing else []
    return jobs


def one_joint(options: Options, assets: Sequence[Asset], batch: int) -> list[ClipSpec]:
    if assets:
        return asset_clips(assets, options.clips, 1, batch)
    return procedural_clips(CATEGORIES, options.clips, 1, batch)


def many_joints(options: Options, assets: Sequence[Asset], batch: int) -> list[ClipSpec]:
    if assets:
        return asset_clips(assets, options.multi_clips, 2, batch)
    return procedural_clips(("cabinet", "drawer_table", "eyeglasses", "fridge"), options.multi_clips, 2, batch)


def records(store: Path) -> list[dict]:
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def measure(job: Job) -> list[str]:
    """Render a clip, put it through its rows and return the lines for the store."""
    spec = job.spec
    with tempfile.TemporaryDirectory(prefix="bench_") as name:
        folder = Path(name)
        try:
            truth = render(job, folder / "bag")
        except ObjectError as error:
            return [line("skip", spec, str(error))]
        if len(moving_joints(truth)) != spec.moving:
            return [line("skip", spec, f"{len(moving_joints(truth))} joints move, wanted {spec.moving}")]
        return [line(row, spec, to_json(score_row(row, job, folder, truth))) for row in job.rows]


def line(row: str, spec: ClipSpec, text: str) -> str:
    return json.dumps({"row": row, "clip": spec.name, "batch": spec.batch, "text": text})


def render(job: Job, bag: Path) -> Truth:
    """Write the clip's bag and return its truth."""
    spec = job.spec
    obj = load_asset(spec.asset) if spec.asset else make_object(spec.category, spec.object_seed)
    if len(obj.joints) < spec.moving:
        raise ObjectError(f"{obj.name} has {len(obj.joints)} usable joints, wanted {spec.moving}")
    config = replace(job.clip, moving_count=spec.moving)
    write_clip(simulate(obj, config, spec.seed), SimulateOptions(bag))
    truth = read_truth(bag)
    assert truth is not None
    return truth


def score_row(row: str, job: Job, folder: Path, truth: Truth) -> ClipScore:
    """Score one row; whatever goes wrong becomes a score with an error."""
    spec, bag, start = job.spec, folder / "bag", time.perf_counter()
    if row in ("mask", "nomask", "multi"):
        topics = Topics(mask="/object/no_mask") if row == "nomask" else Topics()
        error, memory_mb = run_apart(bag, folder / row, job.config, Recording(topics))
        if error is not None:
            return failed_clip(spec.name, truth, error, spec.category, peak_memory_mb=memory_mb)
        return score_folder(spec.name, folder / row, bag, truth, spec.category, memory_mb)
    try:
        window, ids = window_of(bag, job.config)
        if row == "featclust":
            prediction, samples = baseline(window, ids, truth, job.config, spec.seed)
        else:
            prediction, samples = oracle(window, ids, truth, job.config)
    except ArtPerceptionError as error:
        return failed_clip(spec.name, truth, str(error), spec.category)
    except Exception as bug:  # as in `evaluate`: a bug costs this clip's row, and is told there
        return failed_clip(spec.name, truth, f"{type(bug).__name__}: {bug}", spec.category)
    return score_clip(spec.name, prediction, truth, samples, spec.category, {"total": time.perf_counter() - start})


def window_of(bag: Path, config: Config) -> tuple[Window, np.ndarray]:
    """The window the pipeline sees, and the part ids (T, H, W) of its frames."""
    buffer = WindowBuffer(config.window)
    for frame in read_frames(bag):
        buffer.push(frame)
    window = buffer.window()
    ids = dict(read_part_ids(bag))
    return window, np.stack([ids[frame.stamp_ns] for frame in window.frames])


def write_tables(options: Options, store: Path) -> None:
    """Write the CSV files and tables, print the main one."""
    rows: dict[str, list[tuple[int, ClipScore]]] = {}
    for record in records(store):
        if record["row"] != "skip":
            rows.setdefault(record["row"], []).append((record["batch"], from_json(record["text"])))
    scores = {row: [s for _, s in rows[row]] for row in TITLES if row in rows}
    for row, own in scores.items():
        write_csv(options.out / f"{row}.csv", own)
    print(terminal_table({TITLES[row]: summarise(own) for row, own in scores.items()}, "clips"))
    text = report(options, rows, scores, [r for r in records(store) if r["row"] == "skip"])
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    if options.publish:
        write_section(DOCUMENT, "accuracy", text)


def report(
    options: Options,
    rows: dict[str, list[tuple[int, ClipScore]]],
    scores: dict[str, list[ClipScore]],
    skipped: Sequence[dict],
) -> str:
    """The section of docs/benchmarks.md."""
    source = "the val split of the asset collection" if options.assets else "procedural objects"
    clip, cores = options.clip, f"{os.cpu_count()} cores ({platform.machine()})"
    lines = [
        f"## Accuracy on simulated clips ({source})",
        f"{clip.frames} frames {clip.width}x{clip.height} at {clip.rate_hz:g} Hz, moving camera, depth noise."
        f" `python -m benchmarks.bench_accuracy`, {options.jobs} clips at a time on {cores}, commit"
        f" {code_version()[:12]}. Errors are mean ± standard deviation (median) over joints; a joint that was not found"
        " counts 90 deg and 100 cm, a clip without result is in every number. Success: type right, axis < 5 deg,"
        " position < 5 cm.",
        markdown_table({TITLES[row]: summarise(own) for row, own in scores.items()}, "clips"),
        "\n".join(
            f"- {TITLES[row]}: {seeds_line(batches(rows[row]))}; {trust_line(own)}" for row, own in scores.items()
        ),
    ]
    if skipped:
        why = Counter(r["text"].split(" has ")[-1] for r in skipped)
        lines.append(f"\n{len(skipped)} clips were not measured: {'; '.join(f'{n} x {t}' for t, n in why.items())}.")
    for row in ("mask", "multi"):
        if row in scores:
            columns = {k: v for k, v in COLUMNS.items() if k not in ("seconds", "memory_mb", "clip_success")}
            lines += [
                f"\n### Per category: {TITLES[row]}",
                markdown_table(by_category(scores[row]), "category", columns),
            ]
            lines.append(stage_line(summarise(scores[row])))
    return "\n\n".join(lines) + "\n"


def trust_line(scores: Sequence[ClipScore]) -> str:
    """Whether the estimator knows what it knows, and what it makes up."""
    summary = summarise(scores)
    right = f", {summary['valid_success']:.0f} % of those are right" if "valid_success" in summary else ""
    return f"{summary['valid']:.0f} % of joints called valid{right}; {summary['spurious']:.2f} joints per clip too many"


def batches(rows: Sequence[tuple[int, ClipScore]]) -> dict[int, list[ClipScore]]:
    return {b: [s for own, s in rows if own == b] for b in sorted({own for own, _ in rows})}


def stage_line(summary: dict[str, float]) -> str:
    stages = ", ".join(f"{k.split('.')[1]} {v:.1f}" for k, v in summary.items() if k.startswith("seconds."))
    return f"Seconds per stage (mean): {stages}. Peak memory of a run: {summary['memory_mb']:.0f} MB."


def write_csv(path: Path, scores: Sequence[ClipScore]) -> None:
    rows = flat_rows(scores)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
