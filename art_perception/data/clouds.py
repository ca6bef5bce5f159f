"""Endless batches of articulated shapes from a bank: full clouds at random joint values, and distances.

The encoder sees an object at one joint state and the decoder is asked at another, so that no shape is tied to a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from art_perception.data.categories import MAX_PARTS
from art_perception.data.shape_bank import QUANTUM, ShapeBank
from art_perception.geometry.kinematics import placed
from art_perception.types import ShapeBatch

_REST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class CloudsConfig:
    """Training batches of shapes."""

    points: int = 512
    """Surface points the encoder sees."""
    labelled: int = 64
    """Surface points whose part is asked for."""
    queries: int = 256
    """Signed distances per part."""


@dataclass(frozen=True, slots=True, eq=False)
class SurfacePoints:
    """Surface of B objects at rest: points (B, P, 3), outward normals (B, P, 3), label (B, P) of the part."""

    points: Tensor
    normals: Tensor
    label: Tensor


def choose(bank: ShapeBank, count: int, rng: np.random.Generator) -> np.ndarray:
    """Choose ``count`` samples, every category as often as any other."""
    pools = [np.flatnonzero(bank.category == c) for c in np.unique(bank.category)]
    return np.array([rng.choice(pools[rng.integers(len(pools))]) for _ in range(count)])


def one_of_each(bank: ShapeBank) -> np.ndarray:
    """The first sample of every category."""
    return np.unique(bank.category, return_index=True)[1]


def draw_shapes(
    bank: ShapeBank, index: np.ndarray, config: CloudsConfig, rng: np.random.Generator, device: str | torch.device
) -> ShapeBatch:
    """Draw a batch of the samples ``index`` (B,): full clouds at two random joint states, and distances."""
    seen, asked = (surface_points(bank, index, n, rng, device) for n in (config.points, config.labelled))
    twists = as_tensor(bank.twists[index], device)
    q_cloud, q = (_states(bank, index, rng, device) for _ in range(2))
    queries, sdf = _distances(bank, index, config.queries, rng, device)
    return ShapeBatch(
        category=torch.as_tensor(bank.category[index], device=device),
        present=torch.arange(MAX_PARTS, device=device) < torch.as_tensor(bank.parts[index], device=device)[:, None],
        cloud=moved(seen.points, seen.label, placed(twists, q_cloud)),
        q_cloud=q_cloud,
        cloud_label=seen.label,
        q=q,
        points=moved(asked.points, asked.label, placed(twists, q)),
        label=asked.label,
        queries=queries,
        sdf=sdf,
        twists=twists,
        axis=as_tensor(bank.axis[index], device),
        origin=as_tensor(bank.origin[index], device),
        revolute=torch.as_tensor(bank.revolute[index], device=device),
        upper=as_tensor(bank.limits[index, :, 1], device),
        boxes=as_tensor(_boxes(bank, index), device),
    )


def as_tensor(array: np.ndarray, device: str | torch.device) -> Tensor:
    """A float32 tensor on the device."""
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)


def surface_points(
    bank: ShapeBank, index: np.ndarray, count: int, rng: np.random.Generator, device: str | torch.device
) -> SurfacePoints:
    """Random ``count`` surface points of every chosen sample, no point twice; all when the bank has no more."""
    row, total = index[:, None], bank.points.shape[1]
    order = rng.random((len(index), total), np.float32)
    pick = order.argpartition(count, 1)[:, :count] if count < total else np.arange(total)[None]
    return SurfacePoints(
        as_tensor(bank.points[row, pick] * np.float32(QUANTUM), device),
        as_tensor(bank.normals[row, pick] / np.float32(127), device),
        torch.as_tensor(bank.part[row, pick].astype(np.int64), device=device),
    )


def _boxes(bank: ShapeBank, index: np.ndarray) -> np.ndarray:
    """Lowest and highest corners (B, K, 2, 3) of the parts; those of absent parts are infinite."""
    own = (bank.part[index, None] == np.arange(MAX_PARTS)[:, None])[..., None]
    points = np.broadcast_to(bank.points[index, None] * np.float32(QUANTUM), (*own.shape[:3], 3))
    return np.stack([points.min(2, where=own, initial=np.inf), points.max(2, where=own, initial=-np.inf)], 2)


def _distances(
    bank: ShapeBank, index: np.ndarray, count: int, rng: np.random.Generator, device: str | torch.device
) -> tuple[Tensor, Tensor]:
    """Random queries (B, K, Q, 3) and their distances (B, K, Q); absent parts repeat the base."""
    k = np.arange(MAX_PARTS)
    rows = bank.first[index, None] + np.where(k < bank.parts[index, None], k, 0)
    pick = rng.integers(0, bank.queries.shape[1], (*rows.shape, count))
    places = bank.queries[rows[..., None], pick] * np.float32(QUANTUM)
    return as_tensor(places, device), as_tensor(bank.sdf[rows[..., None], pick], device)


def _states(bank: ShapeBank, index: np.ndarray, rng: np.random.Generator, device: str | torch.device) -> Tensor:
    """Joint values (B, J), uniform in the limits, some at rest."""
    share = rng.random((len(index), MAX_PARTS - 1)) * (rng.random((len(index), 1)) > _REST_SHARE)
    low, high = bank.limits[index, :, 0], bank.limits[index, :, 1]
    return as_tensor(low + share * (high - low), device)


def moved(points: Tensor, label: Tensor, D: Tensor) -> Tensor:
    """Points (B, P, 3) of parts ``label`` (B, P) displaced by D (B, K, 4, 4)."""
    own = D[torch.arange(len(D), device=D.device)[:, None], label]
    return (own[..., :3, :3] @ points[..., None])[..., 0] + own[..., :3, 3]
