"""Joint-centric optimisation of complete objects against what was measured: one loop over a list of terms (Eq. 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_perception.estimation.terms import (
    Decoded,
    Evidence,
    Hypotheses,
    TermWeights,
    free_space,
    joint_gap,
    limits,
    part_distances,
    surface,
)
from art_perception.geometry.lie import exp_so3

Decode = Callable[[Tensor], Decoded]
"""What a shape prior makes of whitened latents (H, Dz)."""

_TURN, _SHIFT, _SCALE, _VALUE, _LATENT = 1.0, 0.5, 0.5, 2.0, 6.0
"""One unit of the optimiser's variables: rad, canonical units, logarithms, joint values, standard deviations."""


@dataclass(frozen=True, slots=True)
class ExpectedSize:
    """Mean and standard deviation of the logarithm of the size, metres per canonical unit."""

    log: float
    std: float


def cost(guess: Hypotheses, decode: Decode, evidence: Evidence, expected: ExpectedSize, weights: TermWeights) -> Tensor:
    """Cost (H,) of hypotheses: every term times its weight."""
    decoded = decode(guess.u)
    seen = evidence.points.shape[1]
    distance = part_distances(guess, decoded, torch.cat([evidence.points, evidence.free], 1))
    total = (
        weights.surface * surface(distance[..., :seen], evidence.part, weights.reach)
        + weights.free * free_space(distance[..., seen:], weights.reach)
        + weights.limits * limits(guess.q, decoded.upper)
        + weights.prior * guess.u.square().mean(-1)
        + weights.size * ((guess.size.log() - expected.log) / expected.std).square()
    )
    if evidence.axis is not None and evidence.origin is not None:
        total = total + weights.joint * joint_gap(guess, decoded, evidence.axis, evidence.origin)
    return total


def refine(
    guess: Hypotheses, decode: Decode, evidence: Evidence, expected: ExpectedSize, weights: TermWeights,
    steps: int, rate: float, bend: bool = True,
) -> tuple[Hypotheses, Tensor]:  # fmt: skip
    """Descend with Adam, all hypotheses side by side; joint values move by the same amount in all frames.

    Args:
        guess: where to begin.
        decode: the shape prior.
        evidence: what was measured.
        expected: size of the object.
        weights: of the terms.
        steps: gradient steps.
        rate: peak learning rate.
        bend: whether the shape moves as well.

    Returns:
        The cheapest state each hypothesis has been in, its beginning included, and the costs (H,).
    """
    shapes = (guess.t.shape, guess.t.shape, guess.size.shape, guess.q[:, :1].shape, guess.u.shape)
    moves = [torch.zeros(shape, device=guess.t.device, requires_grad=True) for shape in shapes]
    optimizer = torch.optim.Adam(moves if bend else moves[:-1], rate, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.2)
    best, lowest = guess, torch.full_like(guess.size, torch.inf)
    for step in range(steps + 1):
        now = _moved(guess, moves)
        each = cost(now, decode, evidence, expected, weights)
        best, lowest = cheaper(now, each.detach(), best, lowest)
        if step < steps:
            optimizer.zero_grad()
            each.sum().backward()
            optimizer.step()
            schedule.step()
    return best, lowest


def cheaper(a: Hypotheses, cost_a: Tensor, b: Hypotheses, cost_b: Tensor) -> tuple[Hypotheses, Tensor]:
    """Of every pair the cheaper, without gradient, and what it costs."""
    first = cost_a < cost_b

    def choose(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(first.view(-1, *[1] * (x.dim() - 1)), x, y).detach()

    kept = Hypotheses(choose(a.R, b.R), choose(a.t, b.t), choose(a.size, b.size), choose(a.q, b.q), choose(a.u, b.u))
    return kept, torch.where(first, cost_a, cost_b)


def _moved(guess: Hypotheses, moves: list[Tensor]) -> Hypotheses:
    turn, shift, scale, value, latent = moves
    return Hypotheses(
        R=guess.R @ exp_so3(_TURN * turn),
        t=guess.t + guess.size[:, None] * _SHIFT * shift,
        size=guess.size * (_SCALE * scale).exp(),
        q=guess.q + _VALUE * value,
        u=guess.u + _LATENT * latent,
    )
