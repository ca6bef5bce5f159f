"""Point-set operations on torch tensors: nearest neighbours, farthest-point sampling, ball query, Chamfer distance.

The pure torch (and SciPy) code is the reference and needs no compiled extension. On a GPU pytorch3d takes over when it
is installed, with the same results; on a CPU its kernels are slower than the ones here and are not used.

Indices are found without gradient, distances are recomputed from them by a differentiable gather.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHUNK = 1 << 24  # entries of a distance block


@functools.cache
def _pytorch3d() -> Any:
    try:
        import pytorch3d.ops
    except ImportError:
        return None
    return pytorch3d.ops


def _backend(x: Tensor) -> Any:
    """Return ``pytorch3d.ops`` when it is installed and ``x`` is on a GPU, else None."""
    return _pytorch3d() if x.is_cuda else None


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Pick ``values`` (B, M, C) by ``index`` (B, ..., any shape) -> (B, ..., C)."""
    flat = index.reshape(index.shape[0], -1, 1).expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).reshape(*index.shape, values.shape[-1])


def knn(query: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest ``points`` of every query.

    Args:
        query: (B, N, D).
        points: (B, M, D), M >= k.
        k: number of neighbours.

    Returns:
        Distances (B, N, k), ascending and differentiable in both clouds, and indices (B, N, k) into ``points``.
    """
    with torch.no_grad():
        ops = _backend(query)
        index = ops.knn_points(query, points, K=k, return_sorted=True).idx if ops else _knn_index(query, points, k)
    return _safe_norm(query[:, :, None] - gather(points, index)), index


def _knn_index(query: Tensor, points: Tensor, k: int) -> Tensor:
    rows = max(1, CHUNK // (points.shape[0] * points.shape[1]))
    return torch.cat([_distances(q, points).topk(k, -1, largest=False).indices for q in query.split(rows, 1)], 1)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """All distances (B, N, M), exact: the matrix-product shortcut loses millimetres two metres from the origin."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _safe_norm(x: Tensor) -> Tensor:
    """Length of vectors with gradient 0 instead of NaN at zero."""
    squared = (x * x).sum(-1)
    zero = squared == 0
    return torch.where(zero, squared, torch.where(zero, torch.ones_like(squared), squared).sqrt())


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Pick ``count`` points that cover a cloud, each as far as possible from those before it, starting at point 0.

    Args:
        points: (B, N, 3), N >= count.
        count: number of points to pick.

    Returns:
        Indices (B, count). Source: Qi et al., "PointNet++", 2017, section 3.2.
    """
    ops = _backend(points)
    if ops:
        return ops.sample_farthest_points(points.detach(), K=count, random_start_point=False)[1]
    x, y, z = points.detach().unbind(-1)
    row = torch.arange(len(points), device=points.device)
    index = torch.zeros(len(points), count, dtype=torch.long, device=points.device)
    nearest = torch.full_like(x, torch.inf)
    for i in range(1, count):
        last = index[:, i - 1]
        dx, dy, dz = x - x[row, last, None], y - y[row, last, None], z - z[row, last, None]
        nearest = torch.minimum(nearest, dx * dx + dy * dy + dz * dz)
        index[:, i] = nearest.argmax(-1)
    return index


def ball_query(query: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    """Find up to ``k`` points closer than ``radius`` to every query, the first ones in index order.

    Args:
        query: (B, N, 3).
        points: (B, M, 3).
        radius: metres (or whatever the points are in).
        k: largest number of neighbours.

    Returns:
        Indices (B, N, k), -1 where fewer than k points are close enough.
    """
    ops = _backend(query)
    if ops:
        return ops.ball_query(query, points, K=k, radius=radius, return_nn=False).idx
    count = points.shape[1]
    order = torch.arange(count, device=query.device)
    rows = max(1, CHUNK // (points.shape[0] * count))
    found = []
    with torch.no_grad():
        for q in query.split(rows, 1):
            rank = torch.where(_distances(q, points) < radius, order, count)
            found.append(rank.topk(min(k, count), -1, largest=False).values)
    index = torch.nn.functional.pad(torch.cat(found, 1), (0, max(0, k - count)), value=count)
    return torch.where(index < count, index, -1)


def nearest_index(a: Tensor, b: Tensor) -> Tensor:
    """Index (N,) of the point of ``b`` (M, 3) nearest to each point of ``a`` (N, 3): KD-tree on CPU, blocks on GPU."""
    if a.is_cuda:
        return knn(a[None].detach(), b[None].detach(), 1)[1][0, :, 0]
    from scipy.spatial import cKDTree

    _, index = cKDTree(b.detach().numpy()).query(a.detach().numpy(), workers=1)
    return torch.from_numpy(np.asarray(index, np.int64))


def chamfer_distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of ``a`` (N, 3) to ``b`` (M, 3) and of ``b`` to ``a``: (N,) and (M,), differentiable."""
    return _safe_norm(a - b[nearest_index(a, b)]), _safe_norm(b - a[nearest_index(b, a)])


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Chamfer-L1 distance: mean over both directions of the mean distance to the nearest point of the other cloud."""
    to_b, to_a = chamfer_distances(a, b)
    return 0.5 * (to_b.mean() + to_a.mean())
