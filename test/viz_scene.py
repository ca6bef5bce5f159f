"""A cabinet with a door and a drawer as if it had been reconstructed: what reports and viewers are given."""

from dataclasses import dataclass

import numpy as np
import trimesh

from art_perception.geometry.mesh import from_trimesh
from art_perception.types import (
    UNLABELLED,
    ArticulatedObject,
    Joint,
    JointType,
    Mesh,
    Part,
    PartMotion,
    RgbdFrame,
    Window,
)
from art_perception.viz.palette import part_rgb
from art_perception.viz.render import BACKGROUND_RGB, ObjectRenderer, View

SHAPE = (240, 320)
FRAMES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """The fields of a reconstruction that pictures are made from."""

    object: ArticulatedObject
    motion: PartMotion
    window: Window
    seconds: dict[str, float]


def box(size: tuple[float, float, float], center: tuple[float, float, float]) -> Mesh:
    mesh = trimesh.creation.box(size)
    mesh.apply_translation(center)
    plain = from_trimesh(mesh.subdivide().subdivide())
    colors = np.tile(np.array([[150, 110, 70]], np.uint8), (len(plain.vertices), 1))
    return Mesh(plain.vertices, plain.faces, colors)


def cabinet() -> ArticulatedObject:
    """Front towards -y, z up, metres."""
    door = Joint(
        "joint_1", "base", "part_1", JointType.REVOLUTE, np.array([0, 0, -1.0]), np.array([-0.3, -0.22, 0.6]), (0, 1.2),
        True, 0.93, np.deg2rad(0.4), 0.003,
    )  # fmt: skip
    drawer = Joint(
        "joint_2", "base", "part_2", JointType.PRISMATIC, np.array([0, -1.0, 0]), np.array([0, -0.2, 0.15]), (0, 0.25),
        False, 0.35, np.deg2rad(3.0), 0.0,
    )  # fmt: skip
    parts = (
        Part("base", box((0.6, 0.4, 0.9), (0, 0, 0.45)), (), 0.55),
        Part("part_1", box((0.58, 0.03, 0.55), (0, -0.22, 0.6)), (), 0.81),
        Part("part_2", box((0.56, 0.05, 0.24), (0, -0.22, 0.15)), (), 0.35),
    )
    return ArticulatedObject("cabinet", "world", parts, (door, drawer), np.eye(4))


def camera_pose(angle: float) -> np.ndarray:
    """Camera 2 m in front, at height 1.2 m, turned ``angle`` rad around the vertical axis, looking at the cabinet."""
    position = np.array([2.0 * np.sin(angle), -2.0 * np.cos(angle), 1.2])
    z = np.array([0, 0, 0.45]) - position
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    T[:3, 3] = position
    return T


def reconstruction() -> Reconstruction:
    obj = cabinet()
    s = np.linspace(0, 1, FRAMES)
    q = np.stack([1.2 * s**1.5, 0.25 * np.sin(np.pi * s / 2)], 1)
    K = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])
    renderer = ObjectRenderer(obj, true_colors=True)
    flat = ObjectRenderer(obj)
    frames, labels = [], []
    for t in range(FRAMES):
        view = View(SHAPE, K, camera_pose(0.4 + 0.03 * t))
        frames.append(
            RgbdFrame(t * 100_000_000, renderer.render(q[t], view), np.ones(SHAPE, np.float32), K, view.T_world_camera)
        )
        labels.append(part_labels(flat.render(q[t], view), len(obj.parts)))
    motion = PartMotion(np.stack(labels), obj.joints, q)
    return Reconstruction(obj, motion, Window(tuple(frames)), {"flow": 1.2, "segment": 2.5, "joints": 0.8, "fuse": 3.1})


def part_labels(image: np.ndarray, parts: int) -> np.ndarray:
    """Labels from a picture in palette colours: the part with the most similar hue wins."""
    colors = np.array([part_rgb(k) for k in range(parts)] + [BACKGROUND_RGB], float)
    pixels = image.reshape(-1, 1, 3).astype(float)
    cosine = (pixels * colors).sum(-1) / np.linalg.norm(pixels, axis=-1) / np.linalg.norm(colors, axis=-1)
    best = cosine.argmax(-1)
    background = pixels[:, 0].sum(-1) > 700
    return np.where(background | (best == parts), UNLABELLED, best).reshape(image.shape[:2]).astype(np.uint8)
