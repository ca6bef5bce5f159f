"""How far something has moved so far: a quick look at two frames, to tell when an estimate is worth its time.

Optical flow between the two frames says where the surface went; it is believed only where the later frame refutes that
the surface stayed, by depth or by brightness, because flow slips on plain surfaces and under camera motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.estimation.dense import DenseWindow, densify, project_rounded
from art_perception.estimation.flow import DIS, FlowConfig, Flows, follow, followable, optical_flow
from art_perception.estimation.segment import SegmentConfig
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.rigid import kabsch
from art_perception.geometry.screw import screw_of_transform
from art_perception.types import JointType, RgbdFrame, Window

_WIDTH = 160  # px; coarse flow is enough to tell centimetres
_CONTRAST = 0.15  # difference in brightness detail that only another surface makes
_FEW = 40  # points below which nothing is said
_GROUP = 30  # neighbouring points that propose a rigid motion
_DRAWS = 24
_CHANGED = 0.02  # share of the surface whose change is worth a joint, even if flow does not tell where it went
_MOST = 8.0  # times what is needed: more is beyond what coarse flow follows


@dataclass(frozen=True, slots=True)
class Seen:
    """The rigid motion of the surface that moved most.

    Attributes:
        type: revolute for a turn, prismatic for a slide.
        amount: turn (rad) or slide (m) seen.
        need: what a joint of this type needs to be told where it is.
        changed: share of the surface that is not where it was.
    """

    type: JointType
    amount: float
    need: float
    changed: float

    @property
    def share(self) -> float:
        """Amount seen in units of the amount needed."""
        return self.amount / self.need

    def joined(self, other: Seen) -> Seen:
        """Return the larger motion, and the larger changed surface."""
        larger = self if self.share >= other.share else other
        return replace(larger, changed=max(self.changed, other.changed))

    def exceeds(self, other: Seen, factor: float) -> bool:
        """Whether it is worth a joint, and ``factor`` times as much as the other by motion or by changed surface."""
        moved = self.share >= max(1.0, factor * other.share)
        return moved or self.changed >= max(_CHANGED, factor * other.changed)

    def __str__(self) -> str:
        """Return e.g. ``3.1 deg, need 4.0``."""
        scale, unit = (np.degrees(1), "deg") if self.type is JointType.REVOLUTE else (100, "cm")
        return f"{self.amount * scale:.1f} {unit}, need {self.need * scale:.1f}"


def no_motion(segment: SegmentConfig, changed: float = 0.0) -> Seen:
    """Nothing recognised: no slide, of a surface that may have changed nevertheless."""
    return Seen(JointType.PRISMATIC, 0.0, segment.min_slide_m, changed)


def largest_motion(window: Window, segment: SegmentConfig, flow: FlowConfig) -> Seen:
    """Measure the motion up to the window's last frame, from its first frame on or, if that tells nothing, its middle.

    Args:
        window: two frames or more.
        segment: how much a joint must move.
        flow: when flow is trusted; a quick look, so never by a flow network.

    Returns:
        The motion, at most eight times what is needed; :func:`no_motion` when flow does not tell any.
    """
    frames = window.frames
    seen = _either_way(frames[0], frames[-1], segment, flow)
    if seen.amount > 0 or seen.changed == 0 or len(frames) < 3:
        return seen
    return replace(_either_way(frames[len(frames) // 2], frames[-1], segment, flow), changed=seen.changed)


def _either_way(first: RgbdFrame, last: RgbdFrame, segment: SegmentConfig, flow: FlowConfig) -> Seen:
    """What left its place is seen through later; what came to a place was seen through before."""
    dense = densify(Window((first, last)), _WIDTH)
    flows = optical_flow(dense, DIS)
    return _between(dense, flows, 0, 1, segment, flow).joined(_between(dense, flows, 1, 0, segment, flow))


def _between(dense: DenseWindow, flows: Flows, a: int, b: int, segment: SegmentConfig, flow: FlowConfig) -> Seen:
    """Motion of the surface of frame ``a`` that frame ``b`` refutes to have stayed."""
    world, good = dense.world_points(), followable(dense)
    pixels = np.flatnonzero(good[a])
    here = world[a].reshape(-1, 3)[pixels]
    refuted = _refuted(dense, a, b, here, pixels, flow.drift)
    changed = float(refuted.mean()) if len(here) else 0.0
    there, known = follow(flows, good, world, a, b, pixels, flow.max_disagreement_px)
    sigma = flow.drift * np.linalg.norm(there - dense.T_world_camera[b, :3, 3], axis=-1)
    moved = np.linalg.norm(there - here, axis=-1) > np.maximum(segment.min_motion_m, 4 * sigma)
    own = np.flatnonzero(known & refuted & moved)
    own = own[_dominant(here[own], there[own], sigma[own])] if len(own) >= _FEW else own
    if len(own) < _FEW:
        return no_motion(segment, changed)
    return _amount(here[own], there[own], changed, segment)


def _refuted(dense: DenseWindow, a: int, b: int, points: np.ndarray, pixels: np.ndarray, drift: float) -> np.ndarray:
    """Whether frame ``b`` sees through points (N, 3) of frame ``a``, at flat ``pixels``, or something else there.

    A nearer surface refutes nothing: it may be an obstacle that the camera's motion brought in front.
    """
    camera = transform(inverse(dense.T_world_camera[b]), points)
    v, u, inside = project_rounded(camera, dense.K, dense.depth_m.shape[1:])
    depth = dense.depth_m[b, v, u]
    slack = dense.slack_m[b, v, u] + 2 * drift * camera[:, 2]
    through = depth - camera[:, 2] > slack
    contrast = np.abs(dense.detail[b, v, u] - dense.detail[a].reshape(-1)[pixels]) - dense.ripple[b, v, u]
    other = (np.abs(depth - camera[:, 2]) <= slack) & (contrast > _CONTRAST)
    return inside & (depth > 0) & (through | other)


def _dominant(a: np.ndarray, b: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Which of the matched points (N, 3) moved as one rigid body: the largest such group, (N,) bool."""
    rng = np.random.default_rng(0)
    best = np.zeros(len(a), bool)
    for seed in rng.integers(len(a), size=_DRAWS):
        group = np.argsort(np.linalg.norm(a - a[seed], axis=-1))[:_GROUP]
        T = kabsch(a[group], b[group], np.ones(len(group)))
        own = np.linalg.norm(transform(T, a) - b, axis=-1) < 3 * sigma
        best = own if own.sum() > best.sum() else best
    return best


def _amount(a: np.ndarray, b: np.ndarray, changed: float, segment: SegmentConfig) -> Seen:
    """Turn or slide of a rigid body, whichever explains its points (N, 3) better."""
    T, shift = kabsch(a, b, np.ones(len(a))), (b - a).mean(0)
    _, _, angle, _ = screw_of_transform(T)
    turned = np.linalg.norm(transform(T, a) - b, axis=-1).mean()
    slid = np.linalg.norm(a + shift - b, axis=-1).mean()
    type, amount, need = JointType.PRISMATIC, float(np.linalg.norm(shift)), segment.min_slide_m
    if angle > np.deg2rad(2) and turned < 0.8 * slid:
        type, amount, need = JointType.REVOLUTE, angle, float(np.deg2rad(segment.min_rotation_deg))
    return Seen(type, min(amount, _MOST * need), need, changed)
