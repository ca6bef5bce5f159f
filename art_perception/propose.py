"""The network's part in a reconstruction: joints proposed from sliding windows, each with the tracks that follow it.

What it proposes is judged like every other proposal, by the depth of all frames; where it proposes nothing that holds,
tracks and planes take over.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from art_perception.bounds import bounded
from art_perception.errors import CheckpointError
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.flow import FlowConfig, Flows, Tracks
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.label import Belief
from art_perception.estimation.parts import Hint
from art_perception.estimation.sample import Features, SampledWindow, sample_window
from art_perception.estimation.sharpen import Region
from art_perception.models.appearance import point_features
from art_perception.models.checkpoint import WEIGHTS, load_sim2art
from art_perception.models.decode import Proposal, decode
from art_perception.models.sim2art import Sim2Art
from art_perception.types import UNLABELLED


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The window network."""

    weights: str = "small"
    """Weights that come with the package (small, research) or a file; none = motion segmentation alone."""
    appearance: str = "none"
    """TorchScript file of the image backbone (docs/optional_inputs.md) that the weights were trained with, if any."""
    spans: int = bounded(3, 1, 64)
    """Windows of half the recording besides the one over all of it."""
    min_certainty: float = bounded(0.25, 0.0, 1.0)
    """Proposals the network is less sure of are not tried."""


@functools.lru_cache(maxsize=2)
def network(weights: str) -> Sim2Art | None:
    """Load the network ``weights`` names, once; None for ``none``.

    Raises:
        CheckpointError: there are no such weights, or the file is no checkpoint of this version.
    """
    if weights == "none":
        return None
    shipped = {path.stem.removeprefix("sim2art_"): path for path in sorted(WEIGHTS.glob("sim2art_*.safetensors"))}
    path = shipped.get(weights, Path(weights))
    if not path.is_file():
        raise CheckpointError(
            f"there are no weights {weights}: set network.weights to {', '.join(shipped)}, none, or an existing file "
            "written by `art-perception train sim2art`"
        )
    return load_sim2art(path)[0]


def require_network(config: NetworkConfig) -> None:
    """Load what ``config`` names, so that a wrong name is said before any work is done.

    Raises:
        CheckpointError: weights or backbone are missing or do not fit each other.
    """
    model = network(config.weights)
    if model is not None:
        features_for(model, config)
    elif config.appearance != "none":
        raise CheckpointError("network.appearance was given but network.weights is none: leave one of them out")


def features_for(model: Sim2Art, config: NetworkConfig) -> Features | None:
    """Image features the network needs; None when it was trained without.

    Raises:
        CheckpointError: it needs some and no backbone is given, or the other way round.
    """
    channels = model.config.appearance
    if channels == 0 and config.appearance == "none":
        return None
    if channels == 0:
        raise CheckpointError(
            f"the weights {config.weights} do not use image features: leave network.appearance at none, "
            "or give weights that were trained with them"
        )
    if config.appearance == "none":
        raise CheckpointError(
            f"the weights {config.weights} need {channels} image features per point: give network.appearance the "
            "backbone that they were trained with, or choose weights that need none"
        )
    return functools.partial(point_features, config.appearance, channels)


def propose(
    dense: DenseWindow, flows: Flows, tracks: Tracks, usable: np.ndarray, config: NetworkConfig, flow: FlowConfig
) -> tuple[list[Hint], Belief | None]:
    """Joints the network sees in the window, over all its frames, surest first; and which pixels it thinks move.

    Args:
        dense: reduced window.
        flows: its optical flow.
        tracks: its point tracks.
        usable: (T, h, w) bool, the object's pixels.
        config: which network, how many windows.
        flow: when flow is trusted.

    Raises:
        CheckpointError: weights or backbone are missing or do not fit each other.
    """
    model = network(config.weights)
    if model is None:
        return [], None
    features = features_for(model, config)
    coarse = dense.coarser(2)
    hints: list[Hint] = []
    beliefs: list[Belief] = []
    for frames in spans(showing(usable), model.config.frames, config.spans):
        sampled = sample_window(dense, flows, frames, usable, model.config.points, tracks.noise_m, flow, features)
        with torch.no_grad():
            share, proposals = decode(model(sampled.points), sampled.points)
        hints += _hints(share.argmax(-1).numpy(), proposals, sampled, tracks, dense, coarse)
        beliefs.append(_belief(share, sampled))
    hints = sorted((h for h in hints if h.certainty >= config.min_certainty), key=lambda h: -h.certainty)
    return hints, Belief(*(np.concatenate(x) for x in zip(*beliefs, strict=True))) if beliefs else None


def showing(usable: np.ndarray) -> np.ndarray:
    """Frames that show enough of the object, from its pixels (T, h, w)."""
    return np.flatnonzero(usable.reshape(len(usable), -1).sum(1) >= 16)


def spans(frames: np.ndarray, length: int, halves: int) -> Iterator[np.ndarray]:
    """Windows of ``length`` evenly spread frames: one over all ``frames``, then ``halves`` over half of them each.

    Frames repeat where there are fewer than ``length``; with so few, halves would say nothing new.
    """
    if len(frames) < 2:
        return
    yield frames[np.linspace(0, len(frames) - 1, length).round().astype(int)]
    half = len(frames) // 2
    if half < length:
        return
    for start in np.linspace(0, len(frames) - half, halves).round().astype(int):
        yield frames[start + np.linspace(0, half - 1, length).round().astype(int)]


def _hints(
    part: np.ndarray,
    proposals: list[Proposal],
    sampled: SampledWindow,
    tracks: Tracks,
    dense: DenseWindow,
    coarse: DenseWindow,
) -> list[Hint]:
    """Proposals of a window, whose points have the labels ``part`` (T, N), for the whole recording."""
    followers = _followers(part, sampled, tracks, dense.depth_m.shape[2])
    frames, labels = _spread(part, sampled, dense, coarse)
    return [
        Hint(over_all_frames(p, sampled, len(dense.depth_m)), followers == k, Region(frames, labels == k), p.certainty)
        for k, p in enumerate(proposals, 1)
    ]


def _spread(
    part: np.ndarray, sampled: SampledWindow, dense: DenseWindow, coarse: DenseWindow
) -> tuple[np.ndarray, np.ndarray]:
    """The window's frames (F,), each once, and labels (F, h, w) of their usable coarse pixels, by the nearest point."""
    frames, first = np.unique(sampled.frames, return_index=True)
    labels = np.full((len(frames), *coarse.depth_m.shape[1:]), UNLABELLED, np.uint8)
    for image, t, n in zip(labels, frames, first, strict=True):
        own = coarse.usable[t]
        seen = dense.points[t].reshape(-1, 3)[sampled.pixels[n]]
        image[own] = part[n][cKDTree(seen).query(coarse.points[t][own])[1]]
    return frames, labels


def _belief(share: torch.Tensor, sampled: SampledWindow) -> Belief:
    """What the shares (T, N, K + 1) of the parts say of the sampled pixels."""
    frame = np.repeat(sampled.frames, sampled.pixels.shape[1])
    return Belief(frame, sampled.pixels.ravel(), 1 - share[..., 0].double().numpy().ravel())


def over_all_frames(proposal: Proposal, sampled: SampledWindow, count: int) -> Motion:
    """The proposal in the fixed frame; between the window's frames its values are interpolated, outside they hold."""
    T = sampled.T_world_first
    frames, first = np.unique(sampled.frames, return_index=True)
    q = np.interp(np.arange(count), frames, proposal.q.double().numpy()[first])
    axis = T[:3, :3] @ proposal.axis.double().numpy()
    origin = T[:3, :3] @ proposal.origin.double().numpy() + T[:3, 3]
    return Motion(proposal.type, axis / np.linalg.norm(axis), origin, q - q[0], source="network")


def _followers(part: np.ndarray, sampled: SampledWindow, tracks: Tracks, width: int) -> np.ndarray:
    """Part (N,) of every track by the labels of the sampled points it passes close to; -1 where there are none."""
    votes = np.zeros((len(tracks.points), int(part.max()) + 1))
    for labels, pixels, t in zip(part, sampled.pixels, sampled.frames, strict=True):
        near = cKDTree(np.stack([pixels % width, pixels // width], -1))
        own = np.flatnonzero(tracks.visible[:, t])
        distance, index = near.query(tracks.pixels[own, t], k=3)
        for gap, label in zip(distance.T, labels[index].T, strict=True):
            np.add.at(votes, (own, label), 1 / (2 + gap))
    return np.where(votes.sum(1) > 0, votes.argmax(1), -1)
