"""Training of the shape prior of KineDiff3D: batches of shapes from a bank, Eq. 2, one process or several.

Every batch is a function of (seed, rank, step) alone, so a run that was killed continues on the same curve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from art_perception.data.categories import CATEGORIES
from art_perception.data.clouds import CloudsConfig, choose, draw_shapes
from art_perception.data.shape_bank import ShapeBank
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import load_kinematic_vae, save_kinematic_vae
from art_perception.models.kinematic_vae import (
    CategoryInfo,
    KinematicVae,
    KinematicVaeConfig,
    KinematicVaeLoss,
    losses,
)
from art_perception.train.curve import VAE_PANELS, append_row, draw_curve, drop_rows_after, read_rows
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
from art_perception.train.validate_vae import validate_vae
from art_perception.types import JointType, ShapeBatch

KNOWN = tuple(CategoryInfo(name, c.movers + 1, c.type is JointType.REVOLUTE) for name, c in CATEGORIES.items())
"""What the network is told of the categories of the data."""
_GALLERY_POINTS, _GALLERY_VOXELS = 8192, 64


@dataclass(frozen=True, slots=True)
class VaeTrainConfig(Optimisation):
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
    """Objects per step and process."""
    validation_objects: int = 64
    """Held-out objects scored each time; one per category is meshed."""


@dataclass(frozen=True, slots=True)
class VaeRecipe:
    """Everything a training run is determined by, besides its objects."""

    model: KinematicVaeConfig = field(default_factory=KinematicVaeConfig)
    clouds: CloudsConfig = field(default_factory=CloudsConfig)
    loss: KinematicVaeLoss = field(default_factory=KinematicVaeLoss)
    train: VaeTrainConfig = field(default_factory=VaeTrainConfig)


class _Objective(nn.Module):
    """The loss as a module, which is what gradients are shared through."""

    def __init__(self, model: KinematicVae, config: KinematicVaeLoss) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: ShapeBatch, generator: torch.Generator) -> dict[str, Tensor]:
        return losses(self.model, batch, self.config, generator)


def train_vae(
    recipe: VaeRecipe,
    training: ShapeBank,
    held_out: ShapeBank,
    out: Path,
    device: str,
    start: Path | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Train, or continue the run in ``out``.

    Args:
        recipe: sizes, losses, schedule.
        training: objects to learn from.
        held_out: objects to validate on.
        out: gets ``vae.safetensors``, ``state.pt``, ``curve.csv`` and ``curve.png``.
        device: ``cpu`` or ``cuda``.
        start: weights to begin with instead of random ones.
        report: called with every row of the curve, on the first process.

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
    objective: nn.Module = _Objective(run.model, recipe.loss)  # type: ignore[arg-type]
    if processes > 1:
        objective = DistributedDataParallel(objective)
    batches, gallery = _validation(held_out, recipe, device)

    def settle(interval: Interval) -> None:
        scores = validate_vae(_averaged(run, recipe, device), batches, gallery, _GALLERY_VOXELS)
        row = _row(run, recipe, interval, processes) | scores
        _keep(run, recipe, out, row, training)
        if report:
            report(row)

    follow(run, recipe.train, device, lambda: _advance(run, objective, training, recipe, rank, device), settle)
    return out / "vae.safetensors"


def _resume(recipe: VaeRecipe, training: ShapeBank, processes: int, out: Path, device: str, start: Path | None) -> Run:
    torch.manual_seed(recipe.train.seed)
    model = KinematicVae(recipe.model, KNOWN).to(device)
    sources = set(training.sources.tolist())
    if start is not None:
        sources |= _begin_with(model, start)
    run = begin(model, recipe.train, settings_of(asdict(recipe), training.names.tolist(), processes), sources)
    restore(run, out / "state.pt", device)
    return run


def _begin_with(model: KinematicVae, path: Path) -> set[str]:
    """Copy weights and return their sources."""
    weights, about = load_kinematic_vae(path)
    if (weights.config, weights.categories) != (model.config, model.categories):
        raise CheckpointError(f"{path} holds a network of other sizes: choose the preset it was trained with")
    model.load_state_dict(weights.state_dict())
    return set(about.get("sources", ()))


def _advance(
    run: Run, objective: nn.Module, bank: ShapeBank, recipe: VaeRecipe, rank: int, device: str
) -> tuple[dict[str, float], float]:
    """One optimiser step; returns the loss terms and the seconds spent on drawing the batch."""
    config = recipe.train
    prepare(run, config)
    begun = time.perf_counter()
    rng = np.random.default_rng([config.seed, rank, run.step])
    batch = draw_shapes(bank, choose(bank, config.batch, rng), recipe.clouds, rng, device)
    drawing = time.perf_counter() - begun
    generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))
    with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bfloat16"):
        terms = objective(batch, generator)
    torch.stack(list(terms.values())).sum().backward()
    update(run, config)
    return {name: float(value.detach()) for name, value in terms.items()}, drawing


def _validation(bank: ShapeBank, recipe: VaeRecipe, device: str) -> tuple[list[ShapeBatch], ShapeBatch]:
    """Batches to score, and one object per category to mesh: the same ones every time."""
    rng = np.random.default_rng(77)
    index = choose(bank, recipe.train.validation_objects, rng)
    chunks = np.array_split(index, max(1, len(index) // 16))
    meshed = np.array([np.flatnonzero(bank.category == c)[0] for c in np.unique(bank.category)])
    gallery = CloudsConfig(points=recipe.clouds.points, labelled=_GALLERY_POINTS, queries=1)
    return (
        [draw_shapes(bank, chunk, recipe.clouds, rng, device) for chunk in chunks],
        draw_shapes(bank, meshed, gallery, rng, device),
    )


def _averaged(run: Run, recipe: VaeRecipe, device: str) -> KinematicVae:
    model = KinematicVae(recipe.model, KNOWN).to(device)
    model.load_state_dict(run.average)
    return model


def _row(run: Run, recipe: VaeRecipe, interval: Interval, processes: int) -> dict[str, float]:
    batch = recipe.train.batch * processes
    return {
        "step": run.step,
        "objects": run.step * batch,
        "seconds": run.seconds,
        "objects_per_s": interval.steps * batch / interval.seconds,
        "rate": recipe.train.rate * schedule(run.step, recipe.train),
        **loss_columns(interval.terms),
    }


def _keep(run: Run, recipe: VaeRecipe, out: Path, row: dict[str, float], bank: ShapeBank) -> None:
    """Save weights, curve and state, the state last."""
    append_row(out / "curve.csv", row)
    draw_curve(read_rows(out / "curve.csv"), out / "curve.png", "objects", VAE_PANELS)
    about = {"metrics": row, "sources": sorted(run.sources), "objects": len(bank.names)}
    save_kinematic_vae(out / "vae.safetensors", run.average, recipe.model, KNOWN, about)
    save_state(run, out / "state.pt")
