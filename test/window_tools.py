"""Objects, scenarios and windows of the training code, small and exact, that several test modules use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from art_perception.data.assembly import SLIDE, TURN, Mover, X, Y, Z, assemble, at
from art_perception.data.bank import Bank, make_bank
from art_perception.data.model import Material, SimObject
from art_perception.data.scenario import Scenario, draw_scenario
from art_perception.data.shapes import box
from art_perception.data.windows import EXTRAS, WindowsConfig, render_windows
from art_perception.types import PointWindow, WindowTruth

GREY = Material((0.5, 0.5, 0.5))


def chest() -> SimObject:
    """A solid block with a door on one side, a tray in the door, and a drawer front on the other side."""
    door = Mover(box((0.31, -0.2, 0.05), (0.33, 0.2, 0.35)), TURN, Z, at(0.32, -0.2, 0), 1.6)
    tray = Mover(box((0.33, -0.1, 0.15), (0.37, 0.1, 0.25)), SLIDE, X, at(0.33, 0, 0.2), 0.2, parent=0)
    drawer = Mover(box((-0.5, -0.15, 0.1), (-0.31, 0.15, 0.3)), SLIDE, -X, at(-0.31, 0, 0.2), 0.3)
    return assemble("chest", [box((-0.3, -0.25, 0), (0.3, 0.25, 0.4))], [door, tray, drawer], [GREY])


def locker() -> SimObject:
    """A shelf whose tray can come out only when the door before it is open."""
    door = Mover(box((0.3, -0.2, 0), (0.32, 0.2, 0.4)), TURN, -Z, at(0.31, 0.2, 0), 1.7)
    tray = Mover(box((0, -0.15, 0.1), (0.28, 0.15, 0.13)), SLIDE, X, at(0, 0, 0.1), 0.25, behind=0)
    return assemble("locker", [box((-0.05, -0.2, 0), (-0.02, 0.2, 0.4))], [door, tray], [GREY])


def crate() -> SimObject:
    """An open tub with thin walls and a lid on edge: most of its surface is hidden from any one side."""
    walls = [
        box((-0.2, -0.3, 0), (0.2, 0.3, 0.02)),
        box((-0.2, -0.3, 0.02), (-0.18, 0.3, 0.3)),
        box((0.18, -0.3, 0.02), (0.2, 0.3, 0.3)),
        box((-0.18, -0.3, 0.02), (0.18, -0.28, 0.3)),
        box((-0.18, 0.28, 0.02), (0.18, 0.3, 0.3)),
    ]
    lid = Mover(box((-0.2, -0.3, 0.3), (0.2, 0.3, 0.32)), TURN, -Y, at(-0.2, 0, 0.31), 2.0)
    return assemble("crate", walls, [lid], [GREY])


def bank_of(*objects: SimObject) -> Bank:
    return make_bank([("procedural", obj) for obj in objects])


def scenarios(bank: Bank, count: int, frames: int = 8, seed: int = 0) -> list[Scenario]:
    """Scenarios of all objects in turn."""
    rng = np.random.default_rng(seed)
    return [draw_scenario(bank, i % len(bank.names), frames, EXTRAS, rng) for i in range(count)]


def exact_poses(scenario: Scenario) -> Scenario:
    """The same scenario with camera poses reported without error."""
    return replace(scenario, T_reported=scenario.T_camera)


def render(
    bank: Bank, drawn: list[Scenario], points: int = 256, noise: float = 0.0, seed: int = 0
) -> tuple[PointWindow, WindowTruth]:
    config = WindowsConfig(frames=len(drawn[0].D), points=points, noise=noise)
    return render_windows(bank, drawn, config, torch.Generator().manual_seed(seed))


def metric(window: PointWindow, points: torch.Tensor) -> torch.Tensor:
    """Points (B, ..., 3) of a window in metres, first camera's frame."""
    shape = (-1, *[1] * (points.ndim - 1))
    return points * window.scale.view(shape) + window.center.view(shape[0], *[1] * (points.ndim - 2), 3)


def metric_flow(window: PointWindow) -> torch.Tensor:
    """Flow (B, T, N, 3) of a window in metres."""
    return window.flow * (window.flow_scale * window.scale)[:, None, None, None]
