"""The window network: what its output must not depend on, and that it can learn a joint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from window_tools import bank_of, chest, crate, exact_poses, render, scenarios

from art_perception.data.scenario import Scenario
from art_perception.geometry.lie import exp_so3
from art_perception.models.losses import LossConfig, losses
from art_perception.models.sim2art import BASE, Sim2Art, Sim2ArtConfig, Sim2ArtOutput, keypoint_index
from art_perception.train.augment import transformed
from art_perception.train.validate import validate
from art_perception.types import PointWindow, WindowTruth

T, N = 6, 96
TINY = Sim2ArtConfig(
    width=32, layers=1, query_layers=1, heads=2, frames=T, points=N, keypoints=8, neighbours=8, queries=5
)
PER_POINT = ("assignment", "vote_axis", "vote_point")


@pytest.fixture(scope="module")
def model() -> Sim2Art:
    torch.manual_seed(0)
    return Sim2Art(TINY).eval()


def clearly_moving(s: Scenario) -> bool:
    """Whether one part moves, visibly, and the rest stands still."""
    still = np.abs(s.D[:, 0] - np.eye(4)).max() == 0
    return still and len(s.type) == 1 and s.amount.max() > (0.5 if s.type[0] == 0 else 0.12)


@pytest.fixture(scope="module")
def batch() -> tuple[PointWindow, WindowTruth]:
    """The window in which a turning part is seen best, and that of a sliding part, without noise."""
    bank = bank_of(chest(), crate())
    moving = [exact_poses(s) for s in scenarios(bank, 80, frames=T) if clearly_moving(s)]
    truth = render(bank, moving, points=N)[1]
    seen = (truth.part == 1).sum((1, 2))
    best = [max((b for b, s in enumerate(moving) if s.type[0] == kind), key=seen.__getitem__) for kind in (0, 1)]
    return render(bank, [moving[b] for b in best], points=N)


def reordered(window: PointWindow, order: Tensor) -> PointWindow:
    """The same window with its points in another ``order`` (T, N) in every frame."""
    names = ("points", "flow", "flow_valid", "normals", "seen")
    rows = torch.arange(T)[:, None]
    return replace(window, **{name: getattr(window, name)[:, rows, order] for name in names})


def check_same(a: Sim2ArtOutput, b: Sim2ArtOutput, order: Tensor | None = None, tolerance: float = 1e-4) -> None:
    rows = torch.arange(T)[:, None]
    for field in fields(Sim2ArtOutput):
        x, y = getattr(a, field.name), getattr(b, field.name)
        y = y[:, rows, order] if order is not None and field.name in PER_POINT else y
        torch.testing.assert_close(x, y, atol=tolerance, rtol=tolerance, msg=lambda m, n=field.name: f"{n}: {m}")


@torch.no_grad()
def test_shapes_and_units(model: Sim2Art, batch):
    out = model(batch[0])
    M = TINY.queries
    assert out.assignment.shape == (2, T, N, M)
    assert out.type.shape == out.turn_axis.shape == out.slide_axis.shape == out.pivot.shape == (2, M, 3)
    assert out.turn.shape == out.slide.shape == (2, T, M)
    for axis in (out.turn_axis, out.slide_axis, out.vote_axis):
        torch.testing.assert_close(axis.norm(dim=-1), torch.ones(axis.shape[:-1]))
    assert not out.turn[:, 0].any()
    assert not out.slide[:, 0].any()


@torch.no_grad()
def test_the_order_of_points_in_a_frame_is_free_once_the_first_is_fixed(model: Sim2Art, batch):
    """Farthest-point sampling starts at the first point; all others may come in any order, another in every frame."""
    g = torch.Generator().manual_seed(1)
    order = torch.stack([torch.cat([torch.zeros(1).long(), torch.randperm(N - 1, generator=g) + 1]) for _ in range(T)])
    check_same(model(reordered(batch[0], order)), model(batch[0]), order)


@torch.no_grad()
def test_which_point_comes_first_hardly_matters(model: Sim2Art, batch):
    """But for the order of the moving queries, which are named by where they start."""
    order = torch.arange(N).roll(N // 2).expand(T, N)
    a, b = (model(window).assignment[..., 1:].sort(-1)[0] for window in (reordered(batch[0], order), batch[0]))
    change = (a - b[:, torch.arange(T)[:, None], order]).abs().mean()
    assert change < 0.3 * b.std()


@torch.no_grad()
def test_repeated_points_may_stand_anywhere(model: Sim2Art, batch):
    """Frames with too few points repeat some; where the copies stand changes nothing."""
    half = torch.cat([torch.arange(N // 2), torch.arange(N // 2)]).expand(T, N)
    padded = reordered(batch[0], half)
    g = torch.Generator().manual_seed(2)
    order = torch.stack([torch.cat([torch.zeros(1).long(), torch.randperm(N - 1, generator=g) + 1]) for _ in range(T)])
    check_same(model(reordered(padded, order)), model(padded), order)


@torch.no_grad()
def test_windows_of_a_batch_do_not_see_each_other(model: Sim2Art, batch):
    window = batch[0]

    def alone(x: Tensor) -> Tensor:
        return x[:1]

    first = PointWindow(*(alone(getattr(window, f.name)) for f in fields(window) if f.name != "appearance"))
    one, both = model(first), model(window)
    for field in fields(one):
        torch.testing.assert_close(getattr(one, field.name), getattr(both, field.name)[:1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_center_and_metric_scale_do_not_matter(model: Sim2Art, batch):
    moved = replace(batch[0], center=batch[0].center + 3, scale=batch[0].scale * 2)
    check_same(model(moved), model(batch[0]), tolerance=0)


@pytest.mark.parametrize("turn", [(0.3, -0.2, 0.5), (2.0, 1.0, -1.5)])
def test_keypoints_survive_turning_and_scaling(batch, turn: tuple[float, ...]):
    points = batch[0].points.double()
    R = exp_so3(torch.tensor(turn).double())
    index = keypoint_index(points, 12)
    assert torch.equal(index, keypoint_index(points @ R.mT * 1.7, 12))
    assert index.shape == (2, T, 12)
    assert all(len(set(row.tolist())) == 12 for row in index.flatten(0, 1))


def test_keypoints_cover_every_frame(batch):
    points = batch[0].points
    index = keypoint_index(points, 24)
    keys = points.gather(2, index[..., None].expand(-1, -1, -1, 3))
    assert torch.cdist(points, keys).amin(-1).max() < 0.5 * torch.cdist(points, points).max()


@torch.no_grad()
def test_screw_statistics_give_untrained_heads_an_axis_that_turns_with_the_scene(model: Sim2Art, batch):
    """The heads start as small corrections of the statistics, so an untrained axis follows a turned window."""
    window, truth = batch
    R = exp_so3(torch.tensor([0.2, 0.9, -0.4])).expand(2, 3, 3)
    turned, _ = transformed(window, truth, R, torch.ones(2))
    before, after = model(window), model(turned)
    cosine = (torch.einsum("bij,bmj->bmi", R, before.turn_axis) * after.turn_axis).sum(-1)
    assert cosine[:, 1:].median() > 0.9


@pytest.mark.parametrize("change", [
    {"query_layers": 0},
    {"time_bands": 0, "clock": 0.0},
    {"reach": 0},
    {"appearance": 7},
    {"queries": 20, "keypoints": 16, "spread_to": 1},
])  # fmt: skip
def test_every_ablation_runs_and_trains_all_its_weights(change: dict, batch):
    torch.manual_seed(1)
    config = replace(TINY, **change)
    network = Sim2Art(config)
    window = batch[0]
    if config.appearance:
        window = replace(window, appearance=torch.randn(2, T, N, config.appearance))
    terms = losses(network(window), window, batch[1], LossConfig())
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@torch.no_grad()
def test_the_ablated_clock_is_blind_to_time(batch):
    """Without time code, without t / T and without neighbouring frames, frames may come in any order."""
    torch.manual_seed(2)
    network = Sim2Art(replace(TINY, time_bands=0, clock=0.0, reach=0)).eval()
    window, order = batch[0], torch.tensor([3, 0, 5, 1, 4, 2])
    names = ("points", "flow", "flow_valid", "normals", "seen")
    shuffled = replace(window, **{name: getattr(window, name)[:, order] for name in names})
    a, b = network(shuffled).assignment, network(window).assignment[:, order]
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    with_clock = Sim2Art(TINY).eval()
    assert (with_clock(shuffled).assignment - with_clock(window).assignment[:, order]).abs().max() > 1e-3


def test_any_number_of_frames_and_points_is_taken(model: Sim2Art, batch):
    names = ("points", "flow", "flow_valid", "normals", "seen")
    shorter = replace(batch[0], **{name: getattr(batch[0], name)[:, :4, :50] for name in names})
    with torch.no_grad():
        assert model(shorter).assignment.shape == (2, 4, 50, TINY.queries)


def test_gradients_are_finite_where_nothing_moves(batch):
    torch.manual_seed(3)
    network = Sim2Art(TINY)
    window, truth = batch
    still = replace(window, flow=window.flow * 0, flow_scale=window.flow_scale * 0)
    torch.stack(list(losses(network(still), still, truth, LossConfig()).values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_it_learns_two_windows_by_heart(batch):
    torch.manual_seed(0)
    network = Sim2Art(TINY)
    before = validate(network, [batch])
    assert before["success"] < 100
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        torch.stack(list(losses(network(batch[0]), *batch, LossConfig()).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    after = validate(network, [batch])
    assert after["miou"] > 0.93
    assert after["type"] == 100
    assert after["axis_mean"] < 3
    assert after["position_mean"] < 3
    assert after["turn_deg"] < 2
    assert after["slide_cm"] < 1


def count(config: Sim2ArtConfig) -> int:
    return sum(p.numel() for p in Sim2Art(config).parameters())


def test_sizes_fit_the_package():
    assert 4 * count(Sim2ArtConfig()) < 25e6
    assert 2 * count(BASE) < 50e6


def test_weights_are_initialised_from_the_seed_alone():
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(Sim2Art(TINY).parameters())

    equal: Callable[[int, int], bool] = lambda a, b: all(map(torch.equal, weights(a), weights(b)))  # noqa: E731
    assert equal(4, 4)
    assert not equal(4, 5)
