"""Settings that say between which values they make sense."""

from __future__ import annotations

from dataclasses import field
from typing import TypeVar

T = TypeVar("T", bound="float | tuple[float, ...]")


def bounded(default: T, low: float, high: float) -> T:
    """A dataclass field: a number, or a tuple of numbers, from ``low`` to ``high`` inclusive.

    Commands refuse others with exit code 2, nodes with an error that names the parameter.
    """
    made: T = field(default=default, metadata={"bounds": (low, high)})
    return made
