"""A picture of an object in several states, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from art_perception.types import ArticulatedObject, Joint, JointType
from art_perception.viz.render import ObjectRenderer, fitting_view

_SHAPE = (300, 300)
_INK = (30, 41, 59)
_TURN_RAD, _HEIGHT_RAD = np.deg2rad(35.0), np.deg2rad(25.0)  # of the camera: to the side of the front, and above


def states_picture(obj: ArticulatedObject, states: Sequence[np.ndarray]) -> np.ndarray:
    """Draw the object, whose front looks along +x and whose top is up along +z, at each of the joint values (J,).

    Returns:
        (H, W, 3) uint8 RGB, the joint values written below.
    """
    renderer, view = ObjectRenderer(obj), fitting_view(obj, _camera(), _SHAPE)
    return np.hstack([_captioned(renderer.render(q, view), obj.joints, q) for q in states])


def sweep(joints: Sequence[Joint], count: int) -> list[np.ndarray]:
    """Joint values (J,) from all lower to all upper limits."""
    limits = np.array([joint.limits for joint in joints])
    return list(np.linspace(limits[:, 0], limits[:, 1], count))


def _camera() -> np.ndarray:
    """Pose (4, 4) of a camera that looks at the front from one side and above; where it is does not matter."""
    a, e = _TURN_RAD, _HEIGHT_RAD
    forward = -np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    return T


def _captioned(picture: np.ndarray, joints: Sequence[Joint], q: np.ndarray) -> np.ndarray:
    units = [(np.degrees(v), "deg") if j.type is JointType.REVOLUTE else (100 * v, "cm")
             for j, v in zip(joints, q, strict=True)]  # fmt: skip
    text = ", ".join(f"{value:.0f} {unit}" for value, unit in units)
    font, size = cv2.FONT_HERSHEY_DUPLEX, 0.5
    (width, _), _ = cv2.getTextSize(text, font, size, 1)
    out = picture.copy()
    cv2.putText(out, text, ((out.shape[1] - width) // 2, out.shape[0] - 10), font, size, _INK, 1, cv2.LINE_AA)
    return out
