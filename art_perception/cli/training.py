"""What all of ``art-perception train`` shares: options, packed objects, processes, what is printed."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
import torch.distributed as dist
from tyro.conf import Positional

from art_perception.errors import UsageError
from art_perception.train.run import world
from art_perception.train.stage import Stage, train_stage

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(Generic[R]):
    """Train a network; a second call with the same --out continues where the first one stopped."""

    network: Positional[Literal["sim2art", "kinediff3d"]]
    """Which network; kinediff3d has options of its own (train kinediff3d --help)."""
    out: Path
    """Folder for packed objects, weights, state and learning curve."""
    preset: Literal["cpu", "gpu"] = "cpu"
    """``cpu``: a network that trains in hours on two cores; ``gpu``: a larger one. It sets the recipe's defaults."""
    assets: Path | None = None
    """Folder that holds partnet_mobility/ or infinigen/ or both; without it only procedural objects are used."""
    sources: tuple[Literal["procedural", "infinigen", "partnet"], ...] = ("procedural", "infinigen", "partnet")
    """Which of the objects to learn from."""
    seeds: int = 40
    """Procedural objects per category."""
    init: Path | None = None
    """Weights to start from."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""
    recipe: R


def asked(arguments: list[str], option: str) -> str | None:
    """Value of an option that sets the defaults of others."""
    first_look = ArgumentParser(add_help=False, allow_abbrev=False)
    first_look.add_argument(f"--{option}", nargs="?", dest="value")
    return first_look.parse_known_args(arguments)[0].value


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        UsageError: it was asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for but torch finds no GPU: use --device cpu")


def kept(path: Path, device: str, make: Callable[[], T], save: Callable[[Path, T], None]) -> Path:
    """Have the first process make a file, in one piece, unless it is there; the others wait."""
    if not path.exists() and world(device)[0] == 0:
        content = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".partial.npz")
        save(staging, content)
        staging.replace(path)
    if dist.is_initialized():
        dist.barrier()
    return path


def run(options: TrainOptions, stage: Callable[[], Stage]) -> int:
    """Train what ``stage`` gives once the processes have met; returns the exit code."""
    rank, processes = world(options.device)
    if options.device == "cpu" and processes > 1:
        torch.set_num_threads(1)
    made = stage()
    path = train_stage(made, options.out, options.device, lambda row: _report(made, row))
    if rank == 0:
        print(f"weights: {path}\ncurve:   {options.out / 'curve.png'}")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _report(stage: Stage, row: dict[str, float]) -> None:
    shown = ("step", f"{stage.unit}_per_s", *(name for name, _, _ in stage.panels))
    print("  ".join(f"{name} {row[name]:.4g}" for name in shown), file=sys.stderr, flush=True)
