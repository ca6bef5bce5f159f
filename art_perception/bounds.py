"""Settings that say between which values they make sense."""

from __future__ import annotations

import math
from dataclasses import Field, field
from typing import Any, TypeVar

T = TypeVar("T", bound="float | tuple[float, ...]")


def bounded(default: T, low: float, high: float) -> T:
    """A dataclass field: a number, or a tuple of numbers, from ``low`` to ``high`` inclusive.

    Commands refuse others with exit code 2, nodes with an error that names the parameter.
    """
    made: T = field(default=default, metadata={"bounds": (low, high)})
    return made


def outside(item: Field[Any], value: object) -> str | None:
    """What is wrong with the value of a field that has bounds (``is -1: give 0 to 4``); None when nothing is."""
    low, high = item.metadata.get("bounds", (-math.inf, math.inf))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not low <= number <= high:
            return f"is {number:g}: give {low:g} to {high:g}"
    return None
