"""What every training run shares: schedule, averaged weights, resuming, stopping in time, several processes."""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from art_perception.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Optimisation:
    """Optimisation."""

    steps: int = 6000
    """Optimiser steps of the whole schedule."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the network's matrix products; losses and 3x3 systems are always in float32."""
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
    """Seed of weights and batches."""
    validate_every: int = 250
    """Steps between validations, each of which saves the state."""
    max_minutes: float = 1e9
    """Stop when the next validation would come later than this; the same call continues from there."""


@dataclass(eq=False)
class Run:
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
    model: nn.Module
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Interval:
    """Steps between two validations: how many, mean loss terms, seconds in all and for making batches."""

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


def settings_of(recipe: dict[str, Any], names: Sequence[str], processes: int) -> str:
    """What determines a run, without what may change between its sessions: the recipe as a dict, names of objects."""
    train = {name: value for name, value in recipe["train"].items() if name != "max_minutes"}
    fields = recipe | {"train": train}
    return f"{fields} {processes} processes, objects {zlib.crc32(' '.join(names).encode())}"


def begin(model: nn.Module, config: Optimisation, settings: str, sources: Iterable[str]) -> Run:
    """A run that has not taken a step."""
    optimizer = torch.optim.AdamW(model.parameters(), config.rate, weight_decay=config.decay)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return Run(settings, set(sources), model, average, optimizer, 0, 0.0)


def restore(run: Run, path: Path, device: str) -> None:
    """Continue where the state saved at ``path`` ends, if there is one.

    Raises:
        CheckpointError: the state is damaged or belongs to a run with other settings.
    """
    if not path.exists():
        return
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


def save_state(run: Run, path: Path) -> None:
    """Save the state in one piece, so that a kill leaves the one before."""
    state = {
        "settings": run.settings,
        "sources": sorted(run.sources),
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "average": run.average,
        "step": run.step,
        "seconds": run.seconds,
    }
    staging = path.with_suffix(".partial")
    torch.save(state, staging)
    staging.replace(path)


def follow(
    run: Run,
    config: Optimisation,
    device: str,
    advance: Callable[[], tuple[dict[str, float], float]],
    settle: Callable[[Interval], None],
) -> None:
    """Train until the schedule or the time is over.

    Args:
        run: state to advance.
        config: schedule and time.
        device: where the processes agree on the time.
        advance: takes a step; returns its loss terms and the seconds spent on making batches.
        settle: called after every ``validate_every`` steps, on the first process only.
    """
    begun = time.perf_counter()
    late = False
    while run.step < config.steps and not late:
        interval = _train_on(run, config, advance)
        if not dist.is_initialized() or dist.get_rank() == 0:
            settle(interval)
        ahead = time.perf_counter() - begun + interval.seconds
        late = _agreed(ahead > 60 * config.max_minutes, device)


def _agreed(decision: bool, device: str) -> bool:
    """The first process's decision."""
    if not dist.is_initialized():
        return decision
    flag = torch.tensor([decision], dtype=torch.uint8, device=device)
    dist.broadcast(flag, 0)
    return bool(flag)


def _train_on(run: Run, config: Optimisation, advance: Callable[[], tuple[dict[str, float], float]]) -> Interval:
    """Take the steps up to the next validation."""
    begun, first = time.perf_counter(), run.step
    totals: dict[str, float] = {}
    rendering = 0.0
    while run.step == first or (run.step % config.validate_every and run.step < config.steps):
        terms, spent = advance()
        rendering += spent
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value
        run.step += 1
    seconds, steps = time.perf_counter() - begun, run.step - first
    run.seconds += seconds
    return Interval(steps, {name: value / steps for name, value in totals.items()}, seconds, rendering)


def prepare(run: Run, config: Optimisation) -> None:
    """Set the learning rate of the step to come and forget the gradients of the last one."""
    for group in run.optimizer.param_groups:
        group["lr"] = config.rate * schedule(run.step, config)
    run.optimizer.zero_grad(set_to_none=True)


def update(run: Run, config: Optimisation) -> None:
    """Take the optimiser's step; the averaged weights follow, early in a run more quickly."""
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.clip)
    run.optimizer.step()
    keep = min(config.ema, (1 + run.step) / (10 + run.step))
    for name, value in run.model.state_dict().items():
        run.average[name].lerp_(value, 1 - keep)


def schedule(step: int, config: Optimisation) -> float:
    """Learning rate as a share of its peak: linear warm-up, then a cosine down to 2 %."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def loss_columns(terms: Mapping[str, float]) -> dict[str, float]:
    """Columns of the curve for the loss and its terms."""
    return {"loss": sum(terms.values()), **{f"loss_{name}": value for name, value in terms.items()}}
