"""What the census lets expect of a category before anything is seen: one Gaussian of latents, one of sizes.

The latent is stated in whitened numbers u, ``z = mean + root u``: directions in which the category's objects hardly
differ are hard to move along, and |u|^2 is the squared Mahalanobis distance from the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_perception.models.census import Census

_LEAST = 0.02  # standard deviation of latents in any direction
_LEAST_LOG_SIZE = 0.35  # of the logarithm of sizes: training objects differ less than what people own


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """Mean (Dz,) and root (Dz, Dz) of the covariance of a category's latents, and its inverse."""

    mean: Tensor
    root: Tensor
    inverse: Tensor

    def latent(self, u: Tensor) -> Tensor:
        """Latents (H, Dz) of whitened ones."""
        return self.mean + u @ self.root.T

    def whitened(self, z: Tensor) -> Tensor:
        """Whitened latents (H, Dz)."""
        return (z - self.mean) @ self.inverse.T


def whitening(census: Census, category: int) -> Whitening:
    """The Gaussian of all kinds of a category together: the law of total variance over them."""
    own = census.category == category
    share = census.count[own].double() / census.count[own].sum()
    kinds, roots = census.mean[own].double(), census.root[own].double()
    mean = share @ kinds
    apart = (kinds - mean) * share[:, None].sqrt()
    inside = (roots * share[:, None, None].sqrt()).flatten(0, 1)
    values, axes = torch.linalg.eigh(apart.T @ apart + inside.T @ inside)
    scale = values.clamp(min=_LEAST**2).sqrt()
    return Whitening(mean.float(), (axes * scale).float(), (axes / scale).T.float())


def size_deviations(census: Census, category: int, size_m: float) -> float:
    """How many standard deviations the logarithm of a size is from that of the category's training objects."""
    own = census.category == category
    share = census.count[own].double() / census.count[own].sum()
    middle, width = census.log_size[own].double().unbind(1)
    mean = share @ middle
    std = float((share @ (width**2 + (middle - mean) ** 2)).sqrt())
    return abs(math.log(size_m) - float(mean)) / max(std, _LEAST_LOG_SIZE)
