"""Rotations for networks: round trip, equivariance, means, angles."""

from __future__ import annotations

import torch

from art_perception.geometry.lie import exp_so3
from art_perception.geometry.rotations import mean_rotation, rotation_angle, rotation_from_6d, six_of_rotation


def some(count: int, seed: int = 0) -> torch.Tensor:
    return exp_so3(2 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_six_numbers_and_back():
    R = some(50).view(5, 10, 3, 3)
    torch.testing.assert_close(rotation_from_6d(six_of_rotation(R)), R)


def test_any_six_numbers_are_a_rotation_which_turns_with_them():
    six = torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    R = rotation_from_6d(six)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(50, dtype=R.dtype))
    Q = some(1, 2)[0]
    turned = (six.unflatten(-1, (2, 3)) @ Q.mT).flatten(-2)
    torch.testing.assert_close(rotation_from_6d(turned), Q @ R)
    stretched = torch.cat([3 * six[:, :3], 0.2 * six[:, 3:] + 7 * six[:, :3]], -1)
    torch.testing.assert_close(rotation_from_6d(stretched), R)


def test_angles_are_exact_and_their_gradients_finite():
    axis = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=-1)
    angle = torch.tensor([1e-6, 0.3, 2.0, 3.1], dtype=torch.float64)
    R = some(4, 3)
    torch.testing.assert_close(rotation_angle(R @ exp_so3(angle[:, None] * axis), R), angle, rtol=1e-4, atol=0)
    six = six_of_rotation(torch.stack([torch.eye(3), torch.diag(torch.tensor([1.0, -1, -1]))])).requires_grad_()
    rotation_angle(rotation_from_6d(six), torch.eye(3).expand(2, 3, 3)).sum().backward()
    assert torch.isfinite(six.grad).all()


def test_the_mean_turns_with_the_rotations_and_lies_between_them():
    R, (Q, P) = some(9, 4), some(2, 5)
    near = R[:1] @ exp_so3(0.2 * torch.randn(9, 3, dtype=torch.float64))
    torch.testing.assert_close(mean_rotation(Q @ near @ P), Q @ mean_rotation(near) @ P)
    step = torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64)
    pair = torch.stack([R[0], R[0] @ exp_so3(2 * step)])
    torch.testing.assert_close(mean_rotation(pair), R[0] @ exp_so3(step))
