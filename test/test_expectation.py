"""What is expected of latents: one Gaussian per category that is exactly that of the census."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from art_perception.models.census import Census, draw_latent
from art_perception.models.expectation import size_deviations, whitening


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


def test_sizes_are_compared_by_their_ratio_to_the_usual_one():
    own = replace(census(), log_size=torch.log(torch.tensor([[2.0, 1], [5.0, 1], [2.0, 1]])) * torch.tensor([1.0, 0]))
    assert size_deviations(own, 1, 2.0) == pytest.approx(0, abs=1e-6)
    assert (
        size_deviations(own, 1, 4.0) == pytest.approx(size_deviations(own, 1, 1.0)) == pytest.approx(np.log(2) / 0.35)
    )
    apart = replace(own, log_size=torch.tensor([[0.0, 0.6], [0, 0], [4.0, 0.6]]))
    mean, std = 1.0, np.sqrt(0.36 + 0.25 * 3**2 + 0.75)
    assert size_deviations(apart, 1, np.exp(mean + 2 * std)) == pytest.approx(2)
