"""Count the objects a shape prior was trained on: latents and sizes of every category, as kinds (models/census.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.vq import kmeans2

from art_perception.data.clouds import CloudsConfig, draw_shapes
from art_perception.data.shape_bank import ShapeBank
from art_perception.models.census import Census
from art_perception.models.checkpoint import fingerprint, save_census
from art_perception.models.kinematic_vae import KinematicVae
from art_perception.train.latent import true_latents

_BATCH = 32
_LEAST_WIDTH = 0.02  # of the logarithm of a size


@dataclass(frozen=True, slots=True)
class CensusConfig:
    """How finely objects are told apart."""

    per_kind: int = 15
    """Objects per kind, about."""
    directions: int = 6
    """Directions in which the objects of a kind vary, at most."""
    seed: int = 0
    """Of the first guess of the kinds and of the clouds that are encoded."""
    clouds: CloudsConfig = field(default_factory=lambda: CloudsConfig(points=2048, labelled=1, queries=1))


def take_census(prior: KinematicVae, bank: ShapeBank, config: CensusConfig, out: Path) -> Path:
    """Encode every object of a bank and write the kinds of all categories to ``out/census.safetensors``."""
    census = count_kinds(latents_of(prior, bank, config), bank, config, fingerprint(prior))
    path = out / "census.safetensors"
    sources = sorted(set(bank.sources.tolist()))
    save_census(path, census, prior.categories, {"objects": len(bank.names), "sources": sources})
    return path


def latents_of(prior: KinematicVae, bank: ShapeBank, config: CensusConfig) -> np.ndarray:
    """Posterior means (O, Dz) of all objects, each seen at random joint values."""
    rng = np.random.default_rng(config.seed)
    whole = np.arange(len(bank.names))
    groups = np.array_split(whole, int(np.ceil(len(whole) / _BATCH)))
    return torch.cat(
        [true_latents(prior, draw_shapes(bank, group, config.clouds, rng, "cpu")) for group in groups]
    ).numpy()


def count_kinds(z: np.ndarray, bank: ShapeBank, config: CensusConfig, prior: int) -> Census:
    """Cluster latents z (O, Dz) of the objects of a bank, category by category."""
    rng = np.random.default_rng(config.seed)
    rows = [
        (category, *_kind(z[own], bank.size_m[own], config.directions))
        for category in np.unique(bank.category)
        for own in _clusters(z, np.flatnonzero(bank.category == category), config.per_kind, rng)
    ]
    category, count, mean, root, log_size = (torch.as_tensor(np.array(column)) for column in zip(*rows, strict=True))
    return Census(category, count, mean, root, log_size, prior)


def _clusters(z: np.ndarray, index: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of the members of every cluster of z[index] (k-means)."""
    count = max(1, len(index) // size)
    start = z[rng.choice(index, count, replace=False)].astype(np.float64)
    label = kmeans2(z[index].astype(np.float64), start, iter=50, minit="matrix")[1]
    return [index[label == k] for k in np.unique(label)]


def _kind(z: np.ndarray, size_m: np.ndarray, directions: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Number, mean, root of the covariance and log size of latents z (M, Dz)."""
    mean = z.mean(0)
    _, scale, axes = np.linalg.svd((z - mean) / np.sqrt(max(len(z) - 1, 1)), full_matrices=False)
    root = np.zeros((directions, z.shape[1]), np.float32)
    some = min(directions, len(scale))
    root[:some] = scale[:some, None] * axes[:some]
    log_size = np.log(size_m)
    return len(z), mean, root, np.array([log_size.mean(), max(float(log_size.std()), _LEAST_WIDTH)], np.float32)
