"""A rough proposal becomes the true joint on the pixels of its part, with values in every frame."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from clip_tools import NOISE_M, Clip, clip_of

from art_perception.data.objects import make_object
from art_perception.estimation.dense import densify
from art_perception.estimation.flow import FlowConfig, Tracks, optical_flow, track_points
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.parts import Hint, PartSearch
from art_perception.estimation.sharpen import Region, sharpen
from art_perception.estimation.values import _path
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.screw import line_distance
from art_perception.pipeline import Config
from art_perception.types import JointType


@pytest.fixture(scope="module")
def door() -> Clip:
    return clip_of(make_object("microwave", 2), 2)


@pytest.fixture(scope="module")
def drawer() -> Clip:
    return clip_of(make_object("drawer_table", 1), 1)


def rough(truth: Motion, tilt_deg: float, shift_m: float, share: float) -> Motion:
    """The true joint with its axis turned and shifted and a share of its motion missing."""
    across = np.cross(truth.axis, [0.3, -0.5, 0.8])
    across /= np.linalg.norm(across)
    axis = exp_so3(np.deg2rad(tilt_deg) * across) @ truth.axis
    return replace(truth, axis=axis, origin=truth.origin + shift_m * across, q=(1 - share) * truth.q)


def region(clip: Clip, frames: np.ndarray) -> Region:
    return Region(frames, clip.part[frames])


def sharpened(clip: Clip, start: Motion, frames: np.ndarray) -> Motion:
    still = np.broadcast_to(np.eye(4), (len(clip.part), 4, 4))
    config = Config().joint
    motion = sharpen(clip.dense, clip.still, clip.changed, region(clip, frames), start, still, NOISE_M, config)
    assert motion is not None
    return motion


def axis_deg(motion: Motion, truth: Motion) -> float:
    return float(np.rad2deg(np.arccos(min(1, abs(motion.axis @ truth.axis)))))


@pytest.mark.parametrize("frames", [np.arange(0, 24, 2), np.arange(10)], ids=["every second", "the first ten"])
def test_a_door_from_a_rough_axis(door: Clip, frames: np.ndarray):
    motion = sharpened(door, rough(door.truth, 15, 0.03, 0.4), frames)
    assert axis_deg(motion, door.truth) < 1.5
    assert line_distance(motion.origin, door.truth.origin, door.truth.axis) < 0.01
    sign = np.sign(motion.axis @ door.truth.axis)
    assert np.rad2deg(np.abs(sign * motion.q - door.truth.q)).mean() < 3
    assert len(motion.q) == 24
    assert motion.q[0] == 0


def test_a_drawer_from_a_rough_axis(drawer: Clip):
    motion = sharpened(drawer, rough(drawer.truth, 12, 0, 0.4), np.arange(0, 24, 3))
    assert axis_deg(motion, drawer.truth) < 3
    sign = np.sign(motion.axis @ drawer.truth.axis)
    assert np.abs(sign * motion.q - drawer.truth.q).mean() < 0.015


def test_a_region_of_a_few_pixels_says_nothing(door: Clip):
    few = Region(np.arange(4), np.zeros((4, *door.part.shape[1:]), bool))
    still = np.broadcast_to(np.eye(4), (len(door.part), 4, 4))
    assert sharpen(door.dense, door.still, door.changed, few, door.truth, still, NOISE_M, Config().joint) is None


def test_the_path_is_the_cheapest_of_all():
    cost = np.random.default_rng(1).random((4, 5))

    def price(path: tuple[int, ...]) -> float:
        return sum(cost[t, g] for t, g in enumerate(path)) + 0.1 * np.abs(np.diff(path)).sum()

    assert tuple(_path(cost, 0.1)) == min(product(range(5), repeat=4), key=price)
    np.testing.assert_array_equal(_path(cost, 0.0), cost.argmin(1))
    np.testing.assert_array_equal(_path(cost, 100.0), np.full(4, cost.sum(0).argmin()))


def search_in(clip: Clip, tracks: Tracks) -> PartSearch:
    c = Config()
    return PartSearch(densify(clip.window, c.flow.width), tracks, c.segment, c.joint, c.label, c.explain)


def searched(clip: Clip, hints: list[Hint], tracks: Tracks) -> list[Motion]:
    return search_in(clip, tracks).run(hints).motions


@pytest.fixture(scope="module")
def tracks(door: Clip) -> Tracks:
    dense = densify(door.window, FlowConfig().width)
    return track_points(dense, optical_flow(dense, FlowConfig().model), FlowConfig())


def test_a_hint_with_a_wrong_axis_is_found_by_its_pixels(door: Clip, tracks: Tracks):
    start = replace(rough(door.truth, 20, 0.04, 0.5), source="network")
    frames = np.arange(0, 24, 2)
    found = searched(door, [Hint(start, np.zeros(len(tracks.points), bool), region(door, frames), 0.8)], tracks)
    assert found[0].source == "network"
    assert axis_deg(found[0], door.truth) < 1.5


def test_hints_that_come_to_nothing_do_not_end_the_search(door: Clip, tracks: Tracks):
    wild = Motion(
        JointType.PRISMATIC, np.array([0.0, 0.0, 1.0]), np.zeros(3), np.linspace(0, 0.4, 24), source="network"
    )
    nowhere = Region(np.arange(3), np.zeros((3, *door.part.shape[1:]), bool))
    hint = Hint(wild, np.zeros(len(tracks.points), bool), nowhere, 0.9)
    found = searched(door, [hint] * 4, tracks)
    assert found[0].source != "network"
    assert axis_deg(found[0], door.truth) < 5


def test_what_a_found_door_explains_is_no_news(door: Clip, tracks: Tracks):
    search = search_in(door, tracks)
    D = door.truth.displacement(door.truth.q)
    assert search._is_news(D, sure=0.1)
    assert len(search.run().motions) == 1
    assert not search._is_news(D, sure=1.0)
