"""Scores of the network alone: the truth gets full marks, and what is missed or wrong counts as it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from window_tools import bank_of, chest, crate, exact_poses, render, scenarios

from art_perception.models.sim2art import Sim2ArtOutput
from art_perception.train.validate import validate
from art_perception.types import PointWindow, WindowTruth


class Oracle:
    """A network that says what it is told to."""

    def __init__(self, said: Sim2ArtOutput) -> None:
        self.said = said

    def __call__(self, _: PointWindow) -> Sim2ArtOutput:
        return self.said

    def eval(self) -> None:
        self.training = False

    def train(self) -> None:
        self.training = True


@pytest.fixture(scope="module")
def batch() -> tuple[PointWindow, WindowTruth]:
    """Windows whose parts are all large enough to be proposed."""
    bank = bank_of(chest(), crate())
    drawn = [exact_poses(s) for s in scenarios(bank, 16, frames=4)]
    window, truth = render(bank, drawn, points=128)
    size = torch.stack([(truth.part == k + 1).sum((1, 2)) for k in range(truth.type.shape[1])], 1)
    kind = torch.where(size < 0.01 * truth.part[0].numel(), -1, truth.type)
    typeless = torch.nn.functional.pad(kind, (1, 0)).gather(1, truth.part.clamp(min=0).flatten(1)).view_as(truth.part)
    return window, replace(truth, type=kind, part=torch.where(typeless < 0, -1, truth.part))


def told(truth: WindowTruth) -> Sim2ArtOutput:
    """The truth as an output of nine queries, part k at query k."""
    B, frames, N = truth.part.shape
    K, M = truth.type.shape[1], 9
    kind = torch.full((B, M), 2)
    kind[:, 1 : K + 1] = torch.where(truth.type < 0, 2, truth.type)
    axis, pivot, amount = torch.ones(B, M, 3), torch.zeros(B, M, 3), torch.zeros(B, frames, M)
    axis[:, 1 : K + 1], pivot[:, 1 : K + 1], amount[..., 1 : K + 1] = truth.axis, truth.pivot, truth.amount
    return Sim2ArtOutput(
        assignment=20.0 * torch.nn.functional.one_hot(truth.part.clamp(min=0), M),
        type=20.0 * torch.nn.functional.one_hot(kind, 3),
        turn_axis=axis,
        slide_axis=axis,
        pivot=pivot,
        turn=amount,
        slide=amount,
        vote_axis=torch.zeros(B, frames, N, 3),
        vote_point=torch.zeros(B, frames, N, 3),
    )


def test_the_truth_scores_full_marks(batch):
    scores = validate(Oracle(told(batch[1])), [batch])
    assert scores["miou"] == pytest.approx(1)
    for name in ("found", "type", "success"):
        assert scores[name] == 100, name
    for name in ("axis_mean", "axis_median", "position_mean", "position_median", "turn_deg", "slide_cm"):
        assert scores[name] < 0.05, name


def test_what_is_missed_counts(batch):
    """Nothing found: every part 90 degrees and a metre off, the static body alone overlaps."""
    truth = batch[1]
    said = told(truth)
    silent = replace(said, assignment=torch.zeros_like(said.assignment))
    silent.assignment[..., 0] = 20
    scores = validate(Oracle(silent), [batch])
    assert scores["found"] == scores["type"] == scores["success"] == 0
    assert scores["axis_mean"] == scores["axis_median"] == 90
    assert scores["position_median"] == 100
    assert scores["miou"] < 0.7
    moved = torch.rad2deg(truth.amount.transpose(1, 2)[truth.type == 0].abs().mean())
    assert 0 < scores["turn_deg"] <= float(moved) + 1e-3


@pytest.mark.parametrize(("tilt_deg", "share"), [(4.0, 100.0), (6.0, 0.0)])
def test_success_ends_at_five_degrees(batch, tilt_deg: float, share: float):
    said = told(batch[1])
    other = torch.tensor([0.3, 0.9, -0.2]).expand_as(said.turn_axis)
    aside = torch.nn.functional.normalize(torch.linalg.cross(said.turn_axis, other), dim=-1)
    angle = np.radians(tilt_deg)
    axis = np.cos(angle) * said.turn_axis + np.sin(angle) * aside
    scores = validate(Oracle(replace(said, turn_axis=axis, slide_axis=axis)), [batch])
    assert scores["axis_mean"] == pytest.approx(tilt_deg, abs=0.01)
    assert scores["axis_median"] == pytest.approx(tilt_deg, abs=0.01)
    assert scores["type"] == 100
    assert scores["success"] == share


def test_the_reverse_of_axis_and_motion_is_the_same_joint(batch):
    said = told(batch[1])
    names = ("turn_axis", "slide_axis", "turn", "slide")
    reverse = replace(said, **{name: -getattr(said, name) for name in names})
    assert validate(Oracle(reverse), [batch]) == pytest.approx(validate(Oracle(said), [batch]), abs=1e-3)


def test_nothing_to_score_is_not_a_number_and_no_warning(batch, recwarn):
    window, truth = batch
    still = replace(truth, part=truth.part * 0, type=truth.type * 0 - 1)
    scores = validate(Oracle(told(still)), [(window, still)])
    assert scores["miou"] == 1
    assert all(np.isnan(value) for name, value in scores.items() if name != "miou")
    assert not recwarn.list
