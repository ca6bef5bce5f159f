"""Dense part labels by asking every other frame: where would this pixel's surface be, had it moved with part k?

If frame s saw *through* that place, the hypothesis is refuted; if it saw a surface there (of similar brightness), it is
supported; if something nearer hid the place, nothing is learned. This uses the whole window instead of one flow step and
needs no texture. The same test with the identity motion is the classic change detection that finds what is static.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.estimation.dense import DenseWindow, project_rounded
from art_perception.geometry.lie import inverse
from art_perception.types import UNLABELLED, RgbdFrame, Window


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Dense labelling."""

    width: int = 160
    """Labels are computed on images of about this width, px."""
    witnesses: int = 12
    """Frames each pixel is tested against."""
    unseen_cost: float = 0.4
    """Cost of a witness that could not see the place (refuted costs 1, seen 0)."""
    brightness_cost: float = 0.5
    """Cost of a seen surface of quite another brightness."""
    smooth_m: float = 0.025
    """Edge of the cells over which costs are averaged, metres."""
    static_bonus: float = 0.02
    """How much better than standing still a motion must explain a pixel."""


def _witness_cost(
    dense: DenseWindow, p_camera: np.ndarray, s: int, gray: np.ndarray, sigma: np.ndarray, config: LabelConfig
) -> np.ndarray:
    """Cost (n,) of finding points, given in camera s's frame, in frame s."""
    v, u, inside = project_rounded(p_camera, dense.K, dense.depth_m.shape[1:])
    measured = dense.depth_m[s, v, u]
    tolerance = 0.006 + 4 * sigma + dense.slack_m[s, v, u]
    behind = measured - p_camera[:, 2]
    cost = np.full(len(p_camera), config.unseen_cost, np.float32)
    known = inside & (measured > 0)
    seen = known & (np.abs(behind) <= tolerance)
    contrast = np.clip(np.abs(dense.gray[s, v, u] - gray) / 0.25 - 0.2, 0, 1)
    cost[seen] = config.brightness_cost * contrast[seen]
    cost[known & (behind > tolerance)] = 1
    return cost


def _cell_average(values: np.ndarray, points: np.ndarray, size: float) -> np.ndarray:
    """Average values (n, K) over cubic cells of edge ``size`` that hold the points (n, 3)."""
    cells = np.floor(points / size).astype(np.int64)
    cells -= cells.min(0)
    span = cells.max(0) + 1
    _, index = np.unique((cells[:, 0] * span[1] + cells[:, 1]) * span[2] + cells[:, 2], return_inverse=True)
    count = np.bincount(index)
    return np.stack([(np.bincount(index, v) / count)[index] for v in values.T], -1)


def witness_frames(count: int, witnesses: int) -> np.ndarray:
    """Evenly spread frame indices."""
    return np.unique(np.linspace(0, count - 1, witnesses).round().astype(int))


def label_costs(
    dense: DenseWindow, displacements: np.ndarray, t: int, noise_m: float, config: LabelConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Cost of every hypothesis for the usable pixels of frame t.

    Args:
        dense: reduced window.
        displacements: (K, T, 4, 4) of every hypothesis in the fixed frame; the first is the identity (static).
        t: frame to label.
        noise_m: depth noise at the window's median depth, metres.
        config: costs.

    Returns:
        Costs (n, K) averaged over witnesses and cells, and the flat pixel index (n,) of each row.
    """
    index = np.flatnonzero(dense.usable[t])
    p = dense.points[t].reshape(-1, 3)[index].astype(np.float64)
    median_depth = float(np.median(dense.depth_m[dense.usable])) if dense.usable.any() else 1.0
    sigma = noise_m * (p[:, 2] / median_depth) ** 2
    gray = dense.gray[t].reshape(-1)[index]
    world = p @ dense.T_world_camera[t, :3, :3].T + dense.T_world_camera[t, :3, 3]
    costs = np.zeros((len(index), len(displacements)), np.float32)
    witnesses = [s for s in witness_frames(len(dense.depth_m), config.witnesses) if s != t]
    for k, D in enumerate(displacements):
        for s in witnesses:
            M = inverse(dense.T_world_camera[s]) @ D[s] @ inverse(D[t])
            costs[:, k] += _witness_cost(dense, world @ M[:3, :3].T + M[:3, 3], s, gray, sigma, config)
    costs /= max(len(witnesses), 1)
    if len(index) == 0:
        return costs, index
    smooth = _cell_average(costs, world, config.smooth_m)
    return 0.4 * costs + 0.6 * smooth, index


def refuted_share(dense: DenseWindow, noise_m: float, config: LabelConfig) -> np.ndarray:
    """Share (T, h, w) of the frames that could tell and say that a pixel's surface was not there: change detection.

    A frame can tell when it measured something at or behind the place; it refutes by seeing through the place, or by seeing a
    surface of another brightness there.
    """
    share = np.zeros(dense.depth_m.shape, np.float32)
    median_depth = float(np.median(dense.depth_m[dense.usable])) if dense.usable.any() else 1.0
    for t in range(len(share)):
        index = np.flatnonzero(dense.usable[t])
        p = dense.points[t].reshape(-1, 3)[index].astype(np.float64)
        sigma = noise_m * (p[:, 2] / median_depth) ** 2
        gray = dense.gray[t].reshape(-1)[index]
        told, refuted = np.zeros(len(index)), np.zeros(len(index))
        for s in witness_frames(len(share), config.witnesses):
            M = inverse(dense.T_world_camera[s]) @ dense.T_world_camera[t]
            cost = _witness_cost(dense, p @ M[:3, :3].T + M[:3, 3], int(s), gray, sigma, config)
            told += cost != config.unseen_cost
            refuted += np.where(cost == 1, 1.0, np.where(cost != config.unseen_cost, cost, 0))
        share[t].reshape(-1)[index] = refuted / np.maximum(told, 1)
    return share


def label_window(dense: DenseWindow, displacements: np.ndarray, noise_m: float, config: LabelConfig) -> np.ndarray:
    """Label every usable pixel: (T, h, w) uint8, 0 static, k part k, ``UNLABELLED`` where unusable.

    Args and costs as in :func:`label_costs`.
    """
    labels = np.full(dense.depth_m.shape, UNLABELLED, np.uint8)
    for t in range(len(labels)):
        costs, index = label_costs(dense, displacements, t, noise_m, config)
        if len(index):
            costs[:, 0] -= config.static_bonus
            labels[t].reshape(-1)[index] = costs.argmin(1)
    return labels


def upsample_labels(window: Window, dense: DenseWindow, labels: np.ndarray) -> np.ndarray:
    """Bring labels (T, h, w) to full resolution (T, H, W): each pixel takes the label of its nearest neighbour in depth.

    Pixels without depth, outside the mask, or far in depth from all labelled neighbours stay ``UNLABELLED``.
    """
    return np.stack([_upsample(f, d, lab, dense.step) for f, d, lab in zip(window.frames, dense.depth_m, labels, strict=True)])


def _upsample(frame: RgbdFrame, depth: np.ndarray, labels: np.ndarray, step: int) -> np.ndarray:
    height, width = frame.depth_m.shape
    best = np.full((height, width), np.inf, np.float32)
    out = np.full((height, width), UNLABELLED, np.uint8)
    pad_depth = np.pad(np.where(labels == UNLABELLED, np.inf, depth), 1, constant_values=np.inf).astype(np.float32)
    pad_labels = np.pad(labels, 1, constant_values=UNLABELLED)
    rows = np.minimum(np.arange(height) // step, depth.shape[0] - 1)
    columns = np.minimum(np.arange(width) // step, depth.shape[1] - 1)
    for dy, dx in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2)):
        near = np.ix_(rows + dy, columns + dx)
        gap = np.abs(pad_depth[near] - frame.depth_m) + (0.0 if (dy, dx) == (1, 1) else 0.003)
        closer = gap < best
        best[closer] = gap[closer]
        out[closer] = pad_labels[near][closer]
    out[(frame.depth_m <= 0) | (best > 0.05 * frame.depth_m)] = UNLABELLED
    if frame.mask is not None:
        out[~frame.mask] = UNLABELLED
    return out
