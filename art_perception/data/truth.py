"""Ground truth of a simulated clip: the URDF text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from art_perception.data.model import SimObject, Surface
from art_perception.types import JointType


def _text(values: np.ndarray) -> str:
    return " ".join(f"{v:.9g}" for v in values)


def _rpy(R: np.ndarray) -> np.ndarray:
    return np.array([np.arctan2(R[2, 1], R[2, 2]), np.arcsin(np.clip(-R[2, 0], -1, 1)), np.arctan2(R[1, 0], R[0, 0])])


def _link(robot: ET.Element, name: str, surface: Surface, frame: np.ndarray) -> None:
    """A link whose geometry is its bounding box; ``frame`` (3,) is the link origin in the object frame."""
    link = ET.SubElement(robot, "link", name=name)
    if not len(surface.vertices):
        return
    low, high = surface.vertices.min(0) - frame, surface.vertices.max(0) - frame
    visual = ET.SubElement(link, "visual")
    ET.SubElement(visual, "origin", xyz=_text((low + high) / 2), rpy="0 0 0")
    ET.SubElement(ET.SubElement(visual, "geometry"), "box", size=_text(np.maximum(high - low, 1e-4)))


def robot_description(obj: SimObject, T_world_object: np.ndarray) -> str:
    """URDF text of ``obj`` standing at ``T_world_object`` (4, 4); root link ``world``, geometry as bounding boxes.

    Link frames sit at their joints and are parallel to the object frame at zero joint values.
    """
    robot = ET.Element("robot", name=obj.name)
    ET.SubElement(robot, "link", name="world")
    frames = {"base": np.zeros(3)} | {j.child: np.asarray(j.origin) for j in obj.joints}
    for name, surface in zip(frames, obj.parts, strict=True):
        _link(robot, name, surface, frames[name])
    fixed = ET.SubElement(robot, "joint", name="world_to_base", type="fixed")
    ET.SubElement(fixed, "parent", link="world")
    ET.SubElement(fixed, "child", link="base")
    ET.SubElement(fixed, "origin", xyz=_text(T_world_object[:3, 3]), rpy=_text(_rpy(T_world_object[:3, :3])))
    for j in obj.joints:
        joint = ET.SubElement(robot, "joint", name=j.name, type=j.type.value)
        ET.SubElement(joint, "parent", link=j.parent)
        ET.SubElement(joint, "child", link=j.child)
        ET.SubElement(joint, "origin", xyz=_text(frames[j.child] - frames[j.parent]), rpy="0 0 0")
        ET.SubElement(joint, "axis", xyz=_text(j.axis))
        unit = 1.0 if j.type is JointType.PRISMATIC else 3.0
        low, high = (f"{v:.9g}" for v in j.limits)
        ET.SubElement(joint, "limit", lower=low, upper=high, effort="100", velocity=f"{unit:g}")
    ET.indent(robot)
    return '<?xml version="1.0"?>\n' + ET.tostring(robot, encoding="unicode")
