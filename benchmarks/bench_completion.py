"""Completion of single views of held-out objects: shape, pose and joints, stage by stage (KineDiff3D).

    python -m benchmarks.bench_completion --assets DIR --out OUT --publish     # val split of the asset collections too
    python -m benchmarks.bench_completion --out OUT --views 1 --seeds 1        # procedural objects, needs nothing

The objects are packed once into OUT/val_shapes.npz. Scores are appended to OUT/scores.jsonl, and a second run with the
same OUT goes on where the first one stopped; more views, seeds, categories or rows may be asked for then. The tables go
to OUT/tables.md; with --publish they go to docs/benchmarks.md.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import platform
import resource
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import tyro
from tqdm import tqdm

from art_perception.cli.training import kept
from art_perception.complete import CompletionConfig, Networks, complete, load_networks
from art_perception.data.bank import training_objects
from art_perception.data.categories import NAMES
from art_perception.data.partial import ViewsConfig
from art_perception.data.sdf import SdfConfig
from art_perception.data.shape_bank import (
    ShapeBank,
    ShapeBankConfig,
    load_shape_bank,
    make_shape_bank,
    save_shape_bank,
    shapes_of,
)
from art_perception.errors import UsageError
from art_perception.eval.benchmark import claim
from art_perception.eval.benchmark_completion import ROUNDS, ROWS, SeenObject, measure, see_object, settings_of
from art_perception.eval.completion_tables import Scored, from_json, section, to_json
from art_perception.eval.shape_error import SAMPLES
from art_perception.models.checkpoint import SHIPPED, fingerprint, kinediff3d_file
from benchmarks.publish import published


@dataclass(frozen=True, slots=True)
class Options:
    """Measure the completion of single views."""

    out: Path
    """Folder for objects, scores and tables; a run that was interrupted goes on from what is there."""
    assets: Path | None = None
    """Folder that holds partnet_mobility/; without it only procedural objects are measured."""
    objects: int = 4
    """Procedural objects per category of the simulator."""
    categories: tuple[str, ...] = NAMES
    """Which categories."""
    views: int = 2
    """Views per object and seed."""
    seeds: int = 3
    """Repetitions with other views, joint values and noise."""
    rows: tuple[str, ...] = ROWS
    """Which rows to measure."""
    weights: str = SHIPPED
    """Folder with kinediff3d_vae, _pose, _latent and _census.safetensors; shipped = the package's own."""
    jobs: int = 2
    """Views at the same time, one thread each."""
    publish: bool = False
    """Write the tables into docs/benchmarks.md."""
    view: ViewsConfig = field(default_factory=ViewsConfig)
    config: CompletionConfig = field(default_factory=CompletionConfig)
    shapes: ShapeBankConfig = field(default_factory=lambda: ShapeBankConfig(points=SAMPLES))
    sdf: SdfConfig = field(default_factory=SdfConfig)


@dataclass(frozen=True, slots=True)
class Job:
    """The views of one object in one repetition, and the rows of each that are not known yet."""

    index: int
    seed: int
    missing: tuple[tuple[int, tuple[str, ...]], ...]
    options: Options


def main() -> None:
    """Measure what is missing, then write tables."""
    options = tyro.cli(Options, description=__doc__)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    published("completion", lambda: run(options), options.publish)


def run(options: Options) -> str:
    """Measure what is missing and return the section, which is in OUT/tables.md too."""
    commit = prepare(options)
    bank = packed(options)
    store = options.out / "scores.jsonl"
    jobs = pending(options, bank, store)
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in tqdm(
            as_completed([pool.submit(measured, job) for job in jobs]), "views", len(jobs), unit=" objects"
        ):
            append(store, done.result())
    text = section(header(options, bank, commit), chosen(options, store), ROUNDS, memory_mb(options, bank))
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    return text


def prepare(options: Options) -> str:
    """Check names and weights before hours of work; return the commit whose scores ``out`` holds.

    Raises:
        UsageError: a row or category is unknown, or ``out`` was measured with other settings or weights.
        CheckpointError: weights cannot be read.
    """
    for asked, known, what in ((options.rows, ROWS, "row"), (options.categories, NAMES, "category")):
        if set(asked) - set(known):
            raise UsageError(f"no {what} is called {', '.join(sorted(set(asked) - set(known)))}: "
                             f"choose from {', '.join(known)}")  # fmt: skip
    settings = [
        asdict(options.view),
        asdict(options.config),
        asdict(options.shapes),
        str(options.assets),
        options.objects,
    ]
    return claim(options.out, {"settings": settings, "weights": weights_of(options)})


def weights_of(options: Options) -> dict[str, str]:
    """Fingerprints of the three networks."""
    own = networks_of(options.weights)
    return {name: f"{fingerprint(getattr(own, name)):08x}" for name in ("prior", "pose", "latent")}


@functools.cache
def networks_of(weights: str) -> Networks:
    """The networks, read once per process."""
    prior, pose, latent, census = (kinediff3d_file(weights, s) for s in ("vae", "pose", "latent", "census"))
    return load_networks(prior, pose, latent, census)


def packed(options: Options) -> ShapeBank:
    """The held-out objects, packed once."""

    def make() -> ShapeBank:
        samples = shapes_of(training_objects(options.assets, "val", options.objects), options.shapes)
        return make_shape_bank(tqdm(samples, "objects", unit=" objects"), options.shapes, options.sdf)

    return load_shape_bank(kept(bank_of(options), "cpu", make, save_shape_bank))


def bank_of(options: Options) -> Path:
    return options.out / "val_shapes.npz"


def pending(options: Options, bank: ShapeBank, store: Path) -> list[Job]:
    """What is not in the store yet; objects by turns, so that an interrupted run has seen all categories."""
    known = {(s.row, s.object, s.category, s.seed, s.view) for s in records(store)}
    order = sorted(range(len(bank.names)), key=lambda i: (list(bank.category[:i]).count(bank.category[i]), i))
    jobs = []
    for seed in range(options.seeds):
        for i in (i for i in order if NAMES[bank.category[i]] in options.categories):
            own = (str(bank.names[i]), NAMES[bank.category[i]], seed)
            rows = ((v, tuple(r for r in options.rows if (r, *own, v) not in known)) for v in range(options.views))
            missing = tuple((v, r) for v, r in rows if r)
            jobs += [Job(i, seed, missing, options)] if missing else []
    return jobs


def records(store: Path) -> list[Scored]:
    return [from_json(line) for line in store.read_text().splitlines()] if store.exists() else []


def append(store: Path, scores: Iterable[Scored]) -> None:
    with store.open("a", encoding="utf-8") as out:
        out.writelines(to_json(s) + "\n" for s in scores)


def chosen(options: Options, store: Path) -> list[Scored]:
    """Scores of what was asked for, rows in their order; the store may hold more."""
    wanted = [s for s in records(store) if s.category in options.categories and s.seed < options.seeds]
    wanted = [s for s in wanted if s.view < options.views and s.row in options.rows]
    return sorted(wanted, key=lambda s: (ROWS.index(s.row), NAMES.index(s.category), s.object, s.seed, s.view))


def measured(job: Job) -> list[Scored]:
    """Look, complete, score."""
    options, networks = job.options, networks_of(job.options.weights)
    config = replace(options.config, seed=options.config.seed + job.seed)
    out: list[Scored] = []
    for view, rows in job.missing:
        seen = see(options, job.index, job.seed, view)
        out += measure(seen, networks, config, rows, SAMPLES, job.seed, view)
    return out


def see(options: Options, index: int, seed: int, view: int) -> SeenObject:
    networks = networks_of(options.weights)
    return see_object(_bank(bank_of(options)), index, networks, options.view, seed, view)


@functools.cache
def _bank(path: Path) -> ShapeBank:
    return load_shape_bank(path)


def memory_mb(options: Options, bank: ShapeBank) -> dict[str, float]:
    """Peak memory of completing one view with the most rounds, in a process of its own, measured once."""
    path = options.out / "memory.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    index = next(i for i, c in enumerate(bank.category) if NAMES[c] in options.categories)
    most = [row for row in ROUNDS if row in options.rows][-1:]
    for row in (row for row in most if row not in known):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            known[row] = pool.submit(peak_mb, options, index, row).result()
    path.write_text(json.dumps(known), encoding="utf-8")
    return known


def peak_mb(options: Options, index: int, row: str) -> float:
    """Complete one view and return the peak memory of this process."""
    seen = see(options, index, 0, 0)
    networks = networks_of(options.weights)
    complete(seen.points, seen.category, networks, settings_of(row, options.config), seen.beyond)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def header(options: Options, bank: ShapeBank, commit: str) -> str:
    """Title and what was measured on what."""
    own = [i for i, c in enumerate(bank.category) if NAMES[c] in options.categories]
    partnet = sum(str(bank.sources[i]) == "partnet" for i in own)
    weights = ", ".join(f"{name} {digest}" for name, digest in weights_of(options).items())
    return (
        "## Completion of single views (KineDiff3D)\n\n"
        f"{len(own)} held-out samples (an object and one of its joints; {partnet} of PartNet-Mobility, the others"
        f" procedural), {options.views} views of each and {options.seeds} seeds, {options.view.points} points with"
        f" depth noise, an obstacle in {100 * options.view.occluded:.0f} % of the views."
        f" `python -m benchmarks.bench_completion`, meshes of {options.config.voxels} voxels,"
        f" {options.config.pose.hypotheses} hypotheses, {options.jobs} views at a time with one thread each on"
        f" {os.cpu_count()} cores ({platform.machine()}), weights {weights}, commit {commit[:12]}."
    )


if __name__ == "__main__":
    main()
