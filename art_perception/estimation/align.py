"""Sharpen a joint on the dense depth of all frames: multi-view point-to-plane registration along the joint.

Between frames t and s a part moves by ``exp(xi (q_s - q_t))`` alone, so every pair of frames gives residuals in the
same few unknowns: axis direction, axis position and the joint values. Projective data association, Cauchy weights,
Gauss-Newton (Chen & Medioni 1992; Rusinkiewicz & Levoy 2001). Point tracks enter the same normal equations: they
hold the directions in which a surface slides along itself. Revolute against prismatic is decided by BIC on equal
data (Sturm et al., JAIR 2011).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.bounds import bounded
from art_perception.estimation.dense import DenseWindow, brightness_gap, project_rounded
from art_perception.estimation.joint_fit import Motion, covariance_of, normal_equations, spread, step
from art_perception.geometry.lie import inverse
from art_perception.types import JointType

_ALIKE = 0.3  # cosine between the normals of one place in two frames: noise bends them
_NARROWEST = 1 / 6  # of the first step's gate
_LOOSE = 0.3  # of the usual share of matches: frames that so few connect are two groups, each true in itself
_CLEAR = 20.0  # what the better offset must gain, chi-square units
_GROUP = 0.05  # of all matches: what a group has at least
_OFFSETS = 15  # steps of a gate's width that are tried between two such groups, either way,
_FARTHEST = np.deg2rad(20)  # but no more: what is further off is another surface
_SETTLED = 2e-4  # rad and m: a step that changes nothing any more


@dataclass(frozen=True, slots=True)
class JointConfig:
    """Dense joint refinement."""

    iterations: int = bounded(14, 1, 1000)
    """Gauss-Newton steps, at most."""
    points_per_pair: int = bounded(120, 10, 100_000)
    """Pixels drawn per pair of frames."""
    tracks_per_part: int = bounded(300, 10, 100_000)
    """Point tracks drawn of each part; they stand for all."""
    strides: tuple[int, ...] = bounded((2, 5, 11, 23), 1, 100_000)
    """Frame distances that are paired."""
    gate_m: float = bounded(0.06, 1e-3, 10.0)
    """Largest point distance associated in the first step, metres; shrinks to a sixth."""
    track_weight: float = bounded(3e-4, 0.0, 1e3)
    """Weight of a tracked position relative to its nominal precision (drift makes neighbours in time dependent)."""
    dense_weight: float = bounded(0.04, 0.0, 1e3)
    """Weight of a depth or brightness residual relative to its nominal precision (neighbouring pixels are
    dependent)."""
    min_confidence: float = bounded(0.2, 0.0, 1.0)
    """Joints less certain than this are not reported."""
    brightness_sigma: float = bounded(0.05, 1e-3, 10.0)
    """Noise of the brightness detail, as a share of the image's mean brightness."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything one part's joint is fitted to, in its parent's frame.

    Attributes:
        frame_from, frame_to: (P,) frames t and s of every pair.
        points, normals: (P, M, 3) in the parent frame at t; detail: (P, M) brightness detail there.
        sigma: (P, M) depth noise, metres.
        real: (P, M) bool; the part is too small in some frames to give all M points.
        tracks, track_weights: (N, T, 3) positions in the parent frame and (N, T) inverse variances.
        stands_for: tracks of the part for each of these.
        T_parent_camera: (T, 4, 4) camera poses relative to the moving parent.
    """

    frame_from: np.ndarray
    frame_to: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    detail: np.ndarray
    sigma: np.ndarray
    real: np.ndarray
    tracks: np.ndarray
    track_weights: np.ndarray
    stands_for: float
    T_parent_camera: np.ndarray


def gather(
    dense: DenseWindow,
    labels: np.ndarray,
    part: int,
    D_parent: np.ndarray,
    tracks: np.ndarray,
    track_weights: np.ndarray,
    noise_m: float,
    config: JointConfig,
) -> Evidence:
    """Collect a part's pixels (label ``part``) over all frame pairs and express them in the parent's frame."""
    rng = np.random.default_rng(0)
    T = len(dense.depth_m)
    T_parent_camera = inverse(D_parent) @ dense.T_world_camera
    has_normal = np.abs(dense.normals).sum(-1) > 0
    pixels = [np.flatnonzero((labels[t] == part) & has_normal[t]) for t in range(T)]
    median_depth = float(np.median(dense.depth_m[dense.usable])) if dense.usable.any() else 1.0
    pairs = [p for d in config.strides for t in range(T - d) for p in ((t, t + d), (t + d, t)) if len(pixels[p[0]])]
    frame_from, frame_to = np.array(pairs, int).reshape(-1, 2).T
    picks = [pixels[t][rng.permutation(len(pixels[t]))[: config.points_per_pair]] for t in frame_from]
    count = np.array([len(i) for i in picks], int)
    most = int(count.max(initial=0))
    pixel = np.array([np.resize(i, most) for i in picks], int).reshape(len(picks), most)
    drawn = rng.permutation(len(tracks))[: config.tracks_per_part]

    def pick(images: np.ndarray) -> np.ndarray:
        return images.reshape(T, -1, *images.shape[3:])[frame_from[:, None], pixel]

    pose = T_parent_camera[frame_from]
    turned = pose[:, :3, :3].swapaxes(1, 2)
    return Evidence(
        frame_from=frame_from,
        frame_to=frame_to,
        points=pick(dense.points).astype(np.float64) @ turned + pose[:, None, :3, 3],
        normals=pick(dense.normals) @ turned,
        detail=pick(dense.detail),
        sigma=noise_m * (pick(dense.depth_m) / median_depth) ** 2 * np.sqrt(2),
        real=np.arange(most) < count[:, None],
        tracks=tracks[drawn],
        track_weights=track_weights[drawn],
        stands_for=len(tracks) / max(len(drawn), 1),
        T_parent_camera=T_parent_camera,
    )


def _moved(motion: Motion, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (P, 3, 3) of every pair and its moved points (P, M, 3)."""
    delta = motion.q[evidence.frame_to] - motion.q[evidence.frame_from]
    if motion.type is JointType.PRISMATIC:
        R = np.broadcast_to(np.eye(3), (len(delta), 3, 3))
        return R, evidence.points + delta[:, None, None] * motion.axis
    R = motion.rotation(delta)
    return R, (evidence.points - motion.origin) @ R.swapaxes(1, 2) + motion.origin


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Residuals r (P, M) with gradients g (P, M, 3) by the moved point (parent frame), and weights w (P, M)."""

    r: np.ndarray
    g: np.ndarray
    w: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Matches:
    """Where the moved points arrive in their target frames.

    Attributes:
        camera: (P, M, 3) in the camera of the target frame, R: (P, 3, 3) that camera's rotation.
        v, u: (P, M) the pixel there.
        near: (P, M) bool, it shows the same part, close by and facing the same way.
        r, normal: (P, M) distance to the tangent plane there, and its normal (P, M, 3), camera frame.
        ok: (P, M) bool, near, and the distance is within the gate.
    """

    camera: np.ndarray
    R: np.ndarray
    v: np.ndarray
    u: np.ndarray
    near: np.ndarray
    r: np.ndarray
    normal: np.ndarray
    ok: np.ndarray


def _associate(
    dense: DenseWindow,
    labels: np.ndarray,
    part: int,
    evidence: Evidence,
    turned: np.ndarray,
    moved: np.ndarray,
    gate: float,
) -> _Matches:
    """Project the moved points into their target frames.

    Surfaces that face different ways do not match: the two faces of a door are its thickness apart.
    """
    s = evidence.frame_to
    R = evidence.T_parent_camera[s, :3, :3]
    camera = (moved - evidence.T_parent_camera[s, None, :3, 3]) @ R
    v, u, inside = project_rounded(camera, dense.K, dense.depth_m.shape[1:])
    pixel = (s[:, None] * labels.shape[1] + v) * labels.shape[2] + u
    gap = camera - dense.points.reshape(-1, 3).take(pixel, 0)
    normal = dense.normals.reshape(-1, 3).take(pixel, 0)
    r = _dot(normal, gap)
    own = evidence.normals @ (turned.swapaxes(1, 2) @ R)
    flat = _dot(normal, normal) > 0
    near = evidence.real & inside & (labels.reshape(-1).take(pixel) == part) & (_dot(gap, gap) < (3 * gate) ** 2)
    near &= ~flat | (_dot(normal, own) > _ALIKE)
    ok = near & flat & (np.abs(r) < gate)
    return _Matches(camera, R, v, u, near, r, normal, ok)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products (P, M) of (P, M, 3) with (P, M, 3) or (3,); sums over an axis of three are slow."""
    return np.einsum("...i,...i->...", a, b)


def _depth_rows(evidence: Evidence, matches: _Matches, config: JointConfig) -> Rows:
    """Distances to the target's tangent plane; weight zero without a match."""
    return Rows(
        matches.r, matches.normal @ matches.R.swapaxes(1, 2), matches.ok * config.dense_weight / evidence.sigma**2
    )


def _brightness_rows(dense: DenseWindow, evidence: Evidence, matches: _Matches, config: JointConfig) -> Rows:
    """Differences in brightness; weight zero without a match."""
    frame = evidence.frame_to[:, None]
    r, slope = brightness_gap(dense, frame, matches.v, matches.u, matches.camera, evidence.detail)
    same = matches.near & (np.abs(r) < 0.5)
    return Rows(r, slope @ matches.R.swapaxes(1, 2), same * config.dense_weight / config.brightness_sigma**2)


def _accumulate(
    motion: Motion, evidence: Evidence, R: np.ndarray, moved: np.ndarray, rows: Rows, scale: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations over [axis rotation (3), origin (3), q (T)], Cauchy-weighted at three times ``scale``."""
    T = len(motion.q)
    n, r = rows.g, rows.r
    w = rows.w / (1 + (r / (3 * scale)) ** 2)
    if motion.type is JointType.PRISMATIC:
        delta = motion.q[evidence.frame_to] - motion.q[evidence.frame_from]
        J = np.concatenate([-delta[:, None, None] * np.cross(n, motion.axis), np.zeros_like(n)], -1)
        jq = n @ motion.axis
    else:
        e, f = evidence.points - motion.origin, moved - motion.origin
        back = n @ R
        J = np.concatenate([np.cross(back, e) - np.cross(n, f), n - back], -1)
        jq = _dot(n, np.cross(motion.axis, f))
    A, g = np.zeros((6 + T, 6 + T)), np.zeros(6 + T)
    rows_of = J.reshape(-1, 6)
    A[:6, :6] = rows_of.T @ (w[..., None] * J).reshape(-1, 6)
    g[:6] = (w * r).reshape(-1) @ rows_of
    a, b = evidence.frame_from, evidence.frame_to
    # sums over each pair, times w jq, of J, jq and r: a pair pulls its two frames apart, jq squared adds up in both
    by_pair = np.einsum("pm,pmi->pi", w * jq, np.concatenate([J, jq[..., None], r[..., None]], -1))
    by_frame = np.zeros((T, 8))
    np.add.at(by_frame, b, by_pair)
    np.add.at(by_frame, a, by_pair * [-1, -1, -1, -1, -1, -1, 1, -1])
    A[:6, 6:], A[6:, :6], g[6:] = by_frame[:, :6].T, by_frame[:, :6], by_frame[:, 7]
    cross = np.bincount(a * T + b, by_pair[:, 6], T * T).reshape(T, T)
    A[6:, 6:] = np.diag(by_frame[:, 6]) - cross - cross.T
    return A, g


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A refined joint with its robust cost (chi-square units of the weights) and its number of residuals."""

    motion: Motion
    cost: float
    count: float


def refine(
    dense: DenseWindow, labels: np.ndarray, part: int, evidence: Evidence, motion: Motion, config: JointConfig
) -> Fit:
    """Gauss-Newton on depth and tracks together.

    Args:
        dense: reduced window.
        labels: (T, h, w) part labels.
        part: this part's label.
        evidence: rows from :func:`gather`.
        motion: starting value in the parent frame.
        config: steps, gates and weights.

    Returns:
        The refined motion with covariance and final cost.
    """
    motion, A = _descend(dense, labels, part, evidence, motion, config)
    joined = _joined(dense, labels, part, evidence, motion, config)
    if joined is not motion:
        motion, A = _descend(dense, labels, part, evidence, joined, config)
    return Fit(replace(motion, covariance=covariance_of(A)), *cost_of(dense, labels, part, evidence, motion, config))


def _descend(
    dense: DenseWindow, labels: np.ndarray, part: int, evidence: Evidence, motion: Motion, config: JointConfig
) -> tuple[Motion, np.ndarray]:
    """Gauss-Newton from ``motion``; also its last information matrix, of all but ``q[0]``."""
    free = np.r_[0:6, 7 : 6 + len(motion.q)]
    for i in range(config.iterations):
        share = max(_NARROWEST, 1 - i / max(config.iterations - 2, 1))
        A, g = _system(dense, labels, part, evidence, motion, config, share * config.gate_m)
        delta = np.zeros(len(g))
        ridge = 1e-4 * np.diag(A)[free] + 1e-6 * np.diag(A).max() + 1e-9
        delta[free] = -np.linalg.solve(A[np.ix_(free, free)] + np.diag(ridge), g[free])
        delta[:6] *= min(1.0, 0.1 / max(np.abs(delta[:6]).max(), 1e-9))
        motion = step(motion, delta)
        if share == _NARROWEST and np.abs(delta[:6]).max() < _SETTLED:
            break
    return motion, A[np.ix_(free, free)]


def _joined(
    dense: DenseWindow, labels: np.ndarray, part: int, evidence: Evidence, motion: Motion, config: JointConfig
) -> Motion:
    """``motion`` with a better offset between the frames before and after the weakest link, or as it is.

    A door that turns edge-on shows its other face from then on, and only its rim connects the two: further apart than
    the gate, registration does not find it.
    """
    R, moved = _moved(motion, evidence)
    gate = config.gate_m * _NARROWEST
    matched = _associate(dense, labels, part, evidence, R, moved, gate).ok.sum(1)
    asked = evidence.real.sum(1)
    if not matched.any():
        return motion
    first = np.minimum(evidence.frame_from, evidence.frame_to)
    last = np.maximum(evidence.frame_from, evidence.frame_to)
    frames = np.arange(1, len(motion.q))[:, None]
    across = (first < frames) & (last >= frames)
    share = (across @ matched) / np.maximum(across @ asked, 1)
    sides = np.minimum((last < frames) @ matched, (first >= frames) @ matched)
    share[sides < _GROUP * matched.sum()] = np.inf
    weakest = int(share.argmin())
    if share[weakest] > _LOOSE * matched.sum() / asked.sum():
        return motion
    later = np.arange(len(motion.q)) > weakest
    width, most = gate, _OFFSETS * gate
    if motion.type is JointType.REVOLUTE:
        reached = np.cross(moved[evidence.real] - motion.origin, motion.axis)
        lever = float(np.sqrt((reached**2).sum(-1).mean()))
        width, most = gate / max(lever, gate), min(_FARTHEST, most / max(lever, gate))
    reach = int(most / width)
    offsets = np.arange(-reach, reach + 1) * width
    tried = [replace(motion, q=motion.q + offset * later) for offset in offsets]
    costs = [cost_of(dense, labels, part, evidence, m, config)[0] for m in tried]
    best = int(np.argmin(costs))
    return tried[best] if costs[best] < costs[reach] - _CLEAR else motion


def _system(
    dense: DenseWindow,
    labels: np.ndarray,
    part: int,
    evidence: Evidence,
    motion: Motion,
    config: JointConfig,
    gate: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the normal equations of depth, brightness and tracks."""
    R, moved = _moved(motion, evidence)
    matches = _associate(dense, labels, part, evidence, R, moved, gate)
    A, g = _accumulate(motion, evidence, R, moved, _depth_rows(evidence, matches, config), evidence.sigma)
    brightness = _brightness_rows(dense, evidence, matches, config)
    Ab, gb = _accumulate(motion, evidence, R, moved, brightness, config.brightness_sigma)
    A, g = A + Ab, g + gb
    if len(evidence.tracks):
        weight = config.track_weight * evidence.stands_for
        robust = 1 + _track_excess(motion, evidence) ** 2
        At, gt = normal_equations(motion, evidence.tracks, weight * evidence.track_weights / robust)
        A, g = A + At, g + gt
    return A, g


def _track_excess(motion: Motion, evidence: Evidence) -> np.ndarray:
    """Spread (N, T) of un-moved tracks in units of three standard deviations."""
    return spread(motion, evidence.tracks, evidence.track_weights) * np.sqrt(evidence.track_weights) / 3


def cost_of(
    dense: DenseWindow, labels: np.ndarray, part: int, evidence: Evidence, motion: Motion, config: JointConfig
) -> tuple[float, float]:
    """Robust cost and number of residuals.

    A row without association pays the Cauchy cost of the gate, so losing rows never helps.
    """
    R, moved = _moved(motion, evidence)
    gate = config.gate_m * _NARROWEST
    matches = _associate(dense, labels, part, evidence, R, moved, gate)
    r = np.where(matches.ok, matches.r, gate) * evidence.real
    cost = config.dense_weight * float((9 * np.log1p((r / (3 * evidence.sigma)) ** 2)).sum())
    count = config.dense_weight * float(evidence.real.sum())
    if len(evidence.tracks):
        weight = config.track_weight * evidence.stands_for
        cost += weight * float((9 * np.log1p(_track_excess(motion, evidence) ** 2)).sum())
        count += 3 * weight * float((evidence.track_weights > 0).sum())
    return cost, count
