"""Drawing on camera images: part labels as tinted regions, joint axes as arrows in perspective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from art_perception.geometry.camera import project
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.screw import across
from art_perception.types import UNLABELLED, Joint, JointType, Part, RgbdFrame
from art_perception.viz.palette import part_rgb

_TINT = 0.5
_BASE_TINT = 0.22
_NEAR_M = 0.05
_DEFAULT_LENGTH_M = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class AxisArrow:
    """A joint drawn as an arrow, in metres in the fixed frame.

    Attributes:
        line: (2, 3) from tail to tip.
        turn: (N, 3) arc around the axis in the positive direction; no point for a prismatic joint.
        part: label of the part that it moves, which gives the colour.
        label: text at the tip.
    """

    line: np.ndarray
    turn: np.ndarray
    part: int
    label: str


def tint_parts(color: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Colour image (H, W, 3) uint8 with every labelled part tinted and outlined; labels (H, W) as in PartMotion."""
    labels = cv2.resize(labels, color.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    out = color.astype(np.float32)
    for part in np.unique(labels[labels != UNLABELLED]):
        alpha = _TINT if part else _BASE_TINT
        inside = labels == part
        out[inside] = (1 - alpha) * out[inside] + alpha * np.array(part_rgb(int(part)))
    out = out.astype(np.uint8)
    for part in np.unique(labels[(labels != UNLABELLED) & (labels != 0)]):
        contours = _contours(labels == part)
        cv2.drawContours(out, contours, -1, part_rgb(int(part)), 2, cv2.LINE_AA)
    return out


def _contours(inside: np.ndarray) -> list[np.ndarray]:
    """Outlines of a region without its specks."""
    found = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return [c for c in found if len(c) > 20]


def axis_arrows(joints: Sequence[Joint], parts: Sequence[Part], q: np.ndarray) -> list[AxisArrow]:
    """Arrows of all joints at joint values ``q`` (J,), as long as the part they move (``parts[0]`` is the base)."""
    D = with_base(displacements(chain_of(joints), np.asarray(q, float)))
    arrows = []
    for k, joint in enumerate(joints):
        line = _extent(joint, parts[k + 1])
        arrows.append(AxisArrow(transform(D[k + 1], line), transform(D[k + 1], _turn(joint, line)), k + 1, joint.name))
    return arrows


def _extent(joint: Joint, part: Part) -> np.ndarray:
    """Segment (2, 3) of the axis that the part spans (revolute), or an arrow from its front (prismatic), at q = 0."""
    vertices = part.visual.vertices
    if not len(vertices):
        return joint.origin + np.outer([-0.5, 0.5], _DEFAULT_LENGTH_M * joint.axis)
    along = (vertices - joint.origin) @ joint.axis
    low, high = np.quantile(along, [0.01, 0.99])
    if joint.type is JointType.REVOLUTE:
        margin = 0.1 * (high - low) + 0.02
        return joint.origin + np.outer([low - margin, high + margin], joint.axis)
    centre = np.median(vertices, axis=0)
    front = centre + (high - (centre - joint.origin) @ joint.axis) * joint.axis
    return front + np.outer([0, max(0.08, joint.limits[1] - joint.limits[0])], joint.axis)


def _turn(joint: Joint, line: np.ndarray) -> np.ndarray:
    """Three quarters of a circle around a revolute joint's axis, near the tip."""
    if joint.type is not JointType.REVOLUTE:
        return np.zeros((0, 3))
    length = np.linalg.norm(line[1] - line[0])
    side, other = across(joint.axis)
    angle = np.linspace(0, 1.5 * np.pi, 24)[:, None]
    circle = np.cos(angle) * side + np.sin(angle) * other
    return line[0] + 0.88 * (line[1] - line[0]) + 0.07 * length * circle


def draw_arrows(image: np.ndarray, arrows: Sequence[AxisArrow], frame: RgbdFrame) -> np.ndarray:
    """Image with the arrows drawn where ``frame``'s camera sees them; parts behind the camera are cut off."""
    out = image.copy()
    T_camera_world = inverse(frame.T_world_camera)
    for arrow in arrows:
        line = _clip_near(transform(T_camera_world, arrow.line))
        turn = transform(T_camera_world, arrow.turn)
        if line is None:
            continue
        turn = project(turn, frame.K) if (turn[:, 2] > _NEAR_M).all() else np.zeros((0, 2))
        _draw_arrow(out, project(line, frame.K), turn, arrow)
    return out


def _clip_near(ends: np.ndarray) -> np.ndarray | None:
    """Part of a camera-frame segment (2, 3) in front of the camera, or None when there is none."""
    z = ends[:, 2]
    if (z < _NEAR_M).all():
        return None
    out = ends.copy()
    behind = int(np.argmin(z))
    if z[behind] < _NEAR_M:
        front = 1 - behind
        out[behind] = ends[front] + (ends[behind] - ends[front]) * (z[front] - _NEAR_M) / (z[front] - z[behind])
    return out


def _draw_arrow(image: np.ndarray, line: np.ndarray, turn: np.ndarray, arrow: AxisArrow) -> None:
    """White halo first, colour on top, so that the lines read on any background."""
    scale = max(image.shape[1] / 560, 0.6)
    a, b = (tuple(int(v) for v in p) for p in _whole(line, image))
    arc = _whole(turn, image)
    length = float(np.hypot(b[0] - a[0], b[1] - a[1]))
    tip = min(0.3, 14 * scale / max(length, 1.0))
    for color, width in (((255, 255, 255), 6), (part_rgb(arrow.part), 3)):
        thickness = max(1, round(width * scale))
        if len(arc):
            cv2.polylines(image, [arc[:-1]], False, color, thickness, cv2.LINE_AA)
            cv2.arrowedLine(image, arc[-3].tolist(), arc[-1].tolist(), color, thickness, cv2.LINE_AA, tipLength=0.9)
        cv2.arrowedLine(image, a, b, color, thickness, cv2.LINE_AA, tipLength=tip)
    _draw_label(image, b, arrow, scale)


def _whole(points: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Pixel coordinates as integers that OpenCV can draw even far outside the image."""
    limit = 4 * max(image.shape)
    return np.clip(np.round(points), -limit, limit).astype(np.int32)


def _draw_label(image: np.ndarray, at: tuple[int, ...], arrow: AxisArrow, scale: float) -> None:
    font, size, pad = cv2.FONT_HERSHEY_DUPLEX, 0.45 * scale, round(5 * scale)
    (width, height), _ = cv2.getTextSize(arrow.label, font, size, 1)
    x = int(np.clip(at[0] + 2 * pad, pad, max(pad, image.shape[1] - width - 2 * pad)))
    y = int(np.clip(at[1], height + 2 * pad, image.shape[0] - 2 * pad))
    cv2.rectangle(image, (x - pad, y - height - pad), (x + width + pad, y + pad), part_rgb(arrow.part), cv2.FILLED)
    cv2.putText(image, arrow.label, (x, y), font, size, (255, 255, 255), 1, cv2.LINE_AA)
