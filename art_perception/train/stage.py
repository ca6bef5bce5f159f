"""A training run of any network that learns from batches of a shape bank: resumed, averaged, validated, kept.

Every batch is a function of (seed, rank, step) alone, so a run that was killed continues on the same curve.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from art_perception.train.curve import Panel, append_row, draw_curve, drop_rows_after, read_rows
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

Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class BatchOptimisation(Optimisation):
    """Optimisation."""

    steps: int = 20_000
    """Optimiser steps of the whole schedule."""
    decay: float = 0.01
    """Weight decay."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is validated and saved."""
    validate_every: int = 500
    """Steps between validations, each of which saves the state."""
    batch: int = 16
    """Objects, or views of them, per step and process."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage(Generic[Network, Batch]):
    """What a stage brings to the run.

    Attributes:
        name: of the weights' file; unit: what batches are made of, in the plural.
        recipe: dataclass with a ``train: BatchOptimisation``; with the objects it determines the run.
        objects: names of the objects it learns from; sources: where they come from.
        fresh: makes an untrained network, after the seed is set.
        draw: makes a batch.
        losses: weighted loss terms of a batch.
        validate: columns of the curve; panels: what of them is drawn.
        save: writes weights to a path, with what is said about them.
    """

    name: str
    unit: str
    recipe: Any
    objects: Sequence[str]
    sources: Iterable[str]
    fresh: Callable[[], Network]
    draw: Callable[[np.random.Generator], Batch]
    losses: Callable[[Network, Batch, torch.Generator], dict[str, Tensor]]
    validate: Callable[[Network], dict[str, float]]
    panels: Sequence[Panel]
    save: Callable[[Path, Mapping[str, Tensor], Mapping[str, Any]], None]


class _Objective(nn.Module):
    """The loss as a module, which is what gradients are shared through."""

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        return self.stage.losses(self.model, batch, generator)


def train_stage(stage: Stage, out: Path, device: str, report: Callable[[dict[str, float]], None] | None = None) -> Path:
    """Train, or continue the run in ``out``.

    Args:
        stage: what is trained.
        out: gets the weights, ``state.pt``, ``curve.csv`` and ``curve.png``.
        device: ``cpu`` or ``cuda``.
        report: called with every row of the curve, on the first process.

    Returns:
        Path of the averaged weights.

    Raises:
        CheckpointError: ``out`` holds a run of another recipe, other objects or another number of processes, or a
            damaged state.
    """
    rank, processes = world(device)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(stage.recipe.train.seed)
    model = stage.fresh().to(device)
    settings = settings_of(asdict(stage.recipe), stage.objects, processes)
    run = begin(model, stage.recipe.train, settings, stage.sources)
    restore(run, out / "state.pt", device)
    if rank == 0:
        drop_rows_after(out / "curve.csv", run.step)
    objective: nn.Module = _Objective(model, stage)
    if processes > 1:
        objective = DistributedDataParallel(objective)

    def settle(interval: Interval) -> None:
        row = _row(run, stage, interval, processes) | _validated(run, stage)
        _keep(run, stage, out, row)
        if report:
            report(row)

    follow(run, stage.recipe.train, device, lambda: _advance(run, objective, stage, rank, device), settle)
    return out / f"{stage.name}.safetensors"


def _advance(run: Run, objective: nn.Module, stage: Stage, rank: int, device: str) -> tuple[dict[str, float], float]:
    """One optimiser step; returns the loss terms and the seconds spent on drawing the batch."""
    config: BatchOptimisation = stage.recipe.train
    prepare(run, config)
    begun = time.perf_counter()
    rng = np.random.default_rng([config.seed, rank, run.step])
    batch = stage.draw(rng)
    drawing = time.perf_counter() - begun
    generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))
    with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bfloat16"):
        terms = objective(batch, generator)
    torch.stack(list(terms.values())).sum().backward()
    update(run, config)
    return {name: float(value.detach()) for name, value in terms.items()}, drawing


def _validated(run: Run, stage: Stage) -> dict[str, float]:
    """Scores of the averaged weights."""
    model = copy.deepcopy(run.model)
    model.load_state_dict(run.average)
    return stage.validate(model.eval())


def _row(run: Run, stage: Stage, interval: Interval, processes: int) -> dict[str, float]:
    config: BatchOptimisation = stage.recipe.train
    batch = config.batch * processes
    return {
        "step": run.step,
        stage.unit: run.step * batch,
        "seconds": run.seconds,
        f"{stage.unit}_per_s": interval.steps * batch / interval.seconds,
        "rate": config.rate * schedule(run.step, config),
        **loss_columns(interval.terms),
    }


def _keep(run: Run, stage: Stage, out: Path, row: dict[str, float]) -> None:
    """Save weights, curve and state, the state last."""
    append_row(out / "curve.csv", row)
    draw_curve(read_rows(out / "curve.csv"), out / "curve.png", stage.unit, stage.panels)
    about = {"metrics": row, "sources": sorted(run.sources), "objects": len(stage.objects)}
    stage.save(out / f"{stage.name}.safetensors", run.average, about)
    save_state(run, out / "state.pt")
