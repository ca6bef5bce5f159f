"""Screw axes of one-degree-of-freedom joints (Lynch & Park, "Modern Robotics", section 3.3.2).

A unit twist ``[v, w]`` in the fixed frame is all a joint needs: revolute about ``axis`` through ``origin`` is
``[origin x axis, axis]``, prismatic along ``axis`` is ``[axis, 0]``.
"""

from __future__ import annotations

import numpy as np

from art_perception.geometry.lie import log_se3
from art_perception.types import Joint, JointType

_PARALLEL = np.cos(np.deg2rad(10))  # estimates are rough: lines within 10 deg and this distance are taken as one
_ONE_LINE_M = 0.05


def twist_of(joint_type: JointType, axis: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the unit twist (6,) of a joint; zero for a fixed one."""
    if joint_type is JointType.REVOLUTE:
        return np.concatenate([np.cross(origin, axis), axis])
    if joint_type is JointType.PRISMATIC:
        return np.concatenate([axis, np.zeros(3)])
    return np.zeros(6)


def twist_of_joint(joint: Joint) -> np.ndarray:
    """Return the unit twist (6,) of ``joint`` in the fixed frame."""
    return twist_of(joint.type, np.asarray(joint.axis, float), np.asarray(joint.origin, float))


def axis_point(twist: np.ndarray) -> np.ndarray:
    """Point of the screw axis nearest to the frame's origin: ``w x v / |w|^2`` for ``[v, w]`` (..., 6) -> (..., 3)."""
    v, w = twist[..., :3], twist[..., 3:]
    return np.cross(w, v) / np.maximum((w * w).sum(-1, keepdims=True), 1e-12)


def screw_of_transform(T: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Decompose a displacement (4, 4) into axis (3,), point on it (3,), angle (rad) and slide along it (m): Chasles."""
    xi = log_se3(T)
    v, w = xi[:3], xi[3:]
    angle = float(np.linalg.norm(w))
    if angle < 1e-9:
        slide = float(np.linalg.norm(v))
        return (v / slide if slide > 0 else np.array([0.0, 0.0, 1.0])), np.zeros(3), 0.0, slide
    axis = w / angle
    return axis, axis_point(xi), angle, float(v @ axis)


def line_distance(point: np.ndarray, origin: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Distance of points (..., 3) to the line through ``origin`` along unit ``axis``."""
    d = point - origin
    return np.linalg.norm(d - (d @ axis)[..., None] * axis, axis=-1)


def closest_on_line(point: np.ndarray, origin: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Point (3,) of the line through ``origin`` along unit ``axis`` nearest to ``point``."""
    return origin + ((point - origin) @ axis) * axis


def across(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (3,) that complete the unit ``axis`` (3,) to a right-handed frame: u, v, axis."""
    u = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    u = u / np.linalg.norm(u)
    return u, np.cross(axis, u)


def on_one_line(axis: np.ndarray, origin: np.ndarray, other_axis: np.ndarray, other_origin: np.ndarray) -> bool:
    """Whether two lines are one as far as rough estimates tell, where the second passes ``other_origin`` (3,)."""
    near = float(line_distance(other_origin, origin, axis)) <= _ONE_LINE_M
    return bool(near and abs(axis @ other_axis) >= _PARALLEL)
