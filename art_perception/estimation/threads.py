"""Tracks of a part too thin for flow and normals: bails, wires, rods.

Of a wire a few pixels wide the background's flow is measured and no normal, but the depth of every frame shows where
it is. With a rough motion all frames' points lie on one curve at rest; places of that curve are looked up in every
frame (iterative closest point, Besl & McKay 1992, on all frames at once), which gives tracks to fit the joint to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.joint_fit import Motion, fit_tracks
from art_perception.geometry.cells import occupied_cells
from art_perception.geometry.lie import inverse, transform

THIN = 0.7  # share of a part's pixels without a normal: more, and there is nothing to register
SLIM = 0.3  # more, and registration has to stand comparison
_GATES = ((0.03, 1), (0.02, 1), (0.015, 1), (0.01, 20), (0.006, 40))  # how far off, m, places are looked up, how often
_NOISE = 2.0  # what noise there is, at least
_FOUND_M = 0.01  # where a place counts as found
_STEPS = 2  # of the fit, before places are looked up again
_SETTLED = 1e-4  # rad, a change of the axis that no longer counts
_APART_M = 0.006  # of places at rest
_PLACES = 150
_FEWEST = 100  # pixels of a part in all frames that still say something
_NEIGHBOURS = 8  # points that show how the thread runs
_TELLING = 1 / 3  # of a lookup's weight: along the thread it says nothing


def thinness(dense: DenseWindow, own: np.ndarray) -> float:
    """Share of a part's pixels ``own`` (T, h, w) that have no normal; zero where it is hardly seen at all."""
    return float((~dense.normals[own].any(-1)).mean()) if own.sum() >= _FEWEST else 0.0


def agreement(clouds: list[np.ndarray], motion: Motion) -> float:
    """Share of a part's places that are found where ``motion`` puts them, over the frames that show any of it."""
    weights = _looked_up([_thread(cloud) for cloud in clouds], motion, _FOUND_M, 1.0)[1]
    shown = [len(cloud) > 0 for cloud in clouds]
    return float((weights[:, shown] > 0).mean())


def threads(clouds: list[np.ndarray], motion: Motion, noise_m: float) -> tuple[Motion, np.ndarray, np.ndarray]:
    """Fit ``motion`` to the points of a thin part.

    Args:
        clouds: (n, 3) the part's points in each of T frames, in the parent's frame.
        motion: rough joint in the parent's frame.
        noise_m: depth noise at the median depth, metres.

    Returns:
        The motion, and the tracks it was fitted to: positions (N, T, 3) in the parent's frame and weights (N, T),
        inverse variances, zero where a place was not found.
    """
    last, seen = motion, [_thread(cloud) for cloud in clouds]
    for gate, steps in _GATES:
        gate = max(gate, _NOISE * noise_m)
        for k in range(steps):
            ahead = _ahead(last, motion, k / (k + 3))
            tracks, weights = _looked_up(seen, ahead, gate, noise_m)
            last, motion = motion, fit_tracks(ahead, tracks, weights, _STEPS)
            if np.linalg.norm(motion.axis - last.axis) < _SETTLED:
                break
    tracks, weights = _looked_up(seen, motion, gate, noise_m)
    return motion, tracks, _TELLING * weights


def _ahead(last: Motion, motion: Motion, momentum: float) -> Motion:
    """Where ``motion`` is going (Nesterov 1983): what is looked up holds a thread back along itself."""
    axis = motion.axis + momentum * (motion.axis - last.axis)
    origin = motion.origin + momentum * (motion.origin - last.origin)
    return replace(motion, axis=axis / np.linalg.norm(axis), origin=origin, q=motion.q + momentum * (motion.q - last.q))


class _Thread(NamedTuple):
    """Points (n, 3) of one frame, their search tree, and the directions (n, 3) in which the thread runs there."""

    points: np.ndarray
    tree: cKDTree
    along: np.ndarray


def _thread(points: np.ndarray) -> _Thread:
    """A thread runs along the longest axis of its neighbours' spread."""
    tree = cKDTree(points)
    if len(points) == 0:
        return _Thread(points, tree, points)
    near = points[tree.query(points, k=min(_NEIGHBOURS, len(points)))[1].reshape(len(points), -1)]
    near = near - near.mean(1, keepdims=True)
    return _Thread(points, tree, np.linalg.eigh(near.swapaxes(1, 2) @ near)[1][..., 2])


def _looked_up(seen: list[_Thread], motion: Motion, gate: float, noise_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Tracks of places at rest: where each meets the thread of every frame, weight zero beyond ``gate``.

    That is the nearest point, moved along the thread to beside the place: sliding along itself costs a thread nothing.
    """
    D = motion.displacement(motion.q)
    rest = [transform(back, thread.points) for back, thread in zip(inverse(D), seen, strict=True)]
    places = _spread(np.concatenate(rest))
    tracks = np.zeros((len(places), len(seen), 3))
    weights = np.zeros(tracks.shape[:2])
    for t, (moved, thread) in enumerate(zip(D, seen, strict=True)):
        if len(thread.points) == 0:
            continue
        there = transform(moved, places)
        gap, nearest = thread.tree.query(there)
        near, along = thread.points[nearest], thread.along[nearest]
        tracks[:, t] = near + ((there - near) * along).sum(-1, keepdims=True) * along
        weights[:, t] = (gap < gate) / (noise_m**2 + _APART_M**2)
    return tracks, weights


def _spread(points: np.ndarray) -> np.ndarray:
    """At most ``_PLACES`` means (m, 3) of the points in the same small cell, those of most points first."""
    index = occupied_cells(points, _APART_M)[1]
    count = np.bincount(index)
    mean = np.stack([np.bincount(index, axis) for axis in points.T], -1) / count[:, None]
    return mean[(-count).argsort(kind="stable")[:_PLACES]]
