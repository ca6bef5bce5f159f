"""Small exact shapes that several test modules of the shape prior use."""

from __future__ import annotations

import functools

import numpy as np

from art_perception.data.assembly import TURN, Mover, Y, assemble, at
from art_perception.data.model import Material, SimObject, Surface
from art_perception.data.objects import make_object
from art_perception.data.sdf import SdfConfig
from art_perception.data.shape_bank import ShapeBank, ShapeBankConfig, make_shape_bank, shapes_of
from art_perception.data.shapes import box

GREY = Material((0.5, 0.5, 0.5))
COARSE = SdfConfig(voxels=48)


def slabs() -> SimObject:
    """A laptop of two thick plates."""
    lid = Mover(box((0, -0.2, 0.05), (0.3, 0.2, 0.09)), TURN, -Y, at(0, 0, 0.05), 2.0)
    return assemble("laptop", [box((0, -0.2, 0), (0.3, 0.2, 0.05))], [lid], [GREY])


def box_sdf(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Exact signed distance of points (N, 3) to an axis-aligned box."""
    q = np.abs(points - (low + high) / 2) - (high - low) / 2
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


def corners(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corners (N, 3) of the axis-aligned boxes a surface is made of; none when it is not."""
    if len(surface.vertices) % 8:
        return np.zeros((0, 3)), np.zeros((0, 3))
    pieces = surface.vertices.reshape(-1, 8, 3)
    low, high = pieces.min(1), pieces.max(1)
    plain = np.isclose(pieces, low[:, None]) | np.isclose(pieces, high[:, None])
    return (low, high) if plain.all() else (low[:0], high[:0])


def in_boxes(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether points (N, 3) are in the union of boxes (M, 3) to (M, 3)."""
    return ((points[:, None] > low) & (points[:, None] < high)).all(-1).any(1)


@functools.cache
def small_bank() -> ShapeBank:
    """A laptop, eyeglasses and a table's drawer with few points."""
    objects = [("procedural", slabs())]
    objects += [("infinigen", make_object("eyeglasses", 1)), ("procedural", make_object("drawer_table", 2))]
    config = ShapeBankConfig(points=3000, queries=1500, per_object=1)
    return make_shape_bank(shapes_of(objects, config), config, COARSE)
