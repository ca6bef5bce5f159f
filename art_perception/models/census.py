"""Where in the latent space of the shape prior the objects of a category lie: what a new one is drawn from.

The posterior means of training objects form clusters, here called kinds: doors hinged left and doors hinged right,
tables and chests. Each kind is a Gaussian of few directions. One Gaussian for the whole category would also draw what
lies between two kinds, a door that turns about its middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """G kinds of objects, of all categories.

    Attributes:
        category: (G,) int64.
        count: (G,) training objects of the kind.
        mean: (G, Dz) of their latents.
        root: (G, R, Dz) of the covariance: latents are ``mean + e @ root`` with e (R,) standard normal.
        log_size: (G, 2) mean and standard deviation of the logarithm of their size, metres per canonical unit.
        prior: fingerprint of the shape prior whose latents these are.
    """

    category: Tensor
    count: Tensor
    mean: Tensor
    root: Tensor
    log_size: Tensor
    prior: int


def draw_latent(census: Census, category: int, spread: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draw a new object of a category: its latent (1, Dz) and its size, metres per canonical unit.

    Args:
        census: of the category among others.
        category: index.
        spread: multiple of the standard deviations; 0 = the mean of a random kind.
        generator: of the draw.
    """
    own = (census.category == category).nonzero()[:, 0]
    kind = own[torch.multinomial(census.count[own].float(), 1, generator=generator)]
    noise = spread * torch.randn(1, census.root.shape[1], generator=generator)
    z = census.mean[kind] + noise @ census.root[kind][0]
    middle, width = census.log_size[kind][0]
    size = (middle + spread * width * torch.randn((), generator=generator)).exp()
    return z, float(size)
