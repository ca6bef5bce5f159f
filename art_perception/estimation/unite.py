"""Takes two found parts on one hinge line for one, when a single path of joint values explains both.

Registration follows a plain part only from one frame to the next. Where it slips, the joint values are off from there
on, and what they no longer explain is found once more: a second part on the same line, which slips elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from art_perception.estimation.align import JointConfig
from art_perception.estimation.chain import coaxial, displacements
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import ExplainConfig, Surface, surface_of, undo
from art_perception.estimation.flow import Tracks
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.parts import Found
from art_perception.estimation.redundant import BETTER, as_good
from art_perception.estimation.select import refine_joint
from art_perception.estimation.values import joint_values
from art_perception.geometry.lie import inverse

_IN_STEP = 0.03  # of the larger range: so close are values that were registered to the same surface
_MOST = 0.4  # share of the frames in which they moved that two parts in step but for a slip have in common
_MOVED = 0.3  # of the larger range: where values say something about being in step
_SLIP = 3  # frames within which registration slips to another face
_LEAP = 1.5  # times as far as the slower part ever moves within them: that is no motion
_MOSTLY = 0.5  # of the larger range: what is moved in step before and after
_ALIKE = 0.1  # of the larger range: values of two paths that differ by less are the same
_FEWEST = 100  # points of the parts in the frames of such values that still say something
_AS_WELL = 0.9  # of what a part's own motion explains of it, explained by that of both


def united(
    dense: DenseWindow, labels: np.ndarray, found: Found, tracks: Tracks, joint: JointConfig, test: ExplainConfig
) -> Found | None:
    """``found`` with two parts made one; None when no two are one.

    Args:
        dense: the window.
        labels: (T, h, w) the part of its pixels, 0 the base.
        found: the parts.
        tracks: point tracks.
        joint: how the joint of both is refined.
        test: how it is judged.
    """
    surface = surface_of(dense, tracks.noise_m, np.arange(0, len(labels), 2))
    part = labels.reshape(len(labels), -1)[surface.frame, surface.pixel]
    D = displacements(found.motions, len(labels))
    parents = {motion.parent for motion in found.motions}
    for a, b in combinations(range(len(found.motions)), 2):
        one, other = found.motions[a], found.motions[b]
        if b in parents or one.parent != other.parent or not coaxial(one, other):
            continue
        own = [surface.subset(part == k + 1) for k in (a, b)]
        pair = surface.subset(np.isin(part, (a + 1, b + 1)))
        start = _one_path(dense, labels == 0, pair, one, other, D[one.parent + 1], tracks)
        if start is None:
            continue
        motions = found.motions.copy()
        motions[a] = start
        of_track = np.where(found.part_of_track == b, a, found.part_of_track)
        both = np.where(labels == b + 1, a + 1, labels)
        motions[a] = refine_joint(dense, both, motions, a, tracks, of_track, joint).motion
        D_both = displacements(motions, len(labels))[a + 1]
        slack = np.inf if in_step(one, other) else BETTER
        if all(_is_as_good(dense, p, D_both, D[k + 1], test, slack) for p, k in zip(own, (a, b), strict=True)):
            return Found(motions, of_track).only([k for k in range(len(motions)) if k != b], motions)
    return None


def in_step(one: Motion, other: Motion) -> bool:
    """Whether two motions on one line go exactly together, but for some frames between or an offset from one on.

    Of a thick lid that turns from one face to the other, the faces can be matched with each other, and a square handle
    with itself a quarter turn on: true values then put what is seen behind what was seen before, or out of sight, and
    explain it less well, although nothing refutes them.
    """
    reach, gap = max(np.ptp(one.q), np.ptp(other.q)), _gap(one, other)
    moved = np.maximum(np.abs(one.q), np.abs(other.q)) > _MOVED * reach
    apart = np.abs(gap[moved]) > _IN_STEP * reach
    return bool((~apart).mean() >= _MOST) or _jumps(one.q, other.q, gap, reach)


def _jumps(one: np.ndarray, other: np.ndarray, gap: np.ndarray, reach: float) -> bool:
    """Whether the ``gap`` (T,) between two paths is one constant before some frame and quite another after.

    A part that stops while its neighbour goes on parts from it no faster than that one moves.
    """
    span = _SLIP + 1
    leaps = np.abs(gap[span:] - gap[:-span])
    fastest = min(float(np.abs(q[span:] - q[:-span]).max(initial=0)) for q in (one, other))
    for t in np.flatnonzero(leaps > _LEAP * fastest):
        sides = slice(0, t + 1), slice(t + span, None)
        strays = max(float(np.abs(gap[side] - np.median(gap[side])).mean()) for side in sides)
        if strays <= _IN_STEP * reach and sum(np.ptp(one[side]) for side in sides) >= _MOSTLY * reach:
            return True
    return False


def _gap(one: Motion, other: Motion) -> np.ndarray:
    """Differences (T,) between the values of two motions on one line."""
    return one.q - np.sign(one.axis @ other.axis) * other.q


def _one_path(
    dense: DenseWindow,
    still: np.ndarray,
    own: Surface,
    one: Motion,
    other: Motion,
    D_parent: np.ndarray,
    tracks: Tracks,
) -> Motion | None:
    """``one`` with values that put both parts, ``own`` their surface, where every frame saw something of them.

    What they look like is taken from the frames in which neither has slipped; None when there is too little of it.
    """
    alike = np.abs(_gap(one, other)) <= _ALIKE * max(np.ptp(one.q), np.ptp(other.q))
    if alike[own.frame].sum() < _FEWEST:
        return None
    local = replace(own, points=undo(own, D_parent))
    cloud = undo(local.subset(alike[own.frame]), one.displacement(one.q))
    T_parent_camera = inverse(D_parent) @ dense.T_world_camera
    q = joint_values(dense, still, local, cloud, one, T_parent_camera, tracks.noise_m)
    return replace(one, q=q, covariance=None)


def _is_as_good(
    dense: DenseWindow, surface: Surface, D: np.ndarray, own: np.ndarray, test: ExplainConfig, slack: float
) -> bool:
    """Whether the motion D (T, 4, 4) explains a part's surface about as well as its ``own`` does."""
    new, old = as_good(dense, surface, np.stack([D, own]), 1, test, slack)
    return bool(new.sum() >= _AS_WELL * old.sum())
