"""Plan a clip: which joints move and when, where the camera goes, what everything looks like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from art_perception.data.hand import hand_poses, make_hand
from art_perception.data.model import Material, SimObject, Surface, merge
from art_perception.data.motion import hand_held, stroke, wander
from art_perception.data.raycast import Body, cast, make_body
from art_perception.data.room import make_room, random_color
from art_perception.data.shade import Scene, shade
from art_perception.errors import ObjectError
from art_perception.geometry.camera import scaled
from art_perception.geometry.kinematics import displacements, with_base
from art_perception.geometry.lie import exp_so3, from_rotation_translation, transform
from art_perception.types import JointType

MIN_VISIBLE = 0.012
"""Share of the image a moving part must cover, on average over the clip, for a view to count as good."""


@dataclass(frozen=True, slots=True)
class SimulateConfig:
    """What to render."""

    frames: Annotated[int, "number of frames"] = 45
    rate_hz: Annotated[float, "frame rate"] = 15.0
    width: Annotated[int, "image width, pixels"] = 640
    height: Annotated[int, "image height, pixels"] = 480
    moving: Annotated[tuple[int, ...], "indices of the joints that move; empty = choose"] = ()
    moving_count: Annotated[int, "how many joints to choose when none is named"] = 1
    depth_noise: Annotated[float, "multiple of the nominal depth noise, 0 = exact"] = 1.0
    color_noise: Annotated[float, "multiple of the nominal image noise and lens blur, 0 = exact"] = 1.0
    shake: Annotated[float, "multiple of the nominal hand shake, 0 = smooth arc"] = 1.0
    arc_deg: Annotated[float, "largest arc the camera travels around the object"] = 35.0
    pose_noise_m: Annotated[float, "standard deviation of the reported camera position"] = 0.0
    pose_noise_deg: Annotated[float, "standard deviation of the reported camera rotation per axis"] = 0.0
    clutter: Annotated[int, "number of things standing around"] = 4
    hand: Annotated[bool, "a hand and arm hold the moving part"] = False
    mask: Annotated[bool, "give the object's exact mask with each frame"] = True


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything fixed before the first frame is rendered.

    Attributes:
        q: (T, J) joint values.
        moving: indices of the joints that move.
        stamps_ns: (T,) int64.
        K: (3, 3).
        T_world_camera: (T, 4, 4).
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
    T_world_object: np.ndarray
    T_world_part: np.ndarray
    T_world_body: np.ndarray
    scene: Scene
    gain: np.ndarray
    white_balance: np.ndarray
    blur_px: float


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A candidate: joints, their values and the camera."""

    moving: tuple[int, ...]
    q: np.ndarray
    T_object_part: np.ndarray
    T_object_camera: np.ndarray
    azimuth: float
    visible: float


def make_plan(obj: SimObject, config: SimulateConfig, rng: np.random.Generator) -> Plan:
    """Plan a clip of ``obj``.

    Raises:
        ObjectError: the object has no movable joint, or ``config.moving`` names one that does not exist.
    """
    _check(obj, config)
    K = _intrinsics(config, rng)
    view = _choose_view(obj, config, K, rng)
    T_world_object = _placement(rng)
    room, room_materials = make_room(_swept_bounds(obj, view.T_object_part), view.azimuth, config.clutter, rng)
    materials = (*_styled(obj.materials, rng), *room_materials)
    room = replace(room, material=room.material + len(obj.materials))
    bodies, T_object_body = _bodies(obj, room, view)
    if config.hand:
        materials, bodies, T_object_body = _add_hand(obj, view, materials, bodies, T_object_body, rng)
    times = np.arange(config.frames) / config.rate_hz
    plan = Plan(
        q=view.q,
        moving=view.moving,
        stamps_ns=1_000_000_000 + np.rint(times * 1e9).astype(np.int64),
        K=K,
        T_world_camera=T_world_object @ view.T_object_camera,
        T_world_object=T_world_object,
        T_world_part=T_world_object @ view.T_object_part,
        T_world_body=T_world_object @ T_object_body,
        scene=_lights(bodies, materials, T_world_object, view, obj.bounds, rng),
        gain=np.ones(config.frames),
        white_balance=1 + 0.06 * rng.normal(size=3) + wander(times, np.full(3, 0.01), rng, 5.0),
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
    """Where the object stands in the world: any heading, some metres from the origin."""
    R = exp_so3(np.array([0, 0, rng.uniform(-np.pi, np.pi)]))
    return from_rotation_translation(R, rng.uniform([-1.5, -1.5, -0.5], [1.5, 1.5, 0.5]))


def observable_joints(obj: SimObject) -> tuple[int, ...]:
    """Joints whose motion shows in geometry: over their range points move, and partly across the surface.

    A knob turning about its own axis moves no surface; a drawer front or a lid does.
    """
    rng = np.random.default_rng(0)
    diagonal = float(np.linalg.norm(np.ptp(obj.bounds, axis=0)))
    good = []
    for j, joint in enumerate(obj.joints):
        surface = obj.parts[j + 1]
        if not len(surface.faces):
            continue
        points, normals = surface.sample(400, rng)
        amount = min(joint.limits[1] - joint.limits[0], 1.0)
        velocity = np.tile(joint.axis, (len(points), 1))
        if joint.type is JointType.REVOLUTE:
            velocity = np.cross(joint.axis, points - joint.origin)
        across = np.abs((velocity * normals).sum(1)) * amount
        if float(np.quantile(across, 0.7)) > max(0.012, 0.02 * diagonal):
            good.append(j)
    return tuple(good)


def _choose_joints(obj: SimObject, config: SimulateConfig, rng: np.random.Generator) -> tuple[int, ...]:
    if config.moving:
        return config.moving
    pool = observable_joints(obj) or tuple(range(len(obj.joints)))
    count = min(config.moving_count, len(pool))
    return tuple(sorted(int(j) for j in rng.choice(pool, count, replace=False)))


def _joint_values(
    obj: SimObject, moving: tuple[int, ...], config: SimulateConfig, rng: np.random.Generator
) -> np.ndarray:
    """(T, J) values: the moving joints make one stroke each, together or one after another; others stay put."""
    u = np.linspace(0, 1, config.frames)
    q = np.tile([_resting(j.limits, rng) for j in obj.joints], (config.frames, 1))
    together = rng.random() < 0.5
    order = rng.permutation(len(moving))
    for joint, place in zip(moving, order, strict=True):
        start, stop = _extent(obj, joint, rng)
        begin, end = rng.uniform(0.0, 0.12), rng.uniform(0.82, 1.0)
        if len(moving) > 1 and not together:
            begin, end = (place + np.array([begin, end])) / len(moving)
        q[:, joint] = stroke(u, begin, end, start, stop, rng)
    for joint, blocker in obj.blockers:
        if joint in moving and blocker not in moving:
            low, high = obj.joints[blocker].limits
            q[:, blocker] = low + (high - low) * rng.uniform(0.85, 1.0)
    return q


def _resting(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = limits
    closed = float(np.clip(0.0, low, high))
    return closed if rng.random() < 0.8 else float(rng.uniform(low, high))


def _extent(obj: SimObject, index: int, rng: np.random.Generator) -> tuple[float, float]:
    """First and last value of a joint's stroke, inside its limits."""
    joint = obj.joints[index]
    low, high = joint.limits
    slide = joint.type is JointType.PRISMATIC
    size = float(np.ptp(obj.parts[index + 1].vertices, axis=0).max()) if len(obj.parts[index + 1].vertices) else 0.1
    most = max(0.9 * size, 0.03) if slide else np.radians(110)
    least = min(0.02, 0.2 * size) if slide else np.radians(20)
    amount = np.clip((high - low) * rng.uniform(0.45, 1.0), least, most)
    amount = min(float(amount), high - low)
    closed = float(np.clip(0.0, low, high))
    away = 1.0 if high - closed >= closed - low else -1.0
    first = closed + away * rng.uniform(0, 0.5) * max(0.0, abs((high if away > 0 else low) - closed) - amount)
    last = float(np.clip(first + away * amount, low, high))
    return (first, last) if rng.random() < 0.7 else (last, first)


def _swept_bounds(obj: SimObject, T_object_part: np.ndarray) -> np.ndarray:
    """(2, 3) bounds of the object over the clip, object frame."""
    corners = []
    for k, part in enumerate(obj.parts):
        if len(part.vertices):
            low, high = part.vertices.min(0), part.vertices.max(0)
            box = np.stack(np.meshgrid(*np.stack([low, high]).T, indexing="ij"), -1).reshape(-1, 3)
            corners.append(transform(T_object_part[:: max(1, len(T_object_part) // 6), k], box).reshape(-1, 3))
    points = np.concatenate(corners)
    return np.stack([points.min(0), points.max(0)])


def _choose_view(obj: SimObject, config: SimulateConfig, K: np.ndarray, rng: np.random.Generator) -> _View:
    """The first of some random candidates in which every moving part is well visible, else the best of them."""
    surfaces = [make_body(p, np.full(len(p.faces), k)) if len(p.faces) else None for k, p in enumerate(obj.parts)]
    best: _View | None = None
    for _ in range(16):
        moving = _choose_joints(obj, config, rng)
        q = _joint_values(obj, moving, config, rng)
        T_part = with_base(displacements(obj.chain, q))
        for _ in range(4):
            azimuth, T_camera = _camera(obj, moving, T_part, config, K, rng)
            visible = _visibility(surfaces, moving, T_part, T_camera, config, K)
            view = _View(moving, q, T_part, T_camera, azimuth, visible)
            if visible >= 3 * MIN_VISIBLE:
                return view
            best = view if best is None or visible > best.visible else best
    assert best is not None
    return best


def _visibility(
    surfaces: list[Body | None],
    moving: tuple[int, ...],
    T_object_part: np.ndarray,
    T_object_camera: np.ndarray,
    config: SimulateConfig,
    K: np.ndarray,
) -> float:
    """Smallest share of the image that any moving part covers, the mean over a few frames."""
    factor = 96 / config.width
    shape = (round(config.height * factor), 96)
    keep = [k for k, s in enumerate(surfaces) if s is not None]
    bodies = tuple(s for s in surfaces if s is not None)
    shares = []
    for t in np.linspace(0, config.frames - 1, 4).astype(int):
        hits = cast(bodies, T_object_part[t, keep], T_object_camera[t], scaled(K, factor), shape)
        seen = np.bincount(hits.body[hits.body >= 0], minlength=len(bodies)) / hits.body.size
        shares.append([seen[keep.index(j + 1)] if j + 1 in keep else 0.0 for j in moving])
    share = np.array(shares)
    return float(min(share.mean(0).min(), 2 * share.min(0).min()))


def _camera(
    obj: SimObject,
    moving: tuple[int, ...],
    T_object_part: np.ndarray,
    config: SimulateConfig,
    K: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, np.ndarray]:
    """Azimuth and poses (T, 4, 4) in the object frame of a hand-held camera that looks at the moving parts' side."""
    bounds = _swept_bounds(obj, T_object_part)
    center, radius = bounds.mean(0), float(np.linalg.norm(np.ptp(bounds, axis=0))) / 2
    parts = np.stack([_part_center(obj, T_object_part, j + 1) for j in moving])
    toward = parts.mean(0) - bounds.mean(0)
    azimuth = float(np.arctan2(toward[1], toward[0]) + rng.normal(0, 0.9))
    tan_half = min(config.width / K[0, 0], config.height / K[1, 1]) / 2
    distance = float(np.clip(radius / (tan_half * rng.uniform(0.55, 1.0)), max(0.35, 1.15 * radius), 2.6))
    target = center + rng.uniform(0.1, 0.6) * toward
    times = np.arange(config.frames) / config.rate_hz
    arc = np.radians(config.arc_deg) * rng.uniform(-1, 1)
    elevation = float(rng.uniform(0.15, 0.95))
    return azimuth, hand_held(times, target, azimuth, elevation, distance, arc, config.shake, rng)


def _part_center(obj: SimObject, T_object_part: np.ndarray, part: int) -> np.ndarray:
    vertices = obj.parts[part].vertices
    middle = (vertices.min(0) + vertices.max(0)) / 2 if len(vertices) else np.zeros(3)
    return transform(T_object_part[:, part], middle[None]).mean((0, 1))


def _bodies(obj: SimObject, room: Surface, view: _View) -> tuple[tuple[Body, ...], np.ndarray]:
    """Group parts that move as one into bodies, the static one with the room first; poses (T, B, 4, 4)."""
    groups: list[list[int]] = []
    for k in range(len(obj.parts)):
        same = [g for g in groups if np.allclose(view.T_object_part[:, g[0]], view.T_object_part[:, k], atol=1e-12)]
        (same[0] if same else groups.append([]) or groups[-1]).append(k)
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
    return tuple(bodies), np.stack(poses, 1)


def _styled(materials: tuple[Material, ...], rng: np.random.Generator) -> tuple[Material, ...]:
    """Vary colours a little and give most uniform materials some structure, as real surfaces have."""
    tint = np.exp(0.12 * rng.normal(size=3))
    kinds = rng.choice(["noise", "brushed", "speckle", "wood", "fabric", "print"], 2)
    out = []
    for m in materials:
        color = tuple(float(c) for c in np.clip(np.array(m.color) * tint * np.exp(0.05 * rng.normal()), 0.01, 0.95))
        if m.texture == "plain" and rng.random() < 0.65:
            kind, contrast = str(rng.choice(kinds)), float(rng.uniform(0.1, 0.7))
            m = replace(m, texture=kind, contrast=contrast, texture_size_m=0.4)
        out.append(replace(m, color=color, gloss=float(rng.uniform(0, 0.3))))
    return tuple(out)


def _lights(
    bodies: tuple[Body, ...],
    materials: tuple[Material, ...],
    T_world_object: np.ndarray,
    view: _View,
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
    """Gain that brings the first frame's bright parts to 70 % of full scale."""
    factor = 64 / config.width
    K, shape = scaled(plan.K, factor), (round(config.height * factor), 64)
    hits = cast(plan.scene.bodies, plan.T_world_body[0], plan.T_world_camera[0], K, shape)
    linear, _ = shade(plan.scene, hits, K, plan.T_world_camera[0], plan.T_world_body[0])
    return 0.7 / max(float(np.quantile(linear, 0.9)), 1e-3)


def _add_hand(
    obj: SimObject,
    view: _View,
    materials: tuple[Material, ...],
    bodies: tuple[Body, ...],
    T_object_body: np.ndarray,
    rng: np.random.Generator,
) -> tuple[tuple[Material, ...], tuple[Body, ...], np.ndarray]:
    """Add an arm that holds the first moving part."""
    surface, own = make_hand(len(materials), rng)
    body = make_body(surface, np.zeros(len(surface.faces)))
    joint = view.moving[0]
    T = hand_poses(obj.parts[joint + 1], obj.joints[joint], view.T_object_part[:, joint + 1], view.T_object_camera, rng)
    return (*materials, *own), (*bodies, body), np.concatenate([T_object_body, T[:, None]], 1)
