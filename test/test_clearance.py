"""Collision pieces give way: what is cut, and that nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from object_tools import box_mesh, make_joint
from physics_tools import deepest_m

from art_perception.geometry.clearance import ALLOWED_M, below, cleared, with_room
from art_perception.geometry.lie import exp_so3
from art_perception.geometry.mesh import convex_hull, is_watertight, signed_volume
from art_perception.geometry.screw import twist_of_joint
from art_perception.types import ArticulatedObject, JointType, Mesh, Part
from art_perception.urdf.writer import write_urdf


def volume(pieces) -> float:
    return sum(signed_volume(piece) for piece in pieces)


def test_a_cut_box_has_the_volume_below_the_plane_and_stays_convex():
    box = box_mesh([0, 0, 0], [2, 2, 2])
    for share in (0.0, 0.25, 0.9, 1.0):
        cut = below(box, np.array([0, 0, 1.0]), 2 * share - 1)
        assert signed_volume(cut) == pytest.approx(8 * share, abs=1e-9)
    diagonal = below(box, np.ones(3) / 3**0.5, 0.0)
    assert signed_volume(diagonal) == pytest.approx(4)
    assert is_watertight(diagonal)
    assert signed_volume(convex_hull(diagonal)) == pytest.approx(4)


def test_what_does_not_touch_is_left_alone():
    base, lid = box_mesh([0, 0, 0.5], [1, 1, 1]), box_mesh([0, 0, 1.06], [1, 1, 0.1])
    hinge = make_joint("j", "base", "part_1", JointType.REVOLUTE, [0, -1, 0], [-0.5, 0, 1.01], (0, 2.0))
    fixed, free = cleared((base,), (lid,), twist_of_joint(hinge), np.array(hinge.limits))
    assert fixed == (base,)
    assert free == (lid,)


def door_in_frame(thick: float):
    """A cabinet of five boards, and a door that is set into its front and hinged at its middle plane."""
    boards = [
        box_mesh([0, 0, 0.01], [0.4, 0.6, 0.02]),
        box_mesh([0, 0, 0.99], [0.4, 0.6, 0.02]),
        box_mesh([0, 0.29, 0.5], [0.4, 0.02, 1.0]),
        box_mesh([0, -0.29, 0.5], [0.4, 0.02, 1.0]),
        box_mesh([-0.19, 0, 0.5], [0.02, 0.6, 1.0]),
    ]
    door = box_mesh([0.2 - thick / 2, 0, 0.5], [thick, 0.59, 0.99])
    hinge = make_joint("joint_1", "base", "part_1", JointType.REVOLUTE, [0, 0, 1], [0.2 - thick / 2, 0.28, 0.5], (0, 2))
    return boards, door, hinge


def drawer_in_block():
    """A drawer whose bay does not exist."""
    slide = make_joint("joint_1", "base", "part_1", JointType.PRISMATIC, [1, 0, 0], [0.2, 0, 0.5], (0, 0.3))
    return [box_mesh([0, 0, 0.5], [0.4, 0.6, 1.0])], box_mesh([0.06, 0, 0.5], [0.3, 0.4, 0.2]), slide


@pytest.mark.parametrize(("scene", "kept"), [(door_in_frame(0.02), 0.9), (door_in_frame(0.05), 0.8),
                                             (drawer_in_block(), 0.25)])  # fmt: skip
def test_parts_pass_each_other_and_keep_most_of_themselves(scene, kept, tmp_path):
    boards, door, joint = scene
    before = write_urdf(assembled(boards, [door], joint), tmp_path / "before")
    assert deepest_m(before) > 0.005
    fixed, free = cleared(tuple(boards), (door,), twist_of_joint(joint), np.array(joint.limits))
    after = write_urdf(assembled(fixed, free, joint), tmp_path / "after")
    assert deepest_m(after) < ALLOWED_M + 0.0025, "the engine itself adds margins of a millimetre"
    assert volume(fixed) > kept * volume(boards)
    assert volume(free) > kept * volume([door])
    for piece in (*fixed, *free):
        assert signed_volume(convex_hull(piece)) == pytest.approx(signed_volume(piece), rel=1e-6)


def assembled(fixed, free, joint) -> ArticulatedObject:
    whole = [Mesh(np.concatenate([p.vertices for p in pieces]), np.zeros((0, 3), np.int64)) for pieces in (fixed, free)]
    parts = (Part("base", whole[0], tuple(fixed)), Part("part_1", whole[1], tuple(free)))
    return ArticulatedObject("object", "world", parts, (joint,), np.eye(4))


def test_turning_the_whole_scene_turns_the_result():
    R = exp_so3(np.array([0.3, -0.5, 1.2]))
    boards, door, joint = door_in_frame(0.04)
    limits = np.array(joint.limits)
    fixed, free = cleared(tuple(boards), (door,), twist_of_joint(joint), limits)
    turned = [Mesh(m.vertices @ R.T, m.faces) for m in (*boards, door)]
    twist = twist_of_joint(joint).reshape(2, 3) @ R.T
    again = cleared(tuple(turned[:-1]), (turned[-1],), twist.ravel(), limits)
    assert volume(again[0]) == pytest.approx(volume(fixed), rel=0.01)
    assert volume(again[1]) == pytest.approx(volume(free), rel=0.01)


def test_a_part_clears_the_one_it_hangs_on(tmp_path):
    """A drawer in a door in a frame: the drawer's slide is the door's business."""
    boards, door, hinge = door_in_frame(0.05)
    slide = make_joint("joint_2", "part_1", "part_2", JointType.PRISMATIC, [0, -1, 0], [0.175, 0, 0.5], (0, 0.2))
    parts = (
        Part("base", boards[0], tuple(boards)),
        Part("part_1", door, (door,)),
        Part("part_2", box_mesh([0.175, 0, 0.5], [0.03, 0.2, 0.2])),
    )
    parts = (*parts[:2], replace(parts[2], collision=(parts[2].visual,)))
    roomy = with_room(parts, (hinge, slide))
    assert volume(roomy[0].collision) + volume(roomy[1].collision) < volume(boards) + volume([door])
    assert [part.visual for part in roomy] == [part.visual for part in parts]
    child = Part("base", door, roomy[1].collision), Part("part_1", door, roomy[2].collision)
    alone = replace(slide, parent="base", child="part_1", name="joint_1")
    path = write_urdf(ArticulatedObject("pair", "world", child, (alone,), np.eye(4)), tmp_path)
    assert deepest_m(path) < ALLOWED_M + 0.0025
