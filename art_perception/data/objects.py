"""Procedural articulated objects with realistic metric sizes; the seed varies size, layout, handles, ranges, looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from art_perception.data import furniture, gadgets
from art_perception.data.model import SimObject, grounded
from art_perception.errors import ObjectError

_MAKERS: dict[str, Callable[[np.random.Generator], SimObject]] = {
    "box": gadgets.container,
    "cabinet": furniture.cabinet,
    "dishwasher": furniture.dishwasher,
    "door": furniture.room_door,
    "drawer_table": furniture.drawer_table,
    "eyeglasses": gadgets.eyeglasses,
    "fan": gadgets.fan,
    "fridge": furniture.fridge,
    "hinged_window": gadgets.hinged_window,
    "laptop": gadgets.laptop,
    "microwave": furniture.microwave,
    "oven": furniture.oven,
    "scissors": gadgets.scissors,
    "sliding_window": gadgets.sliding_window,
    "stapler": gadgets.stapler,
}

CATEGORIES = tuple(_MAKERS)
"""Names ``make_object`` takes."""


def make_object(category: str, seed: int) -> SimObject:
    """Make the ``seed``-th object of a category; the same arguments give the same object.

    Raises:
        ObjectError: unknown category.
    """
    if category not in _MAKERS:
        raise ObjectError(f"unknown category {category!r}; choose one of {', '.join(CATEGORIES)}")
    obj = grounded(_MAKERS[category](np.random.default_rng(seed)))
    return replace(obj, name=f"{category}_{seed}")
