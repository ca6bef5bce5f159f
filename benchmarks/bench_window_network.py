"""Speed and memory of the window network: forward pass, training windows, sampling of measured frames.

    python -m benchmarks.bench_window_network --publish
    python -m benchmarks.bench_window_network --sizes base --what forward training --device cuda

Everything is measured in a process of its own; times are medians, of the clock and of the processor (all threads
together), which tells more on a busy machine. The forward pass runs in float32 on a CPU and in bfloat16 on a GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
import tyro

from art_perception.cli.train import GPU, packed
from art_perception.cli.training import TrainOptions
from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.data.windows import draw_windows
from art_perception.estimation.dense import densify
from art_perception.estimation.flow import optical_flow
from art_perception.estimation.sample import sample_window
from art_perception.eval.benchmark import write_section
from art_perception.eval.tables import markdown_lines
from art_perception.io.results import code_version
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.pipeline import Config
from art_perception.train.sim2art import Recipe, sim2art_stage
from art_perception.train.stage import train_stage
from art_perception.types import PointWindow, Window
from benchmarks.publish import DOCUMENT

T = TypeVar("T")
SIZES = {"small": Recipe(), "base": GPU}
TARGETS = {("small", "cpu"): "<= 15", ("base", "cuda"): "<= 1.5"}
"""Milliseconds per frame that have to be reached, the CPU's on two threads."""


@dataclass(frozen=True, slots=True)
class Options:
    """Measure speed and memory of the window network."""

    sizes: tuple[Literal["small", "base"], ...] = ("small", "base")
    """Which networks."""
    what: tuple[Literal["forward", "training", "sampling"], ...] = ("forward", "training", "sampling")
    """Which measurements; training of base needs a GPU."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """Where base runs; small is for CPUs."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of the forward pass on a CPU."""
    repeats: int = 15
    """Forward passes, renderings and samplings."""
    objects: Path | None = None
    """Folder in which `art-perception train` packed its objects; without it a few procedural ones are used."""
    publish: bool = False
    """Write the tables into docs/benchmarks.md."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of a call by the clock, and of processor time over all threads."""

    ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Forward:
    """The forward pass of one network."""

    size: str
    device: str
    threads: int
    parameters: int
    frames: int
    points: int
    time: Timing
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Training:
    """A training in its steady state, and its renderer alone."""

    size: str
    device: str
    windows_per_s: float
    rendering_share: float
    needed_per_s: float
    rendered_per_s: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """Measured frames to a window for the network."""

    frames: int
    points: int
    time: Timing


def main() -> None:
    """Measure, print, publish."""
    options = tyro.cli(Options, description=__doc__)
    text = section(options, *measured(options))
    print(text)
    if options.publish:
        write_section(DOCUMENT, "network", text)


def measured(options: Options) -> tuple[list[Forward], list[Training], list[Sampling]]:
    """Everything that was asked for."""
    forwards: list[Forward] = []
    trainings: list[Training] = []
    for size in options.sizes:
        device = options.device if size == "base" else "cpu"
        if "forward" in options.what:
            threads = options.threads if device == "cpu" else options.threads[:1]
            forwards += [apart(forward, size, SIZES[size].model, n, device, options.repeats) for n in threads]
        if "training" in options.what and (size == "small" or device == "cuda"):
            trainings.append(apart(training, size, device, options.objects, options.repeats))
    samplings = [apart(sampling, Recipe().model, options.repeats)] if "sampling" in options.what else []
    return forwards, trainings, samplings


def apart(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a process of its own, whose memory and threads are nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def forward(size: str, config: Sim2ArtConfig, threads: int, device: str, repeats: int) -> Forward:
    """Time the forward pass on one window."""
    torch.set_num_threads(threads)
    model = Sim2Art(config).eval().to(device)
    window = random_window(config, device)

    def run() -> None:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            model(window)

    timing = timed(run, repeats, device)
    parameters = sum(p.numel() for p in model.parameters())
    return Forward(size, device, threads, parameters, config.frames, config.points, timing, peak_memory_mb(device))


def random_window(config: Sim2ArtConfig, device: str) -> PointWindow:
    """A window of noise; what a window holds does not change what it costs."""
    rng = torch.Generator().manual_seed(0)
    shape = (1, config.frames, config.points)
    points, flow, normals = (2 * torch.rand(*shape, 3, generator=rng).to(device) - 1 for _ in range(3))
    return PointWindow(
        points=points,
        flow=flow,
        flow_valid=torch.ones(shape, dtype=torch.bool, device=device),
        normals=torch.nn.functional.normalize(normals, dim=-1),
        seen=torch.rand(*shape, 4, generator=rng).to(device),
        center=torch.zeros(1, 3, device=device),
        scale=torch.ones(1, device=device),
        flow_scale=torch.full((1,), 0.05, device=device),
    )


def training(size: str, device: str, objects: Path | None, repeats: int) -> Training:
    """Train for as long as it takes until every batch is used as often as it will be, then as long again."""
    recipe = SIZES[size]
    model, lags = recipe.model, recipe.train.lags
    steps = max(20, max(lags) + 1)
    config = replace(recipe.train, steps=2 * steps, validate_every=steps, validation_windows=8)
    windows = replace(recipe.windows, frames=model.frames, points=model.points)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="bench_") as name:
        options = TrainOptions(network="sim2art", out=objects or Path(name), seeds=2, device=device, recipe=recipe)
        bank = packed(options, "train")
        out = Path(name) / "run"
        stage = sim2art_stage(replace(recipe, train=config, windows=windows), bank, bank, device)
        train_stage(stage, out, device, rows.append)
    rng = np.random.default_rng(0)
    rendering = timed(lambda: draw_windows(bank, config.fresh, windows, rng, device), repeats, device)
    return Training(
        size=size,
        device=device,
        windows_per_s=rows[-1]["windows_per_s"],
        rendering_share=rows[-1]["rendering_share"],
        needed_per_s=rows[-1]["windows_per_s"] / len(lags),
        rendered_per_s=1000 * config.fresh / rendering.ms,
        memory_mb=peak_memory_mb(device),
    )


def sampling(model: Sim2ArtConfig, repeats: int) -> Sampling:
    """Time the way from measured frames with optical flow to a window."""
    config = Config()
    clip = simulate(make_object("laptop", 1), SimulateConfig(frames=model.frames), 1)
    dense = densify(Window(tuple(sample.frame for sample in clip)), config.flow.width)
    flows, frames = optical_flow(dense, config.flow.model), np.arange(model.frames)
    timing = timed(
        lambda: sample_window(dense, flows, frames, dense.usable, model.points, 0.002, config.flow), repeats, "cpu"
    )
    return Sampling(model.frames, model.points, timing)


def timed(run: Callable[[], object], repeats: int, device: str) -> Timing:
    """Median time of a call after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        start, start_cpu = time.perf_counter(), time.process_time()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start, time.process_time() - start_cpu))
    ms, cpu_ms = 1000 * np.median(times[2:], 0)
    return Timing(float(ms), float(cpu_ms))


def peak_memory_mb(device: str) -> float:
    """Peak memory of this process, or of what it put on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def section(
    options: Options, forwards: Sequence[Forward], trainings: Sequence[Training], samplings: Sequence[Sampling]
) -> str:
    """The section of docs/benchmarks.md."""
    gpu = f" and one {torch.cuda.get_device_name()}" if options.device == "cuda" else ""
    parts = [
        "## Window network: time and memory",
        f"{os.cpu_count()} cores ({platform.machine()}){gpu}, medians of {options.repeats},"
        f" `python -m benchmarks.bench_window_network`, commit {code_version()[:12]}.",
        forward_table(forwards) if forwards else "",
        training_table(trainings) if trainings else "",
        *(
            f"Sampling {s.frames} measured frames of {s.points} points each, optical flow given: {s.time.ms:.1f} ms"
            f" ({s.time.cpu_ms:.1f} ms of processor time)."
            for s in samplings
        ),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def forward_table(forwards: Sequence[Forward]) -> str:
    """GitHub table of forward passes."""
    lines = [["forward pass", "parameters", "window", "ms per window", "ms per frame", "target"]]
    lines[0] += ["processor ms per frame", "peak MB"]
    for f in forwards:
        threads = f"{f.threads} thread{'s' if f.threads > 1 else ''}"
        target = TARGETS.get((f.size, f.device), "") if f.device == "cuda" or f.threads > 1 else ""
        lines.append(
            [
                f"`{f.size}`, {threads if f.device == 'cpu' else 'GPU'}",
                f"{f.parameters / 1e6:.2f} M",
                f"{f.frames} x {f.points}",
                f"{f.time.ms:.1f}",
                f"{f.time.ms / f.frames:.2f}",
                target,
                f"{f.time.cpu_ms / f.frames:.2f}",
                f"{f.memory_mb:.0f}",
            ]
        )
    return markdown_lines(lines)


def training_table(trainings: Sequence[Training]) -> str:
    """GitHub table of trainings; data would be starved if windows were needed faster than they can be rendered."""
    head = ["training, one process", "windows/s", "share of time spent rendering", "new windows/s needed"]
    lines = [[*head, "rendered alone, windows/s", "peak MB"]]
    for t in trainings:
        lines.append(
            [
                f"`{t.size}`, {'GPU' if t.device == 'cuda' else 'CPU'}",
                f"{t.windows_per_s:.1f}",
                f"{100 * t.rendering_share:.0f} %",
                f"{t.needed_per_s:.1f}",
                f"{t.rendered_per_s:.1f}",
                f"{t.memory_mb:.0f}",
            ]
        )
    return markdown_lines(lines)


if __name__ == "__main__":
    main()
