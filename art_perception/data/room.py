"""What stands around the object: floor or table top, walls, clutter; in the room frame (z up, object at the origin)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from art_perception.data.assembly import wood
from art_perception.data.model import Material, Surface, merge, moved, rgb
from art_perception.data.shapes import box, cylinder, ellipsoid, placed
from art_perception.geometry.lie import exp_so3

_GROUNDS = (("planks", 1.2), ("tiles", 1.6), ("wood", 1.0), ("fabric", 0.4), ("speckle", 0.5), ("marble", 0.8))
_WALLS = (("plain", 1.0), ("noise", 2.0), ("speckle", 0.6), ("planks", 1.5), ("tiles", 0.8), ("print", 1.5))


def random_color(rng: np.random.Generator, low: float = 0.05, high: float = 0.85) -> tuple[float, float, float]:
    """Linear RGB: mostly greys, creams and browns as in homes, now and then a strong colour."""
    grey = rng.uniform(low, high)
    if rng.random() < 0.2:
        color = grey * rng.uniform(0.15, 1.4, 3)
    else:
        warm = rng.uniform(-0.05, 0.4)
        color = grey * np.array([1 + 0.4 * warm, 1.0, 1 - warm]) * (1 + 0.03 * rng.normal(size=3))
    return rgb(color)


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


def make_room(
    bounds: np.ndarray, view_azimuth: float, clutter: int, rng: np.random.Generator
) -> tuple[Surface, list[Material]]:
    """Build surroundings of an object with ``bounds`` (2, 3) that is looked at from ``view_azimuth`` (rad).

    Returns:
        the merged surface and its own list of materials.
    """
    materials = [_cover(rng, _GROUNDS), _cover(rng, _WALLS), _cover(rng, _WALLS)]
    reach = float(np.abs(bounds[:, :2]).max())
    height = float(bounds[1, 2])
    scale = max(reach * 2, height, 0.2)
    pieces = [box((-6, -6, -0.05), (6, 6, 0), 0)]
    back = reach * 1.45 + rng.uniform(0.02, 1.2) * scale
    turn = view_azimuth + np.pi + rng.uniform(-0.4, 0.4)
    for k, angle in enumerate((turn, turn + rng.choice([-1, 1]) * np.pi / 2)):
        if rng.random() < (0.9 if k == 0 else 0.4):
            away = back + (k * 1.5 * scale)
            wall = box((away, -6, 0), (away + 0.1, 6, 3), 1 + k)
            pieces.append(placed(wall, exp_so3(np.array([0, 0, angle])), np.zeros(3)))
    for _ in range(clutter):
        materials.append(Material(random_color(rng), str(rng.choice(["plain", "print", "noise", "fabric"])), 0.3, 0.8))
        angle = view_azimuth + np.pi + rng.uniform(-1.9, 1.9)
        away = reach * rng.uniform(1.5, 2.2) + 0.2 * scale
        thing = _thing(rng, scale, len(materials) - 1)
        pieces.append(moved(thing, away * np.array([np.cos(angle), np.sin(angle), 0])))
    return merge(pieces), materials
