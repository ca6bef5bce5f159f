"""Latent diffusion: an exact sampler, a network that learns the latents of a few views by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import fingerprint, load_latent_network, save_network
from art_perception.models.latent_diffusion import (
    FastSamplerConfig,
    LatentNetwork,
    LatentNetworkConfig,
    ddim,
    losses,
    noise_schedule,
    sample_latents,
)
from art_perception.models.point_encoder import PointEncoderConfig
from art_perception.train.latent import DisturbanceConfig, disturbed
from art_perception.train.vae import KNOWN

TINY = LatentNetworkConfig(PointEncoderConfig((16, 4), (8, 4), (0.3, 0.8), 16), 8, 4, 32, 1, 2, 100)


def model(seed: int = 0) -> LatentNetwork:
    torch.manual_seed(seed)
    return LatentNetwork(TINY, KNOWN, 7)


def draw(network: LatentNetwork, cloud: torch.Tensor, category: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return sample_latents(network, cloud, category, FastSamplerConfig(20), torch.Generator().manual_seed(seed))


def test_the_schedule_goes_from_signal_to_noise():
    alphas = noise_schedule(1000)
    assert alphas[0] == 1
    assert alphas[-1] < 1e-4
    assert (alphas.diff() < 0).all()


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_an_oracle_is_followed_to_its_latent(steps: int):
    z0, alphas = torch.randn(4, 8), noise_schedule(1000)
    torch.testing.assert_close(ddim(lambda *_: z0, torch.randn(4, 8), alphas, steps), z0, atol=1e-5, rtol=0)


def test_a_gaussian_keeps_its_quantiles():
    """With data N(m, v) the denoiser is known; DDIM with many steps carries noise to the same quantile of the data."""
    m, v, alphas = 0.4, 0.25, noise_schedule(1000).double()

    def denoised(z: torch.Tensor, t: int) -> torch.Tensor:
        a = alphas[t]
        return m + v * a.sqrt() * (z - a.sqrt() * m) / (a * v + 1 - a)

    start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(ddim(denoised, start, alphas, 1000), m + v**0.5 * start, atol=0.01, rtol=0)
    torch.testing.assert_close(ddim(denoised, start, alphas, 50), m + v**0.5 * start, atol=0.08, rtol=0)


def test_learnt_by_heart_and_seeded():
    g = torch.Generator().manual_seed(0)
    cloud, category, z = (
        torch.randn(4, 48, 3, generator=g) / 4,
        torch.tensor([0, 1, 4, 4]),
        torch.randn(4, 8, generator=g),
    )
    network = model()
    network.std.fill_(0.5)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(260):
        terms = losses(network, cloud, category, z, 4, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        terms["z0"].backward()
        if step == 0:
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
        optimizer.step()
    before, after = ((draw(n, cloud, category) - z).square().mean().sqrt() for n in (model(), network.eval()))
    assert after < 0.3 * before
    assert torch.equal(draw(network, cloud, category, 3), draw(network, cloud, category, 3))
    assert not torch.equal(draw(network, cloud, category, 3), draw(network, cloud, category, 4))


def test_disturbed_clouds_are_moved_rigidly_and_resized():
    cloud = torch.randn(5, 30, 3)
    still = disturbed(cloud, DisturbanceConfig(0.0, 0.0, 0.0), np.random.default_rng(0))
    torch.testing.assert_close(still, cloud)
    moved = disturbed(cloud, DisturbanceConfig(), np.random.default_rng(0))
    ratio = torch.cdist(moved, moved)[:, 0, 1:] / torch.cdist(cloud, cloud)[:, 0, 1:]
    assert ratio.std(1).max() < 1e-4
    assert 0.8 < ratio.min() < ratio.max() < 1.25
    assert 0.01 < (moved - cloud).norm(dim=-1).mean() < 0.3


def test_checkpoint_round_trip_and_fingerprint(tmp_path: Path):
    network, path = model(), tmp_path / "latent.safetensors"
    save_network(path, network, {"objects": 3})
    again, about = load_latent_network(path)
    assert (again.config, again.categories, again.prior, about) == (TINY, KNOWN, 7, {"objects": 3})
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in again.state_dict().items())
    assert fingerprint(network) == fingerprint(again.half())
    assert fingerprint(network) != fingerprint(model(1))
    with pytest.raises(CheckpointError, match="--stage latent"):
        load_latent_network(tmp_path / "none.safetensors")
