"""A cabinet of boxes with a door, rendered as depth images before a wall, for the tests of fusion."""

import numpy as np
from object_tools import make_joint
from scipy.spatial import cKDTree

from art_perception.geometry.camera import rays
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import inverse
from art_perception.geometry.mesh import sample_surface
from art_perception.types import UNLABELLED, JointType, PartMotion, RgbdFrame, Window

SHAPE = (120, 160)
K = np.array([[140.0, 0, 79.5], [0, 140.0, 59.5], [0, 0, 1]])
BODY = (np.array([0.0, 0, 0.3]), np.array([0.3, 0.4, 0.6]))  # centre and size, metres
DOOR = (np.array([0.17, 0, 0.3]), np.array([0.02, 0.4, 0.6]))
COLORS = np.array([[200, 100, 50], [50, 100, 200], [10, 250, 10]], np.uint8)
HINGE = make_joint("joint_1", "base", "part_1", JointType.REVOLUTE, [0, 0, -1], [0.16, -0.2, 0.3], (0.0, 1.2))
VOXEL = 0.006


def look_at(eye, target):
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.stack([x, np.cross(z, x), z], 1), eye
    return T


def hit_box(origin, direction, box):
    """Depth along rays (N, 3) at which they enter an axis-aligned box, inf where they miss."""
    center, size = box
    with np.errstate(divide="ignore", invalid="ignore"):
        near, far = ((center + s * size / 2 - origin) / direction for s in (-0.5 * 2, 0.5 * 2))
    enter, leave = np.minimum(near, far).max(-1), np.maximum(near, far).min(-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def render(boxes, joints, q, cameras, noise_m=0.0, wall_x=-1.0):
    """Depth, labels and colours of boxes, box k moving with joint k - 1, before a wall."""
    rng = np.random.default_rng(0)
    D = with_base(displacements(chain_of(joints), q))
    local = rays(SHAPE, K).reshape(-1, 3).astype(float)
    frames, labels = [], []
    for t, T in enumerate(cameras):
        depth = (wall_x - T[0, 3]) / (local @ T[:3, :3].T)[:, 0]
        label = np.full(len(local), UNLABELLED, np.uint8)
        for k, box in enumerate(boxes):
            T_part = inverse(D[t, min(k, len(joints))]) @ T
            hit = hit_box(T_part[:3, 3], local @ T_part[:3, :3].T, box)
            label = np.where(hit < depth, np.uint8(k), label)
            depth = np.minimum(depth, hit)
        depth = np.where((depth > 0) & (depth < 5), depth + noise_m * rng.normal(size=len(depth)), 0)
        color = np.where((label < 3)[:, None], COLORS[np.minimum(label, 2)], 90).astype(np.uint8)
        frames.append(RgbdFrame(t * 10**8, color.reshape(*SHAPE, 3), depth.reshape(SHAPE).astype(np.float32), K, T))
        labels.append(label.reshape(SHAPE))
    return Window(tuple(frames)), PartMotion(np.stack(labels), tuple(joints), q)


def cabinet(frames=20, spread_deg=55, noise_m=0.001):
    angles = np.radians(np.linspace(-spread_deg, spread_deg, frames))
    cameras = [look_at(np.array([1.1 * np.cos(a), 1.1 * np.sin(a), 0.75]), BODY[0]) for a in angles]
    return render((BODY, DOOR), (HINGE,), np.linspace(0, 1.0, frames)[:, None], cameras, noise_m)


def distance_to(mesh, points):
    dense = sample_surface(mesh, 60_000, np.random.default_rng(1))
    return cKDTree(dense).query(points)[0]
