"""Screw statistics of exact flow: truth comes back, and turning, moving or scaling the scene does the same to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from art_perception.geometry.lie import exp_se3, exp_so3
from art_perception.geometry.screw import closest_on_line, twist_of
from art_perception.geometry.twist_fit import Screws, Twists, fit_screws, fit_twists, inliers
from art_perception.types import JointType

FRAMES, POINTS = 7, 200
AXIS = np.array([0.48, -0.6, 0.64])
PIVOT = np.array([0.4, 0.9, -0.3])
LARGE = 100.0  # a part this large makes the ridge of the normal equations negligible
SHRINK = 1.04  # the ridge of the pivot's equations pulls it this much towards the part
TURN, SLIDE = JointType.REVOLUTE, JointType.PRISMATIC


def clip(kind: JointType, amounts: np.ndarray, size: float = LARGE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points (1, T, N, 3) of a part of extent ``size`` and their exact flow; other points in every frame."""
    rest = np.random.default_rng(seed).uniform(-size, size, (len(amounts), POINTS, 3))
    D = exp_se3(amounts[:, None] * twist_of(kind, AXIS, PIVOT))
    now, after, before = (
        np.einsum("tij,tnj->tni", M[:, :3, :3], rest) + M[:, None, :3, 3]
        for M in (D, np.concatenate([D[1:], D[-1:]]), np.concatenate([D[:1], D[:-1]]))
    )
    flow = np.concatenate([after[:-1] - now[:-1], now[-1:] - before[-1:]])
    return torch.tensor(now)[None], torch.tensor(flow)[None]


def twists_of(points: Tensor, flow: Tensor) -> Twists:
    return fit_twists(points, flow, torch.ones(*points.shape[:3], 1, dtype=points.dtype))


def degrees(a: Tensor, b: Tensor | np.ndarray) -> float:
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return math.degrees(2 * math.asin(min(1.0, float((a / a.norm() - b / b.norm()).norm()) / 2)))


def cayley(amounts: np.ndarray) -> np.ndarray:
    """What a turn reads as: twice the tangent of half of every step, added up."""
    return np.r_[0, np.cumsum(2 * np.tan(np.diff(amounts) / 2))]


@pytest.mark.parametrize("step_deg", [0.1, 5, 30, 100])
def test_a_turn_is_recovered_whatever_its_step(step_deg: float):
    amounts = np.radians(step_deg) * np.arange(FRAMES)
    twists = twists_of(*clip(TURN, amounts))
    found = fit_screws(twists)
    assert degrees(found.turn_axis[0, 0], AXIS) < 1e-4
    np.testing.assert_allclose(found.turn[0, :, 0], cayley(amounts), rtol=1e-5)
    size = twists.rotation[0, :-1, 0].norm(dim=-1)
    np.testing.assert_allclose(2 * torch.arctan(size / 2), np.radians(step_deg), rtol=1e-5)
    assert float(twists.misfit[:, :-1].max()) < 1e-5


@pytest.mark.parametrize("step_deg", [1, 5, 30])
def test_the_pivot_lies_on_the_axis_but_for_the_stated_shrink(step_deg: float):
    twists = twists_of(*clip(TURN, np.radians(step_deg) * np.arange(FRAMES)))
    middle = twists.middle[0, :-1, 0].mean(0).numpy()
    offset = closest_on_line(middle, PIVOT, AXIS) - middle
    assert np.abs(offset).max() < 3  # beyond, the statistics are clamped
    found = fit_screws(twists).pivot[0, 0].numpy()
    np.testing.assert_allclose(found, middle + offset / SHRINK, atol=0.02 * np.linalg.norm(offset))


def test_at_the_networks_scale_the_ridge_costs_a_percent():
    amounts = np.radians(8) * np.arange(FRAMES)
    found = fit_screws(twists_of(*clip(TURN, amounts, size=0.5)))
    assert degrees(found.turn_axis[0, 0], AXIS) < 0.1
    np.testing.assert_allclose(found.turn[0, :, 0], amounts, rtol=0.02)


def test_reading_a_turn_off_the_tangent_is_harmless_at_real_steps():
    fastest = np.radians(130) * 1.875 / 15  # the largest stroke of the scenarios, at its peak, in 16 frames
    assert 2 * np.tan(fastest / 2) / fastest - 1 < 0.01


@pytest.mark.parametrize("step", [1e-3, 0.1, 3.0])
def test_a_slide_is_recovered(step: float):
    amounts = step * np.arange(FRAMES)
    twists = twists_of(*clip(SLIDE, amounts))
    found = fit_screws(twists)
    assert degrees(found.slide_axis[0, 0], AXIS) < 1e-4
    np.testing.assert_allclose(found.slide[0, :, 0], amounts, rtol=1e-6, atol=1e-12)
    assert float(found.turn.abs().max()) < 1e-9 * step
    assert float(twists.misfit.max()) < 1e-9


def test_going_back_and_pausing_keep_the_sign_and_the_largest_excursion():
    amounts = -np.radians([0, 10, 25, 25, 18, 12, 12.0])
    found = fit_screws(twists_of(*clip(TURN, amounts)))
    assert degrees(found.turn_axis[0, 0], -AXIS) < 1e-4
    np.testing.assert_allclose(found.turn[0, :, 0], cayley(-amounts), rtol=1e-5)


def test_soft_weights_tell_two_parts_apart():
    turn, slide = clip(TURN, 0.1 * np.arange(FRAMES)), clip(SLIDE, 0.05 * np.arange(FRAMES), seed=1)
    points, flow = (torch.cat(x, 2) for x in zip(turn, slide, strict=True))
    own = (torch.arange(2 * POINTS) < POINTS).double()
    weights = torch.stack([own, 1 - own, torch.full_like(own, 0.5)], -1).expand(1, FRAMES, -1, -1)
    twists = fit_twists(points, flow, weights)
    found = fit_screws(twists)
    assert degrees(found.turn_axis[0, 0], AXIS) < 1e-4
    assert degrees(found.slide_axis[0, 1], AXIS) < 1e-4
    np.testing.assert_allclose(found.slide[0, :, 1], 0.05 * np.arange(FRAMES), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(twists.mass[0], [[POINTS, POINTS, POINTS]] * FRAMES)
    misfit = twists.misfit[0, 0]
    assert misfit[0] < 1e-5
    assert misfit[1] < 1e-5
    assert misfit[2] > 0.05, "two motions mixed must not look rigid"


def test_weights_count_like_repetitions():
    points, flow = clip(TURN, 0.1 * np.arange(FRAMES), seed=3)
    doubled = [torch.cat([x, x[:, :, :50]], 2) for x in (points, flow)]
    weights = 1 + (torch.arange(POINTS) < 50).double()
    a = fit_twists(points, flow, weights.expand(1, FRAMES, -1)[..., None])
    b = twists_of(*doubled)
    for name, x, y in zip(Twists._fields, a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", [TURN, SLIDE])
def test_flow_of_another_motion_is_found_and_not_believed(kind: JointType):
    rng = np.random.default_rng(8)
    points, true = clip(kind, 0.1 * np.arange(FRAMES), size=0.5)
    flow = true + torch.tensor(rng.normal(0, 0.003, true.shape))
    wrong = torch.tensor(rng.random((1, FRAMES, POINTS)) < 0.25)
    flow[wrong] = torch.tensor([0.02, 0.05, -0.08]).double()
    weights = torch.ones(1, FRAMES, POINTS, 1, dtype=torch.float64)
    kept = inliers(points, flow, weights)
    assert float(kept[wrong].max()) < 0.5 < float(kept[~wrong].median())
    better, plain = (fit_screws(fit_twists(points, flow, w)) for w in (weights * kept, weights))
    axes = [(found.turn_axis if kind is TURN else found.slide_axis)[0, 0] for found in (better, plain)]
    assert degrees(axes[0], AXIS) < 0.3 * degrees(axes[1], AXIS)


def test_exact_flow_is_believed_and_other_parts_weigh_nothing():
    points, flow = clip(TURN, 0.1 * np.arange(FRAMES), size=0.5)
    weights = torch.stack([torch.ones(POINTS), torch.zeros(POINTS)], -1).double().expand(1, FRAMES, -1, -1)
    kept = inliers(points, flow, weights)
    assert float(kept[:, :-1, :, 0].min()) > 0.75, "the ridge leaves a residual, no more"
    assert torch.isfinite(kept).all()


def test_equivariance():
    points, flow = clip(TURN, np.radians([0, 4, 9, 15, 12, 18, 25.0]))
    noise = torch.tensor(np.random.default_rng(5).normal(0, 0.5, flow.shape))
    base = fit_screws(twists_of(points, flow + noise))
    R, t, s = torch.tensor(exp_so3(np.array([0.4, -1.1, 0.7]))), torch.tensor([5.0, -2, 1]).double(), 2.0

    turned = fit_screws(twists_of(points @ R.mT, (flow + noise) @ R.mT))
    expected = Screws(base.turn_axis @ R.mT, base.slide_axis @ R.mT, turned.pivot, base.turn, base.slide)
    for name, x, y in zip(Screws._fields, turned, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-9, err_msg=name)

    shifted = fit_screws(twists_of(points + t, flow + noise))
    for name, x, y in zip(Screws._fields, shifted, base._replace(pivot=base.pivot + t), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-9, err_msg=name)

    scaled = fit_screws(twists_of(points * s, (flow + noise) * s))
    assert degrees(scaled.turn_axis[0, 0], base.turn_axis[0, 0]) < 1e-3
    np.testing.assert_allclose(scaled.turn, base.turn, rtol=1e-5)
    np.testing.assert_allclose(scaled.slide, base.slide * s, rtol=1e-9)


def test_the_pivot_turns_with_the_scene():
    points, flow = clip(TURN, np.radians(5) * np.arange(FRAMES), size=0.5)
    R = torch.tensor(exp_so3(np.array([0.4, -1.1, 0.7])))
    a, b = fit_screws(twists_of(points, flow)), fit_screws(twists_of(points @ R.mT, flow @ R.mT))
    np.testing.assert_allclose(b.pivot, a.pivot @ R.mT, atol=1e-9)


@pytest.mark.parametrize("still", ["no flow", "no weight", "one point"])
def test_gradients_are_finite_where_nothing_can_be_said(still: str):
    points, flow = (x.float() for x in clip(TURN, 0.1 * np.arange(FRAMES), size=0.5))
    flow = (flow * (still != "no flow")).requires_grad_()
    weights = torch.ones(1, FRAMES, POINTS, 2)
    if still == "no weight":
        weights[..., 1] = 0
    if still == "one point":
        weights[..., 1:, 1] = 0
    weights.requires_grad_()
    points.requires_grad_()
    twists = fit_twists(points, flow, weights)
    found = fit_screws(twists)
    sum(x.square().sum() for x in (*twists, *found)).backward()
    for x in (*twists, *found, points.grad, flow.grad, weights.grad):
        assert torch.isfinite(x).all()
    if still == "no flow":
        assert not found.turn.detach().any()
        assert not found.slide.detach().any()


def test_gradients_are_those_of_finite_differences():
    points, flow = clip(TURN, np.radians(6) * np.arange(4), size=1.0)
    points, flow = points[:, :, :6], flow[:, :, :6]
    weights = torch.rand(1, 4, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(
        lambda f, w: tuple(fit_screws(fit_twists(points, f, w)))[2:], (flow.requires_grad_(), weights.requires_grad_())
    )
