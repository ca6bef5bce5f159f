"""Two doors that open in step are told apart, and one door is never two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_tools import NOISE_M, Clip, clip_of

from art_perception.data.assembly import TURN, Mover, Z, assemble, at
from art_perception.data.model import Material
from art_perception.data.objects import make_object
from art_perception.data.shapes import box
from art_perception.estimation.align import JointConfig, gather, refine
from art_perception.estimation.divide import divided
from art_perception.estimation.joint_fit import Motion
from art_perception.geometry.screw import line_distance


@pytest.fixture(scope="module")
def doors() -> Clip:
    """Two doors one above the other on one hinge line, that open in step by 71 and 54 deg."""
    leaves = [
        Mover(box((-0.2, -0.17, low), (0.2, -0.15, low + 0.28)), TURN, -Z, at(-0.2, -0.15, low), 1.6)
        for low in (0, 0.3)
    ]
    body = box((-0.21, -0.14, 0.0), (0.21, 0.14, 0.6))
    clip = clip_of(assemble("cabinet", [body], leaves, [Material((0.6, 0.5, 0.4))]), 80, moving=2)
    assert np.corrcoef(clip.truths[0].q, clip.truths[1].q)[0, 1] > 0.9
    return clip


def fitted(clip: Clip, labels: np.ndarray, start: Motion) -> Motion:
    """One joint for everything that moves."""
    still, nothing = np.tile(np.eye(4), (len(labels), 1, 1)), np.zeros((0, len(labels)))
    evidence = gather(clip.dense, labels, 1, still, nothing[..., None][..., [0, 0, 0]], nothing, NOISE_M, JointConfig())
    return refine(clip.dense, labels, 1, evidence, start, JointConfig()).motion


def test_a_compromise_between_two_doors_becomes_their_motions(doors: Clip):
    one, other = doors.truths
    moving = ((doors.labels > 0) & doors.dense.usable).astype(np.uint8)
    between = replace(one, origin=(one.origin + other.origin) / 2, q=(one.q + other.q) / 2)
    found = divided(doors.dense, moving, [fitted(doors, moving, between)], NOISE_M, JointConfig())
    assert found is not None
    for truth in (one, other):
        nearest = min(found, key=lambda motion: abs(np.ptp(motion.q) - np.ptp(truth.q)))
        assert abs(nearest.axis @ truth.axis) > np.cos(np.deg2rad(3))
        assert line_distance(nearest.origin, truth.origin, truth.axis) < 0.02
        assert np.ptp(nearest.q) == pytest.approx(np.ptp(truth.q), rel=0.06)


@pytest.mark.parametrize("category", ["microwave", "drawer_table", "laptop"])
def test_a_single_part_is_never_two(category: str):
    clip = clip_of(make_object(category, 2), 2)
    labels = clip.part.astype(np.uint8)
    motion = fitted(clip, labels, clip.truth)
    assert divided(clip.dense, labels, [motion], NOISE_M, JointConfig()) is None


def test_of_a_few_pixels_nothing_is_said(doors: Clip):
    labels = np.zeros(doors.labels.shape, np.uint8)
    labels[:, 40, 40:50] = 1
    assert divided(doors.dense, labels, [doors.truth], NOISE_M, JointConfig()) is None
