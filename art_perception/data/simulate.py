"""Render RGB-D clips of a moving articulated object with exact truth.

``simulate`` plans a clip (which joints move and when, how the camera goes, lights, looks, surroundings); the clip then
renders each frame on demand, so a long one needs no memory and any frame can be rendered alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from art_perception.data.blur import image_motion, motion_blur
from art_perception.data.config import SimulateConfig
from art_perception.data.model import SimObject
from art_perception.data.plan import Plan, make_plan
from art_perception.data.raycast import Hits, cast
from art_perception.data.sensor import camera_image, noisy_depth, noisy_mask, sparse_depth
from art_perception.data.shade import shade, surface_points
from art_perception.data.truth import robot_description
from art_perception.geometry.lie import inverse, transform
from art_perception.types import RgbdFrame


class Sample(NamedTuple):
    """One frame with truth: part ids (H, W) uint8 (0 background, 1 static body, 2.. moving parts), q (J,)."""

    frame: RgbdFrame
    part_ids: np.ndarray
    q: np.ndarray


class Exact(NamedTuple):
    """Noise-free geometry of one frame: depth (H, W) float32 metres and part ids (H, W) uint8."""

    depth_m: np.ndarray
    part_ids: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A planned clip; iterating renders it.

    Attributes:
        obj: the object, in its own frame.
        config: what was asked for.
        plan: trajectories, camera, lights, bodies.
        seed: seed of the per-frame noise.
    """

    obj: SimObject
    config: SimulateConfig
    plan: Plan
    seed: int

    def __len__(self) -> int:
        """Number of frames."""
        return self.config.frames

    def __iter__(self) -> Iterator[Sample]:
        """Render all frames in time order."""
        return (self.render(t) for t in range(len(self)))

    @property
    def robot_description(self) -> str:
        """Ground-truth URDF text; its root link ``world`` is the fixed frame of the camera poses."""
        return robot_description(self.obj, self.plan.T_world_object)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Movable joints in URDF order."""
        return self.obj.joint_names

    @property
    def q(self) -> np.ndarray:
        """(T, J) true joint values, rad or m."""
        return self.plan.q

    @property
    def stamps_ns(self) -> np.ndarray:
        """(T,) int64 capture times."""
        return self.plan.stamps_ns

    def part_poses(self, t: int) -> np.ndarray:
        """(J + 1, 4, 4) pose in the world of every part's geometry (given in the object frame) at frame ``t``."""
        return self.plan.T_world_part[t]

    def _hits(self, t: int) -> Hits:
        plan = self.plan
        shape = (self.config.height, self.config.width)
        return cast(plan.scene.bodies, plan.T_world_body[t], plan.T_world_camera[t], plan.K, shape)

    def _image_motion(self, hits: Hits, t: int) -> np.ndarray:
        """Image motion to the next frame (before the last frame: from the previous one), pixels."""
        plan = self.plan
        a = min(t, max(len(self) - 2, 0))
        T_camera_body = inverse(plan.T_world_camera)[:, None] @ plan.T_world_body
        step = T_camera_body[min(a + 1, len(self) - 1)] @ inverse(T_camera_body[a])
        return image_motion(hits, plan.K, T_camera_body[t], step @ T_camera_body[t])

    def exact(self, t: int) -> Exact:
        """Noise-free depth and part ids of frame ``t``."""
        hits = self._hits(t)
        return Exact(hits.depth_m, part_ids(self.plan, hits))

    def render(self, t: int) -> Sample:
        """Render frame ``t`` with noise; the same arguments always give the same frame."""
        rng = np.random.default_rng([self.seed, t])
        config, plan = self.config, self.plan
        hits = self._hits(t)
        ids = part_ids(plan, hits)
        linear, cosine = shade(plan.scene, hits, plan.K, plan.T_world_camera[t], plan.T_world_body[t])
        if config.shutter > 0:
            linear = motion_blur(linear, self._image_motion(hits, t), config.shutter)
        blur_px = plan.blur_px * min(config.color_noise, 1)
        color = camera_image(linear, plan.gain[t], plan.white_balance[t], config.color_noise, blur_px, rng)
        depth = sparse_depth(noisy_depth(hits.depth_m, cosine, config.depth_noise, rng), config.depth_step_px)
        T = plan.T_world_camera[t] @ plan.T_camera_reported[t]
        mask = noisy_mask(ids > 0, config.mask_error_px, rng) if config.mask else None
        frame = RgbdFrame(int(plan.stamps_ns[t]), color, depth, plan.K, T, mask)
        return Sample(frame, ids, plan.q[t])


def part_ids(plan: Plan, hits: Hits) -> np.ndarray:
    """Part label (H, W) uint8 of every pixel."""
    ids = np.zeros(hits.body.shape, np.uint8)
    for i, body in enumerate(plan.scene.bodies):
        here = hits.body == i
        ids[here] = body.part_id[hits.face[here]]
    return ids


def simulate(obj: SimObject, config: SimulateConfig | None = None, seed: int = 0) -> Clip:
    """Plan a clip of ``obj``; the same arguments give the same clip.

    Raises:
        ObjectError: the object has no joint that can be seen moving.
    """
    config = config or SimulateConfig()
    return Clip(obj, config, make_plan(obj, config, np.random.default_rng(seed)), seed)


def scene_flow(clip: Clip, t: int) -> np.ndarray:
    """Exact world displacement (H, W, 3) float64 from frame ``t`` to ``t + 1`` of the surface each pixel sees.

    Zero on background; the camera's own motion is not part of it.
    """
    exact = clip.exact(t)
    points = surface_points(exact.depth_m, clip.plan.K, clip.plan.T_world_camera[t])
    steps = clip.part_poses(t + 1) @ inverse(clip.part_poses(t))
    step = np.concatenate([np.eye(4)[None], steps])[exact.part_ids]
    return transform(step, points[:, :, None])[:, :, 0] - points
