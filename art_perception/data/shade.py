"""Colour of what the rays hit: procedural textures, a lamp with shadows, sky-and-ground ambient light, highlights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from art_perception.data.model import Material
from art_perception.data.raycast import Body, Hits, lit
from art_perception.data.texture import albedo
from art_perception.geometry.camera import unproject
from art_perception.geometry.lie import inverse, transform


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything light needs to know.

    Attributes:
        bodies: rigid bodies, the static one first.
        materials: what the bodies' ``material`` points to.
        lamp: (3,) world position of the lamp.
        lamp_color, sky, ground: (3,) linear RGB.
        shadow: darkness of the lamp's shadow in [0, 1].
    """

    bodies: tuple[Body, ...]
    materials: tuple[Material, ...]
    lamp: np.ndarray
    lamp_color: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    shadow: float


def surface_points(depth_m: np.ndarray, K: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """World points (H, W, 3) float64 of a depth map."""
    return transform(T_world_camera, unproject(depth_m, K).astype(float).reshape(-1, 3)).reshape(*depth_m.shape, 3)


def shade(
    scene: Scene, hits: Hits, K: np.ndarray, T_world_camera: np.ndarray, T_world_body: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Linear colour (H, W, 3) float32 of every pixel and the cosine (H, W) between viewing ray and surface normal."""
    points = surface_points(hits.depth_m, K, T_world_camera).astype(np.float32)
    view = _unit(T_world_camera[:3, 3].astype(np.float32) - points)
    normal, color, gloss = _surface(scene, hits, points, K, T_world_body)
    cosine = _dot(normal, view)
    normal *= np.where(cosine < 0, np.float32(-1), np.float32(1))[..., None]
    cosine = np.abs(cosine)
    light = _unit(scene.lamp.astype(np.float32) - points)
    visible = _shadow(scene, hits, points, T_world_body)
    diffuse = np.maximum(_dot(normal, light), 0) * visible
    shine = gloss * np.maximum(_dot(normal, _unit(light + view)), 0) ** 40 * visible
    up = (normal[..., 2:] + 1) / 2
    sky, ground, lamp_color = (c.astype(np.float32) for c in (scene.sky, scene.ground, scene.lamp_color))
    linear = color * (ground + (sky - ground) * up + diffuse[..., None] * lamp_color) + shine[..., None] * lamp_color
    linear[hits.body < 0] = sky
    cosine[hits.body < 0] = 1
    return linear, cosine


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt(_dot(v, v)), np.float32(1e-9))[..., None]


def _surface(
    scene: Scene, hits: Hits, points: np.ndarray, K: np.ndarray, T_world_body: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World normal (H, W, 3), albedo (H, W, 3) and gloss (H, W) of every pixel."""
    normal = np.zeros_like(points)
    normal[..., 2] = 1
    color = np.zeros((*hits.body.shape, 3), np.float32)
    gloss = np.zeros(hits.body.shape, np.float32)
    all_gloss = np.array([m.gloss for m in scene.materials], np.float32)
    for i, body in enumerate(scene.bodies):
        here = hits.body == i
        face = hits.face[here]
        local = body.normals[face]
        normal[here] = local @ T_world_body[i][:3, :3].T.astype(np.float32)
        in_body = transform(inverse(T_world_body[i]).astype(np.float32), points[here])
        footprint = hits.depth_m[here] / K[0, 0]
        material = body.material[face]
        color[here] = albedo(scene.materials, material, in_body, np.abs(local).argmax(1), footprint)
        gloss[here] = all_gloss[material]
    return normal, color, gloss


def _shadow(scene: Scene, hits: Hits, points: np.ndarray, T_world_body: np.ndarray) -> np.ndarray:
    """Lamp visibility (H, W), traced at half resolution: 1 lit, ``1 - shadow`` in shadow."""
    shape = hits.depth_m.shape
    if scene.shadow <= 0:
        return np.ones(shape, np.float32)
    coarse = points[::2, ::2]
    seen = lit(scene.bodies, T_world_body, coarse.reshape(-1, 3), scene.lamp).reshape(coarse.shape[:2])
    soft = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), 1.2)
    return 1 - scene.shadow * (1 - cv2.resize(soft, shape[::-1], interpolation=cv2.INTER_LINEAR))
