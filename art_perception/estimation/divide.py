"""Two parts that move in step pass for one: its joint is a compromise, and each half of its surface knows better.

Halves of a rigid part agree on its motion, however they are cut. Each is registered by itself, and the part is two
when they explain what they see much better by motions that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from art_perception.estimation.align import JointConfig, cost_of, gather, refine
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import surface_of, undo
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.segment import world_displacement
from art_perception.estimation.select import parent_displacement
from art_perception.geometry.lie import transform

_APART = 0.12  # of the way: motions of halves that differ by less are one
_GAIN = 50.0  # chi-square units that two motions must explain better than one
_SHARE = 0.15  # and of all that one leaves unexplained: the pages of a book bend, and halves that differ gain little
_FEWEST = 500  # pixels of a part in all frames: of fewer, halves say nothing
_STRIDES = 2  # of those that joints are refined with, the widest, with half of the points


def divided(
    dense: DenseWindow, labels: np.ndarray, motions: Sequence[Motion], noise_m: float, config: JointConfig
) -> tuple[Motion, Motion] | None:
    """Motions of the two parts that the last of the ``motions`` is a compromise between; None when it moves one.

    Args:
        dense: the window.
        labels: (T, h, w) label of the last motion's part, ``len(motions)``, and of others.
        motions: parents first.
        noise_m: depth noise at the median depth, metres.
        config: how halves are registered.
    """
    part = len(motions)
    D = world_displacement(motions, part - 1)
    surface = surface_of(dense, noise_m, np.arange(len(labels)))
    surface = surface.subset(labels.reshape(len(labels), -1)[surface.frame, surface.pixel] == part)
    if len(surface.frame) < _FEWEST:
        return None
    rest = undo(surface, D).astype(float)
    away = rest - np.median(rest, 0)
    most, best = _GAIN, None
    for direction in np.linalg.svd(away[:: len(away) // _FEWEST], full_matrices=False)[2][:2]:
        side = away @ direction > np.median(away @ direction)
        fits, gain, left = [], 0.0, 0.0
        for half in (side, ~side):
            only = np.where(labels == part, 0, labels)
            only.reshape(len(only), -1)[surface.frame[half], surface.pixel[half]] = part
            fit, one, two = _registered(dense, only, motions, noise_m, config)
            fits.append(fit)
            gain, left = gain + one - two, left + one
        if gain > max(most, _SHARE * left) and _apart(fits[0], fits[1], motions, rest) > _APART:
            most, best = gain, (fits[0], fits[1])
    return best


def _registered(
    dense: DenseWindow, labels: np.ndarray, motions: Sequence[Motion], noise_m: float, config: JointConfig
) -> tuple[Motion, float, float]:
    """The last motion registered on its part in ``labels``, and the chi-squares before and after that."""
    motion, part = motions[-1], len(motions)
    D_parent = parent_displacement(motions, motion.parent)
    none = np.zeros((0, len(labels), 3)), np.zeros((0, len(labels)))
    quick = replace(config, strides=config.strides[-_STRIDES:], points_per_pair=max(10, config.points_per_pair // 2))
    evidence = gather(dense, labels, part, D_parent, *none, noise_m, quick)
    fit = refine(dense, labels, part, evidence, motion, config)
    return fit.motion, cost_of(dense, labels, part, evidence, motion, config)[0], fit.cost


def _apart(one: Motion, other: Motion, motions: Sequence[Motion], points: np.ndarray) -> float:
    """How far two motions of the last part take its points (n, 3) apart, of how far they move: the median."""
    some = points[:: max(1, len(points) // _FEWEST)]
    a, b = (transform(world_displacement([*motions[:-1], m], len(motions) - 1), some) for m in (one, other))
    gap, way = np.linalg.norm(a - b, axis=-1).max(0), np.linalg.norm(a - some, axis=-1).max(0)
    return float(np.median(gap / np.maximum(way, 0.02)))
