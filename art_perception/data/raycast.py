"""Ray casting of rigid bodies: one static acceleration structure per body, rays moved into the body's frame.

Rays keep z = 1 in the optical frame, so the hit parameter is the depth itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from art_perception.data.model import Surface
from art_perception.geometry.camera import rays
from art_perception.geometry.lie import inverse, transform


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Triangles that move as one.

    Attributes:
        scene: Open3D ``RaycastingScene`` of the triangles, in the body frame.
        normals: (F, 3) float32 unit face normals, body frame.
        material: (F,) index into the scene's materials.
        part_id: (F,) uint8.
        box: (2, 3) bounds in the body frame.
    """

    scene: Any
    normals: np.ndarray
    material: np.ndarray
    part_id: np.ndarray
    box: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What every pixel sees: all (H, W, ...).

    Attributes:
        depth_m: float32, 0 where nothing is hit.
        body: int16 index of the body, -1 where nothing is hit.
        face: int32 index of the face in its body.
    """

    depth_m: np.ndarray
    body: np.ndarray
    face: np.ndarray


def make_body(surface: Surface, part_id: np.ndarray) -> Body:
    """Build the acceleration structure of ``surface``; ``part_id`` (F,) is what its pixels are labelled."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    vertices = np.ascontiguousarray(surface.vertices, np.float32)
    faces = np.ascontiguousarray(surface.faces, np.uint32)
    scene.add_triangles(o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(faces))
    a, b, c = (surface.vertices[surface.faces[:, i]] for i in range(3))
    n = np.cross(b - a, c - a)
    n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-15)
    box = np.stack([vertices.min(0), vertices.max(0)]).astype(float)
    return Body(scene, n.astype(np.float32), surface.material, np.asarray(part_id, np.uint8), box)


def _window(box: np.ndarray, T_camera_body: np.ndarray, K: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that can see a box; the whole image when the box reaches behind the camera."""
    corners = np.stack(np.meshgrid(*box.T, indexing="ij"), -1).reshape(-1, 3)
    p = transform(T_camera_body, corners)
    if (p[:, 2] < 0.02).any():
        return slice(0, shape[0]), slice(0, shape[1])
    uv = p[:, :2] / p[:, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
    low, high = np.floor(uv.min(0)).astype(int), np.ceil(uv.max(0)).astype(int) + 1
    low, high = np.clip(low, 0, shape[::-1]), np.clip(high, 0, shape[::-1])
    return slice(low[1], high[1]), slice(low[0], high[0])


def cast(
    bodies: tuple[Body, ...],
    T_world_body: np.ndarray,
    T_world_camera: np.ndarray,
    K: np.ndarray,
    shape: tuple[int, int],
) -> Hits:
    """Cast one ray per pixel against all bodies, each at its pose ``T_world_body`` (B, 4, 4)."""
    depth = np.full(shape, np.inf, np.float32)
    body_of = np.full(shape, -1, np.int16)
    face_of = np.zeros(shape, np.int32)
    directions = rays(shape, K)
    for i, body in enumerate(bodies):
        T_body_camera = inverse(T_world_body[i]) @ T_world_camera
        rows, columns = _window(body.box, inverse(T_body_camera), K, shape)
        d = directions[rows, columns]
        if not d.size:
            continue
        t, face = _first_hit(body.scene, T_body_camera[:3, 3], d @ T_body_camera[:3, :3].T.astype(np.float32))
        nearer = t < depth[rows, columns]
        depth[rows, columns][nearer] = t[nearer]
        body_of[rows, columns][nearer] = i
        face_of[rows, columns][nearer] = face[nearer]
    return Hits(np.where(np.isfinite(depth), depth, 0), body_of, face_of)


def _first_hit(scene: Any, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import open3d as o3d

    packed = np.empty((*directions.shape[:-1], 6), np.float32)
    packed[..., :3] = origin
    packed[..., 3:] = directions
    hit = scene.cast_rays(o3d.core.Tensor.from_numpy(packed))
    return hit["t_hit"].numpy(), hit["primitive_ids"].numpy().astype(np.int32)


def lit(bodies: tuple[Body, ...], T_world_body: np.ndarray, points: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Whether world points (N, 3) see the light at ``light`` (3,): (N,) bool."""
    import open3d as o3d

    seen = np.ones(len(points), bool)
    for body, T in zip(bodies, T_world_body, strict=True):
        T_body_world = inverse(T)
        origin = transform(T_body_world, light[None])[0]
        packed = np.empty((len(points), 6), np.float32)
        packed[:, :3] = origin
        packed[:, 3:] = transform(T_body_world, points) - origin
        blocked = body.scene.test_occlusions(o3d.core.Tensor.from_numpy(packed), tnear=0.0, tfar=0.985)
        seen &= ~blocked.numpy()
    return seen
