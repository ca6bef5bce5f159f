"""From network output to parts and joints in metres: what the geometry takes over as proposals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_perception.models.sim2art import Sim2ArtOutput
from art_perception.types import JointType, PointWindow

_FEWEST = 0.008  # share of the window's points that a part must claim
_SURE = 0.35  # mean probability with which it must claim them


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A moving part and its joint, in the first camera's frame.

    Attributes:
        type: revolute or prismatic.
        axis: (3,) unit vector in the direction of net motion.
        origin: (3,) point on the axis (revolute) or on the part (prismatic), metres.
        q: (T,) motion since the window's first frame, rad or m.
        certainty: mean probability of the part's points belonging to it, times that of its moving at all.
    """

    type: JointType
    axis: Tensor
    origin: Tensor
    q: Tensor
    certainty: float


def decode(output: Sim2ArtOutput, window: PointWindow, index: int = 0) -> tuple[Tensor, list[Proposal]]:
    """Read one window of a batch.

    Returns:
        Probability (T, N, K + 1) of every point to be static or of the k-th proposal's part; and the proposals, largest
        part first.
    """
    share = output.assignment[index].softmax(-1)
    kind = output.type[index].softmax(-1)
    best = torch.nn.functional.one_hot(share.argmax(-1), share.shape[-1]).to(share.dtype)
    count = best.sum((0, 1))
    belonging = (share * best).sum((0, 1)) / count.clamp(min=1)
    moving = (count >= _FEWEST * share.shape[0] * share.shape[1]) & (belonging >= _SURE) & (kind[:, 2] < 0.5)
    moving[0] = False
    slots = sorted(torch.nonzero(moving)[:, 0].tolist(), key=lambda m: -float(count[m]))
    # points of queries that are no parts go to the likeliest that is
    kept = share[..., [0, *slots]]
    kept = kept / kept.sum(-1, keepdim=True).clamp(min=1e-9)
    return kept, [_proposal(output, window, index, m, belonging[m], kind[m]) for m in slots]


def _proposal(output: Sim2ArtOutput, window: PointWindow, b: int, m: int, belonging: Tensor, kind: Tensor) -> Proposal:
    revolute = bool(kind[0] >= kind[1])
    scale, center = window.scale[b], window.center[b]
    share = output.assignment[b].softmax(-1)[..., m, None]
    middle = (share * window.points[b]).sum((0, 1)) / share.sum()
    return Proposal(
        type=JointType.REVOLUTE if revolute else JointType.PRISMATIC,
        axis=(output.turn_axis if revolute else output.slide_axis)[b, m],
        origin=(output.pivot[b, m] if revolute else middle) * scale + center,
        q=output.turn[b, :, m] if revolute else output.slide[b, :, m] * scale,
        certainty=float(belonging * (1 - kind[2])),
    )
