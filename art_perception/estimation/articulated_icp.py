"""Fits an articulated model to one depth image: projective point-to-plane Gauss-Newton plus a free-space cost.

Point-to-plane residuals (Chen & Medioni 1992) with projective association (Blais & Levine 1995) converge in a few
iterations but say nothing about motion inside the surface, such as a sliding window's. Those directions are found by a
generalised eigenvalue problem and settled by a cost that also counts surfels the camera sees *through*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.estimation.surfels import DepthView, Surfels
from art_perception.geometry.kinematics import Chain, displacements, with_base
from art_perception.geometry.lie import adjoint, exp_se3, from_rotation_translation, hat, inverse
from art_perception.types import RgbdFrame

OCCLUDED_COST = 0.3
"""Cost of a surfel behind something else or without a depth: neither agreement (0) nor contradiction (1)."""
_OBSERVABLE = 0.15  # share of a motion along the surface normals below which the free-space cost has to help
_DAMPING = 0.01  # in the same units: motions with a much smaller share are left alone by Gauss-Newton
_POLISH_M = 0.01
_GATE_SHRINK = 0.6
_MAX_STEP_M = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What stays constant while an object is tracked.

    Attributes:
        chain: its kinematic tree.
        dense: surfels that hide each other.
        sparse_step: every n-th visible surfel is measured.
        lower, upper: (J,) allowed joint values.
        lever_m: (J,) metres that the part's far end moves per unit of joint value (1 for prismatic joints).
    """

    chain: Chain
    dense: Surfels
    sparse_step: int
    lower: np.ndarray
    upper: np.ndarray
    lever_m: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Joint values (J,) and the displacement (4, 4) of the whole object, fixed frame, since the model was made."""

    q: np.ndarray
    base: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Per part (P,): predicted-visible surfels that agree, contradict (seen through) or are hidden (occluded, no depth)."""

    agree: np.ndarray
    contradict: np.ndarray
    hidden: np.ndarray

    @property
    def quality(self) -> np.ndarray:
        """(P,) share of agreement, a hidden surfel counting half; 0 without surfels."""
        return self.agree / np.maximum(self.agree + self.contradict + 0.5 * self.hidden, 1)

    @property
    def visible(self) -> np.ndarray:
        """(P,) predicted-visible surfels."""
        return self.agree + self.contradict + self.hidden


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Weighted normal equations per part, for twists ``[v, w]`` in the camera frame centred on the object.

    Attributes:
        H, g: (P, 6, 6) and (P, 6), point-to-plane.
        M: (P, 6, 6), what H would be if residuals saw motion in all three directions.
    """

    H: np.ndarray
    g: np.ndarray
    M: np.ndarray


class Alignment:
    """One frame against the model."""

    def __init__(self, model: Model, frame: RgbdFrame, sigma_m: float, sigma_per_m2: float) -> None:
        self._model = model
        self._view = DepthView(frame)
        self._T_camera_world = inverse(np.asarray(frame.T_world_camera, float))
        self._sigma = (sigma_m, sigma_per_m2)
        self._surfels = model.dense.subset(slice(0, 0))
        self._band = np.zeros(0, np.float32)

    def _transforms(self, pose: Pose) -> np.ndarray:
        return self._T_camera_world @ pose.base @ with_base(displacements(self._model.chain, pose.q))

    def look(self, pose: Pose) -> None:
        """Choose the surfels to measure: those visible at ``pose``."""
        self._select(self._model.dense, pose, self._model.sparse_step)

    def _select(self, surfels: Surfels, pose: Pose, step: int) -> None:
        p, n = surfels.posed(self._transforms(pose))
        index = self._view.visible(p, n, surfels.spacing_m)[::step]
        self._surfels = surfels.subset(index)
        self._band = 3 * np.hypot(self._sigma[0], self._sigma[1] * p[2, index] ** 2).astype(np.float32)

    def _residuals(self, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        p, n = self._surfels.posed(self._transforms(pose))
        return (p, n, *self._view.residuals(p, n, self._band))

    def cost(self, pose: Pose) -> float:
        """Sum over the chosen surfels of -OCCLUDED_COST (agree), 0 (hidden) to 1 - OCCLUDED_COST (seen through)."""
        _, _, r, measured = self._residuals(pose)
        s = np.square(r / self._band)
        cost = np.minimum(s, np.where(r > 0, OCCLUDED_COST, 1.0))
        return float(((cost - OCCLUDED_COST) * measured).sum())

    def cost_from_scratch(self, pose: Pose, surfels: Surfels) -> float:
        """``cost`` of ``surfels`` with visibility computed at ``pose`` itself, for comparing distant poses."""
        self._select(surfels, pose, 1)
        return self.cost(pose)

    def evidence(self, pose: Pose) -> Evidence:
        """Count agreement and contradiction of the chosen surfels at ``pose``."""
        _, _, r, measured = self._residuals(pose)
        agree, behind = measured & (np.abs(r) < self._band), measured & (r <= -self._band)
        count = [np.bincount(self._surfels.part[x], minlength=self._parts) for x in (agree, behind, ~(agree | behind))]
        return Evidence(*count)

    @property
    def _parts(self) -> int:
        return len(self._model.chain.parents) + 1

    def normal(self, pose: Pose, gate_m: float) -> tuple[Normal, np.ndarray]:
        """Normal equations at ``pose`` (Tukey weights, ``gate_m`` or the noise band wide) and their centre (3,)."""
        p, n, r, measured = self._residuals(pose)
        gate = np.maximum(self._band, np.float32(gate_m))
        w = np.square(np.maximum(1 - np.square(r / gate), 0)) * measured / np.square(self._band)
        centre = p.mean(1) if p.shape[1] else np.zeros(3)
        p = p - centre[:, None].astype(np.float32)
        a = np.concatenate([n, np.cross(p, n, axis=0)])
        bounds = np.searchsorted(self._surfels.part, np.arange(self._parts + 1))
        H, g, moments = (np.zeros((self._parts, *shape)) for shape in ((6, 6), (6,), (4, 4)))
        ones = np.concatenate([p, np.ones_like(p[:1])])
        for k in np.flatnonzero(np.diff(bounds)):
            s = slice(bounds[k], bounds[k + 1])
            wa = w[s] * a[:, s]
            H[k], g[k] = wa @ a[:, s].T, wa @ r[s]
            moments[k] = (w[s] * ones[:, s]) @ ones[:, s].T
        return Normal(H, g, _gram(moments)), centre

    def jacobian(self, pose: Pose, centre: np.ndarray) -> np.ndarray:
        """Twist of every part per unit of every joint and of the base: (P, 6, J + 6), centred camera frame."""
        J = self._parts - 1
        T = self._centred(centre) @ pose.base @ with_base(displacements(self._model.chain, pose.q))
        out = np.zeros((self._parts, 6, J + 6))
        out[:, :, J:] = np.eye(6)
        for j, parent in enumerate(self._model.chain.parents):
            out[j + 1, :, :J] = out[parent + 1, :, :J]
            out[j + 1, :, j] = adjoint(T[parent + 1]) @ self._model.chain.twists[j]
        return out

    def _centred(self, centre: np.ndarray) -> np.ndarray:
        return from_rotation_translation(np.eye(3), -centre) @ self._T_camera_world

    def _moved(self, pose: Pose, delta: np.ndarray, centre: np.ndarray) -> Pose:
        """Apply a step (J + 6,): joint increments within the limits, then a twist of the whole object."""
        J = len(pose.q)
        q = np.clip(pose.q + delta[:J], self._model.lower, self._model.upper)
        if not delta[J:].any():
            return Pose(q, pose.base)
        T = self._centred(centre)
        return Pose(q, inverse(T) @ exp_se3(delta[J:]) @ T @ pose.base)

    def refine(self, pose: Pose, iterations: int, gate_m: float, free: np.ndarray) -> Pose:
        """Gauss-Newton from ``pose`` over the unknowns ``free`` (J + 6,) bool, then the free-space polish."""
        if not self._surfels.points.shape[1] or not free.any():
            return pose
        for i in range(iterations):
            normal, centre = self.normal(pose, gate_m * _GATE_SHRINK**i)
            J = self.jacobian(pose, centre)[:, :, free]
            share, V = _observability(normal, J)
            step = V @ ((V.T @ np.einsum("pia,pi->a", J, normal.g)) / (share + _DAMPING))
            delta = np.zeros(len(free))
            delta[free] = step * min(1.0, _MAX_STEP_M / max(self._metres(step, free), 1e-9))
            pose = self._moved(pose, delta, centre)
        for v in V.T[share < _OBSERVABLE]:
            direction = np.zeros(len(free))
            direction[free] = v / max(self._metres(v, free), 1e-9)
            pose = self._polish(pose, direction, centre)
        return pose

    def base_offset_m(self, pose: Pose) -> float:
        """Root-mean-square displacement of the static body that its own residuals ask for, metres."""
        normal, _ = self.normal(pose, 0.0)
        own = Normal(normal.H[:1], normal.g[:1], normal.M[:1])
        share, V = _observability(own, np.eye(6)[None])
        step = V @ ((V.T @ own.g[0]) / (share + _DAMPING))
        return float(np.sqrt(step @ own.M[0] @ step / max(own.M[0, 0, 0], 1e-9)))

    def _metres(self, step: np.ndarray, free: np.ndarray) -> float:
        """Largest displacement that a step of the free unknowns causes, roughly."""
        size = np.concatenate([self._model.lever_m, np.ones(3), np.full(3, 0.5)])
        return float(np.abs(step * size[free]).max())

    def _polish(self, pose: Pose, direction: np.ndarray, centre: np.ndarray) -> Pose:
        """Line search of the free-space cost along ``direction`` (metric); ties go to the smallest change."""
        t = np.arange(-2, 3) * _POLISH_M
        prior = 0.1 * np.sqrt(self._surfels.points.shape[1])
        cost = [self.cost(self._moved(pose, s * direction, centre)) + prior * (s / _POLISH_M) ** 2 for s in t]
        best = int(np.argmin(cost))
        offset = t[best] + (_vertex(*cost[best - 1 : best + 2]) * _POLISH_M if 0 < best < 4 else 0.0)
        return self._moved(pose, offset * direction, centre)


def _vertex(left: float, middle: float, right: float) -> float:
    """Vertex of the parabola through three equidistant values, in steps from the middle one, which is the lowest."""
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature > 0 else 0.0


def _gram(moments: np.ndarray) -> np.ndarray:
    """Weighted squared displacement of points as a quadratic form of the twist.

    Args:
        moments: (P, 4, 4) sums of ``w [p, 1] [p, 1]'``.

    Returns:
        (P, 6, 6).
    """
    total, cross, second = moments[:, 3, 3], hat(moments[:, :3, 3]), moments[:, :3, :3]
    out = np.empty((len(moments), 6, 6))
    out[:, :3, :3], out[:, :3, 3:], out[:, 3:, :3] = total[:, None, None] * np.eye(3), -cross, cross
    out[:, 3:, 3:] = np.trace(second, axis1=1, axis2=2)[:, None, None] * np.eye(3) - second
    return out


def _observability(normal: Normal, J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``H v = share M v``: motions (columns, ``v' M v = 1``) and the share of each that residuals can see."""
    H, M = (np.einsum("pia,pij,pjb->ab", J, x, J) for x in (normal.H, normal.M))
    scale = 1 / np.sqrt(np.maximum(np.diag(M), 1e-9 * max(M.max(initial=0), 1.0)))
    M = scale[:, None] * M * scale + 1e-6 * np.eye(len(M))
    L_inv = np.linalg.inv(np.linalg.cholesky(M))
    share, U = np.linalg.eigh(L_inv @ (scale[:, None] * H * scale) @ L_inv.T)
    return share, scale[:, None] * (L_inv.T @ U)
