"""A thin part's joint comes from where its points are: the bail of a bucket, of which there are neither flow nor normals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_tools import NOISE_M, Clip, clip_of

from art_perception.data.assembly import TURN, Mover, X, Y, assemble, at, turned
from art_perception.data.model import Material
from art_perception.data.objects import make_object
from art_perception.data.shapes import cylinder, torus
from art_perception.estimation.planes import plane_joints
from art_perception.estimation.threads import is_thin, threads
from art_perception.geometry.lie import exp_so3, transform
from art_perception.geometry.screw import line_distance
from art_perception.pipeline import Config


@pytest.fixture(scope="module")
def bucket() -> Clip:
    bail = turned(torus(0.14, 0.004), X, 0.2)
    movers = [Mover(bail, TURN, Y, at(0, 0, 0.2), 1.5)]
    return clip_of(assemble("bucket", [cylinder(0.1, 0.2)], movers, [Material((0.5, 0.4, 0.3))]), 1)


def test_a_bail_is_thin_and_a_door_is_not(bucket: Clip):
    door = clip_of(make_object("microwave", 2), 2)
    assert is_thin(bucket.dense, bucket.part)
    assert not is_thin(door.dense, door.part)


def test_a_rough_joint_becomes_the_true_one(bucket: Clip):
    truth = bucket.truth
    rough = replace(truth, axis=exp_so3(np.deg2rad([6, 6, 6])) @ truth.axis, origin=truth.origin + 0.01, q=0.9 * truth.q)
    found, tracks, weights = threads(
        bucket.dense, bucket.part, rough, bucket.dense.T_world_camera, NOISE_M, Config().joint
    )
    assert np.ptp(truth.q) > 0.3
    assert found.axis @ truth.axis > np.cos(np.deg2rad(1))
    assert line_distance(found.origin, truth.origin, truth.axis) < 0.005
    assert np.rad2deg(np.abs(found.q - truth.q)).max() < 2
    assert tracks.shape[:2] == weights.shape
    assert (weights > 0).mean() > 0.5


def test_planes_that_turn_propose_its_joint(bucket: Clip):
    frames, rows, columns = np.nonzero(bucket.part)
    local = bucket.dense.points[frames, rows, columns].astype(float)
    points = np.concatenate(
        [transform(T, local[frames == t]) for t, T in enumerate(bucket.dense.T_world_camera)]
    )
    proposed = plane_joints(points, frames, len(bucket.part), np.random.default_rng(0))
    assert max(abs(motion.axis @ bucket.truth.axis) for motion in proposed) > np.cos(np.deg2rad(3))
