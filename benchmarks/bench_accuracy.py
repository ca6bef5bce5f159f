"""Accuracy over many simulated clips: what `art-perception evaluate` gives, and rows to hold it against.

    python -m benchmarks.bench_accuracy --assets DIR --out OUT --publish  # val split of an asset collection
    python -m benchmarks.bench_accuracy --out OUT                         # procedural objects, needs nothing

Every clip is rendered into a bag in a temporary folder, put through each row and deleted. Scores are appended to
OUT/scores.jsonl, and a second run with the same OUT goes on where the first one stopped. The tables go to
OUT/tables.md, the calibration plot to OUT/images; with --publish both go to docs/.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
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
from art_perception.errors import ArtPerceptionError, ObjectError, UsageError
from art_perception.estimation.crop import closeup
from art_perception.estimation.window import WindowBuffer
from art_perception.eval.benchmark import (
    Asset,
    ClipSpec,
    asset_clips,
    claim,
    from_json,
    procedural_clips,
    read_assets,
    seeds_line,
    to_json,
    write_section,
)
from art_perception.eval.benchmark_report import CALIBRATION_PLOT, accuracy_section, flat, together
from art_perception.eval.benchmark_rows import baseline, network_only, oracle, unrefined
from art_perception.eval.calibration import draw_reliability, reliability
from art_perception.eval.protocol import ROWS, by_title
from art_perception.eval.scoring import ClipScore, Prediction, Samples, Truth, failed_clip, moving_joints, score_clip
from art_perception.eval.tables import flat_rows, summarise, terminal_table
from art_perception.io.bag import read_frames, read_part_ids
from art_perception.io.topics import Topics
from art_perception.pipeline import Config
from art_perception.propose import network
from art_perception.types import Window
from benchmarks.publish import DOCUMENT

SEVERAL = ("cabinet", "drawer_table", "eyeglasses", "fridge")  # procedural objects of two joints and more


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
    rows: tuple[str, ...] = tuple(ROWS)
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
    try:
        commit = prepare(options)
        jobs = pending(options, options.out / "scores.jsonl")
    except ArtPerceptionError as error:
        raise SystemExit(str(error)) from error
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.perf_counter()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for i, done in enumerate(as_completed([pool.submit(measure, job) for job in jobs]), 1):
            with (options.out / "scores.jsonl").open("a", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in done.result())
            print(f"{i}/{len(jobs)} clips, {time.perf_counter() - start:.0f} s", flush=True)
    write_tables(options, commit)


def prepare(options: Options) -> str:
    """Check rows and weights before hours of work; return the commit whose scores ``out`` holds.

    Raises:
        UsageError: a row is unknown, or ``out`` was measured with other settings or weights.
        CheckpointError: the network's weights cannot be read.
    """
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        raise UsageError(f"no row is called {', '.join(sorted(unknown))}: choose from {', '.join(ROWS)}")
    settings = [asdict(options.clip), asdict(options.config), str(options.assets)]
    return claim(options.out, {"settings": settings, "weights": weights_of(options)})


def weights_of(options: Options) -> str:
    """Fingerprint of the network's weights, ``none`` without a network."""
    model = network(options.config.network.weights)
    if model is None and any(ROWS[row].method == "network" for row in options.rows):
        raise UsageError("rows of the network alone need weights: give --config.network.weights, or other --rows")
    if model is None:
        return "none"
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


def pending(options: Options, store: Path) -> list[Job]:
    """Jobs whose rows are not all in the store yet."""
    known = {(r["row"], r["clip"]) for r in records(store)}
    assets = read_assets(options.assets) if options.assets else []
    jobs = []
    for batch in range(options.seeds):
        for moving in (1, 2):
            rows = [row for row in options.rows if ROWS[row].moving == moving]
            for spec in clips_of(options, assets, moving, batch) if rows else []:
                missing = tuple(row for row in rows if not {(row, spec.name), ("skip", spec.name)} & known)
                jobs += [Job(spec, missing, options.clip, options.config)] if missing else []
    return jobs


def clips_of(options: Options, assets: Sequence[Asset], moving: int, batch: int) -> list[ClipSpec]:
    count = options.clips if moving == 1 else options.multi_clips
    if assets:
        return asset_clips(assets, count, moving, batch)
    return procedural_clips(CATEGORIES if moving == 1 else SEVERAL, count, moving, batch)


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
    spec, start = job.spec, time.perf_counter()
    if ROWS[row].method in ("ours", "segmentation"):
        return score_run(row, job, folder, truth)
    try:
        prediction, samples = predict(ROWS[row].method, job, folder / "bag", truth)
    except ArtPerceptionError as error:
        return failed_clip(spec.name, truth, str(error), spec.category)
    except Exception as bug:  # as in `evaluate`: a bug costs this clip's row, and is told there
        return failed_clip(spec.name, truth, f"{type(bug).__name__}: {bug}", spec.category)
    return score_clip(spec.name, prediction, truth, samples, spec.category, {"total": time.perf_counter() - start})


def score_run(row: str, job: Job, folder: Path, truth: Truth) -> ClipScore:
    """Score a run of the whole pipeline in a process of its own."""
    spec, bag, config = job.spec, folder / "bag", job.config
    if ROWS[row].method == "segmentation":
        config = replace(config, network=replace(config.network, weights="none"))
    topics = Topics() if ROWS[row].masked else Topics(mask="/object/no_mask")
    error, memory_mb = run_apart(bag, folder / row, config, Recording(topics))
    if error is not None:
        return failed_clip(spec.name, truth, error, spec.category, peak_memory_mb=memory_mb)
    return score_folder(spec.name, folder / row, bag, truth, spec.category, memory_mb)


def predict(method: str, job: Job, bag: Path, truth: Truth) -> tuple[Prediction, Samples]:
    """What a method that is not the whole pipeline makes of a clip."""
    whole, ids = window_of(bag, job.config)
    view = closeup(whole, job.config.flow.width)
    window, ids = view.window, ids[:, view.rows, view.columns]
    config = replace(job.config, flow=replace(job.config.flow, width=view.width))
    if method == "network":
        return network_only(window, ids, config)
    if method == "norefine":
        return unrefined(window, ids, config)
    if method == "featclust":
        return baseline(window, ids, truth, config, job.spec.seed)
    return oracle(window, ids, truth, config)


def window_of(bag: Path, config: Config) -> tuple[Window, np.ndarray]:
    """The window the pipeline sees, and the part ids (T, H, W) of its frames."""
    buffer = WindowBuffer(config.window)
    for frame in read_frames(bag):
        buffer.push(frame)
    window = buffer.window()
    ids = dict(read_part_ids(bag))
    return window, np.stack([ids[frame.stamp_ns] for frame in window.frames])


def write_tables(options: Options, commit: str) -> None:
    """Write CSV files, tables and plot, print the main numbers."""
    stored = records(options.out / "scores.jsonl")
    rows = {name: seeds_of(name, stored) for name in ROWS}
    rows = {name: seeds for name, seeds in rows.items() if seeds}
    for name, seeds in rows.items():
        write_csv(options.out / f"{name}.csv", flat(seeds))
    titled = by_title(ROWS, rows)
    print(terminal_table({title: summarise(flat(seeds)) for title, seeds in titled.items()}, "clips"))
    print("\n".join(f"{title}: {seeds_line(seeds)}" for title, seeds in titled.items()))
    skipped = list({r["clip"]: r["text"] for r in stored if r["row"] == "skip"}.values())
    text = accuracy_section(header(options, commit), rows, skipped)
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    ours = together({name: seeds for name, seeds in rows.items() if ROWS[name].method == "ours"})
    if ours:
        draw_reliability(reliability(ours), options.out / CALIBRATION_PLOT)
    if options.publish:
        write_section(DOCUMENT, "accuracy", text)
        shutil.copytree(options.out / "images", DOCUMENT.parent / "images", dirs_exist_ok=True)


def seeds_of(row: str, stored: Sequence[dict]) -> dict[int, list[ClipScore]]:
    """Scores of a row by repetition."""
    own = [(r["batch"], from_json(r["text"])) for r in stored if r["row"] == row]
    return {batch: [score for b, score in own if b == batch] for batch in sorted({b for b, _ in own})}


def header(options: Options, commit: str) -> str:
    """Title and what was measured on what."""
    source = "the val split of the asset collection" if options.assets else "procedural objects"
    clip, cores = options.clip, f"{os.cpu_count()} cores ({platform.machine()})"
    return (
        f"## Accuracy on simulated clips ({source})\n\n"
        f"{clip.frames} frames {clip.width}x{clip.height} at {clip.rate_hz:g} Hz, moving camera, depth noise."
        f" `python -m benchmarks.bench_accuracy`, {options.seeds} seeds, {options.jobs} clips at a time on {cores},"
        f" network `{options.config.network.weights}` ({weights_of(options)}), commit {commit[:12]}."
    )


def write_csv(path: Path, scores: Sequence[ClipScore]) -> None:
    rows = flat_rows(scores)
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
