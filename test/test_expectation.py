"""What is expected of latents: one Gaussian per category that is exactly that of the census."""

from __future__ import annotations

import torch

from art_perception.models.census import Census, draw_latent
from art_perception.models.expectation import whitening


def census() -> Census:
    """Two kinds of category 1, three times as many of the first, among those of category 0."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn((3, 5), generator=generator)
    root = 0.3 * torch.randn((3, 2, 5), generator=generator)
    return Census(torch.tensor([1, 0, 1]), torch.tensor([30, 7, 10]), mean, root, torch.zeros(3, 2), 0)


def test_mean_and_covariance_are_those_of_what_the_census_draws():
    own, generator = census(), torch.Generator().manual_seed(1)
    drawn = torch.cat([draw_latent(own, 1, 1.0, generator)[0] for _ in range(6000)])
    white = whitening(own, 1)
    torch.testing.assert_close(white.mean, drawn.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(white.root @ white.root.T, torch.cov(drawn.T), atol=0.08, rtol=0)
    u = white.whitened(drawn)
    torch.testing.assert_close(u.var(0)[-3:], torch.ones(3), atol=0.1, rtol=0)


def test_whitening_is_undone():
    white = whitening(census(), 0)
    z = torch.randn((4, 5), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(white.latent(white.whitened(z)), z, atol=1e-4, rtol=1e-4)
