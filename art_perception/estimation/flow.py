"""Long 3D point tracks: dense inverse-search optical flow (Kroeger et al., ECCV 2016) chained and lifted by depth.

Each track is a surface point seen over many frames in the fixed frame, so the camera's own motion is gone. A track
ends where forward and backward flow disagree, at depth edges and where depth is missing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from art_perception.bounds import bounded
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.learned_flow import learned_flow

DIS = "dis"
_LOCAL_PX = 9.0  # brightness is compared within about this distance
_FAINTEST = 0.06  # spread of what is as good as plain, share of the image's mean


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Point tracking."""

    model: str = DIS
    """``dis``, or the TorchScript file of a flow network (docs/optional_inputs.md)."""
    width: int = bounded(320, 64, 4096)
    """Flow is computed on images of about this width, px."""
    grid: int = bounded(5, 1, 100)
    """Spacing of new tracks, px of the reduced image."""
    sources: int = bounded(5, 1, 1000)
    """Frames, spread over the window, in which tracks start."""
    max_disagreement_px: float = bounded(1.0, 0.01, 100.0)
    """Forward-backward disagreement at which a track ends, px of the reduced image."""
    drift: float = bounded(0.003, 0.0, 1.0)
    """Error that chained flow builds up, as a share of depth."""
    min_length: int = bounded(6, 2, 1000)
    """Tracks seen in fewer frames are dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """N surface points over T frames.

    Attributes:
        points: (N, T, 3) metres, fixed frame; arbitrary where not visible.
        visible: (N, T) bool.
        pixels: (N, T, 2) column and row in the reduced images the tracks were made on.
        sigma: (N,) one-sigma error of a position, drift included, metres.
        noise_m: depth noise of the reduced images at the tracks' median depth, metres.
    """

    points: np.ndarray
    visible: np.ndarray
    pixels: np.ndarray
    sigma: np.ndarray
    noise_m: float


def _dense_flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)  # the preset stops at half the size, where the texture of a knob is gone
    return dis.calc(a, b, None)


def _texture(gray: np.ndarray) -> np.ndarray:
    """Brightness over its local spread, 8 bit: faint texture counts, exposure and shading do not."""
    varying = gray - cv2.GaussianBlur(gray, (0, 0), _LOCAL_PX)
    spread = np.sqrt(cv2.GaussianBlur(varying * varying, (0, 0), _LOCAL_PX))
    return np.clip(128 + 50 * varying / (spread + _FAINTEST), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Optical flow (h, w, 2) px between neighbouring images: ``forward[t]`` from t to t + 1, ``backward[t]`` back."""

    forward: list[np.ndarray]
    backward: list[np.ndarray]

    def between(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Flow from image ``a`` to its neighbour ``b``, and back."""
        return (self.forward[a], self.backward[a]) if b > a else (self.backward[b], self.forward[b])


def optical_flow(dense: DenseWindow, model: str) -> Flows:
    """Flow between all neighbouring frames of a window.

    Args:
        dense: reduced window.
        model: ``FlowConfig.model``.

    Raises:
        CheckpointError: the flow network's file is missing or holds none.
    """
    if model != DIS:
        pairs = list(pairwise(dense.color))
        return Flows([learned_flow(model, a, b) for a, b in pairs], [learned_flow(model, b, a) for a, b in pairs])
    pairs = list(pairwise(map(_texture, dense.gray)))
    with ThreadPoolExecutor(2) as pool:
        forward = pool.map(lambda p: _dense_flow(p[0], p[1]), pairs)
        backward = pool.map(lambda p: _dense_flow(p[1], p[0]), pairs)
        return Flows(list(forward), list(backward))


def _sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear samples of (h, w[, c]) at (N, 2) pixels."""
    x, y = pixels[None, :, 0].astype(np.float32), pixels[None, :, 1].astype(np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]


def _advance(
    pixels: np.ndarray, there: np.ndarray, back: np.ndarray, usable: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move pixels (N, 2) along a flow; also return which survive the forward-backward and depth checks."""
    moved = pixels + _sample(there, pixels)
    error = np.linalg.norm(moved + _sample(back, moved) - pixels, axis=-1)
    height, width = usable.shape
    inside = (moved >= 0).all(-1) & (moved[:, 0] <= width - 1) & (moved[:, 1] <= height - 1)
    cell = np.clip(np.rint(moved).astype(int), 0, [width - 1, height - 1])
    return moved, inside & (error < limit) & usable[cell[:, 1], cell[:, 0]]


def _chain(
    source: int,
    world: np.ndarray,
    usable: np.ndarray,
    flows: Flows,
    config: FlowConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tracks starting on a grid of frame ``source``, followed both ways: points (N, T, 3), visible (N, T), pixels."""
    count = len(world)
    v, u = np.nonzero(usable[source])
    keep = (u % config.grid == 0) & (v % config.grid == 0)
    start = np.stack([u[keep], v[keep]], -1).astype(np.float32)
    points = np.zeros((len(start), count, 3), np.float32)
    path = np.zeros((len(start), count, 2), np.float32)
    visible = np.zeros((len(start), count), bool)
    for direction in (1, -1):
        pixels, alive, t = start, np.ones(len(start), bool), source
        while alive.any():
            points[alive, t] = _sample(world[t], pixels[alive])
            path[alive, t] = pixels[alive]
            visible[alive, t] = True
            n = t + direction
            if not 0 <= n < count:
                break
            pixels, ok = _advance(pixels, *flows.between(t, n), usable[n], config.max_disagreement_px)
            alive, t = alive & ok, n
    return points, visible, path


def noise_of(points: np.ndarray, visible: np.ndarray) -> float:
    """Noise of track positions from second differences in time, which smooth motion leaves near zero; 1 mm at least."""
    second = points[:, 2:] - 2 * points[:, 1:-1] + points[:, :-2]
    ok = visible[:, 2:] & visible[:, 1:-1] & visible[:, :-2]
    size = np.linalg.norm(second[ok], axis=-1)
    # noise acts along the viewing ray: the median of |N(0, 6 sigma^2)| is 0.67 sqrt(6) sigma
    return max(float(np.median(size)) / (np.sqrt(6) * 0.67), 1e-3) if len(size) else 1e-3


def followable(dense: DenseWindow) -> np.ndarray:
    """Pixels (T, h, w) whose depth can be trusted at a place between pixels: usable and off depth edges."""
    return dense.usable & (dense.slack_m < 0.04 * dense.depth_m)


def follow(
    flows: Flows, good: np.ndarray, world: np.ndarray, first: int, last: int, pixels: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the surface at flat ``pixels`` (N,) of frame ``first`` is in frame ``last``.

    Args:
        flows: the window's optical flow.
        good: (T, h, w) bool, :func:`followable` pixels.
        world: (T, h, w, 3) its points in the fixed frame.
        first: frame the pixels are in.
        last: frame to go to, later or earlier.
        pixels: (N,) flat indices.
        limit: forward-backward disagreement above which a point is lost, px.

    Returns:
        Positions (N, 3) in the fixed frame, arbitrary where lost, and (N,) whether the flow can be trusted.
    """
    width = good.shape[2]
    at = np.stack([pixels % width, pixels // width], -1).astype(np.float32)
    known = good[first].reshape(-1)[pixels]
    step = 1 if last > first else -1
    for t in range(first, last, step):
        at, ok = _advance(at, *flows.between(t, t + step), good[t + step], limit)
        known = known & ok
    return _sample(world[last], at), known


def track_points(dense: DenseWindow, flows: Flows, config: FlowConfig) -> Tracks:
    """Track the window's usable surface points.

    Args:
        dense: reduced window; tracks live on its pixels.
        flows: its optical flow.
        config: sizes and thresholds.

    Returns:
        Tracks of at least ``config.min_length`` frames, positions in the fixed frame.
    """
    usable = followable(dense)
    world = dense.world_points()
    sources = np.unique(np.linspace(0, len(world) - 1, config.sources).round().astype(int))
    chains = [_chain(int(s), world, usable, flows, config) for s in sources]
    points, visible, pixels = (np.concatenate(x) for x in zip(*chains, strict=True))
    keep = visible.sum(1) >= min(config.min_length, len(world))
    points, visible, pixels = points[keep], visible[keep], pixels[keep]
    depth = np.linalg.norm(points - dense.T_world_camera[:, :3, 3], axis=-1)
    sigma = np.hypot(noise_of(points, visible), config.drift * (depth * visible).sum(1) / visible.sum(1))
    return Tracks(points, visible, pixels, sigma, noise_of(points, visible))
