"""Link frames of a URDF at given joint values, exactly as robot_state_publisher places them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from art_perception.geometry.lie import exp_se3, from_rotation_translation, inverse
from art_perception.urdf.reader import matrix_from_rpy


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A link below a joint: ``T_parent_child(q) = T_parent_child @ exp(twist q)``; the twist is zero when fixed."""

    joint: str
    parent: str
    child: str
    T_parent_child: np.ndarray
    twist: np.ndarray

    def at(self, q: float) -> np.ndarray:
        """Pose (4, 4) of the child in the parent at joint value ``q``, rad or m."""
        return self.T_parent_child @ exp_se3(self.twist * q)


Edge = tuple[str, str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class LinkFrames:
    """The transforms that an articulated object contributes to TF.

    Attributes:
        root: root link.
        base: link whose pose the tracker estimates: the root, or its only fixed child.
        fixed_frame: frame of the camera poses.
        T_root_base: (4, 4) pose of the base in the root at rest.
        links: every link but the root.
    """

    root: str
    base: str
    fixed_frame: str
    T_root_base: np.ndarray
    links: tuple[Link, ...]

    def static(self) -> list[Edge]:
        """(parent, child, T) of the links that never move."""
        return [
            (link.parent, link.child, link.T_parent_child)
            for link in self.links
            if not link.twist.any() and not self._follows_base(link)
        ]

    def moving(self, q: Mapping[str, float], T_world_base: np.ndarray) -> list[Edge]:
        """(parent, child, T) of the rest, at joint values by name and the base pose (4, 4) in the fixed frame."""
        edges: list[Edge] = []
        if self.root != self.fixed_frame:
            edges.append((self.fixed_frame, self.root, T_world_base @ inverse(self.T_root_base)))
        for link in self.links:
            if self._follows_base(link):
                edges.append((link.parent, link.child, T_world_base))
            elif link.twist.any():
                edges.append((link.parent, link.child, link.at(q.get(link.joint, 0.0))))
        return edges

    def _follows_base(self, link: Link) -> bool:
        return link.child == self.base and self.root == self.fixed_frame


def read_link_frames(description: str, base: str, fixed_frame: str) -> LinkFrames:
    """Parse a URDF that ``urdf.reader.load_urdf`` has accepted.

    Args:
        description: URDF text.
        base: name of the object's base part.
        fixed_frame: frame of the camera poses.
    """
    robot = ET.fromstring(description.strip())
    links = tuple(_link(joint) for joint in robot.findall("joint"))
    children = {link.child for link in links}
    root = next(name for e in robot.findall("link") if (name := e.get("name", "")) not in children)
    T_root_base = next((link.T_parent_child for link in links if link.child == base), np.eye(4))
    return LinkFrames(root, base, fixed_frame, T_root_base, links)


def _link(joint: ET.Element) -> Link:
    axis = _vector(joint.find("axis"), "xyz", (1.0, 0.0, 0.0))
    axis = axis / np.linalg.norm(axis)
    kind, zero = joint.get("type"), np.zeros(3)
    slide, turn = kind == "prismatic", kind in ("revolute", "continuous")
    twist = np.concatenate([axis if slide else zero, axis if turn else zero])
    origin = joint.find("origin")
    rotation = matrix_from_rpy(_vector(origin, "rpy", (0.0, 0.0, 0.0)))
    T = from_rotation_translation(rotation, _vector(origin, "xyz", (0.0, 0.0, 0.0)))
    return Link(joint.get("name", ""), _name(joint, "parent"), _name(joint, "child"), T, twist)


def _name(joint: ET.Element, role: str) -> str:
    element = joint.find(role)
    return "" if element is None else element.get("link", "")


def _vector(element: ET.Element | None, key: str, default: tuple[float, float, float]) -> np.ndarray:
    text = None if element is None else element.get(key)
    return np.array(default if text is None else [float(v) for v in text.split()])
