"""Two parts on one hinge line become one when a single path of joint values explains both, and only then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_tools import NOISE_M, Clip, clip_of

from art_perception.data.assembly import SLIDE, TURN, Mover, X, Z, assemble, at
from art_perception.data.model import Material
from art_perception.data.objects import make_object
from art_perception.data.shapes import box
from art_perception.estimation.flow import Tracks
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.parts import Found
from art_perception.estimation.redundant import needed
from art_perception.estimation.unite import in_step, united
from art_perception.pipeline import Config


@pytest.fixture(scope="module")
def door() -> Clip:
    return clip_of(make_object("microwave", 2), 2)


@pytest.fixture(scope="module")
def two_doors() -> Clip:
    """Doors one above the other on one hinge line, which move one after the other."""
    doors = [
        Mover(box((0.3, -0.2, low), (0.32, 0.2, low + 0.24)), TURN, -Z, at(0.31, 0.2, 0), 1.6) for low in (0.0, 0.25)
    ]
    body = box((-0.05, -0.2, 0), (0.28, 0.2, 0.5))
    return clip_of(assemble("cabinet", [body], doors, [Material((0.5, 0.4, 0.3))]), 3, moving=2)


@pytest.fixture(scope="module")
def two_drawers() -> Clip:
    """Drawers one above the other that open together, one 15 and one 17 cm."""
    movers = [
        Mover(box((0.0, -0.2, low), (0.32, 0.2, low + 0.2)), SLIDE, X, at(0.31, 0, low), reach)
        for low, reach in ((0.02, 0.28), (0.26, 0.21))
    ]
    sides = [box((-0.05, y - 0.03, 0), (0.28, y, 0.5)) for y in (-0.21, 0.24)]
    body = [*sides, box((-0.05, -0.24, 0.48), (0.28, 0.24, 0.5))]
    return clip_of(assemble("chest", body, movers, [Material((0.5, 0.4, 0.3))]), 2, moving=2)


def no_tracks(frames: int) -> Tracks:
    return Tracks(np.zeros((0, frames, 3)), np.zeros((0, frames), bool), np.zeros((0, frames, 2)), np.zeros(0), NOISE_M)


def slipped(motion: Motion, frame: int, by: float) -> Motion:
    """The motion with values that are off from a frame on."""
    return replace(motion, q=motion.q - by * motion.q * (np.arange(len(motion.q)) >= frame))


def unite(clip: Clip, labels: np.ndarray, motions: list[Motion]) -> Found | None:
    tracks, config = no_tracks(len(labels)), Config()
    return united(clip.dense, labels, Found(motions, np.zeros(0, int)), tracks, config.joint, config.explain)


def test_two_halves_that_slipped_elsewhere_are_one_door(door: Clip):
    turned = np.abs(door.truth.q) / np.ptp(door.truth.q)
    early, late = (int(np.argmax(turned > share)) for share in (0.4, 0.7))
    columns = np.arange(door.part.shape[2])
    labels = np.where(door.part, np.where(columns % 40 < 20, 1, 2), 0)
    flipped = replace(slipped(door.truth, late, 0.3), axis=-door.truth.axis)
    found = unite(door, labels, [slipped(door.truth, early, 0.4), replace(flipped, q=-flipped.q)])
    assert found is not None
    (one,) = found.motions
    assert one.axis @ door.truth.axis > np.cos(np.deg2rad(1))
    assert np.rad2deg(np.abs(one.q - door.truth.q)).max() < 2


def test_two_doors_on_one_hinge_line_stay_two(two_doors: Clip):
    moved = [np.ptp(motion.q) for motion in two_doors.truths]
    assert min(moved) > 0.3, moved
    assert unite(two_doors, two_doors.labels, two_doors.truths) is None


def test_two_drawers_in_step_stay_two(two_drawers: Clip):
    """Where the motion of one puts the other, the other hides it: no frame contradicts, but hardly any agrees."""
    assert 0.01 < abs(np.diff([np.ptp(motion.q) for motion in two_drawers.truths])[0]) < 0.03
    assert needed(two_drawers.dense, two_drawers.labels, two_drawers.truths, NOISE_M, Config().explain) == [0, 1]
    assert unite(two_drawers, two_drawers.labels, two_drawers.truths) is None


def test_values_that_part_for_a_while_are_in_step_and_a_constant_ratio_is_not(door: Clip):
    """The faces of a lid matched with each other, against doors that open to 77 and 68 deg."""
    turned = np.abs(door.truth.q) / np.ptp(door.truth.q)
    frames = np.flatnonzero(turned > 0.3)
    off = replace(door.truth, q=door.truth.q.copy())
    off.q[frames[: len(frames) // 3]] *= 0.8
    assert in_step(door.truth, off)
    assert not in_step(door.truth, replace(door.truth, q=0.88 * door.truth.q))
    assert not in_step(door.truth, replace(door.truth, q=np.roll(door.truth.q, len(turned) // 2)))


def test_an_offset_from_one_frame_on_is_a_slip_and_going_on_alone_is_not(two_drawers: Clip, door: Clip):
    """A square handle matched with itself a quarter turn on, against a drawer that opens further than its neighbour."""
    turned = np.abs(door.truth.q) / np.ptp(door.truth.q)
    jump = np.pi / 2 * (np.arange(len(turned)) >= np.argmax(turned > 0.5))
    noise = np.random.default_rng(0).normal(0, 0.01, len(turned))
    assert in_step(door.truth, replace(door.truth, q=door.truth.q - jump + noise))
    assert not in_step(*two_drawers.truths)
    slower = replace(door.truth, q=np.minimum(door.truth.q, 0.75 * np.ptp(door.truth.q)))
    assert not in_step(door.truth, slower), "a neighbour that opens less far parts gradually"
