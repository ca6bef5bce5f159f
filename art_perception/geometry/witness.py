"""What the other frames of a window saw at the place of a point: a surface, or a view right through it.

A place that was seen through before and holds a surface now has been moved into. The test needs depth images and
camera poses but no texture, and works the same on measured depth images and on rendered training windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNKNOWN, SURFACE, FREE = 0, 1, 2
"""States of a depth cell: nothing measured, a surface, nothing near in front of the background."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthGrid:
    """Coarse depth images of B windows of T frames.

    Attributes:
        points: (B, T, H, W, 3) metres, optical frame, arbitrary where there is no surface.
        normals: (B, T, H, W, 3) unit, towards the camera.
        state: (B, T, H, W) ``UNKNOWN``, ``SURFACE`` or ``FREE``.
        focal: (B, T, 2) cells per unit of x / z and y / z.
        corner: (B, T, 2) x / z and y / z of cell (0, 0)'s centre.
        T_camera_world: (B, T, 4, 4).
    """

    points: Tensor
    normals: Tensor
    state: Tensor
    focal: Tensor
    corner: Tensor
    T_camera_world: Tensor


def testimony(grid: DepthGrid, world: Tensor, tolerance: Tensor) -> Tensor:
    """Ask every frame about every point.

    Args:
        grid: the frames' depth.
        world: (B, T, N, 3) points, metres, in the frame ``T_camera_world`` maps from; frame t does not judge its own.
        tolerance: (B,) depth difference that still counts as the same surface, metres; half a cell comes on top.

    Returns:
        (B, T, N, 4) float32 shares: earlier frames that saw a surface there, and saw through; later frames likewise.
    """
    B, T, N, _ = world.shape
    own = torch.arange(T, device=world.device)
    out = world.new_zeros(B, T, N, 4)
    for s in range(T):
        seen, through = _ask(grid, s, world.reshape(B, T * N, 3), tolerance)
        both = torch.stack([seen, through], -1).reshape(B, T, N, 2).to(world.dtype)
        out[..., :2] += both * (own > s)[:, None, None]
        out[..., 2:] += both * (own < s)[:, None, None]
    share = torch.stack([own, own, T - 1 - own, T - 1 - own], -1).clamp(min=1)
    return out / share[:, None]


def _ask(grid: DepthGrid, s: int, world: Tensor, tolerance: Tensor) -> tuple[Tensor, Tensor]:
    """Whether frame ``s`` saw a surface at, or through, each of ``world`` (B, M, 3)."""
    height, width = grid.state.shape[2:]
    M = grid.T_camera_world[:, s]
    p = world @ M[:, :3, :3].mT + M[:, None, :3, 3]
    z = p[..., 2].clamp(min=1e-3)
    cell = ((p[..., :2] / z[..., None] - grid.corner[:, s, None]) * grid.focal[:, s, None]).round().long()
    inside = (p[..., 2] > 1e-3) & (cell >= 0).all(-1) & (cell[..., 0] < width) & (cell[..., 1] < height)
    index = (cell[..., 1].clamp(0, height - 1) * width + cell[..., 0].clamp(0, width - 1))[..., None]
    there = grid.points[:, s].flatten(1, 2).gather(1, index.expand(-1, -1, 3))
    normal = grid.normals[:, s].flatten(1, 2).gather(1, index.expand(-1, -1, 3))
    state = grid.state[:, s].flatten(1, 2).gather(1, index[..., 0])
    slack = tolerance[:, None] + 0.5 * z / grid.focal[:, s].amin(-1, keepdim=True)
    behind = there[..., 2] - p[..., 2]
    above = ((p - there) * normal).sum(-1)
    surface = inside & (state == SURFACE)
    seen = surface & (torch.minimum(above.abs(), behind.abs()) <= slack)
    through = (surface & (behind > slack) & (above > slack)) | (inside & (state == FREE))
    return seen, through
