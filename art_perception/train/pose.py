"""Training of the pose and joint diffusion of KineDiff3D on single views of the shapes of a bank."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from art_perception.data.clouds import CloudsConfig, choose, draw_shapes
from art_perception.data.partial import ViewsConfig, draw_views
from art_perception.data.shape_bank import ShapeBank
from art_perception.models.checkpoint import load_pose_network
from art_perception.models.pose_diffusion import (
    ObjectState,
    PoseLoss,
    PoseNetwork,
    PoseNetworkConfig,
    SamplerConfig,
    losses,
    nearest_to_origin,
    normalised,
    to_vector,
)
from art_perception.train.curve import POSE_PANELS
from art_perception.train.run import BatchOptimisation
from art_perception.train.stage import Stage, Start, started
from art_perception.train.vae import KNOWN
from art_perception.train.validate_pose import validate_pose
from art_perception.types import ShapeBatch, ViewBatch

Seen = tuple[ShapeBatch, ViewBatch]
_NO_CLOUDS = CloudsConfig(points=1, labelled=1, queries=1)
_CENSUS = 48  # views per category whose states give mean and spread


@dataclass(frozen=True, slots=True)
class PoseTrainConfig(BatchOptimisation):
    """Optimisation."""

    steps: int = 30_000
    """Optimiser steps of the whole schedule."""
    rate: float = 4e-4
    """Peak learning rate (AdamW); at 1e-3 and above the rotation is learnt more slowly."""
    validation_views: int = 64
    """Views of held-out objects scored each time."""


@dataclass(frozen=True, slots=True)
class PoseRecipe:
    """Everything a training run is determined by, besides its objects."""

    model: PoseNetworkConfig = field(default_factory=PoseNetworkConfig)
    views: ViewsConfig = field(default_factory=lambda: ViewsConfig(points=512))
    loss: PoseLoss = field(default_factory=PoseLoss)
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(hypotheses=10))
    train: PoseTrainConfig = field(default_factory=PoseTrainConfig)


def pose_stage(
    recipe: PoseRecipe,
    training: ShapeBank,
    held_out: ShapeBank,
    device: str,
    start: Start[PoseNetwork] | None = None,
) -> Stage[PoseNetwork, Seen]:
    """What :func:`train_stage` needs to train the pose and joint diffusion; see :func:`vae_stage`."""
    batches = validation_views(held_out, recipe.train.validation_views, recipe.views, _NO_CLOUDS, device)

    def draw(_: int, rng: np.random.Generator) -> list[Seen]:
        return [see(training, choose(training, recipe.train.batch, rng), recipe.views, _NO_CLOUDS, rng, device)]

    return Stage(
        name="pose",
        unit="views",
        recipe=recipe,
        objects=training.names.tolist(),
        sources=training.sources.tolist(),
        batch=recipe.train.batch,
        fresh=lambda: _fresh(recipe, training),
        start=start,
        draw=draw,
        losses=lambda model, seen, generator: losses(
            model, seen[1].points, seen[0].category, true_state(*seen), recipe.loss, generator
        ),
        validate=lambda model: validate_pose(model, batches, recipe.sampler),
        panels=POSE_PANELS,
    )


def start_pose(path: Path, recipe: PoseRecipe) -> Start[PoseNetwork]:
    """Weights to begin with, which know mean and spread of the states they were trained on.

    Raises:
        CheckpointError: ``path`` holds no pose and joint diffusion, or one of other sizes or categories.
    """
    model, about = load_pose_network(path)
    return started(path, model, about, recipe.model, KNOWN)


def see(
    bank: ShapeBank, index: np.ndarray, views: ViewsConfig, clouds: CloudsConfig, rng: np.random.Generator, device: str
) -> Seen:
    """Draw the samples ``index`` (B,) at random joint values and look at them: the view is at ``q_cloud``."""
    shapes = draw_shapes(bank, index, clouds, rng, device)
    return shapes, draw_views(bank, index, shapes.q_cloud, views, rng)


def validation_views(
    bank: ShapeBank, count: int, views: ViewsConfig, clouds: CloudsConfig, device: str
) -> list[tuple[ObjectState, ShapeBatch, ViewBatch]]:
    """Views of held-out objects with their true states: the same ones every time."""
    rng = np.random.default_rng(78)
    index = choose(bank, count, rng)
    seen = [see(bank, chunk, views, clouds, rng, device) for chunk in np.array_split(index, max(1, count // 16))]
    return [(true_state(*pair), *pair) for pair in seen]


def true_state(shapes: ShapeBatch, views: ViewBatch) -> ObjectState:
    """What the network is asked for, leading shape (B,)."""
    return ObjectState(
        R=views.T[:, :3, :3],
        t=views.T[:, :3, 3],
        size=views.size,
        location=nearest_to_origin(shapes.axis, shapes.origin) * shapes.revolute[:, None, None],
        direction=shapes.axis,
        amount=shapes.q_cloud,
    )


def _fresh(recipe: PoseRecipe, bank: ShapeBank) -> PoseNetwork:
    """An untrained network that knows the mean and the spread of the states of every category."""
    model = PoseNetwork(recipe.model, KNOWN)
    rng = np.random.default_rng(79)
    for c in np.unique(bank.category):
        index = rng.choice(np.flatnonzero(bank.category == c), _CENSUS)
        shapes, views = see(bank, index, recipe.views, _NO_CLOUDS, rng, "cpu")
        _, center, spread = normalised(views.points)
        model.standardise(to_vector(true_state(shapes, views), center, spread), torch.as_tensor(shapes.category))
    return model
