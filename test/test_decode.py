"""From what the network says to parts and joints in metres."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from art_perception.models.decode import decode
from art_perception.models.sim2art import Sim2ArtOutput
from art_perception.types import JointType, PointWindow

T, N, M = 4, 500, 6
DOOR, DRAWER, CRUMB, STILL = 3, 1, 4, 5  # queries; 0 is the static body, 2 claims nothing


@pytest.fixture
def window() -> PointWindow:
    g = torch.Generator().manual_seed(0)
    return PointWindow(
        points=torch.rand(2, T, N, 3, generator=g),
        flow=torch.zeros(2, T, N, 3),
        flow_valid=torch.zeros(2, T, N, dtype=torch.bool),
        normals=torch.zeros(2, T, N, 3),
        seen=torch.zeros(2, T, N, 4),
        center=torch.tensor([[0.0, 0, 0], [0.3, -0.2, 1.5]]),
        scale=torch.tensor([1.0, 0.4]),
        flow_scale=torch.ones(2),
    )


@pytest.fixture
def output() -> Sim2ArtOutput:
    """A second window with a door of 200 points per frame, a drawer of 100, one stray point, and a static part."""
    claims = torch.zeros(2, T, N, dtype=torch.long)
    claims[1, :, :200], claims[1, :, 200:300], claims[1, :, 400:450] = DOOR, DRAWER, STILL
    claims[1, 0, 300] = CRUMB
    kind = torch.zeros(2, M, 3)
    kind[1, DOOR, 0], kind[1, DRAWER, 1], kind[1, CRUMB, 0], kind[1, STILL, 2], kind[1, 0, 0] = 3, 2, 9, 3, 9
    g = torch.Generator().manual_seed(1)
    axes = torch.nn.functional.normalize(torch.randn(3, 2, M, 3, generator=g), dim=-1)
    amounts = torch.rand(2, 2, T, M, generator=g)
    return Sim2ArtOutput(
        assignment=20.0 * torch.nn.functional.one_hot(claims, M),
        type=kind,
        turn_axis=axes[0],
        slide_axis=axes[1],
        pivot=axes[2],
        turn=amounts[0],
        slide=amounts[1],
        vote_axis=torch.zeros(2, T, N, 3),
        vote_point=torch.zeros(2, T, N, 3),
    )


def test_parts_are_numbered_by_size_and_small_or_still_ones_left_out(window, output):
    share, proposals = decode(output, window, 1)
    part = share.argmax(-1)
    assert [p.type for p in proposals] == [JointType.REVOLUTE, JointType.PRISMATIC]
    expected = torch.zeros(T, N, dtype=torch.long)
    expected[:, :200], expected[:, 200:300] = 1, 2
    assert torch.equal(part, expected)


def test_joints_are_metric_and_in_the_first_cameras_frame(window, output):
    _, (door, drawer) = decode(output, window, 1)
    torch.testing.assert_close(door.axis, output.turn_axis[1, DOOR])
    torch.testing.assert_close(door.origin, output.pivot[1, DOOR] * 0.4 + window.center[1])
    torch.testing.assert_close(door.q, output.turn[1, :, DOOR])
    torch.testing.assert_close(drawer.axis, output.slide_axis[1, DRAWER])
    torch.testing.assert_close(drawer.q, output.slide[1, :, DRAWER] * 0.4)
    middle = window.points[1, :, 200:300].mean((0, 1)) * 0.4 + window.center[1]
    torch.testing.assert_close(drawer.origin, middle, atol=1e-4, rtol=0)


def test_certainty(window, output):
    door = decode(output, window, 1)[1][0]
    assert door.certainty == pytest.approx(1 - 1 / (math.exp(3) + 2), abs=1e-4)
    belonging = math.exp(2) / (math.exp(2) + M - 1)
    doubtful = replace(output, assignment=output.assignment / 10)
    assert decode(doubtful, window, 1)[1][0].certainty == pytest.approx(belonging * door.certainty, abs=1e-4)


def test_windows_of_a_batch_are_read_apart(window, output):
    share, proposals = decode(output, window, 0)
    part = share.argmax(-1)
    assert not part.any()
    assert proposals == []


def test_the_static_query_is_never_a_part(window, output):
    sure = output.type.clone()
    sure[0, 0] = torch.tensor([50.0, 0, 0])
    assert decode(replace(output, type=sure), window, 0)[1] == []
