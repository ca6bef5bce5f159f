"""Joint hypotheses from point tracks.

Hypotheses come from small groups of neighbouring tracks (rigid fit between the two frames where the group moved
most) and are judged by every track over every frame: a track supports a joint when un-moving it by the joint's
motion makes it stand still. The best hypothesis is refined on its supporters (RANSAC with local optimisation, Chum
et al. 2003, scored as in MSAC, Torr & Zisserman 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from art_perception.bounds import bounded
from art_perception.estimation.flow import Tracks
from art_perception.estimation.joint_fit import Motion, canonical, fit_tracks, length, weighted_mean
from art_perception.geometry.lie import inverse
from art_perception.geometry.rigid import kabsch
from art_perception.geometry.screw import across, screw_of_transform
from art_perception.types import JointType


@dataclass(frozen=True, slots=True)
class SegmentConfig:
    """Motion segmentation."""

    hypotheses: int = bounded(120, 1, 100_000)
    """Joint hypotheses drawn per round."""
    jury: int = bounded(200, 3, 100_000)
    """Tracks that sort the hypotheses before all tracks judge the best ten."""
    max_parts: int = bounded(6, 1, 64)
    """Moving parts looked for at most."""
    min_motion_m: float = bounded(0.012, 1e-4, 10.0)
    """A track that moves less than this is taken as still, metres."""
    inlier_sigma: float = bounded(3.0, 0.1, 100.0)
    """Residual, in standard deviations, up to which an observation supports a hypothesis."""
    min_support: float = bounded(12.0, 0.0, 1e6)
    """Tracks' worth of evidence a part needs."""
    min_rotation_deg: float = bounded(4.0, 0.01, 180.0)
    """A revolute joint that turned less than this is not reported, degrees."""
    min_slide_m: float = bounded(0.015, 1e-4, 10.0)
    """A prismatic joint that slid less than this is not reported, metres."""
    min_pixels: float = bounded(250.0, 0.0, 1e7)
    """Unexplained full-resolution pixels per frame that a part must explain, on average."""
    seed: int = bounded(0, 0, 2_147_483_647)
    """Seed of the random draws."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A hypothesis with its evidence: total gain over standing still, gain per track (N,), frames it covers (T,)."""

    motion: Motion
    score: float
    gain: np.ndarray
    covered: np.ndarray


def still_spread(points: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Distance (N, T) of each observation from the track's mean position, metres; zero where invisible."""
    return length(points - weighted_mean(points, visible.astype(float))) * visible


def travel(points: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Largest displacement (N,) of a track from its first sight, after a three-frame average, metres."""
    w = visible.astype(float)
    pad = np.pad(points * w[..., None], ((0, 0), (1, 1), (0, 0)))
    pad_w = np.pad(w, ((0, 0), (1, 1)))
    count = pad_w[:, :-2] + pad_w[:, 1:-1] + pad_w[:, 2:]
    smooth = (pad[:, :-2] + pad[:, 1:-1] + pad[:, 2:]) / np.maximum(count, 1)[..., None]
    first = visible.argmax(1)
    d = np.linalg.norm(smooth - smooth[np.arange(len(points)), first][:, None], axis=-1)
    return np.where(visible, d, 0).max(1)


def _increments(motion: Motion, points: np.ndarray, visible: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Joint values (T,) chained from frame to frame over a group of tracks."""
    both = (visible[:, 1:] & visible[:, :-1]) * weights[:, None]
    if motion.type is JointType.PRISMATIC:
        s = points @ motion.axis
        d = ((s[:, 1:] - s[:, :-1]) * both).sum(0) / np.maximum(both.sum(0), 1e-9)
    else:
        zeta = _planar(motion, points)
        d = np.angle((zeta[:, 1:] * zeta[:, :-1].conj() * both).sum(0))
    return np.concatenate([[0.0], np.cumsum(d)])


def _planar(motion: Motion, points: np.ndarray) -> np.ndarray:
    """Position in the plane across the axis as a complex number (N, T), so that turning is multiplication."""
    plane = np.stack(across(motion.axis), -1)
    return (points @ plane - motion.origin @ plane).view(np.complex128)[..., 0]


def solve_amounts(motion: Motion, points: np.ndarray, weights: np.ndarray, rounds: int = 2) -> Motion:
    """Re-estimate all joint values from weighted tracks (N, T), alternating with the tracks' rest positions."""
    q = motion.q
    for _ in range(rounds):
        if motion.type is JointType.PRISMATIC:
            s = points @ motion.axis
            rest = weighted_mean(s - q, weights)
            q = (weights * (s - rest)).sum(0) / np.maximum(weights.sum(0), 1e-9)
        else:
            zeta = _planar(motion, points)
            rest = weighted_mean(zeta * np.exp(-1j * q), weights)
            q = q + np.angle((weights * zeta * (rest * np.exp(1j * q)).conj()).sum(0))
        q = np.where(weights.sum(0) > 0, q, motion.q)
    return replace(motion, q=q)


def _fill(q: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Interpolate joint values over frames without evidence and make the first one zero."""
    if not covered.any():
        return q * 0
    t = np.arange(len(q))
    q = np.interp(t, t[covered], q[covered])
    return q - q[0]


class Judge:
    """Scores hypotheses against one set of tracks expressed in one parent's frame."""

    def __init__(self, tracks: Tracks, config: SegmentConfig) -> None:
        self.points = tracks.points.astype(np.float64)
        self.visible = tracks.visible
        self.sigma = tracks.sigma
        self.config = config
        self.still = self._cost(still_spread(self.points, self.visible))
        self.moving = travel(self.points, self.visible) > np.maximum(config.min_motion_m, 4 * tracks.sigma)

    def _cost(self, residual: np.ndarray) -> np.ndarray:
        limit = self.config.inlier_sigma**2
        return np.minimum((residual / self.sigma[:, None]) ** 2, limit) / limit

    def score(self, motion: Motion, members: np.ndarray, candidates: np.ndarray, rounds: int = 3) -> Scored:
        """Judge ``motion`` (its q is ignored): amounts from ``members``, then from all its supporters, by turns."""
        points, visible = self.points[candidates], self.visible[candidates]
        seed = np.flatnonzero(members[candidates])
        w = np.zeros(len(points))
        w[seed] = 1
        q = _increments(motion, points[seed], visible[seed], np.ones(len(seed)))
        motion = replace(motion, q=q)
        covered = visible[seed].any(0)
        for _ in range(rounds):
            motion = solve_amounts(motion, points, visible * covered * w[:, None])
            gain = self._gain(motion, points, visible & covered, candidates)
            w = (gain > 0).astype(float)
            if not w.any():
                break
            grown = (visible & (w > 0)[:, None] & (visible & covered).any(1)[:, None]).sum(0) >= 3
            motion, covered = self._extend(motion, points, visible, w, covered, grown)
        gain = self._gain(motion, points, visible & covered, candidates)
        full = np.zeros(len(self.points))
        full[candidates] = gain
        return Scored(replace(motion, q=_fill(motion.q, covered)), float(np.maximum(gain, 0).sum()), full, covered)

    def _extend(
        self,
        motion: Motion,
        points: np.ndarray,
        visible: np.ndarray,
        w: np.ndarray,
        covered: np.ndarray,
        grown: np.ndarray,
    ) -> tuple[Motion, np.ndarray]:
        """Chain the amounts into frames where supporters, but not yet the covered frames, reach."""
        chained = _increments(motion, points, visible, w)
        q = motion.q.copy()
        for t in np.flatnonzero(grown & ~covered):
            near = np.flatnonzero(covered)[np.abs(np.flatnonzero(covered) - t).argmin()]
            q[t] = q[near] + chained[t] - chained[near]
        return replace(motion, q=q), covered | grown

    def _gain(self, motion: Motion, points: np.ndarray, visible: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Evidence per track: mean over its frames of how much better the joint explains it than standing still.

        A track only counts when the joint explains nearly all of its observations.
        """
        y = canonical(motion, points)
        v = visible.astype(float)
        residual = length(y - weighted_mean(y, v))
        limit = self.config.inlier_sigma**2
        cost = np.minimum((residual / self.sigma[candidates, None]) ** 2, limit) / limit
        n = np.maximum(v.sum(1), 1)
        mean_cost = (cost * v).sum(1) / n
        gain = (self.still[candidates] * v).sum(1) / n - mean_cost
        return np.where((mean_cost < 0.5) & (v.sum(1) >= 4), gain, np.minimum(gain, 0))


def _propose(judge: Judge, free: np.ndarray, rng: np.random.Generator) -> list[tuple[Motion, np.ndarray]]:
    """Draw one local group of free tracks; return a revolute and a prismatic hypothesis with the group (N,) bool."""
    points, visible = judge.points, judge.visible
    seed = rng.choice(np.flatnonzero(free))
    frames = np.flatnonzero(visible[seed])
    a = int(rng.choice(frames))
    d = np.linalg.norm(points[seed, frames] - points[seed, a], axis=-1)
    b = int(frames[d.argmax()])
    mates = np.flatnonzero(free & visible[:, a] & visible[:, b])
    if len(mates) < 4 or d.max() < judge.config.min_motion_m / 2:
        return []
    distance = np.linalg.norm(points[mates, a] - points[seed, a], axis=-1)
    group = mates[np.argsort(distance)[: int(rng.integers(6, 40))]]
    T = _trimmed_kabsch(points[group, a], points[group, b])
    axis, origin, angle, _ = screw_of_transform(T)
    members = np.zeros(len(points), bool)
    members[group] = True
    zero = np.zeros(points.shape[1])
    shift = (points[group, b] - points[group, a]).mean(0)
    out = [(Motion(JointType.PRISMATIC, shift / np.linalg.norm(shift), points[group, a].mean(0), zero), members)]
    if angle > np.deg2rad(2):
        out.append((Motion(JointType.REVOLUTE, axis, origin, zero), members))
    return out


def _trimmed_kabsch(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = np.ones(len(a))
    T = kabsch(a, b, w)
    for _ in range(2):
        r = np.linalg.norm(a @ T[:3, :3].T + T[:3, 3] - b, axis=-1)
        T = kabsch(a, b, 1 / (1 + (r / max(np.median(r), 1e-4)) ** 2))
    return T


def _polish(judge: Judge, scored: Scored, candidates: np.ndarray) -> Scored:
    """Fit the joint to its supporters for as long as that explains the tracks better."""
    supporters = scored.gain > 0
    best = scored
    for _ in range(2):
        index = np.flatnonzero(supporters)
        if len(index) < 4:
            return best
        index = index[np.linspace(0, len(index) - 1, min(len(index), 80)).astype(int)]
        w = (judge.visible[index] & best.covered) / judge.sigma[index, None] ** 2
        fitted = fit_tracks(best.motion, judge.points[index], w, iterations=5)
        again = judge.score(fitted, supporters, candidates)
        if again.score <= best.score:
            return best
        best, supporters = again, again.gain > 0
    return best


def find_joints(judge: Judge, free: np.ndarray, rng: np.random.Generator) -> list[Scored]:
    """Return up to three refined joint hypotheses for the free tracks (N,), best first."""
    config = judge.config
    free = free & judge.moving
    if free.sum() < config.min_support:
        return []
    candidates = np.flatnonzero(free)
    pool = [h for _ in range(config.hypotheses // 2) for h in _propose(judge, free, rng)]
    jury = rng.permutation(candidates)[: config.jury]
    quick = sorted(pool, key=lambda h: -judge.score(h[0], h[1], np.union1d(jury, np.flatnonzero(h[1])), 1).score)
    scored = sorted((judge.score(m, g, candidates) for m, g in quick[:8]), key=lambda s: -s.score)[:3]
    polished = sorted((_polish(judge, s, candidates) for s in scored), key=lambda s: -s.score)
    return [s for s in polished if s.score >= config.min_support]


def moved_enough(motion: Motion, config: SegmentConfig) -> bool:
    """Whether the joint's own range is large enough to say where its axis is."""
    need = np.deg2rad(config.min_rotation_deg) if motion.type is JointType.REVOLUTE else config.min_slide_m
    return float(np.ptp(motion.q)) >= need


def in_frame_of(tracks: Tracks, motions: list[Motion], parent: int) -> Tracks:
    """Express tracks in the frame of a moving part (its displacement undone)."""
    if parent < 0:
        return tracks
    D = inverse(world_displacement(motions, parent))
    return replace(tracks, points=np.einsum("tij,ntj->nti", D[:, :3, :3], tracks.points) + D[:, :3, 3])


def world_displacement(motions: Sequence[Motion], k: int) -> np.ndarray:
    """Displacement (T, 4, 4) of part k from frame 0, through its parents."""
    own = motions[k].displacement(motions[k].q)
    return own if motions[k].parent < 0 else world_displacement(motions, motions[k].parent) @ own
