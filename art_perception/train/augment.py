"""Windows seen again: turned, mirrored and resized, which changes no law of motion and costs no rendering."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from art_perception.geometry.lie import exp_so3
from art_perception.types import PointWindow, WindowTruth

_TURN_RAD = 0.5


def augment(window: PointWindow, truth: WindowTruth, generator: torch.Generator) -> tuple[PointWindow, WindowTruth]:
    """Turn every window by up to 30 degrees, mirror half of them and resize them by up to a tenth."""
    B, device = len(window.scale), window.points.device
    turn = torch.randn(B, 3, generator=generator, device=device)
    turn = turn / turn.norm(dim=-1, keepdim=True) * _TURN_RAD * torch.rand(B, 1, generator=generator, device=device)
    mirror = torch.rand(B, generator=generator, device=device) < 0.5
    flip = torch.ones(B, 3, device=device)
    flip[:, 0] = torch.where(mirror, -1.0, 1.0)
    M = exp_so3(turn) * flip[:, None]
    size = 0.9 + 0.2 * torch.rand(B, generator=generator, device=device)
    return transformed(window, truth, M, size)


def transformed(window: PointWindow, truth: WindowTruth, M: Tensor, size: Tensor) -> tuple[PointWindow, WindowTruth]:
    """Apply the orthogonal matrices M (B, 3, 3), mirrors included, and factors ``size`` (B,) about the centre.

    Points and directions of sliding turn with M. A mirror reverses the sense of a turn about an axis, so revolute axes
    also take its sign.
    """
    hand = torch.linalg.det(M).sign()
    sense = torch.where(truth.type == 0, hand[:, None], 1.0)[..., None]
    s = size[:, None, None]
    slides = torch.where(truth.type == 1, size[:, None], 1.0)[:, None]

    def turned(x: Tensor) -> Tensor:
        return (x.flatten(1, -2) @ M.mT).view_as(x)

    moved = replace(
        window,
        points=turned(window.points) * s[..., None],
        flow=turned(window.flow),
        normals=turned(window.normals),
        scale=window.scale / size,
        flow_scale=window.flow_scale * size,
    )
    return moved, replace(
        truth, axis=turned(truth.axis) * sense, pivot=turned(truth.pivot) * s, amount=truth.amount * slides
    )
