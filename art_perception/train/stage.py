"""A training run of any network: resumed, averaged, validated, kept; one process, or several under ``torchrun``.

Every batch is a function of (seed, rank, step) alone, so a run that was killed continues on the same curve.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import Network, save_network
from art_perception.train.curve import Panel, append_row, draw_curve, drop_rows_after, read_rows
from art_perception.train.run import (
    Optimisation,
    Run,
    agreed,
    begin,
    prepare,
    restore,
    save_state,
    schedule,
    settings_of,
    update,
    world,
)

N = TypeVar("N", bound=Network)
Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True, eq=False)
class Start(Generic[N]):
    """A network to begin with, and where the objects come from that it has seen."""

    network: N
    sources: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Stage(Generic[N, Batch]):
    """What a network brings to its run.

    Attributes:
        name: of the weights' file; unit: what batches are made of, in the plural.
        recipe: dataclass with a ``train: Optimisation``; with the objects it determines the run.
        objects: names of the objects it learns from; sources: where they come from.
        batch: how many of the unit a step takes per process.
        fresh: makes an untrained network, after the seed is set; start: what to begin with instead.
        draw: makes the batches of a step, whose gradients are averaged.
        losses: weighted loss terms of a batch.
        validate: columns of the curve; panels: what of them is drawn.
    """

    name: str
    unit: str
    recipe: Any
    objects: Sequence[str]
    sources: Iterable[str]
    batch: int
    fresh: Callable[[], N]
    start: Start[N] | None
    draw: Callable[[int, np.random.Generator], Sequence[Batch]]
    losses: Callable[[N, Batch, torch.Generator], dict[str, Tensor]]
    validate: Callable[[N], dict[str, float]]
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class _Interval:
    """Steps between two validations: how many, mean loss terms, seconds in all and for making batches."""

    steps: int
    terms: dict[str, float]
    seconds: float
    drawing: float


class _Objective(nn.Module):
    """The loss as a module, which is what gradients are shared through."""

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        return self.stage.losses(self.model, batch, generator)


def started(path: Path, network: N, about: Mapping[str, Any], sizes: Any, categories: Any) -> Start[N]:
    """Begin with the network read from ``path``.

    Args:
        path: where it comes from.
        network: what to begin with.
        about: what is written about it.
        sizes: what it must have been made with.
        categories: likewise.

    Raises:
        CheckpointError: it was made with others.
    """
    if network.config != sizes:
        raise CheckpointError(f"{path} holds a network of other sizes: choose the preset it was trained with")
    if network.categories != categories:
        raise CheckpointError(f"{path} knows other categories: start from weights of this version")
    return Start(network, about.get("sources", []))


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
    run = _resumed(stage, out, device, processes)
    if rank == 0:
        drop_rows_after(out / "curve.csv", run.step)
    objective: nn.Module = _Objective(run.model, stage)
    if processes > 1:
        objective = DistributedDataParallel(objective)
    config: Optimisation = stage.recipe.train
    begun, late = time.perf_counter(), False
    while run.step < config.steps and not late:
        interval = _train_on(run, objective, stage, rank, device)
        if rank == 0:
            row = _settle(run, stage, interval, processes, out)
            if report:
                report(row)
        ahead = time.perf_counter() - begun + interval.seconds
        late = agreed(ahead > 60 * config.max_minutes, device)
    return out / f"{stage.name}.safetensors"


def _resumed(stage: Stage, out: Path, device: str, processes: int) -> Run:
    """The run in ``out``, or a new one."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(stage.recipe.train.seed)
    model = (stage.start.network.train() if stage.start else stage.fresh()).to(device)
    sources = {*stage.sources, *(stage.start.sources if stage.start else ())}
    settings = settings_of(asdict(stage.recipe), stage.objects, processes)
    run = begin(model, stage.recipe.train, settings, sources)
    restore(run, out / "state.pt", device)
    return run


def _train_on(run: Run, objective: nn.Module, stage: Stage, rank: int, device: str) -> _Interval:
    """Take the steps up to the next validation."""
    config: Optimisation = stage.recipe.train
    begun, first = time.perf_counter(), run.step
    totals: dict[str, float] = {}
    drawing = 0.0
    while run.step == first or (run.step % config.validate_every and run.step < config.steps):
        terms, spent = _advance(run, objective, stage, rank, device)
        drawing += spent
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value
        run.step += 1
    seconds, steps = time.perf_counter() - begun, run.step - first
    run.seconds += seconds
    return _Interval(steps, {name: value / steps for name, value in totals.items()}, seconds, drawing)


def _advance(run: Run, objective: nn.Module, stage: Stage, rank: int, device: str) -> tuple[dict[str, float], float]:
    """One optimiser step; returns the mean of each loss term and the seconds spent on drawing the batches."""
    config: Optimisation = stage.recipe.train
    prepare(run, config)
    begun = time.perf_counter()
    rng = np.random.default_rng([config.seed, rank, run.step])
    batches = stage.draw(run.step, rng)
    drawing = time.perf_counter() - begun
    means: dict[str, float] = {}
    for i, batch in enumerate(batches):
        generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))
        more = isinstance(objective, DistributedDataParallel) and i < len(batches) - 1
        with cast("DistributedDataParallel", objective).no_sync() if more else nullcontext():
            with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bfloat16"):
                terms = objective(batch, generator)
            (torch.stack(list(terms.values())).sum() / len(batches)).backward()
        for name, value in terms.items():
            means[name] = means.get(name, 0.0) + float(value.detach()) / len(batches)
    update(run, config)
    return means, drawing


def _settle(run: Run, stage: Stage, interval: _Interval, processes: int, out: Path) -> dict[str, float]:
    """Score the averaged weights, save them, the curve and the state, the state last; returns the curve's row."""
    average = copy.deepcopy(run.model)
    average.load_state_dict(run.average)
    row = _row(run, stage, interval, processes) | stage.validate(average.eval())
    append_row(out / "curve.csv", row)
    draw_curve(read_rows(out / "curve.csv"), out / "curve.png", stage.unit, stage.panels)
    about = {"metrics": row, "sources": sorted(run.sources), "objects": len(stage.objects)}
    save_network(out / f"{stage.name}.safetensors", average, about)
    save_state(run, out / "state.pt")
    return row


def _row(run: Run, stage: Stage, interval: _Interval, processes: int) -> dict[str, float]:
    """Columns of the curve that every network has."""
    config: Optimisation = stage.recipe.train
    batch = stage.batch * processes
    return {
        "step": run.step,
        stage.unit: run.step * batch,
        "seconds": run.seconds,
        f"{stage.unit}_per_s": interval.steps * batch / interval.seconds,
        "rendering_share": interval.drawing / interval.seconds,
        "rate": config.rate * schedule(run.step, config),
        "loss": sum(interval.terms.values()),
        **{f"loss_{name}": value for name, value in interval.terms.items()},
    }
