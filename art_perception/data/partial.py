"""What one depth camera sees of articulated shapes: partial clouds in the camera's frame with the true pose.

A z-buffer over surface points, back faces left out, of torch and numpy alone; with the noise of a depth camera and,
now and then, something in front of the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from art_perception.data.clouds import as_tensor, moved, surface_points
from art_perception.data.shape_bank import ShapeBank
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import exp_so3, from_rotation_translation
from art_perception.types import ViewBatch

_SURFACE_POINTS = 2**13  # z-buffer keys hold 14 bits of index


@dataclass(frozen=True, slots=True)
class ViewsConfig:
    """Single depth views."""

    points: int = 1024
    """Measured points per view."""
    azimuth_deg: float = 90.0
    """Largest angle between the camera and the object's front, seen from above."""
    elevation_deg: tuple[float, float] = (-10.0, 70.0)
    """Range of camera elevations."""
    distance: tuple[float, float] = (1.2, 3.0)
    """Range of camera distances, object diagonals."""
    noise: float = 1.0
    """Multiple of the nominal depth noise, 0 = exact."""
    occluded: float = 0.6
    """Share of views in which something covers a part of the object, down to 20 % of what could be seen."""


def draw_views(
    bank: ShapeBank, index: np.ndarray, q: Tensor, config: ViewsConfig, rng: np.random.Generator
) -> ViewBatch:
    """Look at the samples ``index`` (B,) at joint values q (B, J) with a depth camera each, on the device of ``q``."""
    device = q.device
    generator = torch.Generator(device=device).manual_seed(int(rng.integers(2**62)))
    rest = surface_points(bank, index, _SURFACE_POINTS, rng, device)
    size = as_tensor(bank.size_m[index], device)
    D = placed(as_tensor(bank.twists[index], device), q)
    D_turn = D.clone()
    D_turn[..., :3, 3] = 0
    T = _cameras(size, config, rng, device)
    R, t = T[:, :3, :3], T[:, :3, 3]
    camera = size[:, None, None] * moved(rest.points, rest.label, D) @ R.mT + t[:, None]
    normals = moved(rest.normals, rest.label, D_turn) @ R.mT
    facing = (normals * camera).sum(-1) < 0
    shown = facing & ~_hidden(camera, normals)
    shown = shown & ~_covered(camera, shown, config.occluded, generator)
    pick = _pixels(camera, normals, shown, config.points, generator)
    points = _measured(camera.gather(1, pick[..., None].expand(-1, -1, 3)), config.noise, generator)
    return ViewBatch(
        points=points,
        canonical=(points - t[:, None]) @ R / size[:, None, None],
        label=rest.label.gather(1, pick),
        T=T,
        size=size,
        visible=shown.sum(1) / facing.sum(1).clamp(min=1),
    )


def _cameras(size: Tensor, config: ViewsConfig, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Poses (B, 4, 4) of the objects in the optical frames of cameras that look at them, roughly upright, metres."""
    B = len(size)
    azimuth = np.deg2rad(rng.uniform(-config.azimuth_deg, config.azimuth_deg, B))
    elevation = np.deg2rad(rng.uniform(*config.elevation_deg, B))
    back = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1)
    forward = as_tensor(-back, device)
    right = normalize(torch.linalg.cross(forward, forward.new_tensor([0.0, 0.0, 1.0]).expand(B, 3)), dim=-1)
    upright = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    R = exp_so3(as_tensor(rng.normal(0, [0.05, 0.05, 0.15], (B, 3)), device)) @ upright
    away = np.concatenate([rng.normal(0, 0.1, (B, 2)), rng.uniform(*config.distance, (B, 1))], -1)
    return from_rotation_translation(R, as_tensor(away, device) * size[:, None])


def _hidden(camera: Tensor, normals: Tensor) -> Tensor:
    """Points (B, P) behind others: behind the plane of the nearest point around their pixel."""
    B, P, _ = camera.shape
    z = camera[..., 2].clamp(min=1e-3)
    ray = camera[..., :2] / z[..., None]
    cells = int(0.9 * P**0.5)
    low, high = ray.amin(1, keepdim=True), ray.amax(1, keepdim=True)
    pixel = (high - low).amax((1, 2))[:, None] / (cells - 1)
    cell = ((ray - low) / pixel[..., None]).round().long()
    flat = cell[..., 1] * cells + cell[..., 0]
    near, far = z.amin(1, keepdim=True), z.amax(1, keepdim=True)
    depth = ((z - near) / (far - near).clamp(min=1e-6) * 2**18).long()
    key = (depth * 2**14 + torch.arange(P, device=z.device)).double()  # exact up to 2^53
    image = torch.full((B, cells**2), 2.0**40, dtype=torch.float64, device=z.device)
    image = image.scatter_reduce(1, flat, key, "amin").view(B, 1, cells, cells)
    front = -max_pool2d(-image, 3, 1, 1).flatten(1).gather(1, flat)  # surface points are sparser than pixels
    nearest = (front.long() % 2**14)[..., None].expand(-1, -1, 3)
    behind = ((camera - camera.gather(1, nearest)) * normals.gather(1, nearest)).sum(-1)
    return behind < -0.3 * pixel * z


def _covered(camera: Tensor, shown: Tensor, often: float, generator: torch.Generator) -> Tensor:
    """Points (B, P) behind an obstacle: a half-plane or a blob of the image that leaves 20 to 100 % of what shows."""
    B, P, _ = camera.shape
    u = torch.rand((B, 5), generator=generator, device=camera.device)
    ray = camera[..., :2] / camera[..., 2:].clamp(min=1e-3)
    seed = torch.where(shown, torch.rand((B, P), generator=generator, device=camera.device), -1).argmax(1)
    blob = -(ray - ray.gather(1, seed[:, None, None].expand(-1, 1, 2))).norm(dim=-1)
    angle = 2 * torch.pi * u[:, :1]
    side = ray[..., 0] * angle.cos() + ray[..., 1] * angle.sin()
    score = torch.where(shown, torch.where(u[:, 1:2] < 0.5, blob, side), torch.inf)
    kept = torch.where(u[:, 2] < often, 0.2 + 0.8 * u[:, 3], 1.0) * shown.sum(1)
    limit = score.sort(1).values.gather(1, kept.long().clamp(1, P - 1)[:, None])
    return score >= limit


def _pixels(camera: Tensor, normals: Tensor, shown: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw (B, N) visible points as likely as pixels show them, repeated when there are too few."""
    z = camera[..., 2].clamp(min=1e-3)
    cosine = -(normals * camera).sum(-1) / camera.norm(dim=-1).clamp(min=1e-6)
    uniform = torch.rand(z.shape, generator=generator, device=z.device).clamp(1e-9, 1 - 1e-7)
    score = (cosine.clamp(0.02, 1) / z**2).log() - (-uniform.log()).log()
    best = torch.where(shown, score, -torch.inf).topk(count, 1)
    found = torch.isfinite(best.values).sum(1, keepdim=True).clamp(min=1)
    return best.indices.gather(1, torch.arange(count, device=z.device) % found)


def _measured(points: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Points (B, N, 3) with depth noise along their rays that grows with the square of the range."""
    B, N, _ = points.shape
    sigma = noise * (5e-4 + 2.5e-3 * torch.rand((B, 1, 1), generator=generator, device=points.device) ** 2)
    z = points[..., 2:]
    error = sigma * z**2 * torch.randn((B, N, 1), generator=generator, device=points.device)
    return points * (1 + error / z.clamp(min=1e-3))
