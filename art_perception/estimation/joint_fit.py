"""Least-squares fit of one joint to the point tracks of one rigid part, over all frames at once.

A part that moves about a fixed joint obeys ``X_i(t) = exp(xi q_t) p_i``. Bringing every observation back by
``exp(-xi q_t)`` must make each track collapse to a point, so the cost is the spread of each track around its own
mean (the points ``p_i`` are eliminated exactly: variable projection, Golub & Pereyra 1973). Gauss-Newton in axis
direction, axis position and all joint values, Cauchy weights; revolute against prismatic by BIC (Sturm et al.,
JAIR 2011).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from art_perception.geometry.lie import exp_so3, hat
from art_perception.types import JointType


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """A joint hypothesis in its parent's frame, with its values.

    Attributes:
        type: revolute or prismatic.
        axis: (3,) unit vector; origin: (3,) point on it, metres.
        q: (T,) joint values, rad or m, zero in frame 0.
        parent: index of the parent motion, -1 for the static body.
        covariance: (6, 6) of [axis rotation (3), origin shift (3)], or None before a fit.
        source: what proposed it: ``tracks``, ``planes``, ``network`` or ``spin``.
    """

    type: JointType
    axis: np.ndarray
    origin: np.ndarray
    q: np.ndarray
    parent: int = -1
    covariance: np.ndarray | None = None
    source: str = "tracks"

    def rotation(self, q: np.ndarray) -> np.ndarray:
        """Rotation matrices (..., 3, 3) for joint values (...)."""
        scale = q if self.type is JointType.REVOLUTE else np.zeros_like(q)
        return exp_so3(np.asarray(scale)[..., None] * self.axis)

    def displacement(self, q: np.ndarray) -> np.ndarray:
        """Rigid displacements (..., 4, 4) in the parent frame for joint values (...)."""
        q = np.asarray(q, float)
        R = self.rotation(q)
        T = np.zeros((*q.shape, 4, 4))
        T[..., :3, :3] = R
        T[..., :3, 3] = self.origin - R @ self.origin
        if self.type is JointType.PRISMATIC:
            T[..., :3, 3] = q[..., None] * self.axis
        T[..., 3, 3] = 1
        return T


def canonical(motion: Motion, points: np.ndarray) -> np.ndarray:
    """Undo the motion: points (N, T, 3) seen at frame t to where they are at q = 0."""
    if motion.type is JointType.PRISMATIC:
        return points - motion.q[:, None] * motion.axis
    back = motion.rotation(-motion.q).swapaxes(1, 2)
    y = (points - motion.origin).swapaxes(0, 1) @ back  # many times faster than einsum
    return np.add(y.swapaxes(0, 1), motion.origin, order="C")


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over axis 1 of (N, T, ...) with weights (N, T); zero where all weights are."""
    total = weights[:, None] @ values.reshape(*weights.shape, prod(values.shape[2:]))
    mean = total / np.maximum(weights.sum(1), 1e-9)[:, None, None]
    return mean.reshape(len(weights), 1, *values.shape[2:])


def length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norms (...) of (..., 3); ``np.linalg.norm`` takes twice as long."""
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))


def spread(motion: Motion, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Distance (N, T) of each un-moved observation from its track's mean, metres."""
    y = canonical(motion, points)
    return length(y - weighted_mean(y, weights))


def _jacobians(motion: Motion, y: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of canonical points: J (N, T, 3, 6) by [axis rotation, origin], j (N, T, 3) by own joint value."""
    N, T = points.shape[:2]
    J = np.zeros((N, T, 3, 6))
    if motion.type is JointType.PRISMATIC:
        J[..., :3] = motion.q[:, None, None] * hat(motion.axis)
        return J, np.broadcast_to(-motion.axis, (N, T, 3))
    R = motion.rotation(-motion.q)
    J[..., :3] = R @ hat(points - motion.origin) - hat(y - motion.origin)
    J[..., 3:] = np.eye(3) - R
    return J, -np.cross(motion.axis, y - motion.origin)


def normal_equations(motion: Motion, points: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton system over [axis rotation (3), origin (3), q (T)] with track means projected out."""
    y = canonical(motion, points)
    r = y - weighted_mean(y, w)
    J, j = _jacobians(motion, y, points)
    J = J - weighted_mean(J, w)
    T = points.shape[1]
    wj = w[..., None] * j
    A = np.zeros((6 + T, 6 + T))
    flat_J, flat_w = J.reshape(-1, 6), np.repeat(w.reshape(-1), 3)
    A[:6, :6] = flat_J.T @ (flat_w[:, None] * flat_J)
    A[:6, 6:] = np.einsum("ntda,ntd->at", J, wj)
    A[6:, :6] = A[:6, 6:].T
    scaled = (wj / np.sqrt(np.maximum(w.sum(1), 1e-9))[:, None, None]).transpose(1, 0, 2).reshape(T, -1)
    A[6:, 6:] = np.diag((wj * j).sum((0, 2))) - scaled @ scaled.T
    g = np.concatenate([np.einsum("ntda,ntd->a", J, w[..., None] * r), (wj * r).sum((0, 2))])
    return A, g


def step(motion: Motion, delta: np.ndarray) -> Motion:
    """Apply an update [axis rotation (3), origin (3), q (T)]; keeps ``q[0]`` and the unit axis."""
    axis = exp_so3(delta[:3]) @ motion.axis
    origin = motion.origin + delta[3:6]
    return replace(motion, axis=axis / np.linalg.norm(axis), origin=origin, q=motion.q + delta[6:])


def fit_tracks(motion: Motion, points: np.ndarray, weights: np.ndarray, iterations: int = 10) -> Motion:
    """Refine a joint on its part's tracks.

    Args:
        motion: starting value.
        points: (N, T, 3) track positions in the parent's frame, metres.
        weights: (N, T) inverse variance of each observation, zero where invisible.
        iterations: Gauss-Newton steps at most.

    Returns:
        The motion at the robust optimum with its covariance.
    """
    sigma = 1 / np.sqrt(np.maximum(weights, 1e-12))
    for _ in range(iterations):
        w = weights / (1 + (spread(motion, points, weights) / (3 * sigma)) ** 2)
        A, g = normal_equations(motion, points, w)
        free = np.r_[0:6, 7 : 6 + len(motion.q)]  # q[0] stays zero
        damp = 1e-3 * np.diag(A)[free] + 1e-6 * np.diag(A).max() + 1e-9
        delta = np.zeros(len(g))
        delta[free] = -np.linalg.solve(A[np.ix_(free, free)] + np.diag(damp), g[free])
        delta[:6] *= min(1.0, 0.2 / max(np.abs(delta[:6]).max(), 1e-9))
        motion = step(motion, delta)
        if np.abs(delta[:6]).max() < 1e-5:
            break
    return replace(motion, covariance=covariance_of(A[np.ix_(free, free)]))


def covariance_of(A: np.ndarray) -> np.ndarray:
    """Covariance (6, 6) of the joint parameters from an information matrix whose first six are theirs.

    Joint values are marginalised (Schur complement); the gauge freedoms of a screw axis are left at zero.
    """
    inner = A[6:, 6:] + (1e-9 * np.diag(A).max() + 1e-9) * np.eye(len(A) - 6)
    return np.linalg.pinv(A[:6, :6] - A[:6, 6:] @ np.linalg.solve(inner, A[6:, :6]), rcond=1e-9)
