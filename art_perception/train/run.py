"""The state of a training run: schedule, averaged weights, resuming, several processes."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import Network


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
    model: Network
    average: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int
    seconds: float


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


def begin(model: Network, config: Optimisation, settings: str, sources: Iterable[str]) -> Run:
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


def agreed(decision: bool, device: str) -> bool:
    """The first process's decision."""
    if not dist.is_initialized():
        return decision
    flag = torch.tensor([decision], dtype=torch.uint8, device=device)
    dist.broadcast(flag, 0)
    return bool(flag)


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
