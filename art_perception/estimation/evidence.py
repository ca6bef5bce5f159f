"""Evidence of one view: points on the object, and points that its rays and its neighbours' say are free."""

from __future__ import annotations

import torch
from torch import Tensor

from art_perception.estimation.terms import UNKNOWN, Evidence

_FREE = 4096
_ABOVE = (-0.02, 0.06)  # how far before what was seen past the object, RMS extents of the cloud
_CLOSE, _FAR = (0.02, 0.15), (0.15, 1.0)  # how far before the surface, RMS extents of the cloud


def evidence_of_view(points: Tensor, beyond: Tensor | None, generator: torch.Generator) -> Evidence:
    """What one camera has measured.

    Args:
        points: (1, N, 3) metres, optical frame, of the object, nobody knows of which part.
        beyond: (M, 3) points of other things; the rays to them are free, and so is the skin of what they hit.
        generator: which points on the rays are taken.
    """
    spread = 2 * (points[0] - points[0].mean(0)).square().sum(-1).mean().sqrt()
    free = [_before(points[0], spread, generator)]
    if beyond is not None and len(beyond):
        free.append(_past(points[0], beyond, spread, generator))
    return Evidence(points, torch.full(points.shape[:2], UNKNOWN), torch.cat(free)[None])


def _before(points: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """Points (_FREE / 2, 3) on the rays before the surface, most of them close to it."""
    count = _FREE // 2
    seen = points[torch.randint(len(points), (count,), generator=generator)]
    draw, near = (torch.rand((count, 1), generator=generator) for _ in range(2))
    low, high = (torch.where(near < 0.6, a, b) for a, b in zip(_CLOSE, _FAR, strict=True))
    ahead = spread * (low + (high - low) * draw) / seen.norm(dim=-1, keepdim=True)
    return seen * (1 - ahead).clamp(min=0)


def _past(points: Tensor, beyond: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """Points (up to _FREE / 2, 3) at the object's depth on rays that passed it by, the nearest to its outline."""
    z = beyond[:, 2:].clamp(min=1e-3)
    seen = points[:, :2] / points[:, 2:]
    low, high = seen.amin(0), seen.amax(0)
    ray = beyond[:, :2] / z
    around = ((ray > low - 0.3 * (high - low)) & (ray < high + 0.3 * (high - low))).all(-1)
    beyond = beyond[around]
    if not len(beyond):
        return beyond
    chosen = beyond[torch.randint(len(beyond), (_FREE // 2,), generator=generator)]
    near, far = points[:, 2].amin() - spread / 2, points[:, 2].amax() + spread
    draw, which = (torch.rand((len(chosen), 1), generator=generator) for _ in range(2))
    anywhere = near + (far - near) * draw
    least, most = _ABOVE
    above = chosen[:, 2:] - spread * (least + (most - least) * draw)  # or what lies flat on a table would grow along it
    depth = torch.where((which < 0.5) & (above < far), above, anywhere)
    return (chosen * depth / chosen[:, 2:])[(depth < chosen[:, 2:] - least * spread)[:, 0]]
