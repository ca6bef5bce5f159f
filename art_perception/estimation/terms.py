"""Terms of the joint-centric optimisation (KineDiff3D, Eq. 9): what a complete articulated object owes its measurement.

Each takes H hypotheses and what was measured and gives a cost per hypothesis, in canonical units (the object's diagonal
is 1). Child parts have no pose of their own: they follow from base and joint by the exponential (kinematic chaining).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_perception.bounds import bounded
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import inverse, transform

UNKNOWN = -1
"""Part of a point that nobody has labelled."""

_EDGE, _SKIN = 0.1, 0.004


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What F frames have measured of an object whose base stands still.

    Attributes:
        points: (F, N, 3) surface points, metres, in the frame that the base's pose is sought in.
        part: (F, N) int64 part each belongs to, ``UNKNOWN`` where that is not known.
        free: (F, M, 3) points known to be outside all parts: on the rays between a camera and what it saw.
        axis, origin: (J, 3) measured joints, metres, when there are; the sign of an axis means nothing.
    """

    points: Tensor
    part: Tensor
    free: Tensor
    axis: Tensor | None = None
    origin: Tensor | None = None

    def thinned(self, count: int, generator: torch.Generator) -> Evidence:
        """The same with at most ``count`` points of either kind per frame, drawn at random."""
        seen = torch.randperm(self.points.shape[1], generator=generator)[:count]
        free = torch.randperm(self.free.shape[1], generator=generator)[:count]
        return Evidence(self.points[:, seen], self.part[:, seen], self.free[:, free], self.axis, self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """H articulated objects that a shape prior has decoded, K parts each.

    Attributes:
        axis, origin: (H, J, 3) joints as lines, canonical units; revolute: whether they turn.
        twists: (H, J, 6) the same as unit twists, zero where there is no joint.
        upper: (H, J) upper limits of the joints, rad or canonical units; the lower ones are zero.
        distance: signed distances (H, K, Q) of points (H, K, Q, 3) to the parts, in the parts' rest frames; infinite
            for absent parts.
    """

    axis: Tensor
    origin: Tensor
    revolute: bool
    twists: Tensor
    upper: Tensor
    distance: Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Hypotheses:
    """H guesses of one object: pose of the base, joint values of F frames, latent.

    Attributes:
        R: (H, 3, 3); t: (H, 3) metres; size: (H,) metres per canonical unit.
        q: (H, F, J) rad or canonical units.
        u: (H, Dz) whitened latent (models/expectation.py).
    """

    R: Tensor
    t: Tensor
    size: Tensor
    q: Tensor
    u: Tensor

    def pick(self, index: Tensor) -> Hypotheses:
        """Some of the guesses."""
        return Hypotheses(self.R[index], self.t[index], self.size[index], self.q[index], self.u[index])

    def canonical(self, points: Tensor) -> Tensor:
        """Points (F, N, 3) as every guess sees them, (H, F, N, 3): canonical frame and units."""
        return (points - self.t[:, None, None]) @ self.R[:, None] / self.size[:, None, None, None]


@dataclass(frozen=True, slots=True)
class TermWeights:
    """Weights of the terms, and what they tolerate."""

    surface: float = bounded(1.0, 0.0, 1e3)
    """Of the measured points' distance from the surface."""
    free: float = bounded(0.5, 0.0, 1e3)
    """Of what is seen through but should be solid."""
    joint: float = bounded(0.3, 0.0, 1e3)
    """Of measured joints' distance from the object's own."""
    limits: float = bounded(0.3, 0.0, 1e3)
    """Of joint values beyond the limits."""
    prior: float = bounded(0.01, 0.0, 1e3)
    """Of the mean square of the whitened latent."""
    size: float = bounded(0.005, 0.0, 1e3)
    """Of the squared distance of the size's logarithm from its expectation, in standard deviations."""
    reach: float = bounded(0.15, 0.0, 1e3)
    """Distances beyond this are outliers and cost no more, canonical units."""


def part_distances(guess: Hypotheses, decoded: Decoded, points: Tensor) -> Tensor:
    """Signed distances (H, F, K, N) of points (F, N, 3) to every part, each moved by its joint."""
    F, N, _ = points.shape
    T = inverse(placed(decoded.twists[:, None].expand(-1, F, -1, -1), guess.q))  # (H, F, K, 4, 4)
    at_rest = transform(T, guess.canonical(points)[:, :, None].expand(-1, -1, T.shape[2], -1, -1))
    found = decoded.distance(at_rest.transpose(1, 2).flatten(2, 3))
    return found.unflatten(2, (F, N)).transpose(1, 2)


def surface(distance: Tensor, part: Tensor, reach: float) -> Tensor:
    """Mean distance (H,) of measured points from the surface of their own part, of the nearest when unlabelled.

    One direction of Eq. 9's part-wise Chamfer distance, read from the field instead of samples: exact, and
    differentiable in the latent.

    Args:
        distance: (H, F, K, N) signed.
        part: (F, N).
        reach: distances beyond it count as much.
    """
    own = part.clamp(min=0)[None, :, None].expand(len(distance), -1, 1, -1)
    gap = torch.where(part == UNKNOWN, distance.abs().amin(2), distance.abs().gather(2, own)[:, :, 0])
    return gap.clamp(max=reach).mean((1, 2))


def free_space(distance: Tensor, reach: float) -> Tensor:
    """How much (H,) points known to be free, distances (H, F, K, M), are inside of parts.

    The other direction of Eq. 9, for the half of the object that no camera has seen: it may be anywhere but where
    cameras have looked through. To the mean depth comes ``_EDGE`` times the share that is inside at all: a board that
    is too long is nowhere deep.
    """
    nearest = distance.amin(2)
    depth, share = (-nearest).clamp(0, reach), (0.5 - 0.5 * nearest / _SKIN).clamp(0, 1)
    return (depth + _EDGE * share).mean((1, 2))


def joint_gap(guess: Hypotheses, decoded: Decoded, axis: Tensor, origin: Tensor) -> Tensor:
    """Sine of the angle between measured and decoded axes plus the distance of revolute lines, summed (H,)."""
    J = len(axis)
    own = decoded.axis[:, :J]
    measured = axis @ guess.R  # (H, J, 3)
    apart = torch.linalg.cross(measured, own).norm(dim=-1)
    if decoded.revolute:
        point = guess.canonical(origin[None])[:, 0]
        apart = apart + torch.linalg.cross(point - decoded.origin[:, :J], own).norm(dim=-1)
    return apart.sum(-1)


def limits(q: Tensor, upper: Tensor) -> Tensor:
    """How far (H,) joint values (H, F, J) are beyond 0 and ``upper`` (H, J)."""
    beyond = (-q).clamp(min=0) + (q - upper[:, None].clamp(min=0)).clamp(min=0)
    return beyond.mean(1).sum(-1)
