"""Losses and matching of the window network (sim2art, section 3.6, Eqs. 6 to 11) and ours: votes and screw field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import cross_entropy

from art_perception.models.sim2art import Sim2ArtOutput
from art_perception.types import PointWindow, WindowTruth

STATIC = 2


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the terms; the paper's are 2, 1 and all others 1."""

    bce: float = 2.0
    """Binary cross entropy of the part assignment (Eq. 6)."""
    dice: float = 1.0
    """Dice loss of the part assignment (Eq. 6)."""
    type: float = 1.0
    """Cross entropy of the joint type (Eq. 7)."""
    axis: float = 1.0
    """Angle between the axes, rad (Eq. 8)."""
    pivot: float = 1.0
    """Distance of the pivot from the true axis (Eq. 9)."""
    motion: float = 1.0
    """Absolute error of the motion per frame (Eqs. 10, 11)."""
    votes: float = 0.3
    """Axis votes of the points."""
    field: float = 1.0
    """Screw field: displacement of the part's points by the predicted joint."""


def match(assignment: Tensor, part: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pair true parts with queries by Eq. 6; the static body is query 0, the rest is Hungarian.

    Args:
        assignment: (B, T, N, M) logits.
        part: (B, T, N) true parts, -1 not to be judged.
        count: largest number of moving parts K.

    Returns:
        query (B, K + 1) of each true part, and per pair the terms bce and dice (B, K + 1, M).
    """
    probability = assignment.softmax(-1).flatten(1, 2)
    flat = part.flatten(1)
    judged = (flat >= 0).to(probability.dtype)[..., None]
    truth = (flat[..., None] == torch.arange(count + 1, device=part.device)).to(probability.dtype)
    mean = judged.sum(1).clamp(min=1)[..., None]
    p = probability.clamp(1e-6, 1 - 1e-6)
    yes, no = p.log() * judged, (-p).log1p() * judged
    bce = -(truth.mT @ yes + (no.sum(1)[:, None] - truth.mT @ no)) / mean
    overlap = truth.mT @ (probability * judged)
    dice = 1 - 2 * overlap / ((probability * judged).sum(1)[:, None] + truth.sum(1)[..., None]).clamp(min=1e-3)
    cost = (2 * bce + dice).detach().cpu()
    present = (truth.sum(1) > 0).cpu()
    query = torch.zeros(len(part), count + 1, dtype=torch.long)
    for b in range(len(part)):
        real = torch.nonzero(present[b, 1:])[:, 0]
        rows, columns = linear_sum_assignment(cost[b, 1:, 1:][real].numpy())
        query[b, real[rows] + 1] = torch.as_tensor(columns) + 1
    return query.to(part.device), bce, dice


def losses(output: Sim2ArtOutput, window: PointWindow, truth: WindowTruth, config: LossConfig) -> dict[str, Tensor]:
    """All terms, each already weighted, means over the batch; their sum is the loss."""
    count = truth.type.shape[1]
    query, bce, dice = match(output.assignment, truth.part, count)
    there = torch.stack([(truth.part == k).flatten(1).any(1) for k in range(count + 1)], 1)
    pair = query[..., None]
    share = there / there.sum(1, keepdim=True).clamp(min=1)
    moving = there[:, 1:] & (truth.type >= 0)
    q = query[:, 1:]
    revolute, prismatic = moving & (truth.type == 0), moving & (truth.type == 1)
    turn_axis, slide_axis, pivot = (_pick(x, q) for x in (output.turn_axis, output.slide_axis, output.pivot))
    angle = torch.where(revolute, _angle(turn_axis, truth.axis), _angle(slide_axis, truth.axis))
    off = torch.linalg.cross(truth.axis, pivot - truth.pivot).norm(dim=-1)
    amount = torch.where(revolute[:, None], _pick_frames(output.turn, q), _pick_frames(output.slide, q))
    return {
        "bce": config.bce * (share * bce.gather(2, pair)[..., 0]).sum(1).mean(),
        "dice": config.dice * (share * dice.gather(2, pair)[..., 0]).sum(1).mean(),
        "type": config.type * _type_loss(output.type, truth.type, q, moving),
        "axis": config.axis * _mean(angle, moving),
        "pivot": config.pivot * _mean(off.clamp(max=2), revolute),
        "motion": config.motion * _mean((amount - truth.amount).abs().mean(1), moving),
        "votes": config.votes * _votes(output, truth, revolute),
        "field": config.field * _field(turn_axis, slide_axis, pivot, window, truth, revolute, prismatic),
    }


def _pick(values: Tensor, query: Tensor) -> Tensor:
    """(B, M, C) at (B, K) -> (B, K, C)."""
    return values.gather(1, query[..., None].expand(-1, -1, values.shape[-1]))


def _pick_frames(values: Tensor, query: Tensor) -> Tensor:
    """(B, T, M) at (B, K) -> (B, T, K)."""
    return values.gather(2, query[:, None].expand(-1, values.shape[1], -1))


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Geodesic distance of unit vectors (Eq. 8); clamped where arccos has no finite slope."""
    return (a * b).sum(-1).clamp(-1 + 1e-4, 1 - 1e-4).acos()


def _mean(values: Tensor, which: Tensor) -> Tensor:
    return torch.where(which, values, 0.0).sum() / which.sum().clamp(min=1)


def _type_loss(logits: Tensor, kind: Tensor, query: Tensor, moving: Tensor) -> Tensor:
    """Eq. 7; queries that match no moving part are static and count less, there are many of them."""
    target = torch.full(logits.shape[:2], STATIC, device=logits.device)
    target.scatter_(1, torch.where(moving, query, 0), torch.where(moving, kind, STATIC))
    target[:, 0] = STATIC
    each = cross_entropy(logits.mT, target, reduction="none")
    weight = torch.where(target == STATIC, 0.1, 1.0)
    return (each * weight).sum() / weight.sum()


def _votes(output: Sim2ArtOutput, truth: WindowTruth, revolute: Tensor) -> Tensor:
    """Every point of a revolute part votes for the part's axis: direction, and nearness of its point to the axis."""
    index = (truth.part - 1).clamp(min=0).flatten(1)
    on = revolute.gather(1, index) & (truth.part.flatten(1) > 0)
    axis, pivot = _pick(truth.axis, index), _pick(truth.pivot, index)
    turn = 1 - (output.vote_axis.flatten(1, 2) * axis).sum(-1)
    off = torch.linalg.cross(axis, output.vote_point.flatten(1, 2) - pivot).norm(dim=-1)
    return _mean(turn + off.clamp(max=2), on)


def _field(
    turn_axis: Tensor,
    slide_axis: Tensor,
    pivot: Tensor,
    window: PointWindow,
    truth: WindowTruth,
    revolute: Tensor,
    prismatic: Tensor,
) -> Tensor:
    """Distance between the velocity fields of the predicted and the true joint on the part's points, at full motion.

    It couples axis and pivot: an error in one can be paid for by the other only where that moves the part alike.
    """
    most = truth.amount.abs().amax(1)[..., None]
    middle, radius = _extent(window.points, truth.part, truth.type.shape[1])
    error = torch.linalg.cross(turn_axis - truth.axis, middle - truth.pivot) - torch.linalg.cross(
        turn_axis, pivot - truth.pivot
    )
    tilt = (turn_axis - truth.axis).norm(dim=-1) * radius
    turned = (error.norm(dim=-1) + tilt) * most[..., 0]
    slid = (slide_axis - truth.axis).norm(dim=-1) * most[..., 0]
    return _mean(torch.where(revolute, turned, slid).clamp(max=3), revolute | prismatic)


def _extent(points: Tensor, part: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centroid (B, K, 3) and root mean square radius (B, K) of every true moving part."""
    flat = points.flatten(1, 2)
    own = (part.flatten(1)[..., None] == torch.arange(1, count + 1, device=part.device)).to(points.dtype)
    mass = own.sum(1).clamp(min=1)
    middle = own.mT @ flat / mass[..., None]
    square = (own.mT @ flat.square().sum(-1, keepdim=True))[..., 0] / mass
    return middle, (square - middle.square().sum(-1)).clamp(min=1e-6).sqrt()
