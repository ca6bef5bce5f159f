"""Tracks of a part too thin for flow and normals: bails, wires, rods.

Of a wire a few pixels wide the background's flow is measured and no normal, but the depth of every frame shows where
it is. With a rough motion all frames' points lie on one curve at rest; places of that curve are looked up in every
frame (iterative closest point, Besl & McKay 1992, on all frames at once), which gives tracks to fit the joint to.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.joint_fit import Motion, fit_tracks
from art_perception.geometry.cells import occupied_cells
from art_perception.geometry.lie import inverse, transform

_THIN = 0.3  # share of a part's pixels that have a normal
_GATES_M = (0.03, 0.02, 0.015, 0.01, 0.01, 0.01)
_APART_M = 0.006
_PLACES = 150
_FEWEST = 100
_TELLING = 1 / 3  # of a lookup's weight: along the thread it says nothing


def is_thin(dense: DenseWindow, own: np.ndarray) -> bool:
    """Whether a part, its pixels (T, h, w), is seen but has hardly a surface."""
    return bool(own.sum() >= _FEWEST and (np.abs(dense.normals[own]).sum(-1) > 0).mean() < _THIN)


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
    tracks, weights = _looked_up(clouds, motion, _GATES_M[0], noise_m)
    for gate in _GATES_M[1:]:
        motion = fit_tracks(motion, tracks, weights)
        tracks, weights = _looked_up(clouds, motion, gate, noise_m)
    return motion, tracks, _TELLING * weights


def _looked_up(
    clouds: list[np.ndarray], motion: Motion, gate: float, noise_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tracks of places at rest: the point of every frame that lies nearest to each, weight zero beyond ``gate``."""
    D = motion.displacement(motion.q)
    rest = [transform(back, cloud) for back, cloud in zip(inverse(D), clouds, strict=True)]
    places = _spread(np.concatenate(rest))
    tracks = np.zeros((len(places), len(clouds), 3))
    weights = np.zeros(tracks.shape[:2])
    for t, (cloud, at_rest) in enumerate(zip(clouds, rest, strict=True)):
        if len(cloud) == 0:
            continue
        gap, nearest = cKDTree(at_rest).query(places)
        tracks[:, t] = cloud[nearest]
        weights[:, t] = (gap < gate) / (noise_m**2 + _APART_M**2)
    return tracks, weights


def _spread(points: np.ndarray) -> np.ndarray:
    """At most ``_PLACES`` means (m, 3) of the points in the same small cell, those of most points first."""
    index = occupied_cells(points, _APART_M)[1]
    count = np.bincount(index)
    mean = np.stack([np.bincount(index, axis) for axis in points.T], -1) / count[:, None]
    return mean[(-count).argsort(kind="stable")[:_PLACES]]
