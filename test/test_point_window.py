"""The units of windows, and that a window seen turned, mirrored or resized obeys the same laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from window_tools import bank_of, chest, crate, exact_poses, metric, metric_flow, render, scenarios

from art_perception.data.scenario import Scenario
from art_perception.geometry.lie import exp_se3, exp_so3
from art_perception.geometry.point_window import normalise
from art_perception.train.augment import augment, transformed
from art_perception.types import PointWindow, WindowTruth

B, T, N = 3, 4, 150
Windows = tuple[PointWindow, WindowTruth]


def measured(seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "points": torch.randn(B, T, N, 3, generator=g).clamp(-2, 2) * torch.tensor([0.5, 0.2, 0.3]) + 1,
        "flow": 0.02 * torch.randn(B, T, N, 3, generator=g),
        "flow_valid": torch.rand(B, T, N, generator=g) < 0.8,
        "normals": torch.nn.functional.normalize(torch.randn(B, T, N, 3, generator=g), dim=-1),
        "seen": torch.rand(B, T, N, 4, generator=g),
    }


def normalised(raw: dict[str, Tensor]) -> PointWindow:
    return normalise(raw["points"], raw["flow"], raw["flow_valid"], raw["normals"], raw["seen"])


def test_metres_come_back():
    raw = measured()
    window = normalised(raw)
    torch.testing.assert_close(metric(window, window.points), raw["points"])
    valid = raw["flow_valid"] & (window.flow.abs().amax(-1) < 3)
    assert valid.float().mean() > 0.75
    torch.testing.assert_close(metric_flow(window)[valid], raw["flow"][valid])
    assert not window.flow[~raw["flow_valid"]].any()


def test_units_are_of_the_order_of_one():
    window = normalised(measured())
    inside = (window.points.abs() <= 1 + 1e-5).all(-1).float().mean()
    assert 0.94 <= inside <= 1
    assert window.points.abs().amax((1, 2, 3)).max() <= 2
    length = torch.where(window.flow_valid, window.flow.norm(dim=-1), 0.0).flatten(1)
    torch.testing.assert_close((length <= 1 + 1e-5).float().mean(1), torch.full((B,), 0.95), atol=0.005, rtol=0)


def test_shifting_and_scaling_the_scene_changes_only_center_and_scales():
    raw = measured()
    shift, factor = torch.tensor([3.0, -1, 2]), 2.5
    a = normalised(raw)
    b = normalised(raw | {"points": raw["points"] * factor + shift, "flow": raw["flow"] * factor})
    for name in ("points", "flow", "flow_valid", "normals", "seen", "flow_scale"):
        torch.testing.assert_close(getattr(b, name), getattr(a, name), msg=name, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(b.scale, a.scale * factor)
    torch.testing.assert_close(b.center, a.center * factor + shift)


def test_stray_points_and_wrong_flow_do_not_set_the_units():
    raw = measured()
    a = normalised(raw)
    points, flow = raw["points"].clone(), raw["flow"].clone()
    points[:, :, 0] = 50.0
    flow[:, :, 1] = 9.0
    b = normalised(raw | {"points": points, "flow": flow})
    torch.testing.assert_close(b.scale, a.scale, rtol=0.15, atol=0)
    torch.testing.assert_close(b.flow_scale * b.scale, a.flow_scale * a.scale, rtol=0.15, atol=0)
    assert b.points.abs().max() == 2
    assert b.flow.abs().max() == 3


def test_noise_of_a_still_scene_is_not_blown_up():
    raw = measured()
    window = normalised(raw | {"flow": raw["flow"] * 1e-3})
    torch.testing.assert_close(window.flow_scale * window.scale, torch.full((B,), 0.002))
    assert window.flow.abs().max() < 0.1
    still = normalised(raw | {"flow": raw["flow"] * 0, "points": torch.ones_like(raw["points"])})
    for name in ("points", "flow", "flow_scale", "scale"):
        assert torch.isfinite(getattr(still, name)).all()


@pytest.fixture(scope="module")
def exact() -> Windows:
    """Noise-free windows, in which every moving part hangs on a base that stands still."""
    bank = bank_of(chest(), crate())
    drawn = [exact_poses(s) for s in scenarios(bank, 40) if top_level(s)]
    return render(bank, drawn[:16], points=200)


def top_level(s: Scenario) -> bool:
    """Whether the base stands still and no moving part hangs on another one (in a chest, the tray on the door)."""
    chained = len(s.label) > 2 and 0 < s.label[1] != s.label[2] > 0
    return len(s.type) > 0 and np.abs(s.D[:, 0] - np.eye(4)).max() == 0 and not chained


def predicted_flow(window: PointWindow, truth: WindowTruth) -> Tensor:
    """Flow (B, T, N, 3), window units of length, that the stated joints give the points; zero in the last frame."""
    flow = torch.zeros_like(window.points)
    for b, k in (truth.type >= 0).nonzero().tolist():
        axis, pivot = truth.axis[b, k], truth.pivot[b, k]
        unit = torch.cat([torch.linalg.cross(pivot, axis), axis] if truth.type[b, k] == 0 else [axis, axis * 0])
        for t in range(window.points.shape[1] - 1):
            M = exp_se3((truth.amount[b, t + 1, k] - truth.amount[b, t, k]) * unit)
            own = truth.part[b, t] == k + 1
            p = window.points[b, t, own]
            flow[b, t, own] = p @ M[:3, :3].mT + M[:3, 3] - p
    return flow


def check_flow(windows: Windows, known: Tensor) -> None:
    window, truth = windows
    flow = predicted_flow(window, truth)
    moving = known & (truth.part > 0)
    assert moving.sum() > 2000
    shown = window.flow * window.flow_scale[:, None, None, None]
    torch.testing.assert_close(shown[moving], flow[moving], atol=2e-5, rtol=1e-4)
    assert flow[moving].norm(dim=-1).median() > 100 * 2e-5


@pytest.fixture(scope="module")
def known(exact: Windows) -> Tensor:
    """Points (B, T, N) of exact windows whose flow is measured, judged and not cut to the range of the units."""
    window, truth = exact
    inside = (window.flow.abs().amax(-1) < 3) & (window.points.abs().amax(-1) < 2)
    known = window.flow_valid & (truth.part >= 0) & inside
    known[:, -1] = False
    return known


def test_flow_of_exact_windows_is_the_motion_of_the_stated_joints(exact: Windows, known: Tensor):
    check_flow(exact, known)
    assert set(exact[1].type.unique().tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_augmented_windows_obey_the_same_law(exact: Windows, known: Tensor, seed: int):
    window, truth = augment(*exact, torch.Generator().manual_seed(seed))
    assert (window.points - exact[0].points).abs().amax((1, 2, 3)).min() > 0.01
    check_flow((window, truth), known)


def mirror(windows: Windows) -> Windows:
    M = torch.diag(torch.tensor([-1.0, 1, 1])).expand(len(windows[0].scale), 3, 3)
    return transformed(*windows, M, torch.ones(len(M)))


def test_a_mirror_reverses_the_sense_of_turns_only(exact: Windows, known: Tensor):
    window, truth = mirror(exact)
    check_flow((window, truth), known)
    reflect = torch.tensor([-1.0, 1, 1])
    revolute, prismatic = exact[1].type == 0, exact[1].type == 1
    torch.testing.assert_close(truth.axis[prismatic], exact[1].axis[prismatic] * reflect)
    torch.testing.assert_close(truth.axis[revolute], -exact[1].axis[revolute] * reflect)
    torch.testing.assert_close(truth.amount, exact[1].amount)
    for a, b in zip(mirror((window, truth)), exact, strict=True):
        for name in b.__slots__:
            if getattr(b, name) is not None:
                torch.testing.assert_close(getattr(a, name), getattr(b, name), msg=name)


def test_turns_compose(exact: Windows):
    R = [exp_so3(torch.tensor(w)).expand(len(exact[0].scale), 3, 3) for w in ([0.3, -0.4, 0.9], [1.0, 0.2, -0.5])]
    size = [torch.full((len(exact[0].scale),), s) for s in (0.9, 1.2)]
    twice = transformed(*transformed(*exact, R[0], size[0]), R[1], size[1])
    once = transformed(*exact, R[1] @ R[0], size[0] * size[1])
    for a, b in zip(twice, once, strict=True):
        for name in a.__slots__:
            if getattr(a, name) is not None:
                torch.testing.assert_close(getattr(a, name), getattr(b, name), msg=name, atol=1e-5, rtol=1e-5)


def test_resizing_leaves_metres_alone(exact: Windows):
    eye = torch.eye(3).expand(len(exact[0].scale), 3, 3)
    window, truth = transformed(*exact, eye, torch.full((len(eye),), 0.8))
    torch.testing.assert_close(metric(window, window.points), metric(exact[0], exact[0].points))
    torch.testing.assert_close(metric_flow(window), metric_flow(exact[0]))
    slide = exact[1].type == 1
    a, b = (
        t.amount.transpose(1, 2)[slide] * w.scale[:, None].expand(-1, slide.shape[1])[slide][:, None]
        for w, t in ((window, truth), exact)
    )
    torch.testing.assert_close(a, b)


def test_augmentation_is_a_function_of_its_generator(exact: Windows):
    a, b, c = (augment(*exact, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a[0].points, b[0].points)
    assert not torch.equal(a[0].points, c[0].points)
    hand = torch.linalg.det(torch.linalg.lstsq(exact[0].points.flatten(1, 2), a[0].points.flatten(1, 2)).solution)
    assert (hand > 0).any()
    assert (hand < 0).any()
    assert (hand.abs() > 0.9**3 - 1e-3).all()
    assert (hand.abs() < 1.1**3 + 1e-3).all()
