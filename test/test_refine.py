"""Joint-centric refinement: terms that vanish at the truth and follow the geometry, and a loop that finds the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_perception.estimation.evidence import evidence_of_view
from art_perception.estimation.refine import ExpectedSize, cost, refine
from art_perception.estimation.terms import (
    UNKNOWN,
    Decoded,
    Evidence,
    Hypotheses,
    TermWeights,
    free_space,
    joint_gap,
    limits,
    part_distances,
    surface,
)
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.rotations import rotation_angle

HINGE = torch.tensor([0.0, 0.0, 1.0])
ORIGIN = torch.tensor([0.2, 0.0, 0.0])
TURN, SHIFT, SIZE, VALUE = torch.tensor([[0.3, -0.4, 0.2]]), torch.tensor([[0.1, -0.2, 2.0]]), 0.8, 0.6
SIZES = ExpectedSize(float(np.log(SIZE)), 0.3)


def box(points: torch.Tensor, middle: tuple[float, float, float], half: torch.Tensor) -> torch.Tensor:
    outside = (points - torch.tensor(middle)).abs() - half
    return outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0)


def decode(u: torch.Tensor) -> Decoded:
    """A box whose length is 1 + the first latent times 0.1, and a door on a hinge."""
    H = len(u)
    length = 0.2 * (1 + 0.1 * u[:, :1])
    half = torch.cat([length, torch.full((H, 2), 0.15)], -1)[:, None]

    def distance(points: torch.Tensor) -> torch.Tensor:
        base = box(points[:, 0], (0.0, 0.0, 0.0), half)
        door = box(points[:, 1], (0.2, 0.15, 0.0), torch.tensor([0.02, 0.15, 0.1]))
        return torch.stack([base, door, torch.full_like(base, torch.inf)], 1)

    axis = HINGE.expand(H, 2, 3)
    twist = torch.cat([torch.linalg.cross(ORIGIN, HINGE), HINGE])
    twists = torch.stack([twist, torch.zeros(6)]).expand(H, -1, -1)
    upper = torch.tensor([1.5, 0.0]).expand(H, -1)
    return Decoded(axis, ORIGIN.expand(H, 2, 3), True, twists, upper, distance)


def truth(frames: int = 1) -> Hypotheses:
    q = torch.zeros(1, frames, 2)
    q[0, :, 0] = VALUE + 0.4 * torch.arange(frames)
    return Hypotheses(exp_so3(TURN), SHIFT, torch.tensor([SIZE]), q, torch.zeros(1, 4))


def measured(frames: int = 1, labelled: bool = True) -> Evidence:
    """Points on the surface of the true object, found by projecting random ones along the field's gradient."""
    guess, decoded = truth(frames), decode(torch.zeros(1, 4))
    generator = torch.Generator().manual_seed(0)
    points = (SHIFT + SIZE * (torch.rand((frames, 4000, 3), generator=generator) - 0.5)).requires_grad_()
    for _ in range(6):
        each = part_distances(guess, decoded, points)[0].amin(1)
        (slope,) = torch.autograd.grad(each.sum(), points)
        points = (points - (each * SIZE)[..., None] * slope * SIZE).detach().requires_grad_()
    each, part = part_distances(guess, decoded, points.detach())[0].min(1)
    kept = torch.stack([row.abs().argsort()[:1500] for row in each])
    on = points.detach().gather(1, kept[..., None].expand(-1, -1, 3))
    free = SHIFT + SIZE * (3 * torch.rand((frames, 4000, 3), generator=generator) - 1.5)
    outside = part_distances(guess, decoded, free)[0].amin(1) > 0.01
    free = torch.stack([row[o][:1500] for row, o in zip(free, outside, strict=True)])
    part = part.gather(1, kept)
    return Evidence(on, part if labelled else torch.full_like(part, UNKNOWN), free)


def test_every_term_vanishes_at_the_truth():
    evidence, guess, decoded = measured(), truth(), decode(torch.zeros(1, 4))
    distance = part_distances(guess, decoded, evidence.points)
    assert float(surface(distance, evidence.part, 1.0)) < 1e-4
    assert float(free_space(part_distances(guess, decoded, evidence.free), 1.0)) == 0
    assert float(limits(guess.q, decoded.upper)) == 0
    axis, origin = HINGE @ guess.R[0].T, SHIFT[0] + SIZE * guess.R[0] @ (ORIGIN + 0.3 * HINGE)
    for sign in (1, -1):
        assert float(joint_gap(guess, decoded, sign * axis[None], origin[None])) < 1e-5
    assert float(cost(guess, decode, evidence, SIZES, TermWeights())) < 1e-4


def test_terms_measure_what_they_say():
    guess, decoded = truth(), decode(torch.zeros(1, 4))
    middle = SHIFT[:, None]  # of the base, 0.15 units inside of it
    inside = part_distances(guess, decoded, middle)
    assert float(free_space(inside, 1.0)) == pytest.approx(0.15 + 0.1, abs=1e-5), "depth and share"
    assert float(free_space(inside, 0.1)) == pytest.approx(0.1 + 0.1), "no deeper than the reach"
    assert float(surface(inside, torch.tensor([[0]]), 1.0)) == pytest.approx(0.15, abs=1e-5)
    beyond = torch.tensor([[[-0.2, 0.0], [1.7, 0.0]]])
    assert float(limits(beyond, decoded.upper)) == pytest.approx((0.2 + 0.2) / 2)
    axis = exp_so3(torch.tensor([[0.0, 0.1, 0.0]]))[0] @ HINGE
    off = joint_gap(
        Hypotheses(torch.eye(3)[None], torch.zeros(1, 3), torch.ones(1), guess.q, guess.u),
        decoded, axis[None], (ORIGIN + torch.tensor([0.0, 0.05, 0.0]))[None],
    )  # fmt: skip
    assert float(off) == pytest.approx(np.sin(0.1) + 0.05, abs=1e-5)


def test_distances_do_not_depend_on_the_frame_or_the_unit():
    evidence, guess, decoded = measured(), truth(), decode(torch.zeros(1, 4))
    R, t, scale = exp_so3(torch.tensor([[1.0, 0.5, -2.0]]))[0], torch.tensor([3.0, 1.0, -1.0]), 2.5
    moved = Hypotheses(R @ guess.R, scale * (guess.t @ R.T + t), scale * guess.size, guess.q, guess.u)
    there = part_distances(moved, decoded, scale * (evidence.points @ R.T + t))
    here = part_distances(guess, decoded, evidence.points)
    torch.testing.assert_close(there[:, :, :2], here[:, :, :2], atol=1e-5, rtol=0)


def nearby(frames: int, latent: float) -> Hypotheses:
    true = truth(frames)
    return Hypotheses(
        true.R @ exp_so3(torch.tensor([[0.1, -0.15, 0.1]])),
        true.t + 0.04,
        1.1 * true.size,
        true.q + torch.tensor([0.25, 0.0]),
        true.u + torch.tensor([latent, 0, 0, 0]),
    )


@pytest.mark.parametrize(("frames", "labelled"), [(1, True), (1, False), (3, True)])
def test_the_truth_is_found_from_nearby(frames: int, labelled: bool):
    """Pose, size, joint value and shape off by several degrees and percent; many states, one shape."""
    evidence, true, start = measured(frames, labelled), truth(frames), nearby(frames, 1.5)
    before = cost(start, decode, evidence, SIZES, TermWeights())
    found, after = refine(start, decode, evidence, SIZES, TermWeights(), 120, 0.02)
    assert float(after) < 0.05 * float(before)
    assert float(torch.rad2deg(rotation_angle(found.R, true.R))) < 1
    assert float((found.t - true.t).norm()) < 0.01
    assert float(found.size / true.size) == pytest.approx(1, abs=0.02)
    assert float((found.q - true.q).abs().max()) < 0.03
    torch.testing.assert_close(found.q.diff(dim=1), true.q.diff(dim=1), msg="measured differences stay")


def test_refinement_never_makes_a_hypothesis_worse():
    evidence = measured()
    start = truth()
    _, after = refine(start, decode, evidence, SIZES, TermWeights(), 5, 5.0)
    assert (after <= cost(start, decode, evidence, SIZES, TermWeights())).all()


def test_a_rigid_descent_moves_everything_but_the_shape():
    start, true = nearby(1, 0.2), truth()
    found, _ = refine(start, decode, measured(), SIZES, TermWeights(), 120, 0.02, bend=False)
    assert torch.equal(found.u, start.u)
    assert float(torch.rad2deg(rotation_angle(found.R, true.R))) < 2
    assert float((found.q - true.q).abs().max()) < 0.05


def test_hypotheses_side_by_side_do_not_see_each_other():
    evidence, true = measured(), truth()
    off = Hypotheses(true.R, true.t + 0.05, true.size, true.q, true.u)
    both = Hypotheses(*(torch.cat([getattr(true, n), getattr(off, n)]) for n in ("R", "t", "size", "q", "u")))
    together, _ = refine(both, decode, evidence, SIZES, TermWeights(), 20, 0.02)
    alone, _ = refine(off, decode, evidence, SIZES, TermWeights(), 20, 0.02)
    torch.testing.assert_close(together.t[1:], alone.t, atol=1e-4, rtol=0)


def test_free_points_lie_before_what_was_seen():
    generator = torch.Generator().manual_seed(0)
    wall = torch.cat([torch.rand((500, 2), generator=generator) - 0.5, torch.full((500, 1), 2.0)], -1)
    past = torch.cat([3 * torch.rand((800, 2), generator=generator) - 1.5, torch.full((800, 1), 4.0)], -1)
    hidden = past / 4 * 1.5  # something before the object says nothing of what is behind it
    before = evidence_of_view(wall[None], None, generator).free[0]
    ray, depth = before[:, :2] / before[:, 2:], before[:, 2]
    assert (depth < 2).all()
    assert float(torch.cdist(ray, wall[:, :2] / 2).amin(1).max()) < 1e-3, "on rays to measured points"
    every = evidence_of_view(wall[None], past, generator).free[0]
    assert len(every) > len(before)
    assert (every[:, 2] < 4 + 0.1).all()
    assert (every[len(before) :, 2] > 2).any(), "beside the object also behind its front"
    front = evidence_of_view(wall[None], hidden, generator).free[0]
    assert (front[len(before) :, 2] < 1.5 + 0.1).all()
