"""``art-perception evaluate``: run on recordings with ground truth and score what comes out.

Every clip runs in a process of its own, so that its peak memory is its own and a crash costs one row, not the table.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import re
import resource
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tyro.conf import Positional

from art_perception.cli.files import write_text
from art_perception.cli.options import parse
from art_perception.cli.progress import counted
from art_perception.cli.run import Recording, run_bag
from art_perception.cli.scores import require_truth, score_folder
from art_perception.cli.signals import end_on_signals
from art_perception.errors import ArtPerceptionError
from art_perception.eval.scoring import ClipScore, Truth, failed_clip
from art_perception.eval.tables import by_category, clip_lines, flat_rows, summarise, terminal_table
from art_perception.io.cleanup import cleaned_up
from art_perception.io.results import code_version
from art_perception.pipeline import Config


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """Run on bags with ground truth and score the results: metrics.json, metrics.csv and a table."""

    bags: Positional[tuple[Path, ...]]
    """Recordings with /ground_truth topics."""
    out: Path
    """Folder for the metrics and, in a folder per clip, the results."""
    jobs: int = 1
    """Clips that run at the same time."""
    recording: Recording = field(default_factory=Recording)
    config: Config = field(default_factory=Config)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One clip to run and score."""

    name: str
    bag: Path
    truth: Truth
    folder: Path


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    truths = [require_truth(bag) for bag in options.bags]
    names = clip_names(options.bags)
    jobs = [Job(n, b, t, options.out / n) for n, b, t in zip(names, options.bags, truths, strict=True)]
    with ThreadPoolExecutor(options.jobs) as pool:
        scored = pool.map(lambda job: evaluate_clip(job, options.config, options.recording), jobs)
        scores = list(counted(scored, len(jobs), "evaluating"))
    write_metrics(options.out, scores)
    failures = "".join(f"no result for {score.clip}: {score.error}\n" for score in scores if score.error)
    table = terminal_table({**by_category(scores), "all": summarise(scores)}, "category")
    print(f"{clip_lines(scores)}{failures}\n{table}")
    return 0


def clip_names(bags: Sequence[Path]) -> list[str]:
    """Name a folder per recording; numbered where names repeat."""
    names = [bag.resolve().with_suffix("").name for bag in bags]
    return [name if names.count(name) == 1 else f"{i:02d}_{name}" for i, name in enumerate(names)]


def evaluate_clip(job: Job, config: Config, recording: Recording) -> ClipScore:
    """Run one clip in a process of its own and score it; whatever goes wrong becomes a row with an error."""
    category = re.sub(r"[_\d]+$", "", job.name)
    error, memory_mb = run_apart(job.bag, job.folder, config, recording)
    if error is None:
        try:
            return score_folder(job.name, job.folder, job.bag, job.truth, category, memory_mb)
        except ArtPerceptionError as problem:
            error = str(problem)
    return failed_clip(job.name, job.truth, error, category, peak_memory_mb=memory_mb)


def run_apart(bag: Path, folder: Path, config: Config, recording: Recording) -> tuple[str | None, float]:
    """Call ``run_bag`` in a new process; return the error, if any, and its peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, bag, folder, config, recording), daemon=True)
    process.start()
    with cleaned_up(process.terminate):
        sender.close()
        process.join()
    try:
        error, memory_mb = receiver.recv()
    except EOFError:
        return f"the process died with exit code {process.exitcode} (-9: out of memory?)", 0.0
    return error, memory_mb


def _run(sender: Connection, bag: Path, folder: Path, config: Config, recording: Recording) -> None:
    end_on_signals()
    error = None
    try:
        run_bag(bag, folder, config, recording)
    except ArtPerceptionError as problem:
        error = str(problem)
    except Exception as bug:  # a bug costs this clip's row, and is told there
        error = f"{type(bug).__name__}: {bug}"
    sender.send((error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def write_metrics(out: Path, scores: Sequence[ClipScore]) -> None:
    """Write metrics.json and metrics.csv.

    Raises:
        OutputError: a file cannot be written.
    """
    document = {
        "version": 1,
        "commit": code_version(),
        "summary": summarise(scores),
        "categories": by_category(scores),
        "clips": [asdict(score) | {"success": score.success} for score in scores],
    }
    write_text(out / "metrics.json", json.dumps(document, indent=1) + "\n")
    rows = flat_rows(scores)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "metrics.csv", table.getvalue())
