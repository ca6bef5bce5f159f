"""Which static surface belongs to the object when no mask is given: what the moving parts are attached to.

The room's own planes (floor, walls, table: planes with next to nothing behind them) are removed; of what remains,
the pieces that touch the space the moving parts sweep are the object's static body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from art_perception.estimation.dense import DenseWindow
from art_perception.types import UNLABELLED


@dataclass(frozen=True, slots=True)
class MaskConfig:
    """Finding the object without a mask."""

    voxel_m: float = 0.02
    """Edge of the cells in which the scene is analysed, metres."""
    reach: float = 1.5
    """How far the static body may extend from the moving parts, in units of their swept diagonal."""
    max_planes: int = 4
    """Room planes removed at most."""
    plane_share: float = 0.08
    """Share of the nearby static surface a room plane must hold."""
    plane_band: float = 0.01
    """Height of what is removed with a room plane, as a share of the distance, besides one cell."""
    behind_share: float = 0.02
    """Share of the nearby surface that may lie behind a room plane."""


def _world_points(dense: DenseWindow, labels: np.ndarray, want: np.ndarray, stride: int = 1) -> np.ndarray:
    out = []
    for t in range(0, len(labels), stride):
        T = dense.T_world_camera[t]
        out.append(dense.points[t][want[t]] @ T[:3, :3].T + T[:3, 3])
    return np.concatenate(out)


def _voxels(points: np.ndarray, size: float) -> np.ndarray:
    return np.unique(np.floor(points / size).astype(np.int64), axis=0)


def _fit_plane(points: np.ndarray, tolerance: float, rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """RANSAC plane n.x = d over points (N, 3); returns n, d and the inliers (N,)."""
    triples = points[rng.integers(0, len(points), (300, 3))]
    n = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(n, axis=-1)
    n = n[length > 1e-9] / length[length > 1e-9, None]
    d = (n * triples[length > 1e-9, 0]).sum(-1)
    votes = (np.abs(points @ n.T - d) < tolerance).sum(0)
    best = int(votes.argmax())
    inliers = np.abs(points @ n[best] - d[best]) < tolerance
    centre = points[inliers].mean(0)
    normal = np.linalg.svd(points[inliers] - centre, full_matrices=False)[2][2]
    return normal, float(normal @ centre), np.abs(points @ normal - normal @ centre) < tolerance


def room_planes(points: np.ndarray, inside: np.ndarray, config: MaskConfig) -> list[tuple[np.ndarray, float]]:
    """Planes (normal, offset) with next to nothing behind them; ``inside`` (3,) says which side is in front."""
    rng = np.random.default_rng(0)
    planes: list[tuple[np.ndarray, float]] = []
    rest, tolerance = points, config.voxel_m
    for _ in range(3 * config.max_planes):
        if len(rest) < 50 or len(planes) >= config.max_planes:
            break
        n, d, inliers = _fit_plane(rest, tolerance, rng)
        if inliers.sum() < config.plane_share * len(points):
            break
        if n @ inside < d:
            n, d = -n, -d
        if (points @ n < d - 2 * tolerance).mean() < config.behind_share:
            planes.append((n, d))
        rest = rest[~inliers]
    return planes


def _grow(static: np.ndarray, seeds: np.ndarray, config: MaskConfig) -> set[tuple[int, int, int]]:
    """Connected components of static voxels (gaps of one cell closed) that touch the surroundings of the seeds."""
    low = np.minimum(static.min(0), seeds.min(0)) - 3
    shape = np.maximum(static.max(0), seeds.max(0)) - low + 4
    grid = np.zeros(shape, bool)
    grid[tuple((static - low).T)] = True
    near = np.zeros(shape, bool)
    near[tuple((seeds - low).T)] = True
    box = np.ones((3, 3, 3), bool)
    near = ndimage.binary_dilation(near, box, iterations=2)
    component, _ = ndimage.label(ndimage.binary_dilation(grid, box), box)
    touched = np.unique(component[near & grid])
    keep = grid & np.isin(component, touched[touched > 0])
    return {tuple(v) for v in np.argwhere(keep) + low}


def keep_object(dense: DenseWindow, labels: np.ndarray, config: MaskConfig) -> np.ndarray:
    """Set static pixels that are not the object's to ``UNLABELLED``.

    Args:
        dense: reduced window.
        labels: (T, h, w) with every static surface labelled 0.
        config: thresholds.
    """
    if dense.masked:
        return labels
    moving = (labels > 0) & (labels != UNLABELLED)
    seeds = _voxels(_world_points(dense, labels, moving), config.voxel_m)
    centre = (seeds.min(0) + seeds.max(0)) / 2 * config.voxel_m
    reach = config.reach * float(np.linalg.norm(np.ptp(seeds, axis=0))) * config.voxel_m + 0.1
    static = _voxels(_world_points(dense, labels, labels == 0, 3), config.voxel_m)
    middle = (static + 0.5) * config.voxel_m
    near = np.linalg.norm(middle - centre, axis=-1) < reach
    static, middle = static[near], middle[near]
    if len(static) == 0:
        return np.where(labels == 0, UNLABELLED, labels).astype(np.uint8)
    camera = dense.T_world_camera[:, :3, 3].mean(0)
    band = config.voxel_m + config.plane_band * float(np.linalg.norm(centre - camera))
    for n, d in room_planes(middle, camera, config):
        ahead = middle @ n > d + band
        static, middle = static[ahead], middle[ahead]
    body = _grow(static, seeds, config) if len(static) else set()
    return _relabel(dense, labels, body, config)


def _relabel(dense: DenseWindow, labels: np.ndarray, body: set[tuple[int, int, int]], config: MaskConfig) -> np.ndarray:
    keys = np.array(sorted(body), np.int64).reshape(-1, 3)
    code = {tuple(k) for k in keys}
    out = labels.copy()
    for t in range(len(labels)):
        static = labels[t] == 0
        T = dense.T_world_camera[t]
        cells = np.floor((dense.points[t][static] @ T[:3, :3].T + T[:3, 3]) / config.voxel_m).astype(np.int64)
        unique, index = np.unique(cells, axis=0, return_inverse=True)
        member = (
            np.array([tuple(c) in code for c in unique], bool)[index.reshape(-1)] if len(unique) else np.zeros(0, bool)
        )
        values = out[t][static]
        values[~member] = UNLABELLED
        out[t][static] = values
    return out
