"""Losses of the window network: zero at the truth, blind to what must not matter, smooth where training goes."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from art_perception.models.losses import STATIC, LossConfig, losses, match
from art_perception.models.sim2art import Sim2ArtOutput
from art_perception.types import PointWindow, WindowTruth

B, T, N, M, K = 2, 5, 60, 6, 3
PLACE = torch.tensor([[0, 4, 2, 0], [0, 1, 5, 3]])  # query of each true part
CLAMP = math.acos(1 - 1e-4)  # the axis term stops here, where arccos has no finite slope
CONFIG = LossConfig()


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.fixture
def window() -> PointWindow:
    g = torch.Generator().manual_seed(0)
    zero = torch.zeros(B, T, N)
    return PointWindow(
        points=torch.rand(B, T, N, 3, generator=g) * 2 - 1,
        flow=torch.zeros(B, T, N, 3),
        flow_valid=zero > 1,
        normals=torch.zeros(B, T, N, 3),
        seen=torch.zeros(B, T, N, 4),
        center=torch.zeros(B, 3),
        scale=torch.ones(B),
        flow_scale=torch.ones(B),
    )


@pytest.fixture
def truth() -> WindowTruth:
    g = torch.Generator().manual_seed(1)
    part = torch.randint(0, K + 1, (B, T, N), generator=g)
    part[0][part[0] == 3] = 0  # the first window has two parts
    kind = torch.tensor([[0, 1, -1], [1, 0, 0]])
    amount = torch.rand(B, T, K, generator=g).cumsum(1)
    return WindowTruth(
        part=part,
        type=kind,
        axis=unit(torch.randn(B, K, 3, generator=g)),
        pivot=torch.rand(B, K, 3, generator=g),
        amount=(amount - amount[:, :1]) * (kind >= 0)[:, None],
    )


def perfect(truth: WindowTruth, sure: float = 40.0) -> Sim2ArtOutput:
    """The truth as the network would say it; each revolute pivot slid along its axis, which changes nothing."""
    g = torch.Generator().manual_seed(2)
    assignment = torch.zeros(B, T, N, M)
    place = PLACE.unsqueeze(1).expand(B, T, -1).gather(2, truth.part.clamp(min=0))
    assignment.scatter_(3, place[..., None], sure)
    kind = torch.full((B, M), STATIC)
    axes, pivots = unit(torch.randn(2, B, M, 3, generator=g)), torch.rand(B, M, 3, generator=g)
    turn, slide = torch.rand(2, B, T, M, generator=g)
    turn_axis, slide_axis = axes.clone()
    for b, k in (truth.type >= 0).nonzero().tolist():
        q = PLACE[b, k + 1]
        kind[b, q] = truth.type[b, k]
        axis, amount = (turn_axis, turn) if truth.type[b, k] == 0 else (slide_axis, slide)
        axis[b, q], amount[b, :, q] = truth.axis[b, k], truth.amount[b, :, k]
        pivots[b, q] = truth.pivot[b, k] + 0.7 * truth.axis[b, k]
    index = (truth.part - 1).clamp(min=0)
    vote_axis, vote_point = (
        x.unsqueeze(1).expand(B, T, K, 3).gather(2, index[..., None].expand(B, T, N, 3))
        for x in (truth.axis, truth.pivot)
    )
    logits = torch.nn.functional.one_hot(kind, 3) * sure
    return Sim2ArtOutput(
        assignment, logits, turn_axis, slide_axis, pivots, turn, slide, vote_axis.clone(), vote_point.clone()
    )


def guess(seed: int = 3) -> Sim2ArtOutput:
    """Something a network might say, differentiable."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    return Sim2ArtOutput(
        assignment=normal(B, T, N, M),
        type=normal(B, M, 3),
        turn_axis=unit(normal(B, M, 3)),
        slide_axis=unit(normal(B, M, 3)),
        pivot=normal(B, M, 3),
        turn=normal(B, T, M),
        slide=normal(B, T, M),
        vote_axis=unit(normal(B, T, N, 3)),
        vote_point=normal(B, T, N, 3),
    )


def decided(truth: WindowTruth) -> Sim2ArtOutput:
    """A guess that is wrong about everything but which query is which part."""
    said = guess()
    return replace(said, assignment=said.assignment + perfect(truth, sure=4.0).assignment)


def check_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda text, name=name: f"{name}: {text}")


def test_the_truth_costs_nothing(window, truth):
    terms = losses(perfect(truth), window, truth, CONFIG)
    assert set(terms) == {field.name for field in fields(CONFIG)}
    for name, value in terms.items():
        bound = CONFIG.axis * CLAMP + 1e-4 if name == "axis" else 1e-4
        assert 0 <= float(value) < bound, name


def test_the_matching_finds_the_parts(truth):
    query, bce, dice = match(perfect(truth).assignment, truth.part, K)
    assert torch.equal(query, PLACE)
    assert bce.shape == dice.shape == (B, K + 1, M)
    taken = dice.gather(2, query[..., None])[..., 0]
    assert taken[PLACE > 0].max() < 1e-5
    others = dice.scatter(2, query[..., None], torch.inf)[PLACE > 0]
    assert others.min() > 0.5


def test_the_matching_is_the_cheapest(truth):
    """No other assignment of parts to distinct queries costs less than the Hungarian one."""
    query, bce, dice = match(decided(truth).assignment, truth.part, K)
    cost = 2 * bce + dice
    for b in range(B):
        parts = [k for k in range(1, K + 1) if (truth.part[b] == k).any()]
        chosen = sum(float(cost[b, k, query[b, k]]) for k in parts)
        assert len({int(query[b, k]) for k in parts}) == len(parts)
        assert 0 not in query[b, parts]
        for other in itertools.permutations(range(1, M), len(parts)):
            assert chosen <= sum(float(cost[b, k, q]) for k, q in zip(parts, other, strict=True)) + 1e-5


def test_among_queries_that_know_nothing_the_first_are_taken(truth):
    query, _, _ = match(torch.zeros(B, T, N, M), truth.part, K)
    assert sorted(query[0, 1:3].tolist()) == [1, 2]
    assert sorted(query[1, 1:].tolist()) == [1, 2, 3]


def test_the_order_of_the_queries_is_free_but_for_the_static_one(window, truth):
    said = decided(truth)
    order = torch.tensor([0, 3, 1, 5, 2, 4])
    shuffled = replace(
        said,
        assignment=said.assignment[..., order],
        type=said.type[:, order],
        turn_axis=said.turn_axis[:, order],
        slide_axis=said.slide_axis[:, order],
        pivot=said.pivot[:, order],
        turn=said.turn[..., order],
        slide=said.slide[..., order],
    )
    check_same(losses(shuffled, window, truth, CONFIG), losses(said, window, truth, CONFIG))
    swapped = replace(said, assignment=said.assignment[..., torch.tensor([1, 0, 2, 3, 4, 5])])
    assert losses(swapped, window, truth, CONFIG)["bce"] != losses(said, window, truth, CONFIG)["bce"]


def test_the_order_of_the_parts_is_free(window, truth):
    order = torch.tensor([2, 0, 1])
    label = torch.cat([torch.zeros(1, dtype=torch.long), order.argsort() + 1])
    other = replace(
        truth,
        part=label[truth.part],
        type=truth.type[:, order],
        axis=truth.axis[:, order],
        pivot=truth.pivot[:, order],
        amount=truth.amount[..., order],
    )
    check_same(losses(guess(), window, other, CONFIG), losses(guess(), window, truth, CONFIG))


def flipped_output(said: Sim2ArtOutput) -> Sim2ArtOutput:
    names = ("turn_axis", "slide_axis", "turn", "slide", "vote_axis")
    return replace(said, **{name: -getattr(said, name) for name in names})


def test_the_sign_of_axis_and_amount_is_judged(window, truth):
    """Net motion makes the sign observable: saying the reverse of everything is the largest axis error there is."""
    wrong = losses(flipped_output(perfect(truth)), window, truth, CONFIG)
    assert float(wrong["axis"]) == pytest.approx(math.pi - CLAMP, abs=1e-3)
    assert float(wrong["votes"]) == pytest.approx(2 * CONFIG.votes, abs=1e-4)
    assert float(wrong["motion"]) > 0.5
    assert float(wrong["pivot"]) < 1e-4
    reverse = replace(truth, axis=-truth.axis, amount=-truth.amount)
    check_same(losses(flipped_output(guess()), window, reverse, CONFIG), losses(guess(), window, truth, CONFIG))


def test_points_without_judgement_have_no_say(window, truth):
    g = torch.Generator().manual_seed(7)
    hidden = torch.rand(B, T, N, generator=g) < 0.2
    judged = replace(truth, part=torch.where(hidden, -1, truth.part))
    said, other = guess(), guess(8)

    def mixed(name: str) -> Tensor:
        return torch.where(hidden[..., None], getattr(other, name), getattr(said, name))

    changed = replace(said, **{name: mixed(name) for name in ("assignment", "vote_axis", "vote_point")})
    check_same(losses(changed, window, judged, CONFIG), losses(said, window, judged, CONFIG))
    assert losses(said, window, judged, CONFIG)["bce"] != losses(said, window, truth, CONFIG)["bce"]


def test_parts_without_judgement_have_no_joint(window, truth):
    """A part that was hardly seen carries type -1 and label -1: its axis and amounts do not matter."""
    weak = replace(truth, part=torch.where(truth.part == 2, -1, truth.part), type=truth.type.clone())
    weak.type[:, 1] = -1
    other = replace(weak, axis=weak.axis.clone(), amount=weak.amount.clone(), pivot=weak.pivot.clone())
    other.axis[:, 1], other.amount[..., 1], other.pivot[:, 1] = unit(torch.ones(3)), 9.0, 5.0
    check_same(losses(guess(), window, other, CONFIG), losses(guess(), window, weak, CONFIG))


def test_weights_scale_their_term_alone(window, truth):
    base = losses(guess(), window, truth, CONFIG)
    for field in fields(CONFIG):
        changed = losses(guess(), window, truth, replace(CONFIG, **{field.name: 3 * getattr(CONFIG, field.name)}))
        for name, value in changed.items():
            torch.testing.assert_close(value, base[name] * (3 if name == field.name else 1))


def one_part(kind: int) -> tuple[WindowTruth, Sim2ArtOutput]:
    """A window of one moving part about z through (0.5, 0, 0), and the perfect output for it."""
    part = torch.ones(B, T, N, dtype=torch.long)
    part[..., ::2] = 0
    axis, pivot = torch.zeros(B, K, 3), torch.zeros(B, K, 3)
    axis[..., 2], pivot[..., 0] = 1, 0.5
    amount = torch.linspace(0, 1.2, T)[:, None].expand(B, T, K).clone()
    types = torch.tensor([kind, -1, -1]).expand(B, K).clone()
    truth = WindowTruth(part, types, axis, pivot, amount)
    return truth, perfect(truth)


@pytest.mark.parametrize("off", [0.1, 0.4])
def test_pivot_and_field_terms_of_a_shifted_axis(window, off: float):
    truth, said = one_part(0)
    beside = torch.zeros(B, M, 3)
    beside[..., 1] = off
    terms = losses(replace(said, pivot=said.pivot + beside), window, truth, CONFIG)
    assert float(terms["pivot"]) == pytest.approx(off, rel=1e-3)
    # the velocity fields differ by off everywhere, and the part turns 1.2 rad
    assert float(terms["field"]) == pytest.approx(1.2 * off, rel=1e-2)
    assert float(terms["axis"]) < CLAMP + 1e-4


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("tilt", [0.2, 1.0])
def test_axis_term_is_the_angle(window, kind: int, tilt: float):
    truth, said = one_part(kind)
    tilted = torch.tensor([0.0, math.sin(tilt), math.cos(tilt)]).expand(B, M, 3)
    name = ("turn_axis", "slide_axis")[kind]
    terms = losses(replace(said, **{name: tilted}), window, truth, CONFIG)
    assert float(terms["axis"]) == pytest.approx(tilt, rel=1e-3)
    if kind == 1:  # every point of the slide ends this far off
        assert float(terms["field"]) == pytest.approx(1.2 * 2 * math.sin(tilt / 2), rel=1e-3)


def test_motion_term_is_the_mean_error_of_the_amount(window):
    truth, said = one_part(0)
    terms = losses(replace(said, turn=said.turn + 0.3), window, truth, CONFIG)
    assert float(terms["motion"]) == pytest.approx(0.3, rel=1e-3)
    assert float(losses(replace(said, slide=said.slide + 5), window, truth, CONFIG)["motion"]) < 1e-4


def test_a_wrong_type_costs(window):
    truth, said = one_part(0)
    logits = torch.zeros(B, M, 3)
    logits[..., 1] = 40
    assert float(losses(replace(said, type=logits), window, truth, CONFIG)["type"]) > 10


@pytest.mark.parametrize("case", ["guess", "truth", "nothing moves", "nothing judged", "certain and wrong"])
def test_gradients_are_finite(case: str, window, truth):
    said = guess() if case in ("guess", "nothing moves", "nothing judged") else perfect(truth)
    if case == "nothing moves":
        truth = replace(truth, part=truth.part * 0, type=truth.type * 0 - 1, amount=truth.amount * 0)
    if case == "nothing judged":
        truth = replace(truth, part=truth.part * 0 - 1, type=truth.type * 0 - 1)
    if case == "certain and wrong":
        said = flipped_output(replace(said, assignment=said.assignment.roll(1, 3) * 10, type=said.type.roll(1, 2)))
    said = replace(said, **{name: getattr(said, name).clone().requires_grad_() for name in Sim2ArtOutput.__slots__})
    terms = losses(said, window, truth, CONFIG)
    sum(terms.values()).backward()
    for name, value in terms.items():
        assert torch.isfinite(value), name
    for name in Sim2ArtOutput.__slots__:
        gradient = getattr(said, name).grad
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
    if case == "guess":
        for name in Sim2ArtOutput.__slots__:
            assert getattr(said, name).grad.abs().max() > 0, f"{name} is not trained"


def test_following_the_gradient_finds_the_joint(window):
    """Gradient descent on the loss alone brings axis, pivot and amount of a bad guess to the truth."""
    truth, said = one_part(0)
    axis = unit(torch.tensor([0.5, -0.4, 0.5])).expand(B, M, 3).clone().requires_grad_()
    pivot = (said.pivot + 0.5).clone().requires_grad_()
    turn = torch.zeros(B, T, M, requires_grad=True)
    optimizer = torch.optim.Adam([axis, pivot, turn], 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        terms = losses(replace(said, turn_axis=unit(axis), pivot=pivot, turn=turn), window, truth, CONFIG)
        sum(terms.values()).backward()
        optimizer.step()
    with torch.no_grad():
        terms = losses(replace(said, turn_axis=unit(axis), pivot=pivot, turn=turn), window, truth, CONFIG)
    assert float(terms["axis"]) < math.radians(3)
    assert float(terms["pivot"]) < 0.05
    assert float(terms["motion"]) < 0.05
