"""Differentiable screw statistics: the rigid motion that weighted scene flow shows, per part and frame, and its axis.

For a rigid motion by the rotation vector w the flow f of a point p obeys ``f = w x m + v`` with the chord's middle
``m = p + f / 2``, where ``|w| = 2 tan(angle / 2)`` (Cayley; Bottema & Roth, "Theoretical Kinematics", 1979, chapter 3).
That is linear in (w, v), so weighted normal equations solve it in closed form for any number of soft parts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_RIDGE = 2e-3
_LEAST_NOISE = 1e-5  # squared units of scale: flow is never exact


class Twists(NamedTuple):
    """Motion per frame and part: rotation (B, T, M, 3), motion of the centroid and centroid (B, T, M, 3), mass, misfit.

    ``mass`` (B, T, M) is the total weight, ``misfit`` (B, T, M) the share of the flow's energy that is not rigid.
    """

    rotation: Tensor
    shift: Tensor
    middle: Tensor
    mass: Tensor
    misfit: Tensor


class Screws(NamedTuple):
    """Joint statistics per part: axes (B, M, 3), signed by net motion, axis point, amounts (B, T, M) since frame 0."""

    turn_axis: Tensor
    slide_axis: Tensor
    pivot: Tensor
    turn: Tensor
    slide: Tensor


def fit_twists(points: Tensor, flow: Tensor, weights: Tensor) -> Twists:
    """Fit a rigid motion to every soft part in every frame.

    Args:
        points: (B, T, N, 3).
        flow: (B, T, N, 3) in the same unit.
        weights: (B, T, N, M) non-negative.
    """
    m = points + flow / 2
    one = torch.ones_like(m[..., :1])
    moments = torch.cat([one, m, flow, _outer(m, m).flatten(-2), torch.linalg.cross(m, flow), _dot(flow, flow)], -1)
    total = torch.einsum("btnm,btnc->btmc", weights, moments)
    mass = total[..., 0]
    mean = total[..., 1:] / mass.clamp(min=1e-6)[..., None]
    middle, shift = mean[..., :3], mean[..., 3:6]
    spread = mean[..., 6:15].unflatten(-1, (3, 3)) - _outer(middle, middle)
    moment = mean[..., 15:18] - torch.linalg.cross(middle, shift)
    eye = torch.eye(3, dtype=m.dtype, device=m.device)
    trace = spread.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    inertia = (trace + _RIDGE) * eye - spread
    rotation = torch.linalg.solve(inertia, moment)
    energy = mean[..., 18] - _dot(shift, shift)[..., 0]
    explained = (moment * rotation).sum(-1)
    misfit = ((energy - explained) / mean[..., 18].clamp(min=1e-6)).clamp(0, 1)
    return Twists(rotation, shift, middle, mass, misfit)


@torch.no_grad()
def inliers(points: Tensor, flow: Tensor, weights: Tensor, rounds: int = 2) -> Tensor:
    """How far every point's flow agrees with the rigid motion of a soft part, (B, T, N, M) in [0, 1].

    Geman-McClure weights by iterated fitting (Black & Rangarajan, "On the unification of line processes, outlier
    rejection, and robust statistics", 1996), the scale being the residual's weighted mean square. They are constants:
    no gradient passes through the choice of what to trust.

    Args:
        points: (B, T, N, 3).
        flow: (B, T, N, 3) in the same unit.
        weights: (B, T, N, M) non-negative.
        rounds: how often the motion is fitted.
    """
    m = (points + flow / 2)[:, :, :, None]
    kept = torch.ones_like(weights)
    for _ in range(rounds):
        fit = fit_twists(points, flow, weights * kept)
        turned = torch.linalg.cross(fit.rotation[:, :, None].expand(*weights.shape, 3), m - fit.middle[:, :, None])
        off = (flow[:, :, :, None] - fit.shift[:, :, None] - turned).square().sum(-1)
        own = weights * kept
        noise = (own * off).sum(2, keepdim=True) / own.sum(2, keepdim=True).clamp(min=1e-6)
        kept = (1 + off / noise.clamp(min=_LEAST_NOISE)) ** -2
    return kept


def fit_screws(twists: Twists) -> Screws:
    """Average the frames' motions to one revolute and one prismatic joint per part.

    The axis point minimises the points' velocity on the axis, ``sum |w x (c - middle) + shift|^2``; along the axis it
    stays next to the part. The last frame's motion repeats the one before and is not counted.
    """
    w, u, mass = (x[:, :-1] for x in (twists.rotation, twists.shift, twists.mass))
    share = (mass / mass.sum(1, keepdim=True).clamp(min=1e-6))[..., None]
    turn_axis, turn = _along(w, share)
    slide_axis, slide = _along(u, share)
    eye = torch.eye(3, dtype=w.dtype, device=w.device)
    middle = (share * twists.middle[:, :-1]).sum(1)
    velocity = u + torch.linalg.cross(w, middle[:, None] - twists.middle[:, :-1])
    normal = (share[..., None] * (_dot(w, w)[..., None] * eye - _outer(w, w))).sum(1)
    right = (share * torch.linalg.cross(w, velocity)).sum(1)
    size = normal.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    offset = torch.linalg.solve(normal + (0.02 * size + 1e-6) * eye, right)
    return Screws(turn_axis, slide_axis, middle + offset.clamp(-3, 3), turn, slide)


def _along(steps: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Common direction (B, M, 3) of steps (B, T - 1, M, 3) and progress along it (B, T, M) from 0, mostly positive."""
    size = steps.detach() * share.detach()
    largest = size.norm(dim=-1).argmax(1)[:, None, :, None].expand(-1, -1, -1, 3)
    sign = torch.sign((size * size.gather(1, largest)).sum(-1, keepdim=True))
    total = (steps * share * sign).sum(1)
    direction = total / total.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    progress = torch.nn.functional.pad((steps * direction[:, None]).sum(-1).cumsum(1), (0, 0, 1, 0))
    extreme = progress.gather(1, progress.detach().abs().argmax(1, keepdim=True))
    flip = torch.where(extreme.detach() < 0, -1.0, 1.0)
    return direction * flip[:, 0, :, None], progress * flip


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)
