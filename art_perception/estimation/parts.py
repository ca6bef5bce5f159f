"""Finds the moving parts one after another: tracks propose a joint, the depth of all frames decides.

The surface that no motion found so far explains is what remains to be done. Tracks on it propose joints (in the
fixed frame, then in the frame of each part already found: doors on doors); each proposal is judged by how much of
that surface it explains, the best is refined on dense depth and kept if it explains enough. Wrong flow makes wrong
proposals, but a wrong motion is contradicted by the depth images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from art_perception.errors import MotionError
from art_perception.estimation.align import JointConfig
from art_perception.estimation.chain import displacements, parents_of, unchained
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.divide import divided
from art_perception.estimation.explain import ExplainConfig, Surface, Verdict, explain, surface_of, undo
from art_perception.estimation.flow import Tracks
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.label import LabelConfig, label_window
from art_perception.estimation.planes import plane_joints
from art_perception.estimation.redundant import BETTER
from art_perception.estimation.segment import (
    Judge,
    SegmentConfig,
    find_joints,
    in_frame_of,
    moved_enough,
    travel,
    world_displacement,
)
from art_perception.estimation.select import VALID, Choice, confidence, refine_joint
from art_perception.estimation.shading import is_shading
from art_perception.estimation.sharpen import Region, sharpen, turning
from art_perception.estimation.threads import THIN, thinness, threads
from art_perception.geometry.lie import inverse, transform
from art_perception.types import JointType

_NESTED = 0.75  # a part on a part is the rarer explanation: it must be clearly better
_FRINGE = 0.12  # of what moved: motions that differ by less are one, and slipped
_NEWS = 0.25  # of what a part must explain, so much that nothing else does
_SLENDER = 0.13  # share of a part's pixels without a normal, from which on what is behind it disturbs
_SETTLING = 2  # rounds in which two parts that passed for one divide their surface
_CLEAR = 0.85  # share of what is left that a proposal must explain to need no rival
_MAX_REST = 8000  # points of unexplained surface that are kept
_JUDGES = 4000  # of them that judge a proposal
_MISSES = 3  # proposals in a row that come to nothing; every hint has its turn before anything is found


@dataclass(frozen=True, slots=True, eq=False)
class Hint:
    """A joint somebody else proposes.

    Attributes:
        motion: in the fixed frame.
        followers: (N,) bool, the tracks that follow it.
        region: the part's pixels, in the coarser window.
        certainty: of the proposer.
    """

    motion: Motion
    followers: np.ndarray
    region: Region
    certainty: float


class Suggestion(NamedTuple):
    """A joint to be judged, the tracks (N,) bool that follow it, and the hint it comes from, if any."""

    motion: Motion
    own: np.ndarray
    hint: Hint | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Motions, parents first, and the part (N,) each track supports, -1 for none."""

    motions: list[Motion]
    part_of_track: np.ndarray

    def only(self, keep: list[int], motions: list[Motion]) -> Found:
        """Return the kept parts with new motions, renumbered; parents of kept parts must be kept."""
        number = {-1: -1} | {old: new for new, old in enumerate(keep)}
        part = np.array([number.get(p, -1) for p in self.part_of_track], int)
        return Found([replace(motions[k], parent=number[motions[k].parent]) for k in keep], part)


def track_surface(dense: DenseWindow, tracks: Tracks, every: int = 6) -> tuple[Surface, np.ndarray]:
    """Every ``every``-th sighting of the tracks as surface points, and the track (n,) of each."""
    seen = tracks.visible.copy()
    order = np.cumsum(seen, 1) - 1
    seen &= order % every == 0
    track, frame = np.nonzero(seen)
    cell = np.rint(tracks.pixels[track, frame]).astype(int)
    depth = dense.depth_m[frame, cell[:, 1], cell[:, 0]]
    median = float(np.median(depth)) if len(depth) else 1.0
    return Surface(
        frame=frame,
        pixel=cell[:, 1] * dense.depth_m.shape[2] + cell[:, 0],
        points=tracks.points[track, frame],
        detail=dense.detail[frame, cell[:, 1], cell[:, 0]],
        sigma=(tracks.noise_m * (depth / median) ** 2).astype(np.float32),
        wire=dense.wire[frame, cell[:, 1], cell[:, 0]],
    ), track


def _per_track(values: np.ndarray, track: np.ndarray, count: int) -> np.ndarray:
    """Largest but one value of each track (its largest when it has only one)."""
    order = np.lexsort((-values, track))
    start = np.searchsorted(track[order], np.arange(count))
    size = np.bincount(track, minlength=count)
    second = np.minimum(start + (size > 2), len(order) - 1)
    return np.where(size > 0, values[order][second], 0)


def _enters_image(part: np.ndarray) -> bool:
    """Whether a part (T, h, w) reaches the image's edge in most of its frames, as the arm of a person does."""
    edge = np.ones(part.shape[1:], bool)
    edge[2:-2, 2:-2] = False
    seen = part.sum((1, 2)) > 20
    return bool((part & edge).sum((1, 2))[seen].astype(bool).mean() > 0.6) if seen.any() else False


class PartSearch:
    """The state of the search: what is found, and what is left to explain."""

    def __init__(
        self,
        dense: DenseWindow,
        tracks: Tracks,
        segment: SegmentConfig,
        joint: JointConfig,
        label: LabelConfig,
        test: ExplainConfig,
    ) -> None:
        self.hints: Sequence[Hint] = ()
        self.coarse, self.tracks = dense.coarser(2), tracks
        self.segment, self.joint, self.label, self.test = segment, joint, label, test
        self.rng = np.random.default_rng(segment.seed)
        frames = np.arange(0, len(dense.depth_m), 2)
        surface = surface_of(self.coarse, tracks.noise_m, frames)
        still = np.broadcast_to(np.eye(4), (len(dense.depth_m), 4, 4))
        changed = explain(self.coarse, surface, still, test).refuted > test.max_refuted
        self.still = np.zeros(self.coarse.depth_m.shape, bool)
        self.still.reshape(len(self.still), -1)[surface.frame, surface.pixel] = ~changed
        self.all_changed = surface.subset(changed)
        self.narrowed = False  # whether what the parts leave is searched for itself
        self._draw(self.all_changed)
        self.changed = self.asked  # some of all that looks different in other frames
        self.sightings, self.track_of_sighting = track_surface(dense, tracks)
        self.dense = dense
        self.free = ~self._explained_tracks(still)
        self.found = Found([], np.full(len(tracks.points), -1))
        self.sharpened: dict[tuple[int, int], list[Motion]] = {}  # by hint and parent, until another part is found

    def _draw(self, surface: Surface) -> None:
        """Ask proposals to explain some points of ``surface``."""
        count = len(surface.frame)
        self.share = min(1.0, _MAX_REST / max(count, 1))
        self.asked = surface.subset(self.rng.permutation(count)[:_MAX_REST])
        self.cost = np.full(len(self.asked.frame), np.inf)  # of the best explanation of each point so far

    @property
    def rest(self) -> Surface:
        """What nothing that was found explains."""
        return self.asked.subset(np.isinf(self.cost))

    def _explained_tracks(self, D: np.ndarray) -> np.ndarray:
        refuted = explain(self.dense, self.sightings, D, self.test).refuted
        return _per_track(refuted, self.track_of_sighting, len(self.tracks.points)) <= self.test.max_refuted

    def run(self, hints: Sequence[Hint] = ()) -> Found:
        """Find parts until nothing more is explained; ``hints`` compete with the search's own proposals.

        Beside a door the wheel on it is next to nothing: what the parts leave, and no hint either explains, is looked
        at once more for itself.
        """
        self._search(hints)
        if self.found.motions and self._narrow():
            self._search(())
        return self.found

    def _search(self, hints: Sequence[Hint]) -> None:
        self.hints = hints
        tries = len(hints) + _MISSES
        while tries and len(self.found.motions) < self.segment.max_parts:
            best = self._best_proposal()
            if best is None:
                break
            if self._accept(best.motion, best.own):
                self.sharpened = {}
                tries = _MISSES
                continue
            tries -= 1
            self.hints = [hint for hint in self.hints if hint is not best.hint]
            if best.hint is None:
                self.free &= ~best.own

    def _narrow(self) -> bool:
        """Draw anew from what no part explains; False where that is as little as before, or not enough for a part."""
        before = self._need() / self.share
        left = self.all_changed
        for D in displacements(self.found.motions, len(self.coarse.depth_m))[1:]:
            left = left.subset(explain(self.coarse, left, D, self.test).refuted > self.test.max_refuted)
        self._draw(left)
        self.sharpened, self.narrowed = {}, True
        return len(self.cost) >= self._need() and self._need() / self.share < before

    def _best_proposal(self) -> Suggestion | None:
        """The proposal that explains most of what is left; None when none explains enough to become a part.

        One that explains most of it needs no rival; parts on parts and the search's own proposals take longest.
        """
        parents = range(-1, len(self.found.motions))
        most, best = self._need(), None
        for suggest, frames in ((self._hinted, parents[:1]), (self._hinted, parents[1:]), (self._searched, parents)):
            for parent in frames:
                for suggestion in suggest(parent):
                    gain = self._gain(suggestion.motion, loose=2.0) * (1.0 if parent < 0 else _NESTED)
                    if gain > most:
                        most, best = gain, suggestion
            if most >= _CLEAR * len(self.rest.frame):
                break
        return best

    def _need(self) -> float:
        """Points of the unexplained surface that a part must explain."""
        fewest = self.segment.min_pixels * len(self.coarse.depth_m) / 2 / self.coarse.step**2
        return max(0.05 * len(self.cost), self.share * fewest)

    def _hinted(self, parent: int) -> Iterator[Suggestion]:
        """Hints taken to be in the frame of ``parent``: as they are, and sharpened on what is left of their pixels."""
        for hint in self.hints:
            own = hint.followers & self.free
            yield Suggestion(replace(hint.motion, parent=parent), own, hint)
            key = id(hint), parent
            if key not in self.sharpened:
                self.sharpened[key] = self._sharpen(hint, parent)
            for motion in self.sharpened[key]:
                yield Suggestion(motion, own, hint)

    def _sharpen(self, hint: Hint, parent: int) -> list[Motion]:
        """What depth makes of a hint; of a part too thin to be registered, what the planes that it lies in do."""
        D = displacements(self.found.motions, len(self.coarse.depth_m))
        frames, noise_m, D_parent = hint.region.frames, self.tracks.noise_m, D[parent + 1]
        surface = self._unexplained(hint.region, D[1:])
        mask = np.zeros(hint.region.mask.shape, bool)
        mask.reshape(len(mask), -1)[np.searchsorted(frames, surface.frame), surface.pixel] = True
        if thinness(self.coarse.at(frames), mask) > THIN:
            return [replace(motion, parent=parent) for motion in turning(surface, D_parent, noise_m, self.rng)]
        motion = replace(hint.motion, parent=parent)
        left = Region(frames, mask)
        sharp = sharpen(self.coarse, self.still, self.rest, left, motion, D_parent, noise_m, self.joint)
        return [] if sharp is None else [sharp]

    def _unexplained(self, region: Region, D: np.ndarray) -> Surface:
        """The surface in ``region`` that no motion of ``D`` (K, T, 4, 4) explains."""
        surface = surface_of(self.coarse, self.tracks.noise_m, region.frames)
        local = np.searchsorted(region.frames, surface.frame)
        surface = surface.subset(region.mask.reshape(len(region.mask), -1)[local, surface.pixel])
        for known in D:
            refuted = explain(self.coarse, surface, known, self.test).refuted
            surface = surface.subset(refuted > self.test.max_refuted)
        return surface

    def _searched(self, parent: int) -> Iterator[Suggestion]:
        """Joints that groups of tracks and moving planes suggest in the frame of ``parent``."""
        judge = Judge(in_frame_of(self.tracks, self.found.motions, parent), self.segment)
        for scored in find_joints(judge, self.free, self.rng):
            yield Suggestion(replace(scored.motion, parent=parent), scored.gain > 0)
        D = displacements(self.found.motions, len(self.coarse.depth_m))[parent + 1]
        for motion in plane_joints(undo(self.rest, D), self.rest.frame, len(D), self.rng):
            yield Suggestion(replace(motion, parent=parent), np.zeros(len(self.free), bool))

    def _gain(self, motion: Motion, loose: float = 1.0) -> float:
        """Points that ``motion`` explains and nothing else does as well, reckoned from a random part of them.

        A drawer that opens less than its neighbour is hidden by itself where the neighbour's motion puts it: not
        refuted, but a poor explanation.
        """
        open_ = np.flatnonzero(self.cost > BETTER)
        if not len(open_):
            return 0.0
        D = world_displacement([*self.found.motions, motion], len(self.found.motions))
        judges = open_[:_JUDGES]
        verdict = explain(self.coarse, self.asked.subset(judges), D, self.test, loose)
        return len(open_) * float(self._gained(verdict, self.cost[judges]).mean())

    def _gained(self, verdict: Verdict, cost: np.ndarray) -> np.ndarray:
        """Which points (n,) a motion explains better than at the ``cost`` of what was found so far."""
        return (verdict.refuted <= self.test.max_refuted) & (verdict.cost < cost - BETTER)

    def _accept(self, motion: Motion, supporters: np.ndarray) -> bool:
        """Refine a proposal; keep it when it moved enough and explains enough."""
        if self._is_known(motion):
            return False
        k = len(self.found.motions) + 1
        choice, labels = self._refined(unchained(motion, self.found.motions), supporters)
        if confidence(choice) < self.joint.min_confidence:
            return False
        motion = choice.motion
        if self.found.motions and not self.coarse.masked and _enters_image(labels == k):
            return False
        if self._gain(motion) < self._need() or not moved_enough(motion, self.segment) or self._is_known(motion):
            return False
        D_new = world_displacement([*self.found.motions, motion], k - 1)
        own = self.asked.subset(self._gained(explain(self.coarse, self.asked, D_new, self.test), self.cost))
        if is_shading(self.coarse, own, motion, D_new, self.found.motions, self.test, left=self.narrowed):
            return False
        if not self._is_news(D_new, confidence(choice)):
            return False
        parts = self._parts_of(motion, labels)
        self._add(parts[0], supporters)
        for part in parts[1:]:
            self._add(part, np.zeros_like(supporters))
        return True

    def _add(self, motion: Motion, supporters: np.ndarray) -> None:
        """Enter a part, with the tracks and the surface that it explains."""
        k = len(self.found.motions)
        D = world_displacement([*self.found.motions, motion], k)
        explained = self._explained_tracks(D)
        part = np.where((supporters | self.free) & explained, k, self.found.part_of_track)
        self.found = Found([*self.found.motions, motion], part)
        verdict = explain(self.coarse, self.asked, D, self.test)
        good = verdict.refuted <= self.test.max_refuted
        self.cost[good] = np.minimum(self.cost, verdict.cost)[good]
        self.free &= ~explained

    def _parts_of(self, motion: Motion, labels: np.ndarray) -> list[Motion]:
        """``motion``, or those of the two parts that it is a compromise between."""
        k = len(self.found.motions)
        if k + 2 > self.segment.max_parts:
            return [motion]
        halves = divided(self.coarse, labels, [*self.found.motions, motion], self.tracks.noise_m, self.joint)
        if halves is None:
            return [motion]
        motions = [*self.found.motions, *halves]
        nobody = np.full(len(self.tracks.points), -1)
        for _ in range(_SETTLING):
            labels = self._labelled(motions)
            for i in (k, k + 1):
                motions[i] = refine_joint(self.coarse, labels, motions, i, self.tracks, nobody, self.joint).motion
        return motions[k:] if all(moved_enough(m, self.segment) for m in motions[k:]) else [motion]

    def _refined(self, motion: Motion, supporters: np.ndarray) -> tuple[Choice, np.ndarray]:
        """Refine a proposal on what it explains; also the labels of that.

        The wall behind a slender part draws its registration off: of such a part a fit to where its points are is
        tried as well, and of both what explains more of all that moved is kept.
        """
        choice, labels = self._registered(motion, supporters)
        own = labels == len(self.found.motions) + 1
        if motion.type is JointType.PRISMATIC or thinness(self.coarse, own) < _SLENDER:
            return choice, labels
        D = displacements(self.found.motions, len(self.coarse.depth_m))[motion.parent + 1]
        clouds = self.coarse.clouds(own, inverse(D) @ self.coarse.T_world_camera)
        start, _, _ = threads(clouds, motion, self.tracks.noise_m)
        other, other_labels = self._registered(start, supporters)
        better = self._gain(other.motion) > self._gain(choice.motion)
        return (other, other_labels) if better else (choice, labels)

    def _registered(self, motion: Motion, supporters: np.ndarray) -> tuple[Choice, np.ndarray]:
        motions = [*self.found.motions, motion]
        labels = self._labelled(motions)
        part = np.where(supporters, len(motions) - 1, self.found.part_of_track)
        return refine_joint(self.coarse, labels, motions, len(motions) - 1, self.tracks, part, self.joint), labels

    def _labelled(self, motions: list[Motion]) -> np.ndarray:
        D = displacements(motions, len(self.coarse.depth_m))
        return label_window(self.coarse, D, self.tracks.noise_m, self.label, self.test, parents_of(motions))

    def _is_news(self, D: np.ndarray, sure: float) -> bool:
        """Whether a displacement explains some of what nothing else does, instead of dividing a part that is known.

        With values of its own every patch of a door can be explained a little better than with those of the whole. A
        joint that is hardly ``sure`` has to explain as much as if it were alone.
        """
        unexplained = explain(self.coarse, self.rest, D, self.test).refuted <= self.test.max_refuted
        return bool(unexplained.sum() >= (_NEWS if sure >= VALID else 1) * self._need())

    def _is_known(self, motion: Motion) -> bool:
        """Whether a found part moves the rest almost as ``motion`` does: then it is that part's fringe."""
        motions = [*self.found.motions, motion]
        new = world_displacement(motions, len(motions) - 1)
        rest = undo(self.rest, new)
        swing = np.linalg.norm(transform(new, rest) - rest, axis=-1).max(0)
        for k in range(len(self.found.motions)):
            known = transform(world_displacement(motions, k), rest)
            gap = np.linalg.norm(transform(new, rest) - known, axis=-1).max(0)
            if np.median(gap / np.maximum(swing, 0.02)) < _FRINGE:
                return True
        return False


def require_motion(found: Sequence[object], tracks: Tracks, config: SegmentConfig) -> None:
    """Raise when no joint was ``found``.

    Raises:
        MotionError: with the largest motion seen and what is needed.
    """
    if found:
        return
    if len(tracks.points) == 0:
        raise MotionError("no surface point could be followed: check exposure, depth alignment and the object mask")
    seen = 100 * float(np.quantile(travel(tracks.points, tracks.visible), 0.95))
    raise MotionError(
        f"no part moved about one fixed joint: the fastest points moved {seen:.1f} cm, but a joint needs "
        f"{config.min_rotation_deg:.0f} deg or {100 * config.min_slide_m:.1f} cm of clear motion: move the part further"
    )
