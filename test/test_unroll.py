"""Rings about an axis: turning is shifting, and what turns is told from what stands."""

from __future__ import annotations

import numpy as np

from art_perception.estimation.unroll import Register, backfit, placed, returned, unexplained

RNG = np.random.default_rng(0)
Q = np.r_[0, np.linspace(0, 30, 15), np.full(4, 30.0)]
VIEWER = np.linspace(0, -20, len(Q))


def smooth(rings: int = 12, pieces: int = 96) -> np.ndarray:
    """Random rings that vary over a few pieces, with mean zero."""
    spectrum = np.fft.rfft(RNG.normal(size=(rings, pieces))) * np.exp(-np.arange(pieces // 2 + 1) / 10)
    spectrum[:, 0] = 0
    return np.fft.irfft(spectrum, pieces)


def half_seen(frames: int, rings: int = 12, pieces: int = 96) -> np.ndarray:
    """Weights: every frame sees a half of each ring."""
    return np.broadcast_to((np.arange(pieces) < pieces // 2).astype(float), (frames, rings, pieces)).copy()


def test_turning_back_undoes_turning():
    ring = smooth()
    np.testing.assert_array_equal(returned(placed(ring, Q), Q), np.broadcast_to(ring, (len(Q), *ring.shape)))
    shifted = placed(ring, np.array([3.0]))[0]
    np.testing.assert_array_equal(shifted[:, 3:], ring[:, :-3])


def test_what_stands_what_follows_the_viewer_and_what_turns_are_told_apart():
    paths = [np.zeros(len(Q)), VIEWER, Q]
    truth = [smooth() for _ in paths]
    value = sum(placed(part, path) for part, path in zip(truth, paths, strict=True))
    weight = np.ones_like(value)
    parts, left = backfit(value, weight, paths, rounds=60)
    for part, true in zip(parts, truth, strict=True):
        assert np.corrcoef(part.ravel(), true.ravel())[0, 1] > 0.9
    _, without = backfit(value, weight, paths[:2], rounds=60)
    _, mirrored = backfit(value, weight, [*paths[:2], -Q], rounds=60)
    assert unexplained(weight, left).sum() < 0.1 * unexplained(weight, mirrored).sum()
    assert unexplained(weight, mirrored).sum() < unexplained(weight, without).sum()


def test_the_turn_of_a_known_pattern_is_found_from_half_of_it():
    ring = smooth()
    weight = half_seen(len(Q))
    value = placed(ring, Q) + RNG.normal(0, 0.3 * ring.std(), weight.shape)
    found = Register(value, weight)(ring, np.ones(len(ring)), Q + 3, 6.0, slice(None))
    assert np.abs(found - np.rint(Q)).max() < 0.5
