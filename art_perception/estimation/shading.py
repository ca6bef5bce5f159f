"""Tells shadows and reflections, which change brightness alone, from parts.

A shadow that wanders over what stands still looks like a part: brightness contradicts that the place is at rest, and a
motion explains what is seen. Depth alone does not contradict that it is at rest. Two kinds of parts change no depth
either: those that turn within their own surface, about an axis nearby (a knob, scissors), where a door's shadow turns
about the door's hinge and what its glass reflects leaves the glass; and those that slide within it (a chair's back that
is raised), of which depth shows the edges, where a shadow has none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from art_perception.estimation.chain import coaxial, displacements
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import ExplainConfig, Surface, explain, facing, undo
from art_perception.estimation.joint_fit import Motion
from art_perception.geometry.cells import connected_cells
from art_perception.types import JointType

_BODILY = 0.25  # of a part's surface: what depth alone shows to move as no other part, unless it turns in place
_SEEN_TO_MOVE = 0.1  # of the frames: in so many depth refutes a motion of a place
_EDGES = 0.03  # of a part's surface, refuted so when still but not in motion: the edges of what slides within itself
_APART = 0.1  # of it, refuted as it stands or moves with any other part, if it is only seen when those are known;
_CLEAN = 0.05  # and at most so much of it as it moves itself
_HARDLY = 0.05  # of a piece of a part, refuted as it stands: less is a shadow where others have as much as a body
_FAR = 6  # axes further from a part than so many of its radii turn it as a slide would move it,
_BESIDE = 1.2  # and, where another part moves and may throw a shadow, as that shadow wanders
_OUT = 0.7  # sine of the angle between a surface and its motion, from which on depth shows the motion


def is_shading(
    dense: DenseWindow,
    own: Surface,
    motion: Motion,
    D: np.ndarray,
    known: list[Motion],
    test: ExplainConfig,
    left: bool,
) -> bool:
    """Whether what ``motion`` explains changes in brightness alone.

    Where another part moves, the edges may be that part's: shadow and reflection of a door take some of its fringe,
    which does not stand still, but moves as the door does. Frames that do not see a place say nothing: behind a door
    that opens there are shadows too. What all parts leave is mostly such, so that there depth must show that it moves
    as none of them does. About the axis of another part, what turns in place is that part, slipped.

    Args:
        dense: reduced window with the witnesses.
        own: surface that the motion explains and nothing found before does.
        motion: the new part's.
        D: its displacement (T, 4, 4), fixed frame.
        known: motions of the parts found before.
        test: costs and tolerances.
        left: whether ``own`` is from what the parts leave, looked at for itself.
    """
    depth = replace(test, brightness_cost=0.0)

    def refuted(M: np.ndarray) -> float:
        return float((explain(dense, own, M, depth).proof > _SEEN_TO_MOVE).mean())

    least = min(map(refuted, displacements(known, len(D))))
    if left and (refuted(D) > _CLEAN or least <= _APART):
        return True
    if least > _BODILY or (not known and least - 2 * refuted(D) > _EDGES):
        return False
    if motion.type is JointType.PRISMATIC or any(coaxial(motion, other) for other in known):
        return True
    return not _turns_in_place(dense, own, motion, D, _BESIDE if known else _FAR)


def _turns_in_place(dense: DenseWindow, own: Surface, motion: Motion, D: np.ndarray, far: float) -> bool:
    """Whether a surface turns within itself, about an axis no further from it than ``far`` of its radii."""
    rest = undo(own, D)
    middle = np.median(rest, 0)
    radius = np.median(np.linalg.norm(rest - middle, axis=-1))
    lever = np.linalg.norm(np.cross(middle - motion.origin, motion.axis))
    normals = np.einsum("nji,nj->ni", D[own.frame, :3, :3], facing(dense, own))
    along = np.cross(motion.axis, rest - motion.origin)
    known = normals.any(-1)
    out = np.abs((along * normals).sum(-1))[known] / np.maximum(np.linalg.norm(along, axis=-1)[known], 1e-9)
    return bool(lever <= far * radius and (not len(out) or np.median(out) < _OUT))


def shaded(dense: DenseWindow, surface: Surface, still: np.ndarray, size: float, test: ExplainConfig) -> np.ndarray:
    """Which points (n,) of a part lie in pieces that change in brightness alone where others change in depth: shadow.

    Or what slides within itself, the floor of a drawer, which tells as little about where the part is.

    Args:
        dense: reduced window.
        surface: the part's, in all frames.
        still: displacement (T, 4, 4) of what stands still.
        size: of the gap that divides pieces, metres.
        test: how motions are tested.
    """
    if len(surface.frame) == 0:
        return np.zeros(0, bool)
    displaced = explain(dense, surface, still, replace(test, brightness_cost=0.0)).refuted > test.max_refuted
    apart = np.array([0, 0, np.ptp(surface.points[:, 2]) + 3 * size])  # frames, which are looked at one by one
    piece = connected_cells(surface.points + surface.frame[:, None] * apart, size)
    share = (np.bincount(piece, displaced) / np.bincount(piece))[piece]
    return (share < _HARDLY) & ((share > _BODILY).mean() > _BODILY)
