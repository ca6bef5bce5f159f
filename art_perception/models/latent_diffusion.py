"""The shape prior's latent from a partial cloud (KineDiff3D, section 3.3): a DDPM that predicts Z0, sampled by DDIM.

The condition is the partial cloud in the canonical frame, PointNet++ tokens that the tokens of Z attend to. Z is the
posterior's mean of the frozen KA-VAE, standardised over training. Eq. 8 as printed lacks the mean of the posterior;
DDIM (Song et al., 2021) is used instead, which is deterministic given its first noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from art_perception.bounds import bounded
from art_perception.models.kinematic_vae import CategoryInfo
from art_perception.models.point_encoder import PointEncoder, PointEncoderConfig, lively
from art_perception.models.sim2art import Attention, mlp


@dataclass(frozen=True, slots=True)
class LatentNetworkConfig:
    """Size of the network and its noise."""

    encoder: PointEncoderConfig = field(default_factory=lambda: PointEncoderConfig(radii=(0.15, 0.4)))
    latent: int = 64
    """Channels of Z, those of the shape prior."""
    tokens: int = 8
    """Pieces Z is cut into."""
    width: int = 160
    """Channels of a token."""
    layers: int = 4
    """Layers of attention."""
    heads: int = 4
    """Heads of each."""
    steps: int = 1000
    """Noise levels T of the DDPM."""


@dataclass(frozen=True, slots=True)
class FastSamplerConfig:
    """Sampling of latents."""

    steps: int = bounded(50, 1, 10_000)
    """Steps of DDIM, at most the network's noise levels."""


class LatentNetwork(nn.Module):
    """Denoiser of Z.

    Attributes:
        prior: fingerprint of the KA-VAE whose latents it makes (models/checkpoint.py).
    """

    mean: Tensor
    std: Tensor
    alphas: Tensor

    def __init__(self, config: LatentNetworkConfig, categories: tuple[CategoryInfo, ...], prior: int) -> None:
        super().__init__()
        self.config, self.categories, self.prior = config, categories, prior
        w, c, piece = config.width, config.encoder.width, config.latent // config.tokens
        self.register_buffer("mean", torch.zeros(config.latent))
        self.register_buffer("std", torch.ones(config.latent))
        self.register_buffer("alphas", noise_schedule(config.steps), persistent=False)
        self.encoder = PointEncoder(config.encoder)
        self.place, self.whole = nn.Linear(c + 3, w), nn.Linear(2 * c, w)
        self.category = nn.Embedding(len(categories), w)
        self.time = mlp(32, w, w)
        self.lift, self.out = nn.Linear(piece, w), nn.Linear(w, piece)
        self.position = nn.Parameter(0.1 * torch.randn(config.tokens, w))
        self.blocks = nn.ModuleList(Attention(w, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(w)
        lively(self.time)

    def encode(self, cloud: Tensor, category: Tensor) -> Tensor:
        """Tokens (B, M + 2, W) of canonical partial clouds (B, N, 3): their places, their whole, their category."""
        places, features, whole = self.encoder(cloud)
        tokens = self.place(torch.cat([features, places], -1))
        return torch.cat([tokens, self.whole(whole)[:, None], self.category(category)[:, None]], 1)

    def denoised(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Expected Z0 (B, Dz), standardised, of noisy ones (B, Dz) at levels t (B,) in 1..T."""
        alpha = self.alphas[t][:, None]
        pieces = self.lift(z.unflatten(-1, (self.config.tokens, -1)))
        x = pieces + self.position + self.time(_sines(t / self.config.steps))[:, None]
        for block in self.blocks:
            x = block(x, condition)
        # the first term is the best linear guess when Z0 has unit variance, so the network learns the rest
        return alpha.sqrt() * z + (1 - alpha).sqrt() * self.out(self.norm(x)).flatten(1).float()


def noise_schedule(steps: int) -> Tensor:
    """Share (T + 1,) of the signal's variance left at every level, from 1 to almost 0 (Nichol & Dhariwal, 2021)."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    beta = (1 - kept[1:] / kept[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)]).float()


def losses(
    model: LatentNetwork, cloud: Tensor, category: Tensor, z: Tensor, draws: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Eq. 7: squared error of the predicted Z0, of latents z (B, Dz), at ``draws`` noise levels per cloud."""
    condition = model.encode(cloud, category).repeat_interleave(draws, 0)
    clean = ((z - model.mean) / model.std).repeat_interleave(draws, 0)
    t = torch.randint(1, model.config.steps + 1, (len(clean),), generator=generator, device=z.device)
    alpha = model.alphas[t][:, None]
    noise = torch.randn(clean.shape, generator=generator, device=z.device)
    found = model.denoised(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t, condition)
    return {"z0": (found - clean).square().mean()}


def ddim(denoised: Callable[[Tensor, int], Tensor], z: Tensor, alphas: Tensor, steps: int) -> Tensor:
    """Carry noise z to data in ``steps`` deterministic steps (Song et al., 2021, Eq. 12 with sigma 0).

    Args:
        denoised: expected data of noisy samples at a level in 1..T.
        z: samples of the unit normal.
        alphas: (T + 1,) share of the signal's variance at every level, 1 at level 0.
        steps: how many, at most T.
    """
    levels = torch.linspace(len(alphas) - 1, 0, steps + 1).round().long().tolist()
    for t, after in pairwise(levels):
        found = denoised(z, t)
        noise = (z - alphas[t].sqrt() * found) / (1 - alphas[t]).sqrt()
        z = alphas[after].sqrt() * found + (1 - alphas[after]).sqrt() * noise
    return z


@torch.no_grad()
def sample_latents(
    model: LatentNetwork, cloud: Tensor, category: Tensor, config: FastSamplerConfig, generator: torch.Generator
) -> Tensor:
    """Draw latents (B, Dz) of the shape prior for canonical partial clouds (B, N, 3) of categories (B,)."""
    condition = model.encode(cloud, category)
    start = torch.randn((len(cloud), model.config.latent), generator=generator, device=cloud.device)

    def denoised(z: Tensor, t: int) -> Tensor:
        return model.denoised(z, torch.full((len(z),), t, device=z.device), condition)

    return ddim(denoised, start, model.alphas, config.steps) * model.std + model.mean


def _sines(x: Tensor) -> Tensor:
    """Numbers (B,) in [0, 1] as 16 sines and cosines (B, 32)."""
    angle = x[:, None] * torch.logspace(0, 3, 16, device=x.device)
    return torch.cat([angle.sin(), angle.cos()], -1)
