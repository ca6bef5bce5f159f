"""Labels of pixels by evidence, and by what the network believes where evidence is silent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.explain import ExplainConfig, explain, surface_of
from art_perception.estimation.label import _BY_HEARSAY, Belief, LabelConfig, _compact, label_parts, label_window
from art_perception.types import UNLABELLED, Window

NOISE_M = 0.003


@dataclass(frozen=True)
class Scene:
    dense: DenseWindow
    moves: np.ndarray  # (T, h, w) bool, truth
    D: np.ndarray  # (2, T, 4, 4), exact

    def labels(self, belief: Belief | None, turning: np.ndarray | None = None) -> np.ndarray:
        return label_parts(self.dense, self.D, NOISE_M, LabelConfig(), ExplainConfig(), [0, 0], belief, turning)

    def iou(self, labels: np.ndarray) -> float:
        known = labels != UNLABELLED
        return ((labels == 1) & self.moves & known).sum() / (((labels == 1) | self.moves) & known).sum()

    def believed(self, moving: np.ndarray, count: int = 2000) -> Belief:
        """A belief about some usable pixels of every other frame, from an image (T, h, w)."""
        rng = np.random.default_rng(0)
        frames = np.arange(0, len(moving), 2)
        pixels = np.stack([rng.choice(np.flatnonzero(self.dense.usable[t]), count) for t in frames])
        values = moving.reshape(len(moving), -1)[frames[:, None], pixels]
        return Belief(np.repeat(frames, count), pixels.ravel(), values.ravel().astype(float))


@pytest.fixture(scope="module")
def drawer() -> Scene:
    """A drawer that opens far: its top slides along itself, which no frame can tell from standing still."""
    clip = simulate(make_object("drawer_table", 1), SimulateConfig(frames=16, width=320, height=240), 1)
    samples = list(clip)
    q = np.stack([s.q for s in samples])
    part = int(np.ptp(q, axis=0).argmax()) + 1
    T_world_part = clip.plan.T_world_part[:, part]
    D = np.stack([np.broadcast_to(np.eye(4), T_world_part.shape), T_world_part @ np.linalg.inv(T_world_part[0])])
    dense = densify(Window(tuple(s.frame for s in samples)), 320)
    return Scene(dense, np.stack([s.part_ids for s in samples]) == part + 1, D)


def test_what_slides_along_itself_goes_with_what_it_continues(drawer):
    evidence = label_window(drawer.dense, drawer.D, NOISE_M, LabelConfig(), ExplainConfig(), [0, 0])
    assert drawer.iou(drawer.labels(None)) > drawer.iou(evidence) + 0.02


def test_a_true_belief_helps(drawer):
    plain = drawer.iou(drawer.labels(None))
    assert plain > 0.6
    assert drawer.iou(drawer.labels(drawer.believed(drawer.moves))) > plain + 0.02


def test_evidence_outweighs_a_wrong_belief(drawer):
    """Where other frames refute a motion, or that nothing moved, believing it does not help."""
    surface = surface_of(drawer.dense, NOISE_M, np.arange(len(drawer.moves)))
    stays, goes = (explain(drawer.dense, surface, D, ExplainConfig()).refuted for D in drawer.D)
    for value, refuted, fine, label in ((1.0, goes, stays, 0), (0.0, stays, goes, 1)):
        labels = drawer.labels(drawer.believed(np.full(drawer.moves.shape, value)))
        clear = (refuted > 0.6) & (fine < 0.1)
        assert clear.sum() > 1000
        found = labels.reshape(len(labels), -1)[surface.frame[clear], surface.pixel[clear]]
        assert (found == label).mean() > 0.95


def test_no_belief_and_one_that_nothing_moves_are_the_same(drawer):
    plain = drawer.labels(None)
    nothing = Belief(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    np.testing.assert_array_equal(drawer.labels(nothing), plain)
    np.testing.assert_array_equal(drawer.labels(drawer.believed(np.zeros(drawer.moves.shape))), plain)


def test_what_two_motions_explain_alike_moves_with_the_parent(drawer):
    """A part on the drawer that hardly moves on it takes what is the drawer's only if nobody says it hangs on it."""
    T = np.broadcast_to(np.eye(4), drawer.D[1].shape).copy()
    T[:, 2, 3] = np.linspace(0, 0.002, len(T))
    D = np.stack([*drawer.D, T @ drawer.D[1]])
    free, nested = (
        (label_window(drawer.dense, D, NOISE_M, LabelConfig(), ExplainConfig(), [0, 0, parent]) == 2).sum()
        for parent in (0, 1)
    )
    assert nested < 0.01 * drawer.moves.sum() < 0.1 * free


def test_what_is_said_to_turn_in_place_goes_along_unless_it_is_refuted(drawer):
    """Said of everything, it takes what nothing contradicts and what no evidence reaches, not what surely stands."""
    surface = surface_of(drawer.dense, NOISE_M, np.arange(len(drawer.moves)))
    stays, goes = (explain(drawer.dense, surface, D, ExplainConfig()).refuted for D in drawer.D)
    plain, said = (
        drawer.labels(None, turning).reshape(len(drawer.moves), -1)[surface.frame, surface.pixel]
        for turning in (None, np.ones(drawer.moves.shape, np.uint8))
    )
    stands = (goes > 0.6) & (stays < 0.1)
    assert (said[stands] == 0).mean() > 0.95
    assert (said[plain == 1] == 1).mean() > 0.99
    assert (said == 1).sum() > 1.1 * (plain == 1).sum()


def test_pieces_count_by_what_is_proved_to_move():
    """A large piece that no frame proves to move is none of the part; where nothing is proved, size decides."""
    proved, large, small = (np.random.default_rng(i).random((n, 3)) + 4 * i for i, n in ((0, 100), (1, 800), (2, 40)))
    points = np.concatenate([proved, large, small])
    moved = np.arange(len(points)) < len(proved)
    kept = _compact(points, _BY_HEARSAY + moved, 0.5)
    np.testing.assert_array_equal(kept, moved)
    kept = _compact(points, np.full(len(points), _BY_HEARSAY), 0.5)
    np.testing.assert_array_equal(kept, np.arange(len(points)) < len(proved) + len(large))
