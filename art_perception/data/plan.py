"""Plan a clip: everything that is fixed before the first frame is rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.data.config import SimulateConfig
from art_perception.data.hand import hand_poses, make_hand
from art_perception.data.model import Material, SimObject, Surface, merge, rgb
from art_perception.data.motion import pose_error, wander
from art_perception.data.raycast import Body, cast, make_body
from art_perception.data.room import make_room
from art_perception.data.shade import Scene, shade
from art_perception.data.view import View, choose_view, swept_bounds
from art_perception.errors import ObjectError
from art_perception.geometry.camera import scaled
from art_perception.geometry.lie import exp_so3, from_rotation_translation, transform


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything fixed before the first frame is rendered.

    Attributes:
        q: (T, J) joint values.
        moving: indices of the joints that move.
        stamps_ns: (T,) int64.
        K: (3, 3).
        T_world_camera: (T, 4, 4), exact.
        T_camera_reported: (T, 4, 4) error of the reported camera poses.
        T_world_object: (4, 4).
        T_world_part: (T, J + 1, 4, 4) poses of the parts, whose geometry is given in the object frame at q = 0.
        T_world_body: (T, B, 4, 4) poses of the scene's bodies.
        scene: bodies, materials, lights.
        gain: (T,) exposure.
        white_balance: (T, 3).
        blur_px: lens blur.
    """

    q: np.ndarray
    moving: tuple[int, ...]
    stamps_ns: np.ndarray
    K: np.ndarray
    T_world_camera: np.ndarray
    T_camera_reported: np.ndarray
    T_world_object: np.ndarray
    T_world_part: np.ndarray
    T_world_body: np.ndarray
    scene: Scene
    gain: np.ndarray
    white_balance: np.ndarray
    blur_px: float


def make_plan(obj: SimObject, config: SimulateConfig, rng: np.random.Generator) -> Plan:
    """Plan a clip of ``obj``.

    Raises:
        ObjectError: the object has no movable joint, or ``config.moving`` names one that does not exist.
    """
    _check(obj, config)
    K = _intrinsics(config, rng)
    view = choose_view(obj, config, K, rng)
    T_world_object = _placement(rng)
    bodies, materials, T_object_body = _stage(obj, config, view, rng)
    times = np.arange(config.frames) / config.rate_hz
    noise = [config.pose_noise_m, np.radians(config.pose_noise_deg)]
    plan = Plan(
        q=view.q,
        moving=view.moving,
        stamps_ns=1_000_000_000 + np.rint(times * 1e9).astype(np.int64),
        K=K,
        T_world_camera=T_world_object @ view.T_object_camera,
        T_camera_reported=pose_error(times, np.repeat(noise, 3), rng),
        T_world_object=T_world_object,
        T_world_part=T_world_object @ view.T_object_part,
        T_world_body=T_world_object @ T_object_body,
        scene=_lights(bodies, materials, T_world_object, view, obj.bounds, rng),
        gain=np.ones(config.frames),
        white_balance=1 + 0.04 * rng.normal(size=3) + wander(times, np.full(3, 0.01), rng, 5.0),
        blur_px=float(rng.uniform(0.45, 0.8)),
    )
    drift = np.exp(wander(times, np.array([0.05]), rng, 4.0)[:, 0])
    return replace(plan, gain=drift * _exposure(plan, config) * rng.uniform(0.75, 1.25))


def _check(obj: SimObject, config: SimulateConfig) -> None:
    if not obj.joints:
        raise ObjectError(f"{obj.name} has no movable joint; choose an object with one")
    if any(not 0 <= j < len(obj.joints) for j in config.moving):
        raise ObjectError(f"{obj.name} has joints 0..{len(obj.joints) - 1}, asked to move {list(config.moving)}")


def _intrinsics(config: SimulateConfig, rng: np.random.Generator) -> np.ndarray:
    f = config.width * rng.uniform(0.82, 1.12)
    cx, cy = (config.width - 1) / 2, (config.height - 1) / 2
    cx, cy = cx + config.width * rng.normal(0, 0.008), cy + config.height * rng.normal(0, 0.008)
    return np.array([[f, 0, cx], [0, f * rng.uniform(0.998, 1.002), cy], [0, 0, 1]])


def _placement(rng: np.random.Generator) -> np.ndarray:
    """Where the object stands in the world: any heading, some metres off; now and then the world is y-up (ARKit)."""
    R = exp_so3(np.array([0, 0, rng.uniform(-np.pi, np.pi)]))
    if rng.random() < 0.15:
        R = exp_so3(np.array([-np.pi / 2, 0, 0])) @ R
    return from_rotation_translation(R, rng.uniform([-1.5, -1.5, -0.5], [1.5, 1.5, 0.5]))


def _stage(
    obj: SimObject, config: SimulateConfig, view: View, rng: np.random.Generator
) -> tuple[tuple[Body, ...], tuple[Material, ...], np.ndarray]:
    """Bodies of the object, the room and the hand, their materials, their poses (T, B, 4, 4) in the object frame."""
    room, room_materials = make_room(swept_bounds(obj, view.T_object_part), view.azimuth, config.clutter, rng)
    materials = (*_styled(obj.materials, rng), *room_materials)
    bodies, poses = _bodies(obj, replace(room, material=room.material + len(obj.materials)), view)
    if config.hand:
        surface, own = make_hand(len(materials), rng)
        materials = (*materials, *own)
        bodies.append(make_body(surface, np.zeros(len(surface.faces))))
        poses.append(hand_poses(obj, view.moving[0], view.T_object_part, view.T_object_camera, view.q, rng))
    return tuple(bodies), materials, np.stack(poses, 1)


def _bodies(obj: SimObject, room: Surface, view: View) -> tuple[list[Body], list[np.ndarray]]:
    """Group parts that move as one into bodies, the static one with the room first; and their poses (T, 4, 4)."""
    groups: list[list[int]] = []
    for k in range(len(obj.parts)):
        same = [g for g in groups if np.allclose(view.T_object_part[:, g[0]], view.T_object_part[:, k], atol=1e-12)]
        if same:
            same[0].append(k)
        else:
            groups.append([k])
    bodies, poses = [], []
    for i, group in enumerate(groups):
        pieces = [obj.parts[k] for k in group]
        ids = [np.full(len(p.faces), k + 1) for k, p in zip(group, pieces, strict=True)]
        if i == 0:
            pieces, ids = [*pieces, room], [*ids, np.zeros(len(room.faces))]
        surface = merge(pieces)
        if len(surface.faces):
            bodies.append(make_body(surface, np.concatenate(ids)))
            poses.append(view.T_object_part[:, group[0]])
    return bodies, poses


def _styled(materials: tuple[Material, ...], rng: np.random.Generator) -> tuple[Material, ...]:
    """Vary colours a little and give most uniform materials some structure, as real surfaces have."""
    tint = np.exp(0.05 * rng.normal(size=3))
    kinds = rng.choice(["noise", "brushed", "speckle", "wood", "fabric", "print"], 2)
    out = []
    for m in materials:
        color = rgb(np.array(m.color) * tint * np.exp(0.05 * rng.normal()))
        if m.texture == "plain" and rng.random() < 0.65:
            kind, contrast = str(rng.choice(kinds)), float(rng.uniform(0.1, 0.7))
            m = replace(m, texture=kind, contrast=contrast, texture_size_m=0.4)
        out.append(replace(m, color=color, gloss=float(rng.uniform(0, 0.3))))
    return tuple(out)


def _lights(
    bodies: tuple[Body, ...],
    materials: tuple[Material, ...],
    T_world_object: np.ndarray,
    view: View,
    bounds: np.ndarray,
    rng: np.random.Generator,
) -> Scene:
    """A lamp above and somewhere on the camera's side, tinted ambient light from above and below."""
    angle = view.azimuth + rng.uniform(-1.4, 1.4)
    lamp = np.array([rng.uniform(0.3, 2.0) * np.cos(angle), rng.uniform(0.3, 2.0) * np.sin(angle), 0])
    lamp[2] = float(bounds[1, 2]) + rng.uniform(0.9, 2.0)
    warm = np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.65, 1.0)])
    return Scene(
        bodies=bodies,
        materials=materials,
        lamp=transform(T_world_object, lamp[None])[0],
        lamp_color=warm * rng.uniform(0.4, 1.0),
        sky=rng.uniform(0.4, 0.7) * (1 + 0.06 * rng.normal(size=3)),
        ground=rng.uniform(0.15, 0.4) * (1 + 0.1 * rng.normal(size=3)),
        shadow=float(rng.uniform(0.3, 1.0)),
    )


def _exposure(plan: Plan, config: SimulateConfig) -> float:
    """Gain that brings the first frame's bright parts to 70 % of full scale and clips hardly any."""
    factor = 64 / config.width
    K, shape = scaled(plan.K, factor), (round(config.height * factor), 64)
    hits = cast(plan.scene.bodies, plan.T_world_body[0], plan.T_world_camera[0], K, shape)
    linear, _ = shade(plan.scene, hits, K, plan.T_world_camera[0], plan.T_world_body[0])
    bright, brightest = np.maximum(np.quantile(linear, [0.9, 0.985]), 1e-3)
    return float(min(0.7 / bright, 0.95 / brightest))
