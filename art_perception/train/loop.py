"""The training loop of the window network: one process, or several under ``torchrun``.

Every batch is a function of (seed, rank, step) alone, so a run that was killed continues on the same curve. Rendered
windows are used a few times, some steps apart and each time turned and mirrored, because rendering is a third of the
cost of a training step on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from art_perception.data.bank import Bank
from art_perception.data.windows import WindowsConfig, draw_windows
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import load_sim2art, save_sim2art
from art_perception.models.losses import LossConfig, losses
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.train.augment import augment
from art_perception.train.curve import SIM2ART_PANELS, append_row, draw_curve, drop_rows_after, read_rows
from art_perception.train.run import (
    Interval,
    Optimisation,
    Run,
    begin,
    follow,
    loss_columns,
    prepare,
    restore,
    save_state,
    schedule,
    settings_of,
    update,
    world,
)
from art_perception.train.validate import Batch, validate

Draw = Callable[[Bank, int, WindowsConfig, np.random.Generator, str], Batch]


@dataclass(frozen=True, slots=True)
class TrainConfig(Optimisation):
    """Optimisation."""

    fresh: int = 4
    """Windows rendered per step and process."""
    lags: tuple[int, ...] = (0, 7, 17, 31)
    """Steps after which a rendered batch is used (again); its length times ``fresh`` is the batch per process."""
    validation_windows: int = 96
    """Held-out windows scored each time."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run is determined by, besides its objects."""

    model: Sim2ArtConfig = field(default_factory=Sim2ArtConfig)
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


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
    out.mkdir(parents=True, exist_ok=True)
    run = _resume(recipe, training, processes, out, device, start)
    if rank == 0:
        drop_rows_after(out / "curve.csv", run.step)
    batches = list(_validation(held_out, recipe, device, draw)) if rank == 0 else []
    network = DistributedDataParallel(run.model) if processes > 1 else run.model
    render = _Renderer(training, recipe, rank, device, draw)

    def settle(interval: Interval) -> None:
        row = _row(run, recipe, interval, processes) | _validated(run, recipe, batches)
        _keep(run, recipe, out, row, training)
        if report:
            report(row)

    follow(run, recipe.train, device, lambda: _advance(run, network, render, recipe), settle)
    return out / "sim2art.safetensors"


def _resume(recipe: Recipe, training: Bank, processes: int, out: Path, device: str, start: Path | None) -> Run:
    torch.manual_seed(recipe.train.seed)
    model = Sim2Art(recipe.model).to(device)
    sources = set(training.sources)
    if start is not None:
        sources |= _begin_with(model, start)
    run = begin(model, recipe.train, settings_of(asdict(recipe), training.names, processes), sources)
    restore(run, out / "state.pt", device)
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


def _advance(run: Run, network: torch.nn.Module, render: _Renderer, recipe: Recipe) -> tuple[dict[str, float], float]:
    """One optimiser step; returns the mean of each loss term and the seconds spent on rendering."""
    config = recipe.train
    prepare(run, config)
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
    update(run, config)
    return sums, rendering


def _validation(bank: Bank, recipe: Recipe, device: str, draw: Draw) -> Iterator[Batch]:
    for i in range(math.ceil(recipe.train.validation_windows / 8)):
        yield draw(bank, 8, recipe.windows, np.random.default_rng([i, 77]), device)


def _row(run: Run, recipe: Recipe, interval: Interval, processes: int) -> dict[str, float]:
    config = recipe.train
    batch = config.fresh * len(config.lags) * processes
    return {
        "step": run.step,
        "windows": run.step * batch,
        "seconds": run.seconds,
        "windows_per_s": interval.steps * batch / interval.seconds,
        "rendering_share": interval.rendering / interval.seconds,
        "rate": config.rate * schedule(run.step, config),
        **loss_columns(interval.terms),
    }


def _validated(run: Run, recipe: Recipe, batches: list[Batch]) -> dict[str, float]:
    model = Sim2Art(recipe.model).to(batches[0][0].points.device)
    model.load_state_dict(run.average)
    return validate(model, batches)


def _keep(run: Run, recipe: Recipe, out: Path, row: dict[str, float], bank: Bank) -> None:
    """Save weights, curve and state, the state last."""
    append_row(out / "curve.csv", row)
    draw_curve(read_rows(out / "curve.csv"), out / "curve.png", "windows", SIM2ART_PANELS)
    about = {"metrics": row, "sources": sorted(run.sources), "objects": len(bank.names)}
    save_sim2art(out / "sim2art.safetensors", run.average, recipe.model, about)
    save_state(run, out / "state.pt")
