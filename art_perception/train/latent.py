"""Training of the latent diffusion of KineDiff3D: the frozen shape prior's latents from single views."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from art_perception.data.clouds import CloudsConfig, choose, draw_shapes, one_of_each
from art_perception.data.partial import ViewsConfig
from art_perception.data.shape_bank import ShapeBank
from art_perception.errors import CheckpointError, UsageError
from art_perception.geometry.lie import exp_so3
from art_perception.models.checkpoint import fingerprint, load_latent_network
from art_perception.models.kinematic_vae import KinematicVae
from art_perception.models.latent_diffusion import FastSamplerConfig, LatentNetwork, LatentNetworkConfig, losses
from art_perception.train.curve import LATENT_PANELS
from art_perception.train.pose import see
from art_perception.train.run import BatchOptimisation
from art_perception.train.stage import Stage, Start, started
from art_perception.train.validate_latent import Gallery, validate_latent
from art_perception.train.validate_vae import surfaces
from art_perception.types import ShapeBatch

_CENSUS = 512  # objects whose latents give mean and spread
_GALLERY_POINTS, _GALLERY_VOXELS = 8192, 64
_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class DisturbanceConfig:
    """How wrong the pose is by which a training view is brought into the canonical frame; standard deviations."""

    rotation: float = 0.06
    """Rad about a random axis."""
    shift: float = 0.02
    """Canonical units along every axis."""
    size: float = 0.03
    """Of the logarithm."""


@dataclass(frozen=True, slots=True)
class LatentTrainConfig(BatchOptimisation):
    """Optimisation."""

    draws: int = 4
    """Noise levels per view and step; the view is encoded once."""


@dataclass(frozen=True, slots=True)
class LatentRecipe:
    """Everything a training run is determined by, besides its objects and the shape prior."""

    model: LatentNetworkConfig = field(default_factory=LatentNetworkConfig)
    views: ViewsConfig = field(default_factory=lambda: ViewsConfig(points=512))
    clouds: CloudsConfig = field(default_factory=lambda: CloudsConfig(labelled=1, queries=1))
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)
    sampler: FastSamplerConfig = field(default_factory=FastSamplerConfig)
    train: LatentTrainConfig = field(default_factory=LatentTrainConfig)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Disturbed canonical clouds (B, N, 3), categories (B,), latents (B, Dz)."""

    cloud: Tensor
    category: Tensor
    z: Tensor


def latent_stage(
    recipe: LatentRecipe,
    prior: KinematicVae,
    training: ShapeBank,
    held_out: ShapeBank,
    device: str,
    start: Start[LatentNetwork] | None = None,
) -> Stage[LatentNetwork, Example]:
    """What :func:`train_stage` needs to train the latent diffusion of a shape prior; see :func:`vae_stage`.

    Raises:
        UsageError: the latent cannot be cut into as many tokens as the recipe says.
    """
    prior = prior.to(device).requires_grad_(False)
    recipe = _sized(recipe, prior)
    own = fingerprint(prior)
    gallery = _gallery(held_out, recipe, prior, device)
    return Stage(
        name="latent",
        unit="views",
        recipe=recipe,
        objects=[*training.names.tolist(), f"prior {own}"],  # a run continues only with the prior it began with
        sources=training.sources.tolist(),
        batch=recipe.train.batch,
        fresh=lambda: _fresh(recipe, training, prior, own),
        start=start,
        draw=lambda _, rng: [_example(training, recipe, prior, rng, device)],
        losses=lambda model, seen, generator: losses(
            model, seen.cloud, seen.category, seen.z, recipe.train.draws, generator
        ),
        validate=lambda model: validate_latent(model, prior, gallery, recipe.sampler, _GALLERY_VOXELS),
        panels=LATENT_PANELS,
    )


def start_latent(path: Path, recipe: LatentRecipe, prior: KinematicVae) -> Start[LatentNetwork]:
    """Weights to begin with, which know mean and spread of the latents they were trained on.

    Raises:
        CheckpointError: ``path`` holds no latent diffusion, or one of other sizes or of another prior.
        UsageError: the latent cannot be cut into as many tokens as the recipe says.
    """
    model, about = load_latent_network(path)
    if model.prior != fingerprint(prior):
        raise CheckpointError(f"{path} was trained with another shape prior: give that one as --vae")
    return started(path, model, about, _sized(recipe, prior).model, prior.categories)


def _sized(recipe: LatentRecipe, prior: KinematicVae) -> LatentRecipe:
    """The recipe with as many latent channels as the prior has."""
    latent, tokens = prior.config.latent, recipe.model.tokens
    if latent % tokens:
        raise UsageError(f"{latent} channels of the prior's latent cannot be cut into {tokens} tokens: "
                         "give a --recipe.model.tokens that divides them")  # fmt: skip
    return replace(recipe, model=replace(recipe.model, latent=latent))


def _example(
    bank: ShapeBank, recipe: LatentRecipe, prior: KinematicVae, rng: np.random.Generator, device: str
) -> Example:
    """Views and the latents of what they show, both at the same joint values."""
    index = choose(bank, recipe.train.batch, rng)
    shapes, views = see(bank, index, recipe.views, recipe.clouds, rng, device)
    cloud = disturbed(views.canonical, recipe.disturbance, rng)
    return Example(cloud, shapes.category, true_latents(prior, shapes))


@torch.no_grad()
def true_latents(prior: KinematicVae, shapes: ShapeBatch) -> Tensor:
    """Means (B, Dz) of the posterior of shapes, what the latent network learns to find."""
    return prior.encode(shapes.cloud, shapes.cloud_label, shapes.q_cloud, shapes.category)[0]


def disturbed(canonical: Tensor, config: DisturbanceConfig, rng: np.random.Generator) -> Tensor:
    """Clouds (B, N, 3) as they are when the pose of each was a little wrong."""
    B = len(canonical)
    draws = torch.as_tensor(rng.normal(size=(B, 1, 7)), dtype=canonical.dtype, device=canonical.device)
    R = exp_so3(config.rotation * draws[:, 0, :3] / 3**0.5)
    return canonical @ R.mT * (config.size * draws[..., 6:]).exp() + config.shift * draws[..., 3:6]


def _gallery(bank: ShapeBank, recipe: LatentRecipe, prior: KinematicVae, device: str) -> Gallery:
    """One held-out object per category: the same ones, seen the same way, every time."""
    rng = np.random.default_rng(80)
    index = one_of_each(bank)
    clouds = replace(recipe.clouds, labelled=_GALLERY_POINTS)
    shapes, views = see(bank, index, recipe.views, clouds, rng, device)
    z = true_latents(prior, shapes)
    return Gallery(shapes, views.canonical, z, surfaces(prior, shapes, z, _GALLERY_VOXELS))


def _fresh(recipe: LatentRecipe, bank: ShapeBank, prior: KinematicVae, own: int) -> LatentNetwork:
    """An untrained network that knows the mean and the spread of the latents."""
    model = LatentNetwork(recipe.model, prior.categories, own)
    rng = np.random.default_rng(81)
    shapes = draw_shapes(bank, choose(bank, _CENSUS, rng), recipe.clouds, rng, prior.parts.device)
    z = true_latents(prior, shapes)
    model.mean.copy_(z.mean(0))
    model.std.copy_(z.std(0).clamp(min=_FLOOR))
    return model
