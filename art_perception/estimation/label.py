"""Dense part labels: every pixel goes to the motion that all other frames contradict least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from art_perception.bounds import bounded
from art_perception.estimation.ambiguous import continued
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import ExplainConfig, Surface, explain, facing, surface_of, undo
from art_perception.estimation.shading import shaded
from art_perception.estimation.stacked import cut_apart
from art_perception.geometry.cells import connected_cells, occupied_cells
from art_perception.types import UNLABELLED, RgbdFrame, Window

_PROOF = 0.05  # share of frames that prove a neighbourhood is moving
_ALIKE = 0.1  # cost by which a motion may be worse than standing still where either will do
_BY_HEARSAY = 0.01  # weight of a point of a piece that no frame proves to move, next to one that does
_SAMPLE = 7  # one point in so many tells where anything moved


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Dense labelling."""

    smooth_px: float = bounded(4.0, 0.5, 100.0)
    """Edge of the cells over which costs are averaged, reduced pixels at the median depth."""
    static_bonus: float = bounded(0.04, 0.0, 1.0)
    """How much better than standing still a motion must explain a pixel."""
    unproven_cost: float = bounded(0.15, 0.0, 1.0)
    """Extra cost of calling a surface moving where no frame nearby refutes that it stands still."""
    final_unproven_cost: float = bounded(0.25, 0.0, 1.0)
    """The same when the joints are known and only their parts' outlines are asked for."""


class Belief(NamedTuple):
    """What somebody else believes of n pixels: frame, flat index in the frame, probability that its surface moves."""

    frame: np.ndarray
    pixel: np.ndarray
    moving: np.ndarray


def _cell_average(values: np.ndarray, points: np.ndarray, size: float) -> np.ndarray:
    """Average values (n,) over the cells that hold the points (n, 3)."""
    index = occupied_cells(points, size)[1]
    return (np.bincount(index, values) / np.bincount(index))[index]


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What the motions of K bodies, the static one first, make of n points.

    Attributes:
        surface: the points, ``size``: edge of the cells over which evidence is pooled, metres.
        refuted: (n, K) bool, motions that other frames contradict.
        costs: (n, K) how badly they explain the points.
        doubt: (n, K) what a motion has to be better by than standing still.
    """

    surface: Surface
    size: float
    refuted: np.ndarray
    costs: np.ndarray
    doubt: np.ndarray


def label_window(
    dense: DenseWindow,
    displacements: np.ndarray,
    noise_m: float,
    config: LabelConfig,
    test: ExplainConfig,
    parents: Sequence[int],
) -> np.ndarray:
    """Label every usable pixel; what a motion explains no better than standing still is static, and so are shadows.

    Args:
        dense: reduced window.
        displacements: (K, T, 4, 4) of every motion in the fixed frame; the first is the identity (static).
        noise_m: depth noise at the window's median depth, metres.
        config: smoothing.
        test: how motions are tested.
        parents: (K,) index of the motion that each one adds to; of the first, 0.

    Returns:
        (T, h, w) uint8: 0 static, k part k, ``UNLABELLED`` where unusable.
    """
    labels, judged = _judge(dense, displacements, noise_m, config, test, parents)
    if judged is not None:
        best = (judged.costs + judged.doubt).argmin(1)
        for k in range(1, len(displacements)):
            own = np.flatnonzero(best == k)
            best[own[shaded(dense, judged.surface.subset(own), displacements[0], judged.size / 2, test)]] = 0
        _paint(labels, judged, best, displacements)
    return labels


def label_parts(
    dense: DenseWindow,
    displacements: np.ndarray,
    noise_m: float,
    config: LabelConfig,
    test: ExplainConfig,
    parents: Sequence[int],
    belief: Belief | None = None,
    turning: np.ndarray | None = None,
) -> np.ndarray:
    """Label every usable pixel, what either explains included: it goes with what it continues.

    Not for registration, to which such a surface contributes nothing but doubt. Arguments and result as in
    :func:`label_window`; ``belief`` tips the balance where standing still and a motion explain a surface alike, and so
    does ``turning`` (T, h, w), the part that turns in place there, or 0.
    """
    strict = replace(config, unproven_cost=config.final_unproven_cost)
    labels, judged = _judge(dense, displacements, noise_m, strict, test, parents)
    if turning is not None:
        labels = np.where((labels == 0) & (turning > 0), turning, labels).astype(np.uint8)
    if judged is None:
        return labels
    costs, doubt = judged.costs, judged.doubt
    if turning is not None:
        part = turning.reshape(len(turning), -1)[judged.surface.frame, judged.surface.pixel]
        own = np.flatnonzero(part)
        costs[own, part[own]] -= config.static_bonus
        doubt[own, part[own]] = 0
    best = (costs + doubt).argmin(1)
    if belief is not None and len(belief.frame):
        support = _support(dense, judged.surface, best, displacements, belief, 2 * judged.size)
        best = (costs + doubt * (1 - 2 * support)).argmin(1)
    for k in range(1, len(displacements)):
        best[_continuing(dense, judged, best, k)] = k
    _paint(labels, judged, best, displacements)
    return labels


def _judge(
    dense: DenseWindow,
    displacements: np.ndarray,
    noise_m: float,
    config: LabelConfig,
    test: ExplainConfig,
    parents: Sequence[int],
) -> tuple[np.ndarray, _Judged | None]:
    """Labels of what stands still without question, and what the motions make of the rest, if there is any."""
    labels = np.full(dense.depth_m.shape, UNLABELLED, np.uint8)
    whole = surface_of(dense, noise_m, np.arange(len(labels)))
    if len(whole.frame) == 0:
        return labels, None
    labels.reshape(len(labels), -1)[whole.frame, whole.pixel] = 0
    size = config.smooth_px * float(np.median(dense.depth_m[dense.usable])) / dense.K[0, 0]
    surface = whole.subset(_near_motion(dense, whole, displacements[0], 6 * size, test))
    if len(surface.frame) == 0:
        return labels, None
    verdicts = [explain(dense, surface, D, test) for D in displacements]
    costs = np.empty((len(surface.frame), len(displacements)), np.float32)
    doubt = np.zeros_like(costs)
    for k, D in enumerate(displacements):
        # what belongs to a part does so in all frames: evidence is pooled where the points are at zero joint values
        rest = undo(surface, D)
        costs[:, k] = 0.4 * verdicts[k].cost + 0.6 * _cell_average(verdicts[k].cost, rest, size)
        if k > 0:
            proof = _cell_average(verdicts[0].proof, rest, 4 * size)
            doubt[:, k] = config.static_bonus + config.unproven_cost * np.clip(1 - proof / _PROOF, 0, 1)
        if parents[k] > 0:  # and what its parent's motion explains as well moves with the parent
            proof = _cell_average(verdicts[parents[k]].proof, rest, 4 * size)
            costs[:, k] += config.static_bonus + config.unproven_cost * np.clip(1 - proof / _PROOF, 0, 1)
    refuted = np.stack([v.refuted > test.max_refuted for v in verdicts], -1)
    return labels, _Judged(surface, size, refuted, costs, doubt)


def _paint(labels: np.ndarray, judged: _Judged, best: np.ndarray, displacements: np.ndarray) -> None:
    """Enter the labels (n,) into the image, but for specks of a part."""
    surface = judged.surface
    best = cut_apart(surface.points, best, judged.costs, displacements)
    for k in range(1, len(displacements)):
        own = np.flatnonzero(best == k)
        rest = undo(surface.subset(own), displacements[k])
        best[own[~_compact(rest, _BY_HEARSAY + judged.refuted[own, 0], 4 * judged.size)]] = 0
    labels.reshape(len(labels), -1)[surface.frame, surface.pixel] = best


def _continuing(dense: DenseWindow, judged: _Judged, best: np.ndarray, k: int) -> np.ndarray:
    """Which points (n,) of those labelled static go with part ``k``, as standing still and its motion do alike."""
    surface, costs = judged.surface, judged.costs
    moves = (best == k) & judged.refuted[:, 0]
    alike = ~judged.refuted[:, 0] & ~judged.refuted[:, k] & (costs[:, k] < costs[:, 0] + _ALIKE)
    open_ = alike & ((best == 0) | (best == k))
    normals = facing(dense, surface)
    return continued(surface.points, normals, moves, ~moves & ~open_, open_, 2 * judged.size) & (best == 0)


def _support(
    dense: DenseWindow, surface: Surface, best: np.ndarray, displacements: np.ndarray, belief: Belief, size: float
) -> np.ndarray:
    """Mean probability (n, K) that the surface around each of n points moves, pooled where it is at rest by motion k.

    Args:
        dense: reduced window.
        surface: the points, in the order of their frames and pixels.
        best: (n,) their labels so far.
        displacements: (K, T, 4, 4).
        belief: of some of the points.
        size: edge of the cells over which it is averaged, metres.
    """
    area = dense.depth_m[0].size
    key = surface.frame.astype(np.int64) * area + surface.pixel
    wanted = belief.frame.astype(np.int64) * area + belief.pixel
    at = np.searchsorted(key, wanted).clip(max=len(key) - 1)
    known = key[at] == wanted
    at, moving = at[known], belief.moving[known]
    support = np.zeros((len(key), len(displacements)), np.float32)
    for k in range(1, len(displacements)):
        own = (best[at] == 0) | (best[at] == k)
        cell = occupied_cells(undo(surface, displacements[k]), size)[1]
        count = np.bincount(cell[at[own]], minlength=cell.max() + 1)
        support[:, k] = (np.bincount(cell[at[own]], moving[own], cell.max() + 1) / np.maximum(count, 3))[cell]
    return support


def _near_motion(dense: DenseWindow, whole: Surface, still: np.ndarray, size: float, test: ExplainConfig) -> np.ndarray:
    """Points (n,) in or next to cells of edge ``size`` in which a sample of the surface proves that something moved.

    The rest, usually most of the room, is static without further questions.
    """
    sample = np.flatnonzero(whole.pixel % _SAMPLE == whole.frame % _SAMPLE)
    proof = explain(dense, whole.subset(sample), still, test).proof
    cells = np.floor(whole.points / size).astype(np.int64)
    cells -= cells.min(0) - 1
    span = cells.max(0) + 2
    key = (cells[:, 0] * span[1] + cells[:, 1]) * span[2] + cells[:, 2]
    active, index = np.unique(key[sample], return_inverse=True)
    active = active[np.bincount(index, proof) > _PROOF / 5 * np.bincount(index)]
    step = np.arange(-1, 2)
    around = ((step[:, None, None] * span[1] + step[:, None]) * span[2] + step).reshape(-1)
    return np.isin(key, active[:, None] + around)


def _compact(points: np.ndarray, weight: np.ndarray, size: float) -> np.ndarray:
    """Which points (n, 3) lie in connected cells of edge ``size`` with a tenth of the heaviest such set or more."""
    if len(points) == 0:
        return np.zeros(0, bool)
    piece = connected_cells(points, size)
    mass = np.bincount(piece, weight)
    return (mass >= 0.1 * mass.max())[piece]


def upsample_labels(window: Window, dense: DenseWindow, labels: np.ndarray) -> np.ndarray:
    """Bring labels (T, h, w) to full resolution (T, H, W): each pixel takes the label nearest in depth.

    Pixels without depth, outside the mask, or far in depth from all labelled neighbours stay ``UNLABELLED``.
    """
    return np.stack(
        [_upsample(f, d, lab, dense.step) for f, d, lab in zip(window.frames, dense.depth_m, labels, strict=True)]
    )


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
