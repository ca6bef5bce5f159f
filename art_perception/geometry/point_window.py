"""The units the window network works in; the same for rendered training windows and for measured ones."""

from __future__ import annotations

import torch
from torch import Tensor

from art_perception.types import PointWindow

_LEAST_FLOW_M = 0.002


def normalise(points: Tensor, flow: Tensor, flow_valid: Tensor, normals: Tensor, seen: Tensor) -> PointWindow:
    """Centre and scale a batch of windows.

    Half the largest extent that 98 % of the points share becomes 1; flow is divided by the 95th percentile of its
    length, without which a network ignores it, but never by less than 2 mm, so that noise is not blown up.

    Args:
        points: (B, T, N, 3) metres, first camera's frame.
        flow: (B, T, N, 3) metres.
        flow_valid: (B, T, N).
        normals: (B, T, N, 3).
        seen: (B, T, N, 4) as :func:`art_perception.geometry.witness.testimony` gives it.
    """
    flat = points.flatten(1, 2)
    low, high = (_quantile(flat.mT, q) for q in (0.01, 0.99))
    center, scale = (low + high) / 2, ((high - low) / 2).amax(1).clamp(min=1e-3)
    length = torch.where(flow_valid, flow.norm(dim=-1), 0.0).flatten(1)
    typical = _quantile(length, 0.95).clamp(min=_LEAST_FLOW_M)
    return PointWindow(
        points=((points - center[:, None, None]) / scale[:, None, None, None]).clamp(-2, 2),
        flow=torch.where(flow_valid[..., None], (flow / typical[:, None, None, None]).clamp(-3, 3), 0.0),
        flow_valid=flow_valid,
        normals=normals,
        seen=seen,
        center=center,
        scale=scale,
        flow_scale=typical / scale,
    )


def _quantile(values: Tensor, q: float) -> Tensor:
    """Quantile along the last dimension by rank; ``torch.quantile`` is slow and limited in size."""
    return values.kthvalue(max(1, round(q * values.shape[-1])), -1).values
