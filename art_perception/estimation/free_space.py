"""Where a part cannot be: where rays went on, where another part was seen, and where one that is fused is or was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from art_perception.estimation.depth_view import DepthView, look_up
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.voxels import Grid
from art_perception.types import UNLABELLED

THICKNESS = 0.5
"""Of what is measured from one side, in truncations."""
_ROOM = 0.4  # around another part, in truncations


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """A part that is fused: its label, and on a grid, at zero joint values, how deep inside a sample is, metres."""

    label: int
    grid: Grid
    inside_m: np.ndarray

    def depth_m(self, points: np.ndarray) -> np.ndarray:
        """How deep points (N, 3) at zero joint values are inside, metres; negative outside."""
        place = ((points - self.grid.origin) / self.grid.voxel_m).T
        return ndimage.map_coordinates(self.inside_m, place, order=1, mode="nearest")


def solid_of(label: int, grid: Grid, inside: np.ndarray) -> Solid:
    """The part whose samples are ``inside``; its surface is half a voxel from the nearest sample on the other side."""
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return Solid(label, grid, (grid.voxel_m * (depth - 0.5 * np.sign(depth))).astype(np.float32))


def seen_through(grid: Grid, views: Sequence[DepthView], label: int, truncation_m: float, min_votes: int) -> np.ndarray:
    """On ``grid``: 1 where so many rays went on or met another part, -1 where not, blurred.

    A ray went on when it did for a truncation; up to there this part's own surface is measured. A surface of another
    part is as thick as what is measured from one side.
    """
    points = grid.positions(np.arange(np.prod(grid.shape)))
    votes = np.zeros(len(points), np.int32)
    for view in views:
        seen, index = look_up(view, label, points)
        other = (view.label[index] != label) & (view.label[index] != UNLABELLED)
        votes += view.nearest_m[index] - seen[:, 2] > np.where(other, -THICKNESS, 1) * truncation_m
    free = np.where(votes >= min(min_votes, len(views)), np.float32(1), np.float32(-1))
    return ndimage.gaussian_filter(free.reshape(grid.shape), 0.7)


def taken(
    grid: Grid, views: Sequence[DepthView], label: int, others: Sequence[Solid], truncation_m: float
) -> np.ndarray:
    """On ``grid``: how deep, in truncations, a place of the part is inside one of the ``others`` in any view.

    -inf without others.
    """
    points = grid.positions(np.arange(np.prod(grid.shape)))
    depth_m = np.full(len(points), -np.inf, np.float32)
    for other in others:
        for view in views:
            place = transform(inverse(view.D[other.label]) @ view.D[label], points)
            np.maximum(depth_m, other.depth_m(place), out=depth_m)
    return depth_m.reshape(grid.shape) / truncation_m + _ROOM
