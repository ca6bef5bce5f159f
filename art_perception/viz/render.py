"""Pictures of an articulated object without a display: Open3D ray casting, one static tree per part.

Rays are moved into each part's own frame instead of moving the meshes, so a pose costs only the casting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from art_perception.geometry.camera import project, rays
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import inverse, transform
from art_perception.types import ArticulatedObject, Mesh
from art_perception.viz.palette import part_rgb

BACKGROUND_RGB = (248, 250, 252)
_EMPTY = 255
_FOV_RAD = np.deg2rad(38.0)
_SUPERSAMPLING = 2
_CREASE_COS = 0.85


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A pinhole camera: ``shape`` (rows, columns), ``K`` (3, 3), ``T_world_camera`` (4, 4) optical to fixed frame."""

    shape: tuple[int, int]
    K: np.ndarray
    T_world_camera: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    scene: Any
    normals: np.ndarray
    colors: np.ndarray
    faces: np.ndarray
    corners: np.ndarray


class ObjectRenderer:
    """Draws one object in any joint configuration."""

    def __init__(self, obj: ArticulatedObject, true_colors: bool = False) -> None:
        """Build the trees; parts are drawn in their palette colours unless ``true_colors``."""
        self._chain = chain_of(obj.joints)
        colors = [p.visual.colors if true_colors else None for p in obj.parts]
        self._bodies = [_body(p.visual, c, k) for k, (p, c) in enumerate(zip(obj.parts, colors, strict=True))]

    def render(self, q: np.ndarray, view: View) -> np.ndarray:
        """Shaded, anti-aliased image (H, W, 3) uint8 at joint values ``q`` (J,)."""
        s = _SUPERSAMPLING
        K = np.diag([s, s, 1.0]) @ view.K
        fine = View((view.shape[0] * s, view.shape[1] * s), K, view.T_world_camera)
        image, part = self._cast(q, fine)
        image[_outline(part)] *= 0.72
        small = cv2.resize(image, view.shape[::-1], interpolation=cv2.INTER_AREA)
        return np.clip(small, 0, 255).astype(np.uint8)

    def _cast(self, q: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Shaded image (H, W, 3) float32 and part (H, W) without anti-aliasing."""
        direction = rays(view.shape, view.K)
        nearest = np.full(view.shape, np.inf, np.float32)
        image = np.full((*view.shape, 3), BACKGROUND_RGB, np.float32)
        part = np.full(view.shape, _EMPTY, np.uint8)
        D = with_base(displacements(self._chain, np.asarray(q, float)))
        for k, body in enumerate(self._bodies):
            if body is None:
                continue
            T_part_camera = inverse(D[k]) @ view.T_world_camera
            box = _window(body.corners, inverse(T_part_camera), view)
            hit = _cast_body(body, T_part_camera, direction[box])
            closer = hit["t_hit"] < nearest[box]  # rays have z = 1, so this is depth in every part's frame
            nearest[box][closer] = hit["t_hit"][closer]
            image[box][closer] = _shade(body, hit, closer, T_part_camera)
            part[box][closer] = k
        return image, part


def fitting_view(obj: ArticulatedObject, T_world_camera: np.ndarray, shape: tuple[int, int]) -> View:
    """Camera that looks in the same direction as ``T_world_camera`` and sees the whole object in every pose."""
    chain = chain_of(obj.joints)
    limits = np.array([j.limits for j in obj.joints]).reshape(-1, 2)
    poses = np.linspace(limits[:, 0], limits[:, 1], 5)
    vertices = []
    for q in poses:
        D = with_base(displacements(chain, q))
        vertices += [transform(D[k], p.visual.vertices[::7]) for k, p in enumerate(obj.parts)]
    points = np.concatenate(vertices)
    R = T_world_camera[:3, :3]
    local = points @ R
    low, high = (local.min(0), local.max(0)) if len(local) else (-np.ones(3), np.ones(3))
    T = np.eye(4)
    T[:3, :3] = R
    focal = 0.5 * min(shape) / np.tan(_FOV_RAD / 2)
    half = 0.5 * (high - low)[:2] * 1.12
    distance = max(half[0] * focal / (0.5 * shape[1]), half[1] * focal / (0.5 * shape[0]))
    centre = 0.5 * (low + high)
    T[:3, 3] = R @ [centre[0], centre[1], low[2] - distance]
    K = np.array([[focal, 0, (shape[1] - 1) / 2], [0, focal, (shape[0] - 1) / 2], [0, 0, 1]])
    return View(shape, K, T)


def _body(mesh: Mesh, colors: np.ndarray | None, part: int) -> _Body | None:
    """Ray-casting scene of a mesh in its zero pose; None for a part that was never seen."""
    if not len(mesh.faces):
        return None
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(mesh.vertices.astype(np.float32)),
        o3d.core.Tensor.from_numpy(mesh.faces.astype(np.uint32)),
    )
    rgb = np.tile(np.array(part_rgb(part)), (len(mesh.vertices), 1)) if colors is None else colors
    bounds = np.stack([mesh.vertices.min(0), mesh.vertices.max(0)])
    corners = np.stack(np.meshgrid(*bounds.T, indexing="ij"), -1).reshape(8, 3)
    return _Body(scene, _vertex_normals(mesh), rgb.astype(np.float32), mesh.faces, corners)


def _vertex_normals(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros_like(mesh.vertices)
    for i in range(3):
        np.add.at(out, mesh.faces[:, i], face)
    return (out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _window(corners: np.ndarray, T_camera_part: np.ndarray, view: View) -> tuple[slice, slice]:
    """Rows and columns that can see a part's bounding box; all of them when it reaches behind the camera."""
    p = transform(T_camera_part, corners)
    if (p[:, 2] < 0.01).any():
        return slice(None), slice(None)
    uv = project(p, view.K)
    low, high = (np.clip(x, 0, view.shape[::-1]).astype(int) for x in (uv.min(0), uv.max(0) + 2))
    return slice(low[1], high[1]), slice(low[0], high[0])


def _cast_body(body: _Body, T_part_camera: np.ndarray, direction: np.ndarray) -> dict[str, np.ndarray]:
    import open3d as o3d

    packed = np.empty((*direction.shape[:-1], 6), np.float32)
    packed[..., :3] = T_part_camera[:3, 3]
    packed[..., 3:] = direction @ T_part_camera[:3, :3].T.astype(np.float32)
    return {key: value.numpy() for key, value in body.scene.cast_rays(o3d.core.Tensor.from_numpy(packed)).items()}


def _shade(body: _Body, hit: dict[str, np.ndarray], seen: np.ndarray, T_part_camera: np.ndarray) -> np.ndarray:
    """Light from above the camera's shoulder plus a soft fill; smooth where the mesh is smooth."""
    corners = body.faces[hit["primitive_ids"][seen].astype(np.int64)]
    uv = hit["primitive_uvs"][seen]
    weight = np.stack([1 - uv.sum(1), uv[:, 0], uv[:, 1]], 1)[..., None]
    flat = hit["primitive_normals"][seen]
    smooth = body.normals[corners]
    crease = (smooth * flat[:, None]).sum(-1, keepdims=True) < _CREASE_COS
    normal = (np.where(crease, flat[:, None], smooth) * weight).sum(1) @ T_part_camera[:3, :3]
    normal = np.where(normal[:, 2:] > 0, -normal, normal)
    light = np.array([-0.45, -0.65, -0.75])
    diffuse = np.clip(normal @ (light / np.linalg.norm(light)), 0, 1)
    return (body.colors[corners] * weight).sum(1) * (0.45 + 0.62 * diffuse)[:, None]


def _outline(part: np.ndarray) -> np.ndarray:
    edge = np.zeros(part.shape, bool)
    edge[:, 1:] |= part[:, 1:] != part[:, :-1]
    edge[1:] |= part[1:] != part[:-1]
    return edge
