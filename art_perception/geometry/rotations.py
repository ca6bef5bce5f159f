"""Rotations as networks see them, two columns for a matrix; means, angles. Torch tensors of any batch shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def rotation_from_6d(six: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) whose first two columns are nearest to ``six`` (..., 6) = [a1, a2].

    Gram-Schmidt of Zhou et al., "On the continuity of rotation representations in neural networks", 2019.
    """
    first = normalize(six[..., :3], dim=-1)
    second = normalize(six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def six_of_rotation(R: Tensor) -> Tensor:
    """First two columns of rotation matrices: (..., 3, 3) -> (..., 6)."""
    return R[..., :2].mT.flatten(-2)


def mean_rotation(R: Tensor) -> Tensor:
    """Chordal mean (..., 3, 3) of rotations (..., N, 3, 3): the one nearest to their average (Moakher, 2002)."""
    U, _, Vh = torch.linalg.svd(R.mean(-3))
    flip = torch.ones_like(U[..., 0, :])
    flip[..., 2] = torch.linalg.det(U @ Vh)
    return (U * flip[..., None, :]) @ Vh


def rotation_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle (...), rad, between rotations (..., 3, 3), from their chord: exact near 0, with finite gradients at pi."""
    chord = (a - b).flatten(-2).norm(dim=-1) / 8**0.5
    return 2 * chord.clamp(max=1 - 1e-6).asin()
