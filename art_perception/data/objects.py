"""Procedural articulated objects with realistic metric sizes, handles, joint ranges and colours."""

from __future__ import annotations

import numpy as np

from art_perception.data.model import Material, SimObject, grounded, merge
from art_perception.data.shapes import box
from art_perception.errors import ObjectError
from art_perception.types import Joint, JointType


def _laptop(rng: np.random.Generator) -> SimObject:
    w, d, t = rng.uniform(0.28, 0.38), rng.uniform(0.2, 0.27), rng.uniform(0.012, 0.022)
    lid = rng.uniform(0.006, 0.01)
    body = merge([
        box((0, -w / 2, 0), (d, w / 2, t), 0),
        box((d * 0.12, -w * 0.46, t), (d * 0.62, w * 0.46, t + 0.001), 1),
        box((d * 0.68, -w * 0.17, t), (d * 0.96, w * 0.17, t + 0.0008), 2),
    ])
    screen = merge([
        box((0, -w / 2, t + 0.002), (d, w / 2, t + 0.002 + lid), 0),
        box((d * 0.06, -w * 0.47, t + 0.0014), (d * 0.97, w * 0.47, t + 0.002), 3),
    ])
    joint = Joint(
        "hinge", "base", "part_1", JointType.REVOLUTE, np.array([0, -1.0, 0]), np.array([0, 0, t + 0.002]),
        (0.0, float(rng.uniform(1.9, 2.6))),
    )  # fmt: skip
    shade = rng.uniform(0.05, 0.7)
    materials = (
        Material((shade, shade, shade), "brushed", 0.3, 0.5),
        Material((0.04, 0.04, 0.04), "tiles", 0.076, 1.0),
        Material((shade * 0.8,) * 3),
        Material(tuple(rng.uniform(0.05, 0.5, 3).tolist()), "print", 0.35, 1.0),
    )
    return SimObject("laptop", "laptop", (body, screen), (joint,), materials)


_MAKERS = {"laptop": _laptop}
CATEGORIES = tuple(_MAKERS)


def make_object(category: str, seed: int) -> SimObject:
    """Make the ``seed``-th object of a category.

    Raises:
        ObjectError: unknown category.
    """
    if category not in _MAKERS:
        raise ObjectError(f"unknown category {category!r}; choose one of {', '.join(CATEGORIES)}")
    return grounded(_MAKERS[category](np.random.default_rng(seed)))
