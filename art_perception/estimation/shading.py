"""Tells shadows and reflections, which change brightness alone, from parts.

A shadow that wanders over what stands still looks like a part: brightness contradicts that the place is at rest, and a
motion explains what is seen. Depth alone does not contradict that it is at rest. Two kinds of parts change no depth
either: those that turn within their own surface, about an axis nearby (a knob, scissors), where a door's shadow turns
about the door's hinge; and those that slide within it (a chair's back that is raised), of which depth shows the edges,
where a shadow has none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import ExplainConfig, Surface, explain, undo
from art_perception.estimation.joint_fit import Motion
from art_perception.types import JointType

_BODILY = 0.25  # of a part's surface: what depth alone shows to move as no other part, unless it turns in place
_SEEN_TO_MOVE = 0.1  # of the frames: in so many depth refutes a motion of a place
_EDGES = 0.03  # of a part's surface, refuted so when still but not in motion: the edges of what slides within itself
_APART = 0.1  # of it, refuted as it stands or moves with any other part, if it is only seen when those are known;
_CLEAN = 0.05  # and at most so much of it as it moves itself
_FAR = 6  # axes further from a part than so many of its radii turn it as a slide would move it,
_BESIDE = 1.2  # and, where another part moves and may throw a shadow, as that shadow wanders


def is_shading(
    dense: DenseWindow,
    own: Surface,
    motion: Motion,
    D: np.ndarray,
    known: np.ndarray,
    test: ExplainConfig,
    left: bool,
) -> bool:
    """Whether what ``motion`` explains changes in brightness alone.

    Where another part moves, the edges may be that part's: shadow and reflection of a door take some of its fringe,
    which does not stand still, but moves as the door does. Frames that do not see a place say nothing: behind a door
    that opens there are shadows too. What all parts leave is mostly such, so that there depth must show that it moves
    as none of them does.

    Args:
        dense: reduced window with the witnesses.
        own: surface that the motion explains and nothing found before does.
        motion: the new part's.
        D: its displacement (T, 4, 4), fixed frame.
        known: displacements (K + 1, T, 4, 4) of the static body and the K parts found before.
        test: costs and tolerances.
        left: whether ``own`` is from what the parts leave, looked at for itself.
    """
    depth = replace(test, brightness_cost=0.0)

    def refuted(M: np.ndarray) -> float:
        return float((explain(dense, own, M, depth).proof > _SEEN_TO_MOVE).mean())

    least = min(map(refuted, known))
    if left and (refuted(D) > _CLEAN or least <= _APART):
        return True
    if least > _BODILY or (len(known) == 1 and least - 2 * refuted(D) > _EDGES):
        return False
    return motion.type is JointType.PRISMATIC or _lever(own, motion, D) > (_BESIDE if len(known) > 1 else _FAR)


def _lever(own: Surface, motion: Motion, D: np.ndarray) -> float:
    """Distance of a surface from a revolute joint's axis, in units of its radius."""
    rest = undo(own, D)
    middle = np.median(rest, 0)
    radius = float(np.median(np.linalg.norm(rest - middle, axis=-1)))
    return float(np.linalg.norm(np.cross(middle - motion.origin, motion.axis))) / max(radius, 1e-9)
