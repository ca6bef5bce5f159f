"""Training of the window network on windows that are rendered while it trains.

Rendered windows are used a few times, some steps apart and each time turned and mirrored, because rendering is a third
of the cost of a training step on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from art_perception.data.bank import Bank
from art_perception.data.windows import WindowsConfig, draw_windows
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import load_sim2art
from art_perception.models.losses import LossConfig, losses
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.train.augment import augment
from art_perception.train.curve import SIM2ART_PANELS
from art_perception.train.run import Optimisation, world
from art_perception.train.stage import Stage, Start
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


def sim2art_stage(
    recipe: Recipe,
    training: Bank,
    held_out: Bank,
    device: str,
    start: Start[Sim2Art] | None = None,
    draw: Draw = draw_windows,
) -> Stage[Sim2Art, Batch]:
    """What :func:`train_stage` needs to train the window network.

    Args:
        recipe: sizes, losses, schedule.
        training: objects to learn from.
        held_out: objects to validate on.
        device: ``cpu`` or ``cuda``.
        start: weights to begin with instead of random ones.
        draw: gives the windows to train and validate on.
    """
    rank, _ = world(device)
    batches = _validation(held_out, recipe, device, draw) if rank == 0 else []
    render = _Renderer(training, recipe, rank, device, draw)
    return Stage(
        name="sim2art",
        unit="windows",
        recipe=recipe,
        objects=training.names,
        sources=training.sources,
        batch=recipe.train.fresh * len(recipe.train.lags),
        fresh=lambda: Sim2Art(recipe.model),
        start=start,
        draw=lambda step, _: render.batches(step),
        losses=lambda model, batch, _: _losses(model, batch, recipe.loss),
        validate=lambda model: validate(model, batches),
        panels=SIM2ART_PANELS,
    )


def start_sim2art(path: Path, recipe: Recipe) -> Start[Sim2Art]:
    """Weights to begin with; frames, points and keypoints may differ in number, and layers may be added.

    Added layers begin as the identity, so the network starts as good as its weights.

    Raises:
        CheckpointError: ``path`` holds no window network, or one of other sizes or with more layers.
    """
    weights, about = load_sim2art(path)
    model = Sim2Art(recipe.model)
    for layer in (*model.video[len(weights.video) :], *model.look[len(weights.look) :]):
        layer.pass_through()
    try:
        model.load_state_dict(model.state_dict() | weights.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds a network of other sizes: choose the preset it was trained with"
        ) from error
    return Start(model, about.get("sources", []))


class _Renderer:
    """Gives the batches of every step; keeps rendered windows for as long as the lags need them."""

    def __init__(self, bank: Bank, recipe: Recipe, rank: int, device: str, draw: Draw) -> None:
        self.bank, self.recipe, self.rank, self.device, self.draw = bank, recipe, rank, device, draw
        self.kept: dict[int, Batch] = {}

    def batches(self, step: int) -> list[Batch]:
        """Batches of a step, one per lag."""
        lags = self.recipe.train.lags
        self.kept = {kept: batch for kept, batch in self.kept.items() if kept >= step - max(lags)}
        return [self._seen_again(step, use, lag) for use, lag in enumerate(lags)]

    def _seen_again(self, step: int, use: int, lag: int) -> Batch:
        window, truth = self._rendered(step - lag)
        seed = hash((self.recipe.train.seed, self.rank, step, use)) % 2**63
        return augment(window, truth, torch.Generator(device=self.device).manual_seed(seed))

    def _rendered(self, step: int) -> Batch:
        if step not in self.kept:
            # steps before the first are rendered like any other, so that all batches have one size
            rng = np.random.default_rng([self.recipe.train.seed, self.rank, step + 10_000])
            config = self.recipe.train
            self.kept[step] = self.draw(self.bank, config.fresh, self.recipe.windows, rng, self.device)
        return self.kept[step]


def _losses(model: Sim2Art, batch: Batch, config: LossConfig) -> dict[str, Tensor]:
    """Weighted loss terms, in float32 whatever the precision of the network."""
    window, truth = batch
    output = model(window)
    with torch.autocast(window.points.device.type, enabled=False):
        return losses(output, window, truth, config)


def _validation(bank: Bank, recipe: Recipe, device: str, draw: Draw) -> list[Batch]:
    """Held-out windows: the same ones every time."""
    count = math.ceil(recipe.train.validation_windows / 8)
    return [draw(bank, 8, recipe.windows, np.random.default_rng([i, 77]), device) for i in range(count)]
