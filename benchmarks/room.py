"""What stands around an object in clips of other renderers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.data.model import SimObject

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """What stands around an object.

    Attributes:
        K: (3, 3) calibration.
        azimuth: of the camera, object frame, rad.
        swept: (2, 3) bounds of all that the object ever fills.
        wall_m: distance of a wall behind the object, or None.
        clutter: number of things standing about.
    """

    K: np.ndarray
    azimuth: float
    swept: np.ndarray
    wall_m: float | None
    clutter: int


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A box, cylinder or ellipsoid on the floor.

    Attributes:
        kind: which of them.
        half: (3,) half sides; a cylinder is ``half[0]`` thick and twice ``half[1]`` high.
        at: (3,) its middle, object frame.
        turn: about the vertical, rad.
    """

    kind: str
    half: np.ndarray
    at: np.ndarray
    turn: float


def clutter(obj: SimObject, room: Room, rng: np.random.Generator) -> Thing | None:
    """Something that neither touches what the object sweeps nor stands between it and the camera, or None."""
    size = float(np.linalg.norm(np.ptp(obj.bounds, axis=0)))
    low, high = room.swept
    for _ in range(50):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.6) * size
        at = np.array([np.cos(angle) * distance, np.sin(angle) * distance, 0]) + np.r_[(low + high)[:2] / 2, 0]
        half = rng.uniform(0.05, 0.2, 3) * max(size, 0.3)
        reach = 1.5 * half.max()
        clear = (at[:2] + reach < low[:2]).any() or (at[:2] - reach > high[:2]).any()
        if clear and abs((angle - room.azimuth + np.pi) % (2 * np.pi) - np.pi) > 0.7:
            kind = str(rng.choice(["box", "cylinder", "ellipsoid"]))
            height = half[1] if kind == "cylinder" else half[2]
            return Thing(kind, half, at + np.array([0, 0, height]), rng.uniform(0, 6))
    return None
