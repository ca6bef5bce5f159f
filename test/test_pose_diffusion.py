"""Pose and joint diffusion: exact samplers, laws of the state, one network that learns a few views by heart."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shape_tools import small_bank

from art_perception.data.clouds import CloudsConfig
from art_perception.data.partial import ViewsConfig
from art_perception.errors import CheckpointError
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.rotations import rotation_angle
from art_perception.models.checkpoint import load_pose_network, save_network
from art_perception.models.point_encoder import PointEncoder, PointEncoderConfig
from art_perception.models.pool import pooled
from art_perception.models.pose_diffusion import (
    BASE,
    JOINT,
    STATE,
    ObjectState,
    PoseLoss,
    PoseNetwork,
    PoseNetworkConfig,
    SamplerConfig,
    from_vector,
    losses,
    meaningful,
    normalised,
    regress_states,
    sample_states,
    to_vector,
    unit_twists,
)
from art_perception.models.probability_flow import probability_flow
from art_perception.train.pose import Seen, see, true_state
from art_perception.train.vae import KNOWN
from art_perception.train.validate_pose import errors

TINY = PoseNetworkConfig(PointEncoderConfig((32, 8), (8, 4), width=32), width=64, layers=2)
INDEX = np.array([0, 1, 2, 0, 1, 2])


def model(seed: int = 0) -> PoseNetwork:
    torch.manual_seed(seed)
    return PoseNetwork(TINY, KNOWN)


def seen(index: np.ndarray = INDEX, seed: int = 0) -> Seen:
    views = ViewsConfig(points=128, noise=0.0, occluded=0.0)
    return see(small_bank(), index, views, CloudsConfig(1, 1, 1), np.random.default_rng(seed), "cpu")


def parts_of(state: ObjectState) -> list[torch.Tensor]:
    return [getattr(state, name) for name in ObjectState.__dataclass_fields__]


def trained(pair: Seen, steps: int) -> PoseNetwork:
    """A network that knows the views of ``pair`` by heart."""
    network = model()
    true, (_, center, spread) = true_state(*pair), normalised(pair[1].points)
    x = to_vector(true, center, spread)
    network.standardise(x, pair[0].category)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        terms = losses(network, pair[1].points, pair[0].category, true, PoseLoss(), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def by_heart() -> tuple[PoseNetwork, Seen]:
    pair = seen()
    return trained(pair, 240), pair


def test_the_flow_of_a_gaussian_is_exact():
    """With data N(m, v) the denoiser is known, and a sample keeps its quantile: the closed form of the ODE."""
    m, v = torch.tensor([0.3, -2.0], dtype=torch.float64), torch.tensor([0.5, 1e-4], dtype=torch.float64)
    start = 5 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    calls = []

    def denoised(y: torch.Tensor, sigma: float) -> torch.Tensor:
        calls.append(sigma)
        return (v * y + sigma**2 * m) / (v + sigma**2)

    def exact(sigma: float) -> torch.Tensor:
        return m + (start - m) * ((v + sigma**2) / (v + 25)).sqrt()

    coarse = probability_flow(denoised, start, 5.0, 0.01, 1e-3)
    assert len(calls) < 120
    torch.testing.assert_close(coarse, exact(0.01), atol=5e-3, rtol=0)
    fine = probability_flow(denoised, start, 5.0, 0.01, 1e-8)
    torch.testing.assert_close(fine, exact(0.01), atol=1e-6, rtol=0)
    torch.testing.assert_close(fine.mean(0), m, atol=0.15, rtol=0)
    assert abs(float(fine[:, 0].std()) / math.sqrt(0.5) - 1) < 0.15, "the posterior's spread, not its mean alone"


def test_a_flow_that_cannot_be_followed_is_an_error():
    with pytest.raises(CheckpointError, match="cannot be integrated"):
        probability_flow(lambda y, _: torch.randn_like(y) * 1e6, torch.zeros(10), 5.0, 0.01, 1e-6)


def test_a_state_is_its_numbers_and_moves_with_the_cloud():
    shapes, views = seen()
    true, (cloud, center, spread) = true_state(shapes, views), normalised(views.points)
    x = to_vector(true, center, spread)
    assert x.shape == (6, STATE)
    for again, value in zip(parts_of(from_vector(x, center, spread)), parts_of(true), strict=True):
        torch.testing.assert_close(again, value, atol=1e-5, rtol=1e-5)
    same, c, s = normalised(3 * views.points + torch.tensor([1.0, -2, 0.5]))
    torch.testing.assert_close(same, cloud, atol=1e-4, rtol=0)
    moved = replace(true, t=3 * true.t + torch.tensor([1.0, -2, 0.5]), size=3 * true.size)
    torch.testing.assert_close(to_vector(moved, c, s), x, atol=1e-4, rtol=0)


def test_children_follow_from_the_state_by_their_joints():
    shapes, views = seen()
    true = true_state(shapes, views)
    twists = unit_twists(true, shapes.revolute)
    torch.testing.assert_close(placed(twists, true.amount), placed(shapes.twists, shapes.q_cloud), atol=1e-5, rtol=0)


def test_what_a_category_lacks_reaches_nothing():
    mask, network = meaningful(KNOWN), model()
    laptop, glasses, drawer = 0, 1, 4
    assert mask[:, :BASE].all()
    assert mask[glasses].all()
    assert not mask[laptop, BASE + JOINT :].any()
    assert mask[drawer, BASE : BASE + JOINT].tolist() == [0, 0, 0, 1, 1, 1, 1]
    category, condition = torch.tensor([laptop, drawer]), torch.randn(2, TINY.width)
    y, sigma = torch.randn(2, 5, STATE), torch.rand(2, 5) + 0.1
    other = torch.where(mask[category][:, None] > 0, y, torch.randn_like(y))
    a, b = (network.denoised(v, sigma, condition, category) for v in (y, other))
    assert torch.equal(a, b)
    assert not a[(mask[category][:, None] == 0).expand_as(a)].any()
    states, numbers = sample_states(
        network, torch.randn(2, 64, 3), category, SamplerConfig(4), torch.Generator().manual_seed(0)
    )
    assert not numbers[0, :, BASE + JOINT :].any()
    assert not states.direction[:, :, 1].any()
    assert not states.amount[:, :, 1].any()


def test_standardising_is_undone_and_every_parameter_learns():
    network, (shapes, views) = model(), seen()
    true, (_, center, spread) = true_state(shapes, views), normalised(views.points)
    x = to_vector(true, center, spread)
    network.standardise(x, shapes.category)
    y = network.standardised(x, shapes.category)
    assert y.abs().max() < 2
    torch.testing.assert_close(network.restored(y, shapes.category), x, atol=1e-5, rtol=0)
    terms = losses(network, views.points, shapes.category, true, PoseLoss(), torch.Generator().manual_seed(0))
    assert set(terms) == {"score", "state", "rotation"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@torch.no_grad()
def test_the_encoder_ignores_the_order_of_points_once_all_are_members():
    torch.manual_seed(0)
    encoder, cloud = PointEncoder(PointEncoderConfig((20, 8), (20, 20), (9.0, 9.0), 16)), torch.randn(2, 20, 3)
    a, b = (encoder(c)[2] for c in (cloud, torch.cat([cloud[:, :1], cloud[:, 1:].flip(1)], 1)))
    torch.testing.assert_close(a, b)


def test_learnt_by_heart(by_heart):
    network, (shapes, views) = by_heart
    true = true_state(shapes, views)
    untrained = regress_states(model(), views.points, shapes.category)
    states, numbers = sample_states(
        network, views.points, shapes.category, SamplerConfig(), torch.Generator().manual_seed(0)
    )
    best, _, _ = pooled(states, numbers)
    before, after = errors(untrained, true, shapes), errors(best, true, shapes)
    assert after["rotation"].mean() < before["rotation"].mean() / 6
    assert after["rotation"].mean() < 8
    assert after["translation"].mean() < 4
    assert after["state"].mean() < 8
    assert after["axis"].mean() < 3
    assert errors(regress_states(network, views.points, shapes.category), true, shapes)["rotation"].mean() < 8


def test_a_seed_decides_and_the_estimate_moves_with_the_cloud(by_heart):
    network, (shapes, views) = by_heart
    draw = lambda points, seed: sample_states(  # noqa: E731
        network, points, shapes.category, SamplerConfig(3), torch.Generator().manual_seed(seed)
    )
    (a, x), (b, y), (_, z) = draw(views.points, 1), draw(views.points, 1), draw(views.points, 2)
    assert torch.equal(x, y)
    assert not torch.equal(x, z)
    assert all(torch.equal(p, q) for p, q in zip(parts_of(a), parts_of(b), strict=True))
    shift = torch.tensor([0.5, 0.25, 4.0])
    c, _ = draw(2 * views.points + shift, 1)
    torch.testing.assert_close(c.t, 2 * a.t + shift, atol=2e-2, rtol=0)
    torch.testing.assert_close(c.size, 2 * a.size, atol=0, rtol=2e-2)
    assert rotation_angle(c.R, a.R).max() < 0.03


def scattered(wrong: int, count: int = 50) -> tuple[ObjectState, torch.Tensor]:
    """Two clouds' states close to one truth, except for ``wrong`` of them, which agree on another."""
    g = torch.Generator().manual_seed(0)
    turn, noise = 0.02 * torch.randn(2, count, 3, generator=g), 0.01 * torch.randn(2, count, STATE, generator=g)
    turn[:, :wrong] += torch.tensor([2.0, 0, 0])
    noise[:, :wrong] += 1
    location, way, amount = noise[..., BASE:].unflatten(-1, (2, JOINT)).split((3, 3, 1), -1)
    direction = torch.nn.functional.normalize(torch.tensor([0.0, 1, 0]) + way, dim=-1)
    states = ObjectState(exp_so3(turn), noise[..., :3], noise[..., 3].exp(), location, direction, amount[..., 0])
    return states, to_vector(states, torch.zeros(3), torch.ones(2, count))


@pytest.mark.parametrize("wrong", [0, 1, 20])
def test_pooling_ignores_outliers_and_reports_them(wrong: int):
    states, numbers = scattered(wrong)
    state, spread, ranking = pooled(states, numbers)
    assert rotation_angle(state.R, torch.eye(3)).max() < 0.02
    assert state.t.norm(dim=-1).max() < 0.02
    assert (state.size - 1).abs().max() < 0.02
    assert state.location.abs().max() < 0.02
    assert state.amount.abs().max() < 0.02
    assert (state.direction - torch.tensor([0.0, 1, 0])).abs().max() < 0.02
    assert (ranking.sort(1).values == torch.arange(50)).all()
    assert (ranking[:, : 50 - wrong] >= wrong).all()
    assert (spread.R - 2 * math.sqrt(wrong / 50)).abs().max() < 0.06
    assert ((spread.t > 0.1) == (wrong > 0)).all()
    assert ((spread.direction > 0.05) == (wrong > 0)).all()


def test_checkpoint_round_trip(tmp_path: Path, by_heart):
    network, (shapes, views) = by_heart
    path = tmp_path / "pose.safetensors"
    save_network(path, network, {"sources": ["procedural"]})
    again, about = load_pose_network(path)
    assert about == {"sources": ["procedural"]}
    assert (again.config, again.categories) == (TINY, KNOWN)
    a, b = (regress_states(n, views.points, shapes.category) for n in (network, again))
    assert all(torch.equal(p, q) for p, q in zip(parts_of(a), parts_of(b), strict=True))
    with pytest.raises(CheckpointError, match="--stage pose"):
        load_pose_network(tmp_path / "none.safetensors")
