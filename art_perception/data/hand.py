"""A hand and forearm that hold the moving part: they occlude it, move with it and belong to no part."""

from __future__ import annotations

import numpy as np

from art_perception.data.model import Material, SimObject, Surface, merge, moved, rgb
from art_perception.data.shapes import capsule, ellipsoid, placed
from art_perception.geometry.lie import exp_so3, from_rotation_translation, transform
from art_perception.geometry.screw import line_distance
from art_perception.types import Joint, JointType

_SKIN = np.array([[0.75, 0.45, 0.32], [0.6, 0.33, 0.22], [0.35, 0.18, 0.1], [0.82, 0.56, 0.45]])


def make_hand(first_material: int, rng: np.random.Generator) -> tuple[Surface, tuple[Material, ...]]:
    """Hand at the origin gripping along -z, forearm and sleeve along +z, metres; and its two materials."""
    skin, cloth = first_material, first_material + 1
    size = rng.uniform(0.85, 1.1)
    pieces = [moved(ellipsoid((0.042, 0.022, 0.05), skin), np.array([0, 0, 0.06]))]
    for x in (-0.028, -0.01, 0.009, 0.027):
        finger = capsule(0.008, 0.01, 0.055, skin, 10)
        pieces.append(placed(finger, exp_so3(np.array([0.25, 0, 0])), np.array([x, 0.014, -0.02])))
    thumb = capsule(0.01, 0.012, 0.05, skin, 10)
    pieces.append(placed(thumb, exp_so3(np.array([-0.35, 0.3, 0])), np.array([0.02, -0.018, -0.01])))
    pieces.append(moved(capsule(0.028, 0.035, 0.16, skin), np.array([0, 0, 0.1])))
    pieces.append(moved(capsule(0.042, 0.06, 1.3, cloth), np.array([0, 0, 0.22])))
    hand = merge(pieces)
    tone = _SKIN[rng.integers(len(_SKIN))] * rng.uniform(0.9, 1.1)
    shirt = rng.uniform(0.03, 0.7, 3)
    materials = (
        Material(rgb(tone), "noise", 0.15, 0.2),
        Material(rgb(shirt), "fabric", 0.1, 0.6, 0.0),
    )
    return Surface(hand.vertices * size, hand.faces, hand.material), materials


def _grip(part: Surface, joint: Joint, eye: np.ndarray, T_part: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A point (3,) near the part's free edge, or on the front it is pulled by, on the side the camera sees."""
    points, _ = part.sample(3000, rng)
    reach = (points - joint.origin) @ joint.axis
    if joint.type is JointType.REVOLUTE:
        reach = line_distance(points, joint.origin, joint.axis)
    elif abs(joint.limits[0]) > abs(joint.limits[1]):
        reach = -reach
    edge = points[reach >= np.quantile(reach, 0.93)]
    near = np.linalg.norm(transform(T_part, edge) - eye, axis=1) + 0.05 * rng.random(len(edge))
    return edge[near.argmin()]


def _retreat(q: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance (T,) of the hand from its grip: it may arrive before the motion and leave after it."""
    moving = np.flatnonzero(np.abs(np.diff(q)) > 1e-4 * max(float(np.ptp(q)), 1e-9))
    if not len(moving) or rng.random() < 0.4:
        return np.zeros(len(q))
    t = np.arange(len(q))
    away = np.maximum(moving[0] - t, t - moving[-1] - 1).clip(0) / 6
    return 0.3 * away.clip(0, 1) ** 2


def hand_poses(
    obj: SimObject,
    joint: int,
    T_object_part: np.ndarray,
    T_object_camera: np.ndarray,
    q: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Poses (T, 4, 4) of the hand in the object frame.

    It grips one point of the part while the joint moves; the arm comes from a shoulder beside the camera.

    Args:
        obj: the object it works on.
        joint: index of the joint it moves.
        T_object_part: (T, J + 1, 4, 4) poses of the parts.
        T_object_camera: (T, 4, 4) camera poses.
        q: (T, J) joint values.
        rng: randomness.
    """
    eye = T_object_camera[:, :3, 3]
    middle = len(eye) // 2
    T_part = T_object_part[:, joint + 1]
    grip = _grip(obj.parts[joint + 1], obj.joints[joint], eye[middle], T_part[middle], rng)
    at = transform(T_part, grip[None])[:, 0]
    side = rng.choice([-1.0, 1.0]) * T_object_camera[middle, :3, 0]
    toward = (eye[middle] - at[middle]) / np.linalg.norm(eye[middle] - at[middle])
    shoulder = at[middle] + rng.uniform(0.2, 0.8) * toward + 0.8 * side + np.array([0, 0, rng.uniform(-0.05, 0.35)])
    z = shoulder - at
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x = np.cross(np.array([0, 0, 1.0]), z)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    palm = at + (0.01 + _retreat(q[:, joint], rng)[:, None]) * z
    return from_rotation_translation(np.stack([x, np.cross(z, x), z], -1), palm)
