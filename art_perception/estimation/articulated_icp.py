"""Fits an articulated model to one RGB-D image: projective point-to-plane Gauss-Newton plus a free-space cost.

Point-to-plane residuals (Chen & Medioni 1992) with projective association (Blais & Levine 1995) converge in a few
iterations but say nothing about motion inside the surface, such as a sliding window's. Those directions are found by a
generalised eigenvalue problem and settled by a cost that also counts surfels the camera sees *through* and surfels of
the wrong colour.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from art_perception.estimation.frame_view import FrameView, Reading
from art_perception.estimation.surfels import Surfels
from art_perception.estimation.sweep import Sweep
from art_perception.geometry.kinematics import Chain, displacements, with_base
from art_perception.geometry.lie import adjoint, exp_se3, from_rotation_translation, hat, inverse, log_se3
from art_perception.types import RgbdFrame

_OBSERVABLE = 0.15  # share of a motion along the surface normals below which the free-space cost has to help
_DAMPING, _BASE_DAMPING = 0.01, 0.05  # in the same units: motions with a much smaller share stay as predicted
_INERTIA = 6 / 0.03**2  # the prediction counts as 6 surfels with a tolerance of 3 cm
_POLISH_M = 0.01
_GATE_SHRINK = 0.6
_MAX_STEP_M = 0.1
_BASE_LEVER_M = 0.5
_CONVERGED_M, _CONVERGED_GATE_M = 1e-4, 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What stays constant while an object is tracked.

    Attributes:
        chain: its kinematic tree.
        moves: (J, P) bool, the parts that each joint moves.
        dense: surfels that hide each other.
        coarse: some of them, for costs that are evaluated at many poses.
        measured: how many visible surfels of each part are compared with an image at most.
        lower, upper: (J,) allowed joint values.
        lever_m: (J,) metres that the part's far end moves per unit of joint value (1 for prismatic joints).
    """

    chain: Chain
    moves: np.ndarray
    dense: Surfels
    coarse: Surfels
    measured: int
    lower: np.ndarray
    upper: np.ndarray
    lever_m: np.ndarray

    @property
    def metric(self) -> np.ndarray:
        """(J + 6,) metres per unit of every unknown: joints, base translation, base rotation."""
        return np.concatenate([self.lever_m, np.ones(3), np.full(3, _BASE_LEVER_M)])


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Joint values (J,) and the displacement (4, 4) of the whole object, fixed frame, since the model was made."""

    q: np.ndarray
    base: np.ndarray

    def with_joint(self, j: int, value: float) -> Pose:
        """Return the pose with one joint value replaced."""
        q = self.q.copy()
        q[j] = value
        return Pose(q, self.base)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Per part (P,): visible surfels that agree, contradict (are seen through) or are hidden (occluded, no depth)."""

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
    """One frame against the model, near a predicted pose."""

    def __init__(self, model: Model, frame: RgbdFrame, predicted: Pose, sigma: tuple[float, float]) -> None:
        """Prepare; ``sigma`` is the depth error at zero distance (m) and its growth with distance squared (1/m)."""
        self._model = model
        self._view = FrameView(frame, sigma)
        self._T_camera_world = inverse(np.asarray(frame.T_world_camera, float))
        self.predicted = predicted
        self.look(predicted)
        _, _, reading = self._read(predicted)
        self._shade = self._view.shading(self._surfels, reading, self._parts)

    @property
    def _parts(self) -> int:
        return len(self._model.chain.parents) + 1

    def _transforms(self, pose: Pose) -> np.ndarray:
        return self._T_camera_world @ pose.base @ with_base(displacements(self._model.chain, pose.q))

    def look(self, pose: Pose) -> None:
        """Choose the surfels to measure: those visible at ``pose``."""
        dense, view = self._model.dense, self._view
        p, n = dense.posed(self._transforms(pose))
        cell_px = view.cell_px(p, dense.spacing_m)
        index, cell = view.facing(p, n, cell_px)
        p, n = p[:, index], n[:, index]
        hidden = view.front(p, n, cell, cell_px).hides(p, cell)
        index = index[~hidden]
        bounds = np.searchsorted(dense.part[index], np.arange(self._parts + 1))
        index = np.concatenate([_thinned(index[a:b], self._model.measured) for a, b in itertools.pairwise(bounds)])
        self._surfels = dense.subset(index)
        self._bounds = np.searchsorted(self._surfels.part, np.arange(self._parts + 1))

    def _read(self, pose: Pose) -> tuple[np.ndarray, np.ndarray, Reading]:
        p, n = self._surfels.posed(self._transforms(pose))
        return p, n, self._view.read(p, n)

    def cost(self, pose: Pose) -> float:
        """Mismatch of the chosen surfels plus the distance from the prediction, in surfels seen through."""
        _, _, reading = self._read(pose)
        return float(self._view.costs(self._surfels, reading, self._shade).sum()) + self._inertia(pose)

    def _inertia(self, pose: Pose) -> float:
        deviation = self._deviation(pose, np.zeros(3)) * self._model.metric
        return _INERTIA * float(deviation @ deviation)

    def _sweep(self, surfels: Surfels, pose: Pose, free: np.ndarray, tolerance_m: float) -> Sweep:
        """Prepare to vary the unknowns ``free`` (J + 6,) bool of ``pose``."""
        J = self._parts - 1
        moved = self._model.moves[free[:J]].any(0) | free[J:].any()
        return Sweep(self._view, surfels, self._shade, self._transforms(pose), moved, tolerance_m)

    def scan(self, pose: Pose, j: int, values: np.ndarray, tolerance_m: float) -> tuple[np.ndarray, int]:
        """Costs (len(values),) of values of joint ``j``, the prediction ignored, and the first one's visible surfels.

        ``tolerance_m`` widens the noise band to what lies between two values.
        """
        sweep = self._sweep(self._model.coarse, pose, np.arange(self._parts + 5) == j, tolerance_m)
        results = [sweep.cost(self._transforms(pose.with_joint(j, v))) for v in values]
        return np.array([cost for cost, _ in results]), results[0][1]

    def evidence(self, pose: Pose) -> Evidence:
        """Count agreement and contradiction of the chosen surfels at ``pose``."""
        _, _, reading = self._read(pose)
        agree, behind = reading.agrees, reading.measured & (reading.residual <= -1)
        count = [np.bincount(self._surfels.part[x], minlength=self._parts) for x in (agree, behind, ~(agree | behind))]
        return Evidence(*count)

    def noise_ratio(self, pose: Pose) -> float:
        """One-sigma residual at ``pose`` (from the median) over the assumed one; 1 when too little is visible."""
        _, _, reading = self._read(pose)
        s = np.abs(reading.residual[reading.measured & (np.abs(reading.residual) < 2)])
        return 1.4826 * 3 * float(np.median(s)) if len(s) > 50 else 1.0

    def _normal(self, pose: Pose, gate_m: float) -> tuple[Normal, np.ndarray]:
        """Normal equations at ``pose`` (Tukey weights, ``gate_m`` or the noise band wide) and their centre (3,)."""
        p, n, (s, measured, _, band) = self._read(pose)
        r = s * band
        gate = np.maximum(band, np.float32(gate_m))
        w = np.square(np.maximum(1 - np.square(r / gate), 0)) * measured / np.square(band)
        centre = p.mean(1).astype(float)
        p = p - centre[:, None].astype(np.float32)
        a = np.concatenate([n, np.cross(p, n, axis=0)])
        ones = np.concatenate([p, np.ones_like(p[:1])])
        H, g, moments = (np.zeros((self._parts, *shape)) for shape in ((6, 6), (6,), (4, 4)))
        for k in np.flatnonzero(np.diff(self._bounds)):
            mine = slice(self._bounds[k], self._bounds[k + 1])
            wa = w[mine] * a[:, mine]
            H[k], g[k] = wa @ a[:, mine].T, wa @ r[mine]
            moments[k] = (w[mine] * ones[:, mine]) @ ones[:, mine].T
        return Normal(H, g, _gram(moments)), centre

    def _centred(self, centre: np.ndarray) -> np.ndarray:
        return from_rotation_translation(np.eye(3), -centre) @ self._T_camera_world

    def _jacobian(self, pose: Pose, centre: np.ndarray) -> np.ndarray:
        """Twist of every part per unit of every joint and of the base: (P, 6, J + 6), centred camera frame."""
        J = self._parts - 1
        T = adjoint(self._centred(centre) @ pose.base @ with_base(displacements(self._model.chain, pose.q)))
        out = np.zeros((self._parts, 6, J + 6))
        out[:, :, J:] = np.eye(6)
        for j, parent in enumerate(self._model.chain.parents):
            out[j + 1, :, :J] = out[parent + 1, :, :J]
            out[j + 1, :, j] = T[parent + 1] @ self._model.chain.twists[j]
        return out

    def _deviation(self, pose: Pose, centre: np.ndarray) -> np.ndarray:
        """(J + 6,) difference from the prediction, the base's as a twist in the centred camera frame."""
        dq = pose.q - self.predicted.q
        if pose.base is self.predicted.base:
            return np.concatenate([dq, np.zeros(6)])
        T = self._centred(centre)
        return np.concatenate([dq, log_se3(T @ pose.base @ inverse(T @ self.predicted.base))])

    def _moved(self, pose: Pose, delta: np.ndarray, centre: np.ndarray) -> Pose:
        """Apply a step (J + 6,): joint increments within the limits, then a twist of the whole object."""
        J = len(pose.q)
        q = np.clip(pose.q + delta[:J], self._model.lower, self._model.upper)
        if not delta[J:].any():
            return Pose(q, pose.base)
        T = self._centred(centre)
        return Pose(q, inverse(T) @ exp_se3(delta[J:]) @ T @ pose.base)

    def refine(self, pose: Pose, iterations: int, start_gate_m: float, free: np.ndarray) -> Pose:
        """Gauss-Newton from ``pose`` over the unknowns ``free`` (J + 6,) bool, then the free-space polish."""
        if not self._surfels.points.shape[1] or not free.any():
            return pose
        metric = self._model.metric[free]
        damping = np.sqrt(np.where(np.arange(len(free)) < len(pose.q), _DAMPING, _BASE_DAMPING))[free]
        for i in range(iterations):
            gate_m = start_gate_m * _GATE_SHRINK**i
            normal, centre = self._normal(pose, gate_m)
            J = self._jacobian(pose, centre)[:, :, free]
            H, M = _quadratic(J, normal.H), _quadratic(J, normal.M)
            prior = damping[:, None] * M * damping + np.diag(_INERTIA * np.square(metric))
            pull = np.einsum("pia,pi->a", J, normal.g) - prior @ self._deviation(pose, centre)[free]
            step = np.linalg.solve(H + prior, pull)
            size = np.abs(step * metric).max()
            pose = self._moved(pose, _scatter(step * min(1.0, _MAX_STEP_M / max(size, 1e-9)), free), centre)
            if size < _CONVERGED_M and gate_m < _CONVERGED_GATE_M:
                break
        share, V = _observability(H, M)
        weak = V[:, share < _OBSERVABLE].T
        for v in weak:
            pose = self._polish(pose, _scatter(v / max(np.abs(v * metric).max(), 1e-9), free), centre)
        if len(weak):
            self.look(pose)
        return pose

    def _polish(self, pose: Pose, direction: np.ndarray, centre: np.ndarray) -> Pose:
        """Line search of the full cost along ``direction`` (metric), with the visibility of every candidate."""
        t = np.arange(-2, 3) * _POLISH_M
        free = np.abs(direction * self._model.metric) > 0.1
        surfels = self._model.coarse if free[-6:].any() else self._model.dense
        sweep = self._sweep(surfels, pose, free, 0.0)
        candidates = [self._moved(pose, s * direction, centre) for s in t]
        cost = [sweep.cost(self._transforms(c))[0] + self._inertia(c) for c in candidates]
        best = int(np.argmin(cost))
        offset = t[best] + (_vertex(*cost[best - 1 : best + 2]) * _POLISH_M if 0 < best < 4 else 0.0)
        return self._moved(pose, offset * direction, centre)

    def base_offset_m(self, pose: Pose) -> float:
        """Root-mean-square displacement of the static body that its own residuals ask for, metres."""
        if not self._bounds[1]:
            return 0.0
        normal, _ = self._normal(pose, 0.0)
        H, M = normal.H[0], normal.M[0]
        step = np.linalg.lstsq(H + _DAMPING * M, normal.g[0])[0]
        return float(np.sqrt(step @ M @ step / max(M[0, 0], 1e-9)))


def _thinned(index: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` evenly spread elements."""
    return index if len(index) <= count else index[np.linspace(0, len(index) - 1, count).astype(int)]


def _scatter(step: np.ndarray, free: np.ndarray) -> np.ndarray:
    out = np.zeros(len(free))
    out[free] = step
    return out


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


def _quadratic(J: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Sum over parts of ``J' A J``: (P, 6, D), (P, 6, 6) -> (D, D)."""
    return (J.transpose(0, 2, 1) @ A @ J).sum(0)


def _observability(H: np.ndarray, M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``H v = share M v``: motions (columns, ``v' M v = 1``) and the share of each that residuals can see."""
    scale = 1 / np.sqrt(np.maximum(np.diag(M), 1e-9 * max(M.max(initial=0), 1.0)))
    L_inv = np.linalg.inv(np.linalg.cholesky(scale[:, None] * M * scale + 1e-6 * np.eye(len(M))))
    share, U = np.linalg.eigh(L_inv @ (scale[:, None] * H * scale) @ L_inv.T)
    return share, scale[:, None] * (L_inv.T @ U)
