"""What stands around the object: floor or table top, walls, clutter; in the room frame (z up, object at the origin)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from art_perception.data.looks import random_color, wood
from art_perception.data.model import Material, Surface, merge, moved
from art_perception.data.shapes import box, cylinder, ellipsoid, placed
from art_perception.geometry.lie import exp_so3

_GROUNDS = (("planks", 1.2), ("tiles", 1.6), ("wood", 1.0), ("fabric", 0.4), ("speckle", 0.5), ("marble", 0.8))
_WALLS = (("plain", 1.0), ("noise", 2.0), ("speckle", 0.6), ("planks", 1.5), ("tiles", 0.8), ("print", 1.5))


def _cover(rng: np.random.Generator, choices: tuple[tuple[str, float], ...]) -> Material:
    kind, size = choices[rng.integers(len(choices))]
    size, contrast = size * float(rng.uniform(0.7, 1.4)), float(rng.uniform(0.3, 1.0))
    if kind in ("wood", "planks"):
        return replace(wood(rng), texture=kind, texture_size_m=size, contrast=contrast)
    return Material(random_color(rng, 0.12), kind, size, contrast)


def _thing(rng: np.random.Generator, scale: float, material: int) -> Surface:
    """One clutter object standing on z = 0."""
    size = scale * rng.uniform(0.1, 0.4, 3)
    kind = rng.integers(3)
    if kind == 0:
        shape = box((-size[0] / 2, -size[1] / 2, 0), (size[0] / 2, size[1] / 2, size[2]), material)
    elif kind == 1:
        shape = cylinder(size[0] / 3, size[2], material)
    else:
        shape = moved(ellipsoid((size[0] / 2, size[1] / 2, size[2] / 2), material), np.array([0, 0, size[2] / 2]))
    return placed(shape, exp_so3(np.array([0, 0, rng.uniform(0, 2 * np.pi)])), np.zeros(3))


def _table(reach: float, rng: np.random.Generator) -> list[Surface]:
    """Table top under the object, the floor below it."""
    low, x, y = -float(rng.uniform(0.4, 0.75)), *(reach * 1.3 + rng.uniform(0.15, 0.7, 2))
    legs = [
        box((sx - 0.03, sy - 0.03, low), (sx + 0.03, sy + 0.03, -0.03), 0)
        for sx in (-0.8 * x, 0.8 * x)
        for sy in (-0.8 * y, 0.8 * y)
    ]
    return [box((-x, -y, -0.03), (x, y, 0), 0), box((-6, -6, low - 0.05), (6, 6, low), 3), *legs]


def _walls(reach: float, scale: float, view_azimuth: float, rng: np.random.Generator) -> list[Surface]:
    """Up to two walls, behind the object and beside it."""
    pieces = []
    away = reach * 1.45 + rng.uniform(0.02, 1.2) * scale
    turn = view_azimuth + np.pi + rng.uniform(-0.4, 0.4)
    for k, angle in enumerate((turn, turn + rng.choice([-1, 1]) * np.pi / 2)):
        if rng.random() < (0.9 if k == 0 else 0.4):
            distance = away + k * 1.5 * scale
            wall = box((distance, -6, -1), (distance + 0.1, 6, 3), 1 + k)
            pieces.append(placed(wall, exp_so3(np.array([0, 0, angle])), np.zeros(3)))
    return pieces


def make_room(
    bounds: np.ndarray, view_azimuth: float, clutter: int, rng: np.random.Generator
) -> tuple[Surface, list[Material]]:
    """Build surroundings of an object with ``bounds`` (2, 3) that is looked at from ``view_azimuth`` (rad).

    Returns:
        the merged surface and its own list of materials.
    """
    materials = [_cover(rng, _GROUNDS), _cover(rng, _WALLS), _cover(rng, _WALLS), _cover(rng, _GROUNDS)]
    reach = float(np.abs(bounds[:, :2]).max())
    scale = max(reach * 2, float(bounds[1, 2]), 0.2)
    pieces = _table(reach, rng) if reach < 0.35 and rng.random() < 0.5 else [box((-6, -6, -0.05), (6, 6, 0), 0)]
    pieces += _walls(reach, scale, view_azimuth, rng)
    for _ in range(clutter):
        materials.append(Material(random_color(rng), str(rng.choice(["plain", "print", "noise", "fabric"])), 0.3, 0.8))
        angle = view_azimuth + np.pi + rng.uniform(-1.9, 1.9)
        away = reach * rng.uniform(1.5, 2.2) + 0.2 * scale
        thing = _thing(rng, scale, len(materials) - 1)
        pieces.append(moved(thing, away * np.array([np.cos(angle), np.sin(angle), 0])))
    return merge(pieces), materials
