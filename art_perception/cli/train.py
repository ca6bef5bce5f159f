"""``art-perception train``: train a network; resumable, and parallel under ``torchrun``."""

from __future__ import annotations

from dataclasses import replace

from tyro import MISSING

from art_perception.cli import train_kinediff3d
from art_perception.cli.options import parse
from art_perception.cli.training import TrainOptions, asked, check_device, kept, run
from art_perception.data.bank import Bank, load_bank, make_bank, save_bank, training_objects
from art_perception.data.windows import WindowsConfig
from art_perception.errors import ObjectError, UsageError
from art_perception.models.sim2art import BASE
from art_perception.train.sim2art import Recipe, TrainConfig, sim2art_stage, start_sim2art
from art_perception.train.stage import Stage

GPU = Recipe(model=BASE, train=TrainConfig(steps=20_000, fresh=32, lags=(0,), rate=3e-4, warmup=500))


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    if arguments[:1] == ["kinediff3d"]:
        return train_kinediff3d.main(arguments)
    options = read_options(arguments)
    if options.network != "sim2art":
        raise UsageError("the network comes first: art-perception train kinediff3d --out ...")
    check_device(options.device)
    recipe = preset(options)
    start = start_sim2art(options.init, recipe) if options.init else None

    def stage() -> Stage:
        return sim2art_stage(recipe, packed(options, "train"), packed(options, "val"), options.device, start)

    return run(options, stage)


def read_options(arguments: list[str]) -> TrainOptions[Recipe]:
    """Options with the defaults of the preset that is asked for."""
    recipe = GPU if asked(arguments, "preset") == "gpu" else Recipe()
    defaults = TrainOptions(network=MISSING, out=MISSING, recipe=recipe)
    return parse(TrainOptions[Recipe], "train", arguments, defaults)


def preset(options: TrainOptions[Recipe]) -> Recipe:
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


def packed(options: TrainOptions[Recipe], split: str) -> Bank:
    """The objects of a split, packed once and kept in the output folder.

    Raises:
        ObjectError: there are none of the sources that were asked for.
    """
    seeds = options.seeds if split == "train" else max(1, options.seeds // 8)
    path = options.out / f"{split}_objects.npz"
    bank = load_bank(
        kept(path, options.device, lambda: make_bank(training_objects(options.assets, split, seeds)), save_bank)
    )
    if split == "val":
        return bank
    if options.assets is not None and set(bank.sources) == {"procedural"}:
        raise ObjectError(f"{options.out} holds objects packed without --assets: give another --out")
    return bank.from_sources(options.sources)
