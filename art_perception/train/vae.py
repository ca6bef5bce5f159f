"""Training of the shape prior of KineDiff3D on batches of shapes from a bank (Eq. 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from art_perception.data.categories import CATEGORIES
from art_perception.data.clouds import CloudsConfig, choose, draw_shapes, one_of_each
from art_perception.data.shape_bank import ShapeBank
from art_perception.models.checkpoint import load_kinematic_vae
from art_perception.models.kinematic_vae import (
    CategoryInfo,
    KinematicVae,
    KinematicVaeConfig,
    KinematicVaeLoss,
    losses,
)
from art_perception.train.curve import VAE_PANELS
from art_perception.train.run import BatchOptimisation
from art_perception.train.stage import Stage, Start, started
from art_perception.train.validate_vae import validate_vae
from art_perception.types import JointType, ShapeBatch

KNOWN = tuple(CategoryInfo(name, c.movers + 1, c.type is JointType.REVOLUTE) for name, c in CATEGORIES.items())
"""What the network is told of the categories of the data."""
_GALLERY_POINTS, _GALLERY_VOXELS = 8192, 64


@dataclass(frozen=True, slots=True)
class VaeTrainConfig(BatchOptimisation):
    """Optimisation."""

    validation_objects: int = 64
    """Held-out objects scored each time; one per category is meshed."""


@dataclass(frozen=True, slots=True)
class VaeRecipe:
    """Everything a training run is determined by, besides its objects."""

    model: KinematicVaeConfig = field(default_factory=KinematicVaeConfig)
    clouds: CloudsConfig = field(default_factory=CloudsConfig)
    loss: KinematicVaeLoss = field(default_factory=KinematicVaeLoss)
    train: VaeTrainConfig = field(default_factory=VaeTrainConfig)


def vae_stage(
    recipe: VaeRecipe,
    training: ShapeBank,
    held_out: ShapeBank,
    device: str,
    start: Start[KinematicVae] | None = None,
) -> Stage[KinematicVae, ShapeBatch]:
    """What :func:`train_stage` needs to train the shape prior.

    Args:
        recipe: sizes, losses, schedule.
        training: objects to learn from.
        held_out: objects to validate on.
        device: ``cpu`` or ``cuda``.
        start: weights to begin with instead of random ones.
    """
    batches, gallery = _validation(held_out, recipe, device)

    def draw(_: int, rng: np.random.Generator) -> list[ShapeBatch]:
        return [draw_shapes(training, choose(training, recipe.train.batch, rng), recipe.clouds, rng, device)]

    return Stage(
        name="vae",
        unit="objects",
        recipe=recipe,
        objects=training.names.tolist(),
        sources=training.sources.tolist(),
        batch=recipe.train.batch,
        fresh=lambda: KinematicVae(recipe.model, KNOWN),
        start=start,
        draw=draw,
        losses=lambda model, batch, generator: losses(model, batch, recipe.loss, generator),
        validate=lambda model: validate_vae(model, batches, gallery, _GALLERY_VOXELS),
        panels=VAE_PANELS,
    )


def start_vae(path: Path, recipe: VaeRecipe) -> Start[KinematicVae]:
    """Weights to begin with.

    Raises:
        CheckpointError: ``path`` holds no shape prior, or one of other sizes or categories.
    """
    model, about = load_kinematic_vae(path)
    return started(path, model, about, recipe.model, KNOWN)


def _validation(bank: ShapeBank, recipe: VaeRecipe, device: str) -> tuple[list[ShapeBatch], ShapeBatch]:
    """Batches to score, and one object per category to mesh: the same ones every time."""
    rng = np.random.default_rng(77)
    index = choose(bank, recipe.train.validation_objects, rng)
    chunks = np.array_split(index, max(1, len(index) // 16))
    gallery = CloudsConfig(points=recipe.clouds.points, labelled=_GALLERY_POINTS, queries=1)
    return (
        [draw_shapes(bank, chunk, recipe.clouds, rng, device) for chunk in chunks],
        draw_shapes(bank, one_of_each(bank), gallery, rng, device),
    )
