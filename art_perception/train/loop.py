"""The training loop of the window network: one process, or several under ``torchrun``.

Every batch is a function of (seed, rank, step) alone, so a run that was killed continues on the same curve. Rendered
windows are used a few times, some steps apart and each time turned and mirrored, because rendering is a third of the
cost of a training step on a CPU.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from art_perception.data.bank import Bank
from art_perception.data.windows import WindowsConfig, draw_windows
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import load_sim2art, save_sim2art
from art_perception.models.losses import LossConfig, losses
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.train.augment import augment
from art_perception.train.curve import append_row, draw_curve, drop_rows_after, read_rows
from art_perception.train.validate import Batch, validate

Draw = Callable[[Bank, int, WindowsConfig, np.random.Generator, str], Batch]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Optimisation."""

    steps: int = 6000
    """Optimiser steps of the whole schedule."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the network's matrix products; losses and 3x3 systems are always in float32."""
    fresh: int = 4
    """Windows rendered per step and process."""
    lags: tuple[int, ...] = (0, 7, 17, 31)
    """Steps after which a rendered batch is used (again); its length times ``fresh`` is the batch per process."""
    rate: float = 1e-3
    """Peak learning rate (AdamW)."""
    decay: float = 0.02
    """Weight decay."""
    warmup: int = 200
    """Steps of linear warm-up; a cosine to 2 % of the peak follows."""
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.998
    """Decay of the averaged weights, which are what is validated and saved."""
    seed: int = 0
    """Seed of weights and windows."""
    validate_every: int = 250
    """Steps between validations, each of which saves the state."""
    validation_windows: int = 96
    """Held-out windows scored each time."""
    max_minutes: float = 1e9
    """Stop when the next validation would come later than this; the same call continues from there."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run is determined by, besides its objects."""

    model: Sim2ArtConfig = field(default_factory=Sim2ArtConfig)
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(eq=False)
class _Run:
    """State with the lifetime of a run.

    Attributes:
        settings: what a saved state must share to be continued.
        sources: of all objects the weights have seen, those of the weights it started from included.
        model, average, optimizer: what is trained.
        step: steps taken.
        seconds: spent on them.
    """

    settings: str
    sources: set[str]
    model: Sim2Art
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Interval:
    """Steps between two validations: how many, mean loss terms, seconds in all and for rendering."""

    steps: int
    terms: dict[str, float]
    seconds: float
    rendering: float


def world(device: str) -> tuple[int, int]:
    """Rank and number of processes; joins the group, each on a GPU of its own, when started by ``torchrun``."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()


def train(
    recipe: Recipe,
    training: Bank,
    held_out: Bank,
    out: Path,
    device: str,
    start: Path | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    draw: Draw = draw_windows,
) -> Path:
    """Train, or continue the run in ``out``.

    Args:
        recipe: sizes, losses, schedule.
        training: objects to learn from.
        held_out: objects to validate on.
        out: gets ``sim2art.safetensors``, ``state.pt``, ``curve.csv`` and ``curve.png``.
        device: ``cpu`` or ``cuda``.
        start: weights to begin with instead of random ones.
        report: called with every row of the curve, on the first process.
        draw: gives the windows to train and validate on.

    Returns:
        Path of the averaged weights.

    Raises:
        CheckpointError: ``out`` holds a run of another recipe, other objects or another number of processes, or a
            damaged state; or ``start`` holds another network.
    """
    rank, processes = world(device)
    begun = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    run = _resume(recipe, training, processes, out, device, start)
    if rank == 0:
        drop_rows_after(out / "curve.csv", run.step)
    batches = list(_validation(held_out, recipe, device, draw)) if rank == 0 else []
    network = DistributedDataParallel(run.model) if processes > 1 else run.model
    render = _Renderer(training, recipe, rank, device, draw)
    late = False
    while run.step < recipe.train.steps and not late:
        interval = _train_on(run, network, render, recipe)
        if rank == 0:
            row = _row(run, recipe, interval, processes) | _validated(run, recipe, batches)
            _keep(run, recipe, out, row, training)
            if report:
                report(row)
        ahead = time.perf_counter() - begun + interval.seconds
        late = _agreed(ahead > 60 * recipe.train.max_minutes, device)
    return out / "sim2art.safetensors"


def _settings(recipe: Recipe, training: Bank, processes: int) -> str:
    """What determines a run, without what may change between its sessions."""
    fields = asdict(recipe)
    del fields["train"]["max_minutes"]
    return f"{fields} {processes} processes, objects {zlib.crc32(' '.join(training.names).encode())}"


def _agreed(decision: bool, device: str) -> bool:
    """The first process's decision."""
    if not dist.is_initialized():
        return decision
    flag = torch.tensor([decision], dtype=torch.uint8, device=device)
    dist.broadcast(flag, 0)
    return bool(flag)


def _resume(recipe: Recipe, training: Bank, processes: int, out: Path, device: str, start: Path | None) -> _Run:
    torch.manual_seed(recipe.train.seed)
    model = Sim2Art(recipe.model).to(device)
    sources = set(training.sources)
    if start is not None:
        sources |= _begin_with(model, start)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.train.rate, weight_decay=recipe.train.decay)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    run = _Run(_settings(recipe, training, processes), sources, model, average, optimizer, 0, 0.0)
    if (out / "state.pt").exists():
        _restore(run, out / "state.pt", device)
    return run


def _begin_with(model: Sim2Art, path: Path) -> set[str]:
    """Copy weights and return their sources; frames, points and keypoints may differ in number."""
    weights, about = load_sim2art(path)
    try:
        model.load_state_dict(weights.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds a network of other sizes: choose the preset it was trained with"
        ) from error
    return set(about.get("sources", ()))


def _restore(run: _Run, path: Path, device: str) -> None:
    """Continue where a saved state ends."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged: delete it to start again") from error
    if state["settings"] != run.settings:
        raise CheckpointError(
            f"{path.parent} holds a run with other settings: give another --out, or the same settings"
        )
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.average, run.step, run.seconds = state["average"], state["step"], state["seconds"]
    run.sources |= set(state["sources"])


def _train_on(run: _Run, network: Sim2Art | DistributedDataParallel, render: _Renderer, recipe: Recipe) -> _Interval:
    """Take the steps up to the next validation."""
    begun, first, every = time.perf_counter(), run.step, recipe.train.validate_every
    totals: dict[str, float] = {}
    rendering = 0.0
    while run.step == first or (run.step % every and run.step < recipe.train.steps):
        terms, spent = _advance(run, network, render, recipe)
        rendering += spent
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value
        run.step += 1
    seconds, steps = time.perf_counter() - begun, run.step - first
    run.seconds += seconds
    return _Interval(steps, {name: value / steps for name, value in totals.items()}, seconds, rendering)


class _Renderer:
    """Gives the batches of every step; keeps rendered windows for as long as the lags need them."""

    def __init__(self, bank: Bank, recipe: Recipe, rank: int, device: str, draw: Draw) -> None:
        self.bank, self.recipe, self.rank, self.device, self.draw = bank, recipe, rank, device, draw
        self.kept: dict[int, Batch] = {}

    def batches(self, step: int) -> Iterator[Batch]:
        """Micro-batches of a step."""
        oldest = step - max(self.recipe.train.lags)
        self.kept = {kept: batch for kept, batch in self.kept.items() if kept >= oldest}
        for use, lag in enumerate(self.recipe.train.lags):
            window, truth = self._rendered(step - lag)
            seed = hash((self.recipe.train.seed, self.rank, step, use)) % 2**63
            yield augment(window, truth, torch.Generator(device=self.device).manual_seed(seed))

    def _rendered(self, step: int) -> Batch:
        if step not in self.kept:
            # steps before the first are rendered like any other, so that all batches have one size
            rng = np.random.default_rng([self.recipe.train.seed, self.rank, step + 10_000])
            config = self.recipe.train
            self.kept[step] = self.draw(self.bank, config.fresh, self.recipe.windows, rng, self.device)
        return self.kept[step]


def _advance(
    run: _Run, network: Sim2Art | DistributedDataParallel, render: _Renderer, recipe: Recipe
) -> tuple[dict[str, float], float]:
    """One optimiser step; returns the mean of each loss term and the seconds spent on rendering."""
    config = recipe.train
    for group in run.optimizer.param_groups:
        group["lr"] = config.rate * schedule(run.step, config)
    run.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    count, rendering = len(config.lags), 0.0
    batches = render.batches(run.step)
    for i in range(count):
        start = time.perf_counter()
        window, truth = next(batches)
        rendering += time.perf_counter() - start
        more = isinstance(network, DistributedDataParallel) and i < count - 1
        with cast("DistributedDataParallel", network).no_sync() if more else nullcontext():
            with torch.autocast(window.points.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                output = network(window)
            terms = losses(output, window, truth, recipe.loss)
            (torch.stack(list(terms.values())).sum() / count).backward()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / count
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
    run.optimizer.step()
    keep = min(config.ema, (1 + run.step) / (10 + run.step))
    for name, value in run.model.state_dict().items():
        run.average[name].lerp_(value, 1 - keep)
    return sums, rendering


def schedule(step: int, config: TrainConfig) -> float:
    """Learning rate as a share of its peak: linear warm-up, then a cosine down to 2 %."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _validation(bank: Bank, recipe: Recipe, device: str, draw: Draw) -> Iterator[Batch]:
    for i in range(math.ceil(recipe.train.validation_windows / 8)):
        yield draw(bank, 8, recipe.windows, np.random.default_rng([i, 77]), device)


def _row(run: _Run, recipe: Recipe, interval: _Interval, processes: int) -> dict[str, float]:
    config = recipe.train
    batch = config.fresh * len(config.lags) * processes
    return {
        "step": run.step,
        "windows": run.step * batch,
        "seconds": run.seconds,
        "windows_per_s": interval.steps * batch / interval.seconds,
        "rendering_share": interval.rendering / interval.seconds,
        "rate": config.rate * schedule(run.step, config),
        "loss": sum(interval.terms.values()),
        **{f"loss_{name}": value for name, value in interval.terms.items()},
    }


def _validated(run: _Run, recipe: Recipe, batches: list[Batch]) -> dict[str, float]:
    model = Sim2Art(recipe.model).to(batches[0][0].points.device)
    model.load_state_dict(run.average)
    return validate(model, batches)


def _keep(run: _Run, recipe: Recipe, out: Path, row: dict[str, float], bank: Bank) -> None:
    """Save weights, state and curve; the state last and in one piece, so that a kill leaves the one before."""
    append_row(out / "curve.csv", row)
    draw_curve(read_rows(out / "curve.csv"), out / "curve.png")
    about = {"metrics": row, "sources": sorted(run.sources), "objects": len(bank.names)}
    save_sim2art(out / "sim2art.safetensors", run.average, recipe.model, about)
    state = {
        "settings": run.settings,
        "sources": sorted(run.sources),
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "average": run.average,
        "step": run.step,
        "seconds": run.seconds,
    }
    torch.save(state, out / "state.partial")
    (out / "state.partial").replace(out / "state.pt")
