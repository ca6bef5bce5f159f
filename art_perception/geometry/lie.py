"""SO(3) and SE(3) on arrays: exp, log, adjoint, quaternions, interpolation.

Every function takes NumPy arrays or torch tensors (any leading batch shape) and returns the same kind, so one forward
kinematics serves the tracker and gradient-based refinement. Twists are ordered ``[v, w]`` (translation, rotation).
Formulas: Sola et al., "A micro Lie theory for state estimation in robotics", 2018; Lynch & Park, "Modern Robotics",
ch. 3.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any  # np.ndarray or torch.Tensor; the return type always equals the argument's

_SMALL = 1e-4  # rad; below it the Taylor series below are exact to double precision


def namespace(x: Array) -> Any:
    """Return the module (numpy or torch) whose functions apply to ``x``."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else np


def _eye_like(x: Array, n: int) -> Array:
    xp = namespace(x)
    return xp.eye(n, dtype=x.dtype) if xp is np else xp.eye(n, dtype=x.dtype, device=x.device)


def hat(w: Array) -> Array:
    """Skew-symmetric matrix of ``w`` (..., 3) -> (..., 3, 3), so that ``hat(w) @ p == cross(w, p)``."""
    xp = namespace(w)
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    if xp is np:  # filling is several times faster than stacking, and the tracker calls this per iteration
        out = np.zeros((*w.shape, 3), np.result_type(w, np.float32))
        out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -z, y, -x
        out[..., 1, 0], out[..., 2, 0], out[..., 2, 1] = z, -y, x
        return out
    o = xp.zeros_like(x)
    return xp.stack([xp.stack([o, -z, y], -1), xp.stack([z, o, -x], -1), xp.stack([-y, x, o], -1)], -2)


def _coefficients(theta2: Array) -> tuple[Array, Array, Array]:
    """Return sin(t)/t, (1 - cos t)/t^2, (t - sin t)/t^3, smooth (value and gradient) through t = 0."""
    xp = namespace(theta2)
    small = theta2 < _SMALL**2
    t2 = xp.where(small, xp.ones_like(theta2), theta2)
    t = xp.sqrt(t2)
    a = xp.where(small, 1 - theta2 / 6, xp.sin(t) / t)
    b = xp.where(small, 0.5 - theta2 / 24, 2 * xp.sin(t / 2) ** 2 / t2)
    c = xp.where(small, 1 / 6 - theta2 / 120, (t - xp.sin(t)) / (t2 * t))
    return a, b, c


def exp_so3(w: Array) -> Array:
    """Rotation matrix of a rotation vector: (..., 3) -> (..., 3, 3) (Rodrigues)."""
    a, b, _ = _coefficients((w * w).sum(-1))
    W = hat(w)
    return _eye_like(w, 3) + a[..., None, None] * W + b[..., None, None] * (W @ W)


def log_so3(R: Array) -> Array:
    """Rotation vector of a rotation matrix: (..., 3, 3) -> (..., 3), norm in [0, pi].

    Goes through the unit quaternion, which stays well conditioned near 0 and near pi where the trace formula does not.
    """
    q = quaternion_from_matrix(R)
    xp = namespace(q)
    v, w = q[..., 1:], q[..., 0]
    n2 = (v * v).sum(-1)
    small = n2 < _SMALL**2
    n = xp.sqrt(xp.where(small, xp.ones_like(n2), n2))
    scale = xp.where(small, 2 + n2 / 3, 2 * xp.arctan2(n, w) / n)
    return v * scale[..., None]


def exp_se3(xi: Array) -> Array:
    """Rigid transform of a twist ``[v, w]``: (..., 6) -> (..., 4, 4)."""
    v, w = xi[..., :3], xi[..., 3:]
    a, b, c = (x[..., None, None] for x in _coefficients((w * w).sum(-1)))
    eye, W = _eye_like(xi, 3), hat(w)
    W2 = W @ W
    V = eye + b * W + c * W2
    return from_rotation_translation(eye + a * W + b * W2, (V @ v[..., None])[..., 0])


def log_se3(T: Array) -> Array:
    """Twist ``[v, w]`` of a rigid transform: (..., 4, 4) -> (..., 6)."""
    xp = namespace(T)
    w = log_so3(T[..., :3, :3])
    theta2 = (w * w).sum(-1)
    a, b, _ = _coefficients(theta2)
    small = theta2 < _SMALL**2
    t2 = xp.where(small, xp.ones_like(theta2), theta2)
    d = xp.where(small, 1 / 12 + theta2 / 720, (1 - a / (2 * b)) / t2)
    W = hat(w)
    V_inv = _eye_like(T, 3) - 0.5 * W + d[..., None, None] * (W @ W)
    concatenate = np.concatenate if xp is np else xp.cat
    return concatenate([(V_inv @ T[..., :3, 3:])[..., 0], w], -1)


def from_rotation_translation(R: Array, t: Array) -> Array:
    """Stack (..., 3, 3) and (..., 3) into (..., 4, 4)."""
    xp = namespace(R)
    top = (np.concatenate if xp is np else xp.cat)([R, t[..., None]], -1)
    bottom = xp.zeros_like(top[..., :1, :])
    bottom[..., 0, 3] = 1
    return (np.concatenate if xp is np else xp.cat)([top, bottom], -2)


def inverse(T: Array) -> Array:
    """Inverse of rigid transforms (..., 4, 4)."""
    R_t = namespace(T).swapaxes(T[..., :3, :3], -1, -2)
    return from_rotation_translation(R_t, -(R_t @ T[..., :3, 3:])[..., 0])


def transform(T: Array, p: Array) -> Array:
    """Apply rigid transforms (..., 4, 4) to points (..., N, 3)."""
    return p @ namespace(T).swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3]


def adjoint(T: Array) -> Array:
    """6x6 adjoint for ``[v, w]`` twists: ``exp(adjoint(T) @ xi) == T @ exp(xi) @ inverse(T)``."""
    xp = namespace(T)
    R, t = T[..., :3, :3], T[..., :3, 3]
    concatenate = np.concatenate if xp is np else xp.cat
    top = concatenate([R, hat(t) @ R], -1)
    return concatenate([top, concatenate([xp.zeros_like(R), R], -1)], -2)


def quaternion_from_matrix(R: Array) -> Array:
    """Unit quaternion wxyz with w >= 0 of rotation matrices: (..., 3, 3) -> (..., 4) (Shepperd's method)."""
    xp = namespace(R)
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    s = [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz]
    a, b, c = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    d, e, f = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    rows = [(s[0], a, b, c), (a, s[1], d, e), (b, d, s[2], f), (c, e, f, s[3])]
    candidates = xp.stack([xp.stack(row, -1) for row in rows], -2)
    best = xp.stack(s, -1).argmax(-1)
    if xp is np:
        pick = np.broadcast_to(best[..., None, None], candidates[..., :1, :].shape)
        q = np.take_along_axis(candidates, pick, -2)[..., 0, :]
        q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    else:
        q = candidates.gather(-2, best[..., None, None].expand(candidates[..., :1, :].shape))[..., 0, :]
        q = q / q.norm(dim=-1, keepdim=True)
    return xp.where(q[..., :1] < 0, -q, q)


def matrix_from_quaternion(q: Array) -> Array:
    """Rotation matrices of quaternions wxyz, normalised first: (..., 4) -> (..., 3, 3)."""
    xp = namespace(q)
    q = q / xp.sqrt((q * q).sum(-1))[..., None]
    V = hat(q[..., 1:])
    return _eye_like(q, 3) + 2 * q[..., 0][..., None, None] * V + 2 * (V @ V)


def interpolate(T_a: Array, T_b: Array, alpha: Array) -> Array:
    """Geodesic between two rigid transforms: ``T_a`` at 0, ``T_b`` at 1."""
    return T_a @ exp_se3(alpha * log_se3(inverse(T_a) @ T_b))
