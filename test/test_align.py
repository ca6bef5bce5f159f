"""Registration of a part's depth along its joint: what faces different ways does not match."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from art_perception.data.motion import look_at
from art_perception.data.raycast import cast, make_body
from art_perception.data.shapes import box
from art_perception.estimation.align import Evidence, gather, refine
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.joint_fit import Motion
from art_perception.pipeline import Config
from art_perception.types import JointType, RgbdFrame, Window

FRAMES, THICK_M = 20, 0.05
K = np.array([[280.0, 0, 159.5], [0, 280, 119.5], [0, 0, 1]])
TRUTH = Motion(JointType.REVOLUTE, np.array([0.0, 0, -1]), np.array([0.3, -0.25, 0]), np.linspace(0, 1.5, FRAMES))
NOISE_M = 0.002


@pytest.fixture(scope="module")
def slab() -> tuple[DenseWindow, np.ndarray]:
    """A thick door whose inner face shows at first, then its outer one; and which pixels are its own."""
    body = box((-0.2, -0.25, 0), (0.28, 0.25, 0.5))
    door = box((0.3, -0.25, 0), (0.3 + THICK_M, 0.25, 0.5))
    bodies = (make_body(body, np.zeros(len(body.faces))), make_body(door, np.ones(len(door.faces))))
    (camera,) = look_at(np.array([[1.3, 0.8, 0.8]]), np.array([[0.3, -0.05, 0.25]]), np.zeros(1))
    frames, own = [], []
    for t, D in enumerate(TRUTH.displacement(TRUTH.q)):
        hits = cast(bodies, np.stack([np.eye(4), D]), camera, K, (240, 320))
        color = np.full((240, 320, 3), 128, np.uint8)
        frames.append(RgbdFrame(t * 66_000_000, color, hits.depth_m, K, camera, hits.body >= 0))
        own.append(hits.body == 1)
    dense = densify(Window(tuple(frames)), 320)
    return dense, np.stack(own).astype(np.uint8)


def evidence(slab: tuple[DenseWindow, np.ndarray]) -> Evidence:
    nobody = np.zeros((0, FRAMES))
    still = np.broadcast_to(np.eye(4), (FRAMES, 4, 4))
    return gather(*slab, 1, still, nobody[..., None] * np.zeros(3), nobody, NOISE_M, Config().joint)


def flipped_at(slab: tuple[DenseWindow, np.ndarray]) -> int:
    """First frame that shows the outer face: the normals of what is visible turn by more than a right angle."""
    dense, own = slab
    mean = np.stack([dense.normals[t][own[t] == 1].mean(0) for t in range(FRAMES)])
    outside = mean @ dense.T_world_camera[0, :3, :3].T
    at_rest = np.einsum("tij,tj->ti", TRUTH.rotation(-TRUTH.q), outside)
    return int(np.argmax(at_rest @ at_rest[0] < 0))


@pytest.mark.parametrize("slip", [0.1, 0.16, -0.16])
def test_the_two_faces_of_a_door_stay_its_thickness_apart(slab, slip):
    flip = flipped_at(slab)
    assert 3 < flip < FRAMES - 3
    # at 0.16 the outer face comes to lie where the inner one is
    slipped = replace(TRUTH, q=TRUTH.q - slip * (np.arange(FRAMES) >= flip))
    motion = refine(*slab, 1, evidence(slab), slipped, Config().joint).motion
    assert np.rad2deg(np.abs(motion.q - TRUTH.q)).max() < 1
    assert np.rad2deg(np.arccos(min(1, motion.axis @ TRUTH.axis))) < 0.5


def test_a_true_start_stays_where_it_is(slab):
    motion = refine(*slab, 1, evidence(slab), TRUTH, Config().joint).motion
    assert np.rad2deg(np.abs(motion.q - TRUTH.q)).max() < 0.5
    across = np.cross(motion.origin - TRUTH.origin, TRUTH.axis)
    assert np.linalg.norm(across) < 0.003


def test_a_part_of_which_nothing_is_labelled_stays_where_it_is(slab):
    dense, labels = slab
    nothing = np.zeros_like(labels)
    motion = refine(dense, nothing, 1, evidence((dense, nothing)), TRUTH, Config().joint).motion
    np.testing.assert_allclose(motion.q, TRUTH.q, atol=1e-9)
