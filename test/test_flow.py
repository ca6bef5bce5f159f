"""Optical flow follows a small knob that turns in place, however faint its texture and whatever the light does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from art_perception.estimation.dense import densify
from art_perception.estimation.flow import DIS, FlowConfig, optical_flow
from art_perception.types import RgbdFrame, Window

WIDTH, HEIGHT, RADIUS = 640, 480, 36
TURN_RAD = np.radians(8.0)
SPOT_PX = 2.5
K = np.array([[600.0, 0, WIDTH / 2], [0, 600, HEIGHT / 2], [0, 0, 1]])


def spots(rng: np.random.Generator, contrast: float) -> np.ndarray:
    """Random brightness around 1, spots of several px at the size flow is computed at."""
    rough = cv2.GaussianBlur(rng.normal(0, 1, (2 * WIDTH, 2 * WIDTH)).astype(np.float32), (0, 0), SPOT_PX)
    return 1 + contrast * rough / rough.std()


def picture(texture: np.ndarray, turn: float, light: float, rng: np.random.Generator) -> np.ndarray:
    """A knob turned by ``turn`` in front of a plain wall, with sensor noise."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32) - np.array([[[HEIGHT / 2]], [[WIDTH / 2]]], np.float32)
    x, y = np.cos(turn) * u + np.sin(turn) * v + WIDTH, -np.sin(turn) * u + np.cos(turn) * v + WIDTH
    disc = 120 * cv2.remap(texture, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    gray = np.where(np.hypot(u, v) < RADIUS, disc, 90) * light + rng.normal(0, 2, u.shape)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize(("contrast", "light"), [(0.2, 1.0), (0.06, 1.0), (0.04, 1.0), (0.06, 1.3)])
def test_a_turning_knob_is_followed(contrast: float, light: float):
    rng = np.random.default_rng(3)
    texture = spots(rng, contrast)
    depth = np.ones((HEIGHT, WIDTH), np.float32)
    colors = [picture(texture, 0.0, 1.0, rng), picture(texture, TURN_RAD, light, rng)]
    frames = tuple(RgbdFrame(t * 10**8, color, depth, K, np.eye(4)) for t, color in enumerate(colors))
    dense = densify(Window(frames), FlowConfig().width)
    flow = optical_flow(dense, DIS).forward[0]
    height, width = flow.shape[:2]
    v, u = np.mgrid[:height, :width] - np.array([[[height / 2]], [[width / 2]]])
    inside = np.hypot(u, v) < 0.4 * RADIUS  # half the size, away from the rim
    x, y = u[inside], v[inside]
    turn = float((x * flow[inside, 1] - y * flow[inside, 0]).sum() / (x * x + y * y).sum())
    assert turn == pytest.approx(TURN_RAD, rel=0.2)
