"""Parts that turn in place: a cap, a lens, a dial fills the same space at every angle, only its appearance turns.

No depth image contradicts that they stand still, so the search for parts cannot find them. Where brightness changes
that nothing explains, surfaces of revolution tell the axis (:mod:`art_perception.geometry.slippage`), and the looks of
their rings, all together, tell the angle in every frame (:mod:`art_perception.estimation.unroll`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from art_perception.estimation.align import Fit
from art_perception.estimation.chain import coaxial, displacements
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import ExplainConfig, Surface, explain, facing, surface_of
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.segment import SegmentConfig
from art_perception.estimation.select import Choice
from art_perception.estimation.unroll import Register, Rings, backfit, placed, returned, unexplained, unroll
from art_perception.geometry.cells import occupied_cells
from art_perception.geometry.screw import line_distance
from art_perception.geometry.slippage import Revolution, revolutions
from art_perception.types import JointType

_FEW = 40  # points whose brightness nothing explains: fewer are noise
_SEEDS = 40
_CELL_PX = 2.0
_VOTES = 12  # seeds and reaches that must see an axis
_CANDIDATES = 3  # axes that are tried
_AROUND = 10.0  # cells around its seeds in which an axis' part is looked for
_STEP_DEG = 15.0  # from one frame to the next, at most
_RINGS = 4  # at least
_ROUNDS = 4
_PART = 0.15  # of what the best rings gain by turning: rings that gain as much turn as well
_LEAST = 0.1  # nats per sample that turning must explain better than turning the other way
_TIMES = 1.6  # and so many times as much
_CLEAR = 4.0  # nats, by so much at least
_SURELY = 3.0  # or so many times, where a part is known to move, whose shadow moves with it
_PLAIN = 0.06  # of what looks different, so much that depth does not refute: less, and no part of it turns in place
_ARC = 0.25  # of the circumference that is seen in half of the frames at least
_EVEN = 0.4  # of the mean that turning explains along the circumference, explained by half of it at least
_ALIKE = 0.15  # of the turn: what halves of the rings may differ by
_SAMPLES = 1000  # that are as good as one, their errors being alike


@dataclass(frozen=True, slots=True, eq=False)
class Spin:
    """A part that turns in place.

    Attributes:
        choice: its joint, with the covariance of the axis and how much likelier this turn is than the opposite one.
        own: (T, h, w) bool, its pixels.
    """

    choice: Choice
    own: np.ndarray

    @property
    def motion(self) -> Motion:
        """Of the joint."""
        return self.choice.motion


def find_spins(
    dense: DenseWindow,
    changed: Surface,
    known: list[Choice],
    noise_m: float,
    test: ExplainConfig,
    config: SegmentConfig,
) -> list[Spin]:
    """Parts that turn in place, and such pieces of parts whose joint is known.

    Args:
        dense: the window.
        changed: surface that looks different in other frames.
        known: joints that explain some of it, parents first.
        noise_m: depth noise at the window's median depth.
        test: how it is judged whether depth alone refutes that something stands still.
        config: how much a joint must turn to be worth reporting.
    """
    blind = replace(test, brightness_cost=0.0)
    D = displacements([choice.motion for choice in known], len(dense.depth_m))
    plain = changed.subset(explain(dense, changed, D[0], blind).refuted <= test.max_refuted)
    cell = _CELL_PX * float(np.median(dense.depth_m[dense.usable])) / dense.K[0, 0]
    few = max(_FEW, _PLAIN * len(changed.frame))
    pieces = []
    for choice, moved in zip(known, D[1:], strict=True):
        explained = explain(dense, plain, moved, test).refuted <= test.max_refuted
        if explained.sum() > few and choice.motion.type is JointType.REVOLUTE and choice.motion.parent < 0:
            pieces.append(_piece(dense, choice, plain.points[explained].astype(float), cell))
        plain = plain.subset(~explained)
    found = [piece for piece in pieces if piece is not None]
    for line, points in _lines(dense, plain.points.astype(float), noise_m, cell, np.random.default_rng(config.seed)):
        if any(_near(line, spin.motion, cell) for spin in found):
            continue
        spin = _spin(dense, line, points, cell, _SURELY if known else _TIMES)
        if spin is not None and np.ptp(spin.motion.q) >= np.deg2rad(config.min_rotation_deg):
            found.append(spin)
    return found


def _piece(dense: DenseWindow, choice: Choice, points: np.ndarray, cell: float) -> Spin | None:
    """What turns in place about a known joint, around ``points`` (n, 3) that look different; None when nothing does."""
    motion = choice.motion
    rings = _rings(dense, motion.axis, motion.origin, points, cell)
    if len(rings.place) < _RINGS:
        return None
    turn = _turned(rings, motion.q * rings.pieces / (2 * np.pi), np.ones(len(rings.place), bool), _SURELY)
    return None if turn is None or not _all_around(rings, turn) else Spin(choice, _pixels(rings, turn.keep))


def _lines(
    dense: DenseWindow, plain: np.ndarray, noise_m: float, cell: float, rng: np.random.Generator
) -> list[tuple[Revolution, np.ndarray]]:
    """Axes of the surface around the points ``plain`` (n, 3) that look different, and the points (m, 3) around each."""
    if len(plain) < _FEW:
        return []
    points, normals = _smoothed(dense, surface_of(dense, noise_m, np.arange(0, len(dense.depth_m), 3)), cell)
    seeds = plain[rng.permutation(len(plain))[:_SEEDS]]
    lines = [line for line in revolutions(points, normals, seeds, cell)[:_CANDIDATES] if len(line.seeds) >= _VOTES]
    return [(line, _own_points(plain, seeds[line.seeds], _AROUND * cell)) for line in lines]


def joined(choices: list[Choice], spins: list[Spin]) -> tuple[list[Choice], list[int]]:
    """The joints with those of the spins, and which of them each spin's pixels follow.

    What turns in step about the axis of a joint that is known is a piece of its part: the drum below a lever.
    """
    out, follows = list(choices), []
    for spin in spins:
        same = (k for k, known in enumerate(choices) if spin.choice is known or _in_step(spin.motion, known.motion))
        follows.append(next(same, len(out)))
        if follows[-1] == len(out):
            out.append(spin.choice)
    return out, follows


def _in_step(spin: Motion, motion: Motion) -> bool:
    """Whether a spin turns as a joint does, but for one slip: a drum of twelve facets looks the same a facet later."""
    if motion.parent >= 0 or not coaxial(spin, motion):
        return False
    gap = spin.q - np.sign(spin.axis @ motion.axis) * motion.q
    steps = np.diff(gap)
    slip = int(np.abs(steps).argmax())
    mended = gap - steps[slip] * (np.arange(len(gap)) > slip)
    return bool(min(np.abs(gap).mean(), np.abs(mended).mean()) < _ALIKE * np.ptp(motion.q))


def _smoothed(dense: DenseWindow, surface: Surface, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean points and normals (n, 3) of the cells of edge ``cell`` in which the surface is one."""
    normals = facing(dense, surface)
    known = normals.any(-1)
    index = occupied_cells(surface.points[known].astype(float), cell)[1]
    count = np.bincount(index)
    mean = [np.bincount(index, surface.points[known, i]) / count for i in range(3)]
    common = np.stack([np.bincount(index, normals[known, i]) / count for i in range(3)], -1)
    length = np.linalg.norm(common, axis=-1)
    good = (count > 2) & (length > 0.9)
    return np.stack(mean, -1)[good], common[good] / length[good, None]


def _near(line: Revolution, motion: Motion, cell: float) -> bool:
    return float(line_distance(line.origin, motion.origin, motion.axis)) < _AROUND * cell


def _own_points(points: np.ndarray, seeds: np.ndarray, reach: float) -> np.ndarray:
    """The points (n, 3) within ``reach`` of one of the seeds (s, 3)."""
    gap = np.linalg.norm(points[:, None] - np.unique(seeds, axis=0), axis=-1)
    return points[gap.min(1) < reach]


def _rings(dense: DenseWindow, axis: np.ndarray, origin: np.ndarray, points: np.ndarray, cell: float) -> Rings:
    """Rings about a line as far as ``points`` (n, 3) reach and somewhat further."""
    radius = 1.2 * float(np.quantile(line_distance(points, origin, axis), 0.9)) + 2 * cell
    low, high = np.quantile((points - origin) @ axis, [0.05, 0.95])
    margin = 0.3 * (high - low) + 4 * cell
    return unroll(dense, dense.usable, axis, origin, radius, np.array([low - margin, high + margin]))


def _spin(dense: DenseWindow, line: Revolution, points: np.ndarray, cell: float, times: float) -> Spin | None:
    """The part that turns about ``line``, around what changes its looks, ``points`` (n, 3); None when nothing turns."""
    rings = _rings(dense, line.axis, line.origin, points, cell)
    turn = _turn(rings, times)
    if turn is None or not _all_around(rings, turn) or not _twice(rings, turn):
        return None
    C = np.diag([line.axis_std_rad**2 / 2] * 3 + [line.origin_std_m**2 / 2] * 3)
    angle = turn.q * 2 * np.pi / rings.pieces
    motion = Motion(JointType.REVOLUTE, line.axis, line.origin, angle, covariance=C, source="spin")
    fit = Fit(motion, -turn.margin, float(rings.weight[:, turn.keep].sum() / _SAMPLES))
    return Spin(Choice(fit, turn.margin), _pixels(rings, turn.keep))


class _Turn(NamedTuple):
    """By how many pieces (T,) which rings (R,) have turned, and how much likelier that is than the opposite."""

    q: np.ndarray
    keep: np.ndarray
    margin: float


def _turn(rings: Rings, times: float) -> _Turn | None:
    """Find by turns which rings turn and by how much; None when none do, or might as well the other way."""
    keep = np.ones(len(rings.place), bool)
    turn = None
    for _ in range(_ROUNDS):
        if keep.sum() < _RINGS:
            return None
        turn = _clearest(rings, keep, times)
        if turn is None or (turn.keep == keep).all():
            break
        keep = turn.keep
    return turn


def _clearest(rings: Rings, among: np.ndarray, times: float) -> _Turn | None:
    """The turn that some rings show, followed from the first frame or from the last: one may go astray."""
    value, weight = rings.only(among)
    back = _followed(value[::-1], weight[::-1], rings.viewer[::-1])[::-1]
    paths = (_followed(value, weight, rings.viewer), back - back[0])
    turns = [_turned(rings, q, among, times) for q in paths]
    return max((turn for turn in turns if turn is not None), key=lambda turn: turn.margin, default=None)


def _turned(rings: Rings, q: np.ndarray, among: np.ndarray, times: float) -> _Turn | None:
    """The rings that turn by ``q`` (T,), as clearly as those ``among`` which it was found.

    None when none do, or turning the other way explains them so well that this is not so many ``times`` as good.
    """
    gain, mirrored, samples = _gains(rings, q)
    score = _pooled(rings, gain - mirrored, samples)
    clear = score > _PART * np.quantile(score[among], 0.9)
    if not clear.any():
        return None
    keep = _connected(rings, clear, gain - mirrored)
    turned, other = gain[keep].sum(), mirrored[keep].sum()
    margin = float(turned - other) / _SAMPLES
    if margin < _CLEAR or turned < max(other + _LEAST * samples[keep].sum(), times * other):
        return None
    return _Turn(q, keep, margin)


def _all_around(rings: Rings, turn: _Turn) -> bool:
    """Whether much of the part is seen, and all of it looks as if turned; of a wandering shadow, only an edge does."""
    value, weight = rings.only(turn.keep)
    if np.median(weight.any(1).mean(1)) < _ARC:
        return False
    fixed = [np.zeros(len(turn.q)), rings.viewer]
    before, after = (backfit(value, weight, paths)[1] for paths in (fixed, [*fixed, turn.q]))
    noise = unexplained(weight, after) / weight.sum((0, 2))
    better = returned(weight * (before**2 - after**2) / noise[:, None], turn.q).sum((0, 1))
    seen = returned(weight, turn.q).sum((0, 1))
    known = seen > 0.1 * seen.max()
    rate = np.maximum(better[known], 0) / seen[known]
    return bool(np.median(rate) > _EVEN * rate.mean())


def _twice(rings: Rings, turn: _Turn) -> bool:
    """Whether each half of the rings turns alike by itself."""
    own = np.flatnonzero(turn.keep)
    halves = [_followed(*rings.only(half), rings.viewer) for half in (own[::2], own[1::2])]
    return all(np.abs(q - turn.q).mean() < _ALIKE * np.ptp(turn.q) for q in halves)


def _followed(value: np.ndarray, weight: np.ndarray, viewer: np.ndarray) -> np.ndarray:
    """By how many pieces (T,) the rings have turned: frame after frame first, then against all frames."""
    frames, pieces = len(value), value.shape[2]
    step = pieces * _STEP_DEG / 360
    samples = weight.sum((0, 2))
    fixed = [np.zeros(frames), viewer]
    parts, left = backfit(value, weight, fixed)
    trust = samples / unexplained(weight, left)
    q = np.zeros(frames)
    register = Register(left, weight)
    total, seen = left[0] * weight[0], weight[0].copy()
    for t in range(1, frames):
        q[t] = register(total / (seen + 1), trust, q[t - 1 : t], step, slice(t, t + 1))[0]
        back = (np.arange(pieces) + round(q[t])) % pieces
        total += (left[t] * weight[t])[:, back]
        seen += weight[t][:, back]
    parts = [*parts, np.zeros_like(parts[0])]
    for _ in range(8):
        parts, left = backfit(value, weight, [*fixed, q], parts, rounds=3)
        trust = samples / unexplained(weight, left)
        q = Register(left + placed(parts[2], q), weight)(parts[2], trust, q, step, slice(None))
    return q - q[0]


def _gains(rings: Rings, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log likelihood ratios (R,) of turning by ``q``, and by minus ``q``, against not turning; the samples (R,)."""
    fixed = [np.zeros(len(q)), rings.viewer]
    none, own, other = (
        unexplained(rings.weight, backfit(rings.value, rings.weight, paths)[1])
        for paths in (fixed, [*fixed, q], [*fixed, -q])
    )
    samples = rings.weight.sum((0, 2))
    return 0.5 * samples * np.log(none / own), 0.5 * samples * np.log(none / other), samples


def _pooled(rings: Rings, gain: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Gain per sample (R,), averaged over neighbouring rings."""
    at = tuple(rings.place.T)
    total, count = np.zeros((2, *(rings.place.max(0) + 1)))
    total[at], count[at] = gain, samples
    total, count = (gaussian_filter(image, 1.2, mode="constant") for image in (total, count))
    return (total / np.maximum(count, 1e-9))[at]


def _connected(rings: Rings, keep: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Of the rings to ``keep`` (R,), those that hang together and gain most."""
    image = np.zeros(rings.place.max(0) + 1, bool)
    image[tuple(rings.place[keep].T)] = True
    component = label(image, np.ones((3, 3)))[0][tuple(rings.place.T)]
    return component == np.bincount(component, gain * keep)[1:].argmax() + 1


def _pixels(rings: Rings, keep: np.ndarray) -> np.ndarray:
    """Pixels (T, h, w) of the rings to ``keep``, and of those that were never judged but lie nearest to them."""
    shape = rings.cell.reshape(-1, 2).max(0) + 1
    judged = np.zeros(shape, bool)
    part = np.zeros(shape, bool)
    judged[tuple(rings.place.T)] = True
    part[tuple(rings.place[keep].T)] = True
    nearest = distance_transform_edt(~judged, return_distances=False, return_indices=True)
    part = part[tuple(nearest)]
    return part[rings.cell[..., 0], rings.cell[..., 1]] & (rings.cell[..., 0] >= 0)
