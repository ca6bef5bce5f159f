"""``art-perception train``: train a network; resumable, and parallel under ``torchrun``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from tyro.conf import Positional

from art_perception.cli import train_kinediff3d
from art_perception.cli.options import parse
from art_perception.data.bank import Bank, load_bank, make_bank, save_bank, training_objects
from art_perception.data.windows import WindowsConfig
from art_perception.errors import ObjectError, UsageError
from art_perception.models.sim2art import BASE
from art_perception.train.loop import Recipe, TrainConfig, train
from art_perception.train.run import world

Source = Literal["procedural", "infinigen", "partnet"]
GPU = Recipe(model=BASE, train=TrainConfig(steps=20_000, fresh=32, lags=(0,), rate=3e-4, warmup=500))


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Train a network; a second call with the same --out continues where the first one stopped."""

    network: Positional[Literal["sim2art", "kinediff3d"]]
    """Which network; kinediff3d has options of its own (train kinediff3d --help)."""
    out: Path
    """Folder for weights, state and learning curve."""
    preset: Literal["cpu", "gpu"] = "cpu"
    """``cpu``: the small network; ``gpu``: the paper's scale. It sets the defaults of the recipe."""
    assets: Path | None = None
    """Folder that holds partnet_mobility/ or infinigen/ or both; without it only procedural objects are used."""
    sources: tuple[Source, ...] = ("procedural", "infinigen", "partnet")
    """Which of the objects to learn from."""
    seeds: int = 40
    """Procedural objects per category."""
    init: Path | None = None
    """Weights to start from."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True, slots=True)
class _GpuOptions(TrainOptions):
    __doc__ = TrainOptions.__doc__

    recipe: Recipe = GPU


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    if arguments[:1] == ["kinediff3d"]:
        return train_kinediff3d.main(arguments)
    options = read_options(arguments)
    if options.network != "sim2art":
        raise UsageError("the network comes first: art-perception train kinediff3d --out ...")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for but torch finds no GPU: use --device cpu")
    recipe = preset(options)
    rank, processes = world(options.device)
    if options.device == "cpu" and processes > 1:
        torch.set_num_threads(1)
    training, held_out = (packed(options, split) for split in ("train", "val"))
    path = train(recipe, training, held_out, options.out, options.device, options.init, _report)
    if rank == 0:
        print(f"weights: {path}\ncurve:   {options.out / 'curve.png'}")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def read_options(arguments: list[str]) -> TrainOptions:
    """Options with the defaults of the preset that is asked for."""
    first_look = ArgumentParser(add_help=False, allow_abbrev=False)
    first_look.add_argument("--preset", nargs="?")
    known, _ = first_look.parse_known_args(arguments)
    return parse(_GpuOptions if known.preset == "gpu" else TrainOptions, "train", arguments)


def preset(options: TrainOptions) -> Recipe:
    """The recipe with the sizes of windows and network brought together.

    Raises:
        UsageError: other sizes were asked for the windows, or image features, which rendered points do not have.
    """
    model, windows = options.recipe.model, options.recipe.windows
    if model.appearance:
        raise UsageError(
            f"--recipe.model.appearance {model.appearance} needs images but training windows are points alone: "
            "leave it at 0, or train on windows of your own (docs/optional_inputs.md)"
        )
    if (windows.frames, windows.points) != (WindowsConfig().frames, WindowsConfig().points):
        raise UsageError("windows are as large as the network's: give --recipe.model.frames and --recipe.model.points")
    return replace(options.recipe, windows=replace(windows, frames=model.frames, points=model.points))


def packed(options: TrainOptions, split: str) -> Bank:
    """The objects of a split, packed once and kept in the output folder."""
    path = options.out / f"{split}_objects.npz"
    if not path.exists() and world(options.device)[0] == 0:
        seeds = options.seeds if split == "train" else max(1, options.seeds // 8)
        bank = make_bank(training_objects(options.assets, split, seeds))
        options.out.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".partial.npz")
        save_bank(staging, bank)
        staging.replace(path)
    if dist.is_initialized():
        dist.barrier()
    bank = load_bank(path)
    return bank if split == "val" else _chosen(bank, options)


def _chosen(bank: Bank, options: TrainOptions) -> Bank:
    """The objects of the sources that were asked for."""
    if options.assets is not None and set(bank.sources) == {"procedural"}:
        raise ObjectError(f"{options.out} holds objects packed without --assets: give another --out")
    index = [i for i, source in enumerate(bank.sources) if source in options.sources]
    if not index:
        raise ObjectError(f"no object of {', '.join(options.sources)}: give --assets, or choose procedural")
    return bank.subset(index)


def _report(row: dict[str, float]) -> None:
    shown = ("step", "windows_per_s", "loss", "miou", "type", "axis_median", "position_median", "success")
    print("  ".join(f"{name} {row[name]:.4g}" for name in shown), file=sys.stderr, flush=True)
