"""Samples of the shape prior: which joints, in which frame, from which rest state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shape_tools import slabs

from art_perception.data.categories import CATEGORIES, MAX_PARTS, NAMES, rest_state, samples_of
from art_perception.data.model import SimObject, Surface
from art_perception.data.objects import make_object
from art_perception.geometry.lie import exp_se3, exp_so3, transform
from art_perception.types import JointType

MADE = ("laptop", "eyeglasses", "dishwasher", "scissors", "drawer_table", "box", "microwave", "fridge", "cabinet")


def turned(obj: SimObject, angle: float) -> SimObject:
    """The same object standing the other way round."""
    R = exp_so3(np.array([0, 0, angle]))
    parts = tuple(replace(p, vertices=p.vertices @ R.T) for p in obj.parts)
    joints = tuple(replace(j, axis=R @ j.axis, origin=R @ j.origin) for j in obj.joints)
    return replace(obj, parts=parts, joints=joints)


def test_every_category_has_samples_and_they_are_canonical():
    found = {
        s.category for maker in MADE for seed in (0, 1, 2) for s in samples_of(make_object(maker, seed), "procedural")
    }
    assert {NAMES[i] for i in found} == set(CATEGORIES)
    for maker in MADE:
        for sample in samples_of(make_object(maker, 3), "procedural"):
            points = np.concatenate([p.vertices for p in sample.parts])
            low, high = points.min(0), points.max(0)
            assert np.linalg.norm(high - low) == pytest.approx(1)
            np.testing.assert_allclose(low + high, 0, atol=1e-9)
            assert len(sample.parts) == CATEGORIES[NAMES[sample.category]].movers + 1 <= MAX_PARTS
            assert (sample.limits[:, 0] == 0).all()
            assert (sample.limits[:, 1] > 0).all()


def test_positive_values_open():
    """Every lid rises, every drawer and door comes forward."""
    for maker, axis in (("laptop", 2), ("drawer_table", 0), ("microwave", 0), ("dishwasher", 0), ("fridge", 0)):
        for sample in samples_of(make_object(maker, 5), "procedural"):
            moving = sample.parts[1].vertices
            D = exp_se3(sample.twists[0] * 0.5 * sample.limits[0, 1])
            assert transform(D, moving)[:, axis].max() > moving[:, axis].max() + 0.05


def test_one_sample_per_joint_and_the_rest_is_base():
    obj = make_object("cabinet", 11)
    samples = samples_of(obj, "procedural")
    blocked = {k for k, _ in obj.blockers}
    drawers = [j for k, j in enumerate(obj.joints) if j.type is JointType.PRISMATIC and k not in blocked]
    assert sum(NAMES[s.category] == "drawer" for s in samples) == len(drawers)
    faces = sum(len(p.faces) for p in obj.parts)
    assert all(sum(len(p.faces) for p in s.parts) == faces for s in samples)
    assert len({s.name for s in samples}) == len(samples)


def test_metres_per_unit_and_joints_agree_with_the_object():
    obj = slabs()
    (sample,) = samples_of(obj, "procedural")
    assert sample.size_m == pytest.approx(np.linalg.norm([0.3, 0.4, 0.09]))
    low, high = obj.bounds
    np.testing.assert_allclose(sample.origin[0] * sample.size_m + (low + high) / 2, obj.joints[0].origin)
    np.testing.assert_allclose(sample.axis[0], obj.joints[0].axis)


def test_rest_is_shut_wherever_the_file_has_its_zero():
    obj = slabs()
    joint = replace(obj.joints[0], limits=(-1.2, 0.8))
    lid = replace(obj.parts[1], vertices=transform(exp_se3(samples_twist(obj) * 1.2), obj.parts[1].vertices))
    half_open = replace(obj, parts=(obj.parts[0], lid), joints=(joint,))
    (a,), (b,) = samples_of(obj, "procedural"), samples_of(half_open, "procedural")
    np.testing.assert_allclose(a.parts[1].vertices, b.parts[1].vertices, atol=1e-9)
    np.testing.assert_allclose(a.limits, b.limits)
    assert rest_state(replace(joint, type=JointType.PRISMATIC)) == 0


def samples_twist(obj: SimObject) -> np.ndarray:
    return obj.chain.twists[0]


def test_partnet_faces_the_other_way():
    obj = make_object("microwave", 1)
    (a,), (b,) = samples_of(obj, "infinigen"), samples_of(turned(obj, np.pi), "partnet")
    np.testing.assert_allclose(a.parts[1].vertices, b.parts[1].vertices, atol=1e-9)
    assert not samples_of(turned(obj, np.pi), "procedural"), "a door at the back is not a sample"


def test_eyeglasses_have_their_temples_in_order():
    obj = make_object("eyeglasses", 2)
    (a,) = samples_of(obj, "procedural")
    swapped = replace(obj, joints=(replace(obj.joints[1], child="part_1"), replace(obj.joints[0], child="part_2")),
                      parts=(obj.parts[0], obj.parts[2], obj.parts[1]))  # fmt: skip
    (b,) = samples_of(swapped, "procedural")
    np.testing.assert_allclose(a.axis, b.axis)
    assert a.origin[0, 1] < a.origin[1, 1]


def test_what_fits_no_category_gives_nothing():
    assert samples_of(make_object("fan", 0), "procedural") == []
    bare = replace(
        slabs(), joints=(), parts=(Surface(*(getattr(slabs().parts[0], n) for n in ("vertices", "faces", "material"))),)
    )
    assert samples_of(bare, "procedural") == []
