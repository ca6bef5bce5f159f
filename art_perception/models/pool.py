"""Many hypotheses of a pose and its joints made one, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from art_perception.geometry.rotations import mean_rotation, rotation_angle
from art_perception.models.pose_diffusion import ObjectState


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Root mean square deviation of all hypotheses of B clouds from the pooled states, outliers included.

    Attributes:
        R: (B,) rad; t: (B,) metres; size: (B,) metres.
        location: (B, J) canonical units; direction: (B, J) rad; amount: (B, J) rad or canonical units.
    """

    R: Tensor
    t: Tensor
    size: Tensor
    location: Tensor
    direction: Tensor
    amount: Tensor


def pooled(states: ObjectState, numbers: Tensor) -> tuple[ObjectState, Spread, Tensor]:
    """Pool the H hypotheses of every cloud.

    Hypotheses are draws of p(state | cloud), so where they are dense that density is high: the likeliest one is the
    one whose nearest half is nearest (least median of squares, Rousseeuw 1984), the others rank by their distance
    from it, and the better half is averaged, rotations by their chordal mean. Up to half of the hypotheses may be
    anywhere without moving the result, and of two modes one is chosen, not their middle.

    Args:
        states: leading shape (B, H).
        numbers: (B, H, D) the same in units in which distances mean something.

    Returns:
        The pooled states (B,), their spread, and the ranking (B, H) of the hypotheses, best first.
    """
    gaps = torch.cdist(numbers, numbers)
    row, half = torch.arange(len(numbers), device=numbers.device)[:, None], (numbers.shape[1] + 1) // 2
    likeliest = gaps.sort(-1).values[..., half - 1].argmin(1)
    ranking = gaps[row[:, 0], likeliest].argsort(-1)
    best = (row, ranking[:, :half])
    state = ObjectState(
        R=mean_rotation(states.R[best]),
        t=states.t[best].mean(1),
        size=states.size[best].log().mean(1).exp(),
        location=states.location[best].mean(1),
        direction=normalize(states.direction[best].mean(1), dim=-1),
        amount=states.amount[best].mean(1),
    )
    return state, _spread(states, state), ranking


def _spread(states: ObjectState, state: ObjectState) -> Spread:
    chord = (states.direction - state.direction[:, None]).norm(dim=-1)
    return Spread(
        R=_rms(rotation_angle(states.R, state.R[:, None])),
        t=_rms((states.t - state.t[:, None]).norm(dim=-1)),
        size=_rms(states.size - state.size[:, None]),
        location=_rms((states.location - state.location[:, None]).norm(dim=-1)),
        direction=_rms(2 * (chord / 2).clamp(max=1).asin()),
        amount=_rms(states.amount - state.amount[:, None]),
    )


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(1).sqrt()
