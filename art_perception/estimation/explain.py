"""Does a motion explain a surface? Ask every other frame what it saw where the surface would then have been.

If a frame saw *through* that place, the motion is refuted; if it saw a surface there, the motion is supported, unless
the brightness detail differs (detail only: shading changes as parts turn); if something nearer hid the place, nothing
is learned. This uses the whole window instead of one flow step and needs no texture. With the identity motion the same
test is classic change detection: it finds what is static.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from art_perception.bounds import bounded
from art_perception.estimation.dense import DenseWindow, project_rounded
from art_perception.geometry.lie import inverse

_BLOCK = 1 << 16  # points at a time: what is computed of them stays in the cache


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """The test of motions against all frames."""

    witnesses: int = bounded(12, 2, 1000)
    """Frames each surface point is tested against."""
    tolerance_m: float = bounded(0.006, 1e-4, 1.0)
    """Depth difference that is never held against a motion, metres; noise and slope add to it."""
    unseen_cost: float = bounded(0.4, 0.0, 1.0)
    """Cost of a witness that could not see the place (refuted costs 1, seen 0)."""
    brightness_cost: float = bounded(0.5, 0.0, 10.0)
    """Cost of a seen surface of quite another brightness."""
    max_refuted: float = bounded(0.25, 0.0, 1.0)
    """Share of the telling frames that may refute a motion that is still taken to explain a point."""


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """n measured surface points.

    Attributes:
        frame: (n,) frame of each point; pixel: (n,) its flat index in that frame.
        points: (n, 3) float32, fixed frame.
        detail: (n,) brightness detail; sigma: (n,) depth noise, metres.
        wire: (n,) bool, points so thin that a rounded pixel may miss them.
    """

    frame: np.ndarray
    pixel: np.ndarray
    points: np.ndarray
    detail: np.ndarray
    sigma: np.ndarray
    wire: np.ndarray

    def subset(self, keep: np.ndarray) -> Surface:
        """Return the points selected by a mask or index array."""
        return Surface(*(getattr(self, f.name)[keep] for f in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the witnesses say about n points.

    Attributes:
        cost: (n,) mean cost.
        refuted: (n,) share of the telling frames that refute the motion; frames missing to a quorum count half.
        proof: (n,) share of all frames that refute it.
    """

    cost: np.ndarray
    refuted: np.ndarray
    proof: np.ndarray


def surface_of(dense: DenseWindow, noise_m: float, frames: np.ndarray) -> Surface:
    """Usable surface of some frames; ``noise_m`` holds at the median depth."""
    local, v, u = np.nonzero(dense.usable[frames])
    frame = frames[local]
    pose = dense.T_world_camera.astype(np.float32)
    points = np.einsum("nij,nj->ni", pose[frame, :3, :3], dense.points[frame, v, u]) + pose[frame, :3, 3]
    depth = dense.depth_m[frame, v, u]
    median = float(np.median(depth)) if len(depth) else 1.0
    sigma = (noise_m * (depth / median) ** 2).astype(np.float32)
    wire = dense.wire[frame, v, u]
    return Surface(frame, v * dense.usable.shape[2] + u, points, dense.detail[frame, v, u], sigma, wire)


def facing(dense: DenseWindow, surface: Surface) -> np.ndarray:
    """Normals (n, 3) float32 of surface points, fixed frame, zero where undefined."""
    R = dense.T_world_camera[surface.frame, :3, :3].astype(np.float32)
    flat = dense.normals.reshape(len(dense.normals), -1, 3)
    return np.einsum("nij,nj->ni", R, flat[surface.frame, surface.pixel])


def undo(surface: Surface, D: np.ndarray) -> np.ndarray:
    """Points (n, 3) moved back to where they are at zero joint values, given displacements D (T, 4, 4)."""
    back = inverse(D).astype(np.float32)[surface.frame]
    return np.einsum("nij,nj->ni", back[:, :3, :3], surface.points) + back[:, :3, 3]


def explain(dense: DenseWindow, surface: Surface, D: np.ndarray, config: ExplainConfig, loose: float = 1.0) -> Verdict:
    """Test the motion ``D`` (T, 4, 4, fixed frame) on every point of ``surface``.

    Args:
        dense: reduced window with the witnesses.
        surface: points to explain.
        D: displacement of the hypothesised part in every frame.
        config: costs and tolerances.
        loose: factor on the tolerance, for motions that have not been refined yet.
    """
    blocks = [slice(i, i + _BLOCK) for i in range(0, len(surface.frame), _BLOCK)] or [slice(0)]
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda part: _explain(dense, surface.subset(part), D, config, loose), blocks))
    return Verdict(*(np.concatenate([getattr(v, f.name) for v in verdicts]) for f in fields(Verdict)))


def _explain(dense: DenseWindow, surface: Surface, D: np.ndarray, config: ExplainConfig, loose: float) -> Verdict:
    rest = undo(surface, D)
    count = len(dense.depth_m)
    witnesses = np.unique(np.linspace(0, count - 1, config.witnesses).round().astype(int))
    cost, told, refuted, asked = (np.zeros(len(rest), np.float32) for _ in range(4))
    slack = (config.tolerance_m * loose + 4 * loose * surface.sigma).astype(np.float32)
    wire = np.flatnonzero(surface.wire)
    for s in witnesses:
        M = (inverse(dense.T_world_camera[s]) @ D[s]).astype(np.float32)
        seen, through, contrast = _ask(dense, rest @ M[:3, :3].T + M[:3, 3], int(s), surface.detail, slack, wire)
        other = surface.frame != s
        seen &= other
        through &= other
        dark = config.brightness_cost * contrast * seen
        asked += other
        told += seen | through
        cost += np.where(through, 1, np.where(seen, dark, config.unseen_cost * other))
        refuted += np.where(through, 1, 2 * dark)
    # few telling frames prove little: the missing ones count half
    need = 0.25 * asked
    share = (refuted + 0.5 * np.maximum(need - told, 0)) / np.maximum(np.maximum(told, need), 1e-6)
    return Verdict(cost / np.maximum(asked, 1), share, refuted / np.maximum(asked, 1))


def _ask(
    dense: DenseWindow, camera: np.ndarray, s: int, own: np.ndarray, slack: np.ndarray, wire: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether witness s saw a surface at each place, saw through it, and the brightness contrast in [0, 1].

    Something that is not the object, which the mask knows, is seen through the object as well.

    Args:
        dense: reduced window.
        camera: (n, 3) places in the camera of s.
        s: the witness.
        own: (n,) brightness detail that is expected there.
        slack: (n,) depth difference that is not held against them.
        wire: indices of places so thin that a rounded pixel may miss them.
    """
    v, u, inside = project_rounded(camera, dense.K, dense.depth_m.shape[1:])
    pixel = v * dense.depth_m.shape[2] + u
    measured, noise, detail, ripple, other = (
        image[s].reshape(-1).take(pixel)
        for image in (dense.depth_m, dense.slack_m, dense.detail, dense.ripple, dense.off_object)
    )
    slack = slack + noise
    behind = measured - camera[:, 2]
    beside = dense.nearest_m[s].reshape(-1)[pixel[wire]] - camera[wire, 2]
    behind[wire] = np.where(np.abs(beside) < np.abs(behind[wire]), beside, behind[wire])
    known = inside & (measured > 0)
    contrast = np.clip((np.abs(detail - own) - ripple) / np.float32(0.15), 0, 1)
    there = known & (np.abs(behind) <= slack)
    return there & ~other, known & (behind > slack) | there & other, contrast
