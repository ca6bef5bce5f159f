"""A thin part's joint comes from where its points are: the bail of a bucket has neither flow nor normals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_tools import NOISE_M, Clip, clip_of

from art_perception.data.assembly import TURN, Mover, X, Y, assemble, at, turned
from art_perception.data.model import Material
from art_perception.data.objects import make_object
from art_perception.data.shapes import cylinder, torus
from art_perception.estimation.dense import densify
from art_perception.estimation.explain import ExplainConfig, explain, surface_of
from art_perception.estimation.flow import optical_flow, track_points
from art_perception.estimation.parts import PartSearch
from art_perception.estimation.threads import SLIM, agreement, thinness, threads
from art_perception.estimation.values import values_of
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.screw import line_distance
from art_perception.pipeline import Config


@pytest.fixture(scope="module", params=[1, 2])
def bucket(request: pytest.FixtureRequest) -> Clip:
    return bail(request.param)


def bail(seed: int) -> Clip:
    """A bail of 4 mm, two pixels wide (one with seed 3), that turns by 45 or 80 deg."""
    movers = [Mover(turned(torus(0.14, 0.002), X, 0.2), TURN, Y, at(0, 0, 0.2), 1.5)]
    return clip_of(assemble("bucket", [cylinder(0.1, 0.2)], movers, [Material((0.5, 0.4, 0.3))]), seed)


def clouds_of(clip: Clip) -> list[np.ndarray]:
    return clip.dense.clouds(clip.part, clip.dense.T_world_camera)


def test_a_bail_is_thin_and_a_door_is_not(bucket: Clip):
    door = clip_of(make_object("microwave", 2), 2)
    assert thinness(bucket.dense, bucket.part) > SLIM > 2 * thinness(door.dense, door.part)


def test_a_rough_joint_becomes_the_true_one(bucket: Clip):
    truth, clouds = bucket.truth, clouds_of(bucket)
    axis = exp_so3(np.deg2rad([6, 6, 6])) @ truth.axis
    rough = replace(truth, axis=axis, origin=truth.origin + 0.01, q=0.9 * truth.q)
    found, tracks, weights = threads(clouds, rough, NOISE_M)
    assert np.ptp(truth.q) > 0.7
    assert found.axis @ truth.axis > np.cos(np.deg2rad(1))
    assert line_distance(found.origin, truth.origin, truth.axis) < 0.006
    assert np.rad2deg(np.abs(found.q - truth.q)).max() < 1.5
    assert tracks.shape[:2] == weights.shape
    assert agreement(clouds, found) > 1.3 * agreement(clouds, replace(truth, q=0.8 * truth.q))


def test_a_joint_that_comes_nearer_by_little_steps_arrives():
    """Looked-up places hold a thread back along itself: 30 plain steps leave this axis 2 deg off."""
    clip = bail(3)
    rough = replace(clip.truth, axis=exp_so3(np.deg2rad([6, 6, 6])) @ clip.truth.axis, q=0.9 * clip.truth.q)
    assert threads(clouds_of(clip), rough, NOISE_M)[0].axis @ clip.truth.axis > np.cos(np.deg2rad(1))


def test_with_the_axis_known_its_values_are_found(bucket: Clip):
    clouds = clouds_of(bucket)
    frames = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds])
    q = values_of(np.concatenate(clouds), frames, bucket.truth, len(clouds))
    assert np.rad2deg(np.abs(q - bucket.truth.q)).max() < 4


def test_a_wire_beside_the_rounded_pixel_is_seen(bucket: Clip):
    """The true motion explains a wire, although a pixel's error puts much of it beside itself."""
    dense, test = bucket.dense, ExplainConfig()
    surface = surface_of(dense, NOISE_M, np.arange(len(bucket.part)))
    part = bucket.part.reshape(len(bucket.part), -1)[surface.frame, surface.pixel]
    own = surface.subset(part & surface.wire)
    assert len(own.frame) > 0.2 * part.sum()
    D = bucket.truth.displacement(bucket.truth.q)
    explained = explain(dense, own, D, test).refuted <= test.max_refuted
    rounded = explain(dense, replace(own, wire=np.zeros_like(own.wire)), D, test).refuted <= test.max_refuted
    assert explained.mean() > 1.3 * rounded.mean()


def bail_errors(seed: int) -> tuple[float, float]:
    """Axis errors in degrees of a bail that is registered, and of one that may go by its points."""
    mover = Mover(turned(torus(0.14, 0.006), X, 0.2), TURN, Y, at(0, 0, 0.2), 1.5)
    clip = clip_of(assemble("bucket", [cylinder(0.1, 0.2)], [mover], [Material((0.5, 0.4, 0.3))]), seed)
    c, dense, truth = Config(), densify(clip.window, 320), clip.truth
    tracks = track_points(dense, optical_flow(dense, c.flow.model), c.flow)
    search = PartSearch(dense, tracks, c.segment, c.joint, c.label, c.explain)
    axis = exp_so3(np.deg2rad([1.2, 1.2, 1.2])) @ truth.axis
    rough = replace(truth, axis=axis, origin=truth.origin + 0.02, q=0.8 * truth.q)
    nobody = np.zeros(len(tracks.points), bool)
    registered, refined = (f(rough, nobody)[0].motion for f in (search._registered, search._refined))
    assert search._gain(refined) >= search._gain(registered)
    registered_deg, refined_deg = (np.rad2deg(np.arccos(m.axis @ truth.axis)) for m in (registered, refined))
    return registered_deg, refined_deg


def test_a_slender_part_goes_by_its_points_where_that_explains_more():
    """A bail of 12 mm has normals, but the bucket behind it draws its registration off.

    Which of two clips shows it is a matter of the processor's rounding.
    """
    assert any(refined < 0.7 < registered for registered, refined in map(bail_errors, (1, 2)))
