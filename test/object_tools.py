"""Small articulated objects that several test modules write, read and fuse."""

import numpy as np

from art_perception.geometry.lie import exp_so3, from_rotation_translation
from art_perception.types import ArticulatedObject, Joint, JointType, Mesh, Part


def box_mesh(center, size, color=None):
    """Closed box, faces outward, optionally in one colour."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.5
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    colors = None if color is None else np.tile(np.uint8(color), (8, 1))
    return Mesh(corners * size + np.asarray(center, float), faces, colors)


def make_joint(name, parent, child, kind, axis, origin, limits=(-0.5, 1.0)):
    axis = np.asarray(axis, float)
    return Joint(name, parent, child, kind, axis / np.linalg.norm(axis), np.asarray(origin, float), limits)


def make_part(name, center, size, color=(90, 140, 200)):
    mesh = box_mesh(center, size, color)
    return Part(name, mesh, (mesh,))


def tilted_pose():
    return from_rotation_translation(exp_so3(np.array([0.3, -0.5, 2.0])), np.array([1.0, 2, 0.3]))


def chain_object(axis_1=(0, 0, 1), axis_2=(0, 1, 0), T_world_base=None, fixed_frame="world"):
    """A body, a door on it, and a drawer in the door."""
    return ArticulatedObject(
        name="chain",
        fixed_frame=fixed_frame,
        parts=(
            make_part("base", [0, 0, 0.5], [0.5, 0.6, 1.0], (200, 100, 50)),
            make_part("part_1", [0.3, 0, 0.5], [0.04, 0.6, 1.0]),
            make_part("part_2", [0.35, 0.1, 0.5], [0.06, 0.2, 0.1], (0, 255, 0)),
        ),
        joints=(
            make_joint("joint_1", "base", "part_1", JointType.REVOLUTE, axis_1, [0.28, -0.3, 0.5]),
            make_joint("joint_2", "part_1", "part_2", JointType.PRISMATIC, axis_2, [0.35, 0.1, 0.5]),
        ),
        T_world_base=tilted_pose() if T_world_base is None else T_world_base,
    )
