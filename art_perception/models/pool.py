"""Many hypotheses of a pose and its joints made one, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from art_perception.geometry.rotations import mean_rotation, rotation_angle
from art_perception.models.pose_diffusion import ObjectState

_HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Root mean square deviation of all hypotheses from the pooled state, outliers included.

    Attributes:
        rotation: rad; translation: metres; size: metres.
        location: (J,) canonical units; direction: (J,) rad; amount: (J,) rad or canonical units.
    """

    rotation: float
    translation: float
    size: float
    location: Tensor
    direction: Tensor
    amount: Tensor


def pooled(states: ObjectState, numbers: Tensor) -> tuple[ObjectState, Spread, Tensor]:
    """Pool the H hypotheses of one cloud.

    Hypotheses are draws of p(state | cloud), so where they are dense that density is high: the likeliest one is the
    one whose nearest half is nearest (least median of squares, Rousseeuw 1984), the others rank by their distance
    from it, and the better half is averaged, rotations by their chordal mean. Up to half of the hypotheses may be
    anywhere without moving the result, and of two modes one is chosen, not their middle.

    Args:
        states: leading shape (H,).
        numbers: (H, D) the same in units in which distances mean something.

    Returns:
        The pooled state (no leading shape), its spread, and the ranking (H,), best first.
    """
    gaps = torch.cdist(numbers, numbers)
    half = max(1, math.ceil(_HALF * len(numbers)))
    likeliest = gaps.sort(1).values[:, half - 1].argmin()
    ranking = gaps[likeliest].argsort()
    best = ranking[:half]
    state = ObjectState(
        R=mean_rotation(states.R[best]),
        t=states.t[best].mean(0),
        size=states.size[best].log().mean().exp(),
        location=states.location[best].mean(0),
        direction=normalize(states.direction[best].mean(0), dim=-1),
        amount=states.amount[best].mean(0),
    )
    return state, _spread(states, state), ranking


def of_joints(spread: Spread, count: int) -> Spread:
    """The spread without the joints beyond the first ``count``, which are not there."""
    location, direction, amount = (x[:count] for x in (spread.location, spread.direction, spread.amount))
    return replace(spread, location=location, direction=direction, amount=amount)


def hypotheses(states: ObjectState, b: int) -> ObjectState:
    """States (H,) of the b-th of B clouds, from states (B, H)."""
    return ObjectState(*(getattr(states, name)[b] for name in ObjectState.__dataclass_fields__))


def _spread(states: ObjectState, state: ObjectState) -> Spread:
    along = (states.direction * state.direction).sum(-1).clamp(-1, 1)
    across = torch.linalg.cross(states.direction, state.direction.expand_as(states.direction)).norm(dim=-1)
    return Spread(
        rotation=float(_rms(rotation_angle(states.R, state.R))),
        translation=float(_rms((states.t - state.t).norm(dim=-1))),
        size=float(_rms(states.size - state.size)),
        location=_rms((states.location - state.location).norm(dim=-1)),
        direction=_rms(torch.atan2(across, along)),
        amount=_rms(states.amount - state.amount),
    )


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(0).sqrt()
