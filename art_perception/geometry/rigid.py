"""Rigid registration of matched points."""

from __future__ import annotations

import numpy as np


def kabsch(a: np.ndarray, b: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Rigid transform (4, 4) that best maps points a (N, 3) to b (N, 3) with weights (N,) (Arun et al., 1987)."""
    w = w / w.sum()
    ca, cb = w @ a, w @ b
    U, _, Vt = np.linalg.svd((a - ca).T @ (w[:, None] * (b - cb)))
    R = Vt.T @ np.diag([1, 1, np.linalg.det(Vt.T @ U.T)]) @ U.T
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, cb - R @ ca
    return T
