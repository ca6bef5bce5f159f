"""Choose what moves and from where it is watched, so that the moving parts can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.data.config import SimulateConfig
from art_perception.data.model import SimObject
from art_perception.data.motion import hand_held
from art_perception.data.raycast import Body, cast, make_body
from art_perception.data.strokes import choose_joints, joint_values
from art_perception.geometry.camera import scaled
from art_perception.geometry.kinematics import displacements, with_base
from art_perception.geometry.lie import transform

GOOD_SHARE = 0.035
"""Share of the image each part must cover, on average over the clip, for a view to count as good."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A candidate: joints, their values and the camera."""

    moving: tuple[int, ...]
    q: np.ndarray
    T_object_part: np.ndarray
    T_object_camera: np.ndarray
    azimuth: float
    visible: float


def swept_bounds(obj: SimObject, T_object_part: np.ndarray) -> np.ndarray:
    """(2, 3) bounds of the object over the clip, object frame."""
    corners = []
    for k, part in enumerate(obj.parts):
        if len(part.vertices):
            low, high = part.vertices.min(0), part.vertices.max(0)
            box = np.stack(np.meshgrid(*np.stack([low, high]).T, indexing="ij"), -1).reshape(-1, 3)
            corners.append(transform(T_object_part[:: max(1, len(T_object_part) // 6), k], box).reshape(-1, 3))
    points = np.concatenate(corners)
    return np.stack([points.min(0), points.max(0)])


def choose_view(obj: SimObject, config: SimulateConfig, K: np.ndarray, rng: np.random.Generator) -> View:
    """The best of two random candidates; of more only while base and moving parts are not well visible."""
    surfaces = [make_body(p, np.full(len(p.faces), k)) if len(p.faces) else None for k, p in enumerate(obj.parts)]
    best: View | None = None
    for _ in range(32):
        moving = choose_joints(obj, config, rng)
        q = joint_values(obj, moving, config, rng)
        T_part = with_base(displacements(obj.chain, q))
        for _ in range(2):
            azimuth, T_camera = _camera(obj, moving, T_part, config, K, rng)
            visible = _visibility(surfaces, moving, T_part, T_camera, config, K)
            if best is None or visible > best.visible:
                best = View(moving, q, T_part, T_camera, azimuth, visible)
        if best is not None and best.visible >= GOOD_SHARE:
            break
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
    """Smallest share of the image that the base or any moving part covers, the mean over a few frames."""
    factor = 96 / config.width
    shape = (round(config.height * factor), 96)
    keep = [k for k, s in enumerate(surfaces) if s is not None]
    bodies = tuple(s for s in surfaces if s is not None)
    shares = []
    for t in np.linspace(0, config.frames - 1, 4).astype(int):
        hits = cast(bodies, T_object_part[t, keep], T_object_camera[t], scaled(K, factor), shape)
        seen = np.bincount(hits.body[hits.body >= 0], minlength=len(bodies)) / hits.body.size
        shares.append([seen[keep.index(k)] if k in keep else 0.0 for k in (0, *(j + 1 for j in moving))])
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
    bounds = swept_bounds(obj, T_object_part)
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
