"""Common ground of the procedural objects: a moving part with its joint, handles, small conveniences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_perception.data.model import Material, SimObject, Surface, merge, moved
from art_perception.data.shapes import box, capsule, cylinder, placed
from art_perception.geometry.lie import exp_so3
from art_perception.types import Joint, JointType

X, Y, Z = np.eye(3)
TURN, SLIDE = JointType.REVOLUTE, JointType.PRISMATIC


@dataclass(frozen=True, slots=True, eq=False)
class Mover:
    """A part and the joint that moves it, object frame at zero joint values.

    Attributes:
        surface: the part.
        type: revolute or prismatic.
        axis: (3,) unit; positive values open.
        origin: (3,) point on the axis, metres.
        high: upper limit, rad or m.
        low: lower limit, rad or m.
        parent: index of the mover it hangs on, -1 for the base.
        behind: index of the mover that must stand open for this one to move, -1 for none.
    """

    surface: Surface
    type: JointType
    axis: np.ndarray
    origin: np.ndarray
    high: float
    low: float = 0.0
    parent: int = -1
    behind: int = -1


def assemble(
    category: str, base: Sequence[Surface], movers: Sequence[Mover], materials: Sequence[Material]
) -> SimObject:
    """Build the object; movers must come after the ones they hang on."""
    links = ["base", *(f"part_{k + 1}" for k in range(len(movers)))]
    joints = tuple(
        Joint(f"joint_{k + 1}", links[m.parent + 1], links[k + 1], m.type, m.axis, m.origin, (m.low, m.high))
        for k, m in enumerate(movers)
    )
    blockers = tuple((k, m.behind) for k, m in enumerate(movers) if m.behind >= 0)
    parts = (merge(base), *(m.surface for m in movers))
    return SimObject(category, category, parts, joints, tuple(materials), blockers)


def at(*xyz: float) -> np.ndarray:
    """A point (3,)."""
    return np.array(xyz, float)


def turned(surface: Surface, axis: np.ndarray, angle: float, shift: np.ndarray | None = None) -> Surface:
    """Rotate about ``axis`` through the origin by ``angle`` rad, then translate by ``shift``."""
    return placed(surface, exp_so3(axis * angle), np.zeros(3) if shift is None else shift)


def bar_handle(rng: np.random.Generator, length: float, material: int, upright: bool) -> Surface:
    """Handle on a front at x = 0 facing +x, centred on the origin: a bar on two posts, a rail or a knob."""
    kind = rng.choice(["bar", "rail", "knob"])
    out = float(rng.uniform(0.022, 0.045))
    if kind == "knob":
        return turned(cylinder(float(rng.uniform(0.01, 0.018)), out, material, 14), Y, np.pi / 2)
    if kind == "rail":
        grip = box((0, -length / 2, -0.008), (out, length / 2, 0.008), material)
    else:
        bar = turned(capsule(0.006, 0.006, length, material, 10), X, np.pi / 2, at(out, length / 2, 0))
        posts = [box((0, y - 0.005, -0.005), (out, y + 0.005, 0.005), material) for y in (-0.4 * length, 0.4 * length)]
        grip = merge([bar, *posts])
    return turned(grip, X, np.pi / 2) if upright else grip


def shifted(surface: Surface, *xyz: float) -> Surface:
    """Translate by (x, y, z)."""
    return moved(surface, np.array(xyz, float))
