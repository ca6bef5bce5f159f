"""One colour per part, the same in every picture, page and marker."""

from __future__ import annotations

BASE_RGB = (148, 163, 184)
_PART_RGB = (
    (249, 115, 22),
    (14, 165, 233),
    (34, 197, 94),
    (168, 85, 247),
    (236, 72, 153),
    (234, 179, 8),
    (20, 184, 166),
    (239, 68, 68),
)


def part_rgb(part: int) -> tuple[int, int, int]:
    """Colour of a part: 0 is the static body, k the child of the k-th joint; colours repeat after eight joints."""
    return BASE_RGB if part == 0 else _PART_RGB[(part - 1) % len(_PART_RGB)]


def part_hex(part: int) -> str:
    """:func:`part_rgb` as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*part_rgb(part))
