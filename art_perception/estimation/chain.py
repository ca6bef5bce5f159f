"""Motions that hang on one another: where the chain takes each part, and joints that are better told without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.segment import world_displacement
from art_perception.geometry.screw import on_one_line
from art_perception.types import JointType


def displacements(motions: list[Motion], frames: int) -> np.ndarray:
    """Displacements (K + 1, T, 4, 4) of the static body (identity) and every part."""
    still = np.broadcast_to(np.eye(4), (frames, 4, 4))
    return np.stack([still, *(world_displacement(motions, k) for k in range(len(motions)))])


def parents_of(motions: list[Motion]) -> list[int]:
    """Index (K + 1,) in :func:`displacements` of the body that each one hangs on; the static body on itself."""
    return [0, *(motion.parent + 1 for motion in motions)]


def coaxial(a: Motion, b: Motion) -> bool:
    """Whether two joints turn about one line, or slide along one direction, as far as proposals can tell."""
    origin = a.origin if a.type is JointType.PRISMATIC else b.origin
    return a.type is b.type and on_one_line(a.axis, a.origin, b.axis, origin)


def unchained(motion: Motion, motions: list[Motion]) -> Motion:
    """``motion`` about the axis its parent turns about too (or along it), told without the parent when that moves less.

    Two doors on one hinge line: the motion of one against the other is a joint as well, but nobody means it.
    """
    if motion.parent < 0:
        return motion
    parent = motions[motion.parent]
    if not coaxial(motion, parent):
        return motion
    q = motion.q + np.sign(motion.axis @ parent.axis) * parent.q
    if np.abs(np.diff(q)).sum() >= np.abs(np.diff(motion.q)).sum():
        return motion
    return unchained(replace(motion, parent=parent.parent, q=q), motions)
