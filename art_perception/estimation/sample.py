"""From measured frames to what the window network sees: points, one flow step, normals and what other frames saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.flow import FlowConfig, Flows, follow, followable
from art_perception.geometry.lie import inverse
from art_perception.geometry.point_window import normalise
from art_perception.geometry.witness import SURFACE, UNKNOWN, DepthGrid, testimony
from art_perception.types import PointWindow

Features = Callable[[np.ndarray, np.ndarray], torch.Tensor]
"""Image features (T, N, C) of the flat pixels (T, N) in the images (T, h, w, 3)."""

_CELLS = 60  # depth cells across the object, as in training


@dataclass(frozen=True, slots=True, eq=False)
class SampledWindow:
    """A window for the network and where its points come from.

    Attributes:
        points: what the network sees, a batch of one.
        frames: (T,) indices of the dense window's frames.
        pixels: (T, N) flat pixel of each point in its frame.
        T_world_first: (4, 4) pose of the first frame's camera, in whose frame the network answers.
    """

    points: PointWindow
    frames: np.ndarray
    pixels: np.ndarray
    T_world_first: np.ndarray


def sample_window(
    dense: DenseWindow,
    flows: Flows,
    frames: np.ndarray,
    usable: np.ndarray,
    count: int,
    noise_m: float,
    config: FlowConfig,
    features: Features | None = None,
) -> SampledWindow:
    """Measure ``count`` surface points in each of ``frames``.

    Args:
        dense: the whole window.
        flows: its optical flow between neighbouring frames.
        frames: (T,) indices in time order, some repeated where the clip is short.
        usable: (T_dense, h, w) bool, the object's pixels; each of ``frames`` must have some.
        count: points per frame; the same frame always gives the same points.
        noise_m: depth noise at the median depth, metres.
        config: when flow is trusted.
        features: looks at the images, for networks that were trained with appearance.
    """
    pixels = np.stack([_draw(usable[t], count, int(t)) for t in frames])
    step = np.append(frames[1:], frames[-2])
    world = dense.world_points()
    here = np.take_along_axis(world.reshape(len(world), -1, 3)[frames], pixels[..., None], 1)
    good, limit = followable(dense), config.max_disagreement_px
    steps = zip(frames.tolist(), step.tolist(), pixels, strict=True)
    moved, known = map(np.stack, zip(*(follow(flows, good, world, a, b, p, limit) for a, b, p in steps), strict=True))
    flow = (moved - here) * np.where(step > frames, 1.0, -1.0)[:, None, None]
    T_world_first = dense.T_world_camera[frames[0]]
    R, t = T_world_first[:3, :3], T_world_first[:3, 3]
    seen = testimony(_grid(dense, usable, frames), _tensor(here), torch.tensor([0.003 + 3 * noise_m]))
    normals = np.take_along_axis(dense.normals.reshape(len(world), -1, 3)[frames], pixels[..., None], 1)
    normals = np.einsum("tij,tnj->tni", dense.T_world_camera[frames, :3, :3], normals) @ R
    window = normalise(
        points=_tensor((here - t) @ R),
        flow=_tensor(flow @ R),
        flow_valid=torch.as_tensor(known)[None],
        normals=_tensor(normals),
        seen=seen,
    )
    if features is not None:
        window = replace(window, appearance=features(dense.color[frames], pixels)[None])
    return SampledWindow(window, frames, pixels, T_world_first)


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(x), dtype=torch.float32)[None]


def _draw(usable: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` random pixels (flat) of a frame, repeated when there are fewer."""
    found = np.random.default_rng(seed).permutation(np.flatnonzero(usable))
    return np.resize(found, count)


def _grid(dense: DenseWindow, usable: np.ndarray, frames: np.ndarray) -> DepthGrid:
    """The frames' depth images thinned so that the object is about as many cells wide as in training."""
    rows, columns = np.nonzero(usable[frames].any(0))
    step = max(1, round(max(np.ptp(rows), np.ptp(columns)) / _CELLS))
    pick = (frames, slice(None, None, step), slice(None, None, step))
    K = dense.K
    focal = np.array([K[0, 0], K[1, 1]]) / step
    corner = -np.array([K[0, 2], K[1, 2]]) / np.array([K[0, 0], K[1, 1]])
    count = len(frames)
    return DepthGrid(
        points=_tensor(dense.points[pick]),
        normals=_tensor(dense.normals[pick]),
        state=torch.where(torch.as_tensor(dense.depth_m[pick] > 0), SURFACE, UNKNOWN)[None],
        focal=_tensor(np.tile(focal, (count, 1))),
        corner=_tensor(np.tile(corner, (count, 1))),
        T_camera_world=_tensor(inverse(dense.T_world_camera[frames])),
    )
