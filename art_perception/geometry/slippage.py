"""Axes about which a surface turns within itself: slippage analysis.

A rigid motion that leaves a surface in its place moves every point across its normal (Gelfand & Guibas, "Shape
segmentation using local slippage analysis", SGP 2004). Of a cap, a lens, a dial, one such motion turns about the axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from art_perception.geometry.screw import line_distance

_REACHES = (8, 16, 26, 42)  # cells around a seed that are looked at
_FEWEST = 60  # of them, to tell
_MOST = 1500  # that are used
_ROUNDS = 5
_SLACK = 0.1  # of a normal along the motion: more is another surface
_SHARE = 0.7  # of the cells that must turn within themselves
_STILL = 0.004  # mean square of what is left along the normals
_ONLY = 12.0  # times as much as that, if the surface moved in any other way
_PITCH = 0.1  # slide per turn, of the reach: more is a screw's thread, or a plane
_NEAR = 1.5  # reaches from the seed at which the axis may pass
_ALIKE = np.cos(np.deg2rad(4))  # axes so close, within three cells, are the same


@dataclass(frozen=True, slots=True, eq=False)
class Revolution:
    """An axis (3,) through ``origin`` (3,) about which a surface turns within itself.

    Attributes:
        axis: unit vector; origin: point on the axis nearest to the first seed, metres.
        axis_std_rad, origin_std_m: how far the estimates from different seeds and reaches scatter.
        seeds: indices of the seeds around which the surface does so, one entry for each reach.
    """

    axis: np.ndarray
    origin: np.ndarray
    axis_std_rad: float
    origin_std_m: float
    seeds: np.ndarray


def revolutions(points: np.ndarray, normals: np.ndarray, seeds: np.ndarray, cell: float) -> list[Revolution]:
    """Axes of the surfaces of revolution around ``seeds``, those that most of them see first.

    Args:
        points: (n, 3) one for each cell of the surface, metres.
        normals: (n, 3) unit.
        seeds: (s, 3) where to look, metres.
        cell: edge of the cells, metres.
    """
    tree = cKDTree(points)
    found = []
    for s, seed in enumerate(seeds):
        for reach in _REACHES:
            near = np.array(tree.query_ball_point(seed, reach * cell))
            if len(near) < _FEWEST:
                continue
            near = near[:: -(-len(near) // _MOST)]
            line = slippage(points[near], normals[near], seed, reach * cell)
            if line is not None:
                found.append((*line, s))
    return _merged(found, cell)


def slippage(
    points: np.ndarray, normals: np.ndarray, seed: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Axis (3,), its point (3,) nearest to ``seed``, and how much the surface forbids any other motion than this turn.

    None when nothing, or more than one motion, leaves the points (n, 3) with these normals in their place.
    """
    x = (points - seed) / reach
    along = np.concatenate([normals, np.cross(x, normals)], -1)  # of a twist [v, w], along the normals
    weight = np.ones(len(x))
    for _ in range(_ROUNDS):
        weighted = along * weight[:, None]
        value, vector = np.linalg.eigh(weighted.T @ along / weight.sum())
        v, w = vector[:3, 0], vector[3:, 0]
        turn = float(np.linalg.norm(w))
        if turn < 1e-3:
            return None
        left = along @ vector[:, 0] / turn
        weight = 1 / (1 + (left / _SLACK) ** 2) ** 2
    v, w = v / turn, w / turn
    origin = seed + reach * np.cross(w, v)
    stays = value[0] < _STILL and value[1] > _ONLY * value[0] and abs(v @ w) < _PITCH
    if not stays or (np.abs(left) < 1.5 * _SLACK).mean() < _SHARE or np.linalg.norm(origin - seed) > _NEAR * reach:
        return None
    return w, origin, float(value[1] / max(value[0], 1e-9))


def _merged(found: list[tuple[np.ndarray, np.ndarray, float, int]], cell: float) -> list[Revolution]:
    """One axis, the best determined, of all that are nearly the same."""
    left = sorted(found, key=lambda line: -line[2])
    out = []
    while left:
        axis, origin, _, _ = left[0]
        same = [abs(w @ axis) > _ALIKE and line_distance(o, origin, axis) < 3 * cell for w, o, _, _ in left]
        own = [line for line, one in zip(left, same, strict=True) if one]
        left = [line for line, one in zip(left, same, strict=True) if not one]
        turn = np.array([np.linalg.norm(np.cross(w, axis)) for w, _, _, _ in own])
        off = np.array([line_distance(o, origin, axis) for _, o, _, _ in own])
        out.append(
            Revolution(
                axis,
                origin,
                float(np.sqrt((turn**2).mean())),
                float(np.sqrt((off**2).mean())),
                np.array([s for *_, s in own]),
            )
        )
    return sorted(out, key=lambda one: -len(one.seeds))
