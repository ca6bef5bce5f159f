"""What turns in place is found by its looks alone; looks that stand still, or follow the light, are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from clip_tools import NOISE_M, Clip, clip_of

from art_perception.data.assembly import SLIDE, TURN, Mover, Y, Z, assemble, at, shifted
from art_perception.data.model import Material
from art_perception.data.shapes import box, cylinder, lathe
from art_perception.estimation.align import Fit
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.explain import ExplainConfig, Surface, explain, surface_of
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.segment import SegmentConfig
from art_perception.estimation.select import VALID, Choice, confidence
from art_perception.estimation.spin import Spin, _all_around, _Turn, find_spins, joined
from art_perception.estimation.unroll import Rings, placed
from art_perception.geometry.screw import line_distance

BODY = lathe(np.array([[0, 0], [0.12, 0], [0.12, 0.2], [0.08, 0.24], [0.08, 0.26], [0, 0.26]]), segments=48)
CAP = shifted(cylinder(0.1, 0.07, 1, segments=48), 0, 0, 0.26)
WOOD = Material((0.6, 0.4, 0.2), "wood", 0.3, 0.9)
PLAIN = Material((0.5, 0.5, 0.5))


def seen(cap: Material, turns: bool, seed: int) -> tuple[Clip, DenseWindow, Surface]:
    """A jar whose lid turns, or one beside a moving box; and all its surface."""
    lid = Mover(CAP, TURN, Z, at(0, 0, 0.3), 1.5)
    crate = Mover(box((-0.1, 0.2, 0), (0.1, 0.3, 0.1)), SLIDE, Y, at(0, 0.2, 0), 0.2)
    base, mover = ([BODY], lid) if turns else ([BODY, CAP], crate)
    clip = clip_of(assemble("jar", base, [mover], [PLAIN, cap]), seed)
    dense = densify(clip.window, 320)
    return clip, dense, surface_of(dense, NOISE_M, np.arange(0, len(dense.depth_m), 2))


def changed_of(dense: DenseWindow, surface: Surface) -> Surface:
    still = np.broadcast_to(np.eye(4), (len(dense.depth_m), 4, 4))
    return surface.subset(explain(dense, surface, still, ExplainConfig()).refuted > ExplainConfig().max_refuted)


def spins_in(dense: DenseWindow, changed: Surface, known: Sequence[Choice] = ()) -> list[Spin]:
    return find_spins(dense, changed, list(known), NOISE_M, ExplainConfig(), SegmentConfig())


def overlap(clip: Clip, spin: Spin) -> float:
    part, own = clip.part, spin.own[:, ::2, ::2]
    return float((part & own).sum() / (part | own & clip.dense.usable).sum())


def error_of(motion: Motion, truth: Motion) -> np.ndarray:
    q = motion.q * np.sign(motion.axis @ truth.axis)
    return np.rad2deg(np.abs(q - truth.q))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_grained_lid_that_turns_is_found(seed: int):
    clip, dense, surface = seen(WOOD, True, seed)
    truth = clip.truth
    (spin,) = spins_in(dense, changed_of(dense, surface))
    assert abs(spin.motion.axis @ truth.axis) > np.cos(np.deg2rad(2))
    assert line_distance(spin.motion.origin, truth.origin, truth.axis) < 0.005
    assert np.ptp(truth.q) > np.deg2rad(60)
    assert error_of(spin.motion, truth).mean() < 5
    assert confidence(spin.choice) > VALID
    assert overlap(clip, spin) > 0.7


def test_a_lid_is_a_piece_of_what_turns_as_it_does_and_of_nothing_else():
    clip, dense, surface = seen(WOOD, True, 1)
    lever = Choice(Fit(clip.truth, 0.0, 1.0), 9.0)
    (piece,) = spins_in(dense, changed_of(dense, surface), [lever])
    assert piece.choice is lever
    assert overlap(clip, piece) > 0.7
    other = Choice(Fit(replace(clip.truth, q=-clip.truth.q), 0.0, 1.0), 9.0)
    assert all(spin.choice is not other for spin in spins_in(dense, changed_of(dense, surface), [other]))


def test_a_clip_played_backwards_turns_back():
    clip, dense, _ = seen(WOOD, True, 1)
    backwards = dense.at(np.arange(len(dense.depth_m))[::-1])
    surface = surface_of(backwards, NOISE_M, np.arange(0, len(dense.depth_m), 2))
    (spin,) = spins_in(backwards, changed_of(backwards, surface))
    back = replace(spin.motion, q=spin.motion.q[::-1] - spin.motion.q[-1])
    assert error_of(back, clip.truth).mean() < 5


def test_a_clear_turn_is_found_beside_a_part_that_may_cast_shadows():
    clip, dense, surface = seen(WOOD, True, 1)
    elsewhere = choice_of(Y, np.linspace(0, 0.4, len(clip.truth.q)))
    (spin,) = spins_in(dense, changed_of(dense, surface), [elsewhere])
    assert error_of(spin.motion, clip.truth).mean() < 5


def test_a_plain_lid_that_turns_is_not():
    """Nothing shows it: better no joint than a guess."""
    _, dense, surface = seen(replace(PLAIN, gloss=0.6), True, 0)
    assert not spins_in(dense, changed_of(dense, surface))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_grained_lid_that_stands_is_not_even_if_all_of_it_is_under_suspicion(seed: int):
    _, dense, surface = seen(replace(WOOD, gloss=0.6), False, seed)
    assert not spins_in(dense, surface)


def choice_of(axis: np.ndarray, q: np.ndarray, margin: float = 9.0) -> Choice:
    return Choice(Fit(Motion(TURN, axis, np.zeros(3), q), 0.0, 1.0), margin)


def test_what_turns_in_step_with_a_known_joint_is_a_piece_of_its_part():
    q, nothing = np.linspace(0, 1.2, 9), np.zeros((9, 1, 1), bool)
    lever, door = choice_of(Z, q), choice_of(Y, 0.5 * q)
    drum, dial, spoke = (Spin(choice_of(axis, values), nothing) for axis, values in ((-Z, -q), (Z, 0.5 * q), (Y, q)))
    together, follows = joined([door, lever], [drum, dial, spoke])
    assert together == [door, lever, dial.choice, spoke.choice]
    assert follows == [1, 2, 3]


def test_a_drum_of_facets_that_is_followed_a_facet_late_is_still_a_piece_of_its_lever():
    q, nothing = np.linspace(0, 1.2, 9), np.zeros((9, 1, 1), bool)
    lever = choice_of(Z, q)
    late = Spin(choice_of(Z, q - np.deg2rad(30) * (np.arange(9) > 4)), nothing)
    assert joined([lever], [late]) == ([lever], [0])


def rings_of(part: np.ndarray, q: np.ndarray, seen: int) -> Rings:
    """Rings (R, P) of a part turned by ``q`` over a grained wall, of which ``seen`` pieces are seen."""
    rng = np.random.default_rng(1)
    value = placed(part, q) + rng.normal(size=part.shape) + rng.normal(0, 0.3, (len(q), *part.shape))
    weight = np.broadcast_to(np.arange(part.shape[1]) < seen, value.shape).astype(float)
    return Rings(value, weight, np.zeros((len(part), 2), int), np.zeros(len(q)), np.zeros((len(q), 1, 1, 2), int))


def test_a_spot_that_wanders_and_a_sliver_of_a_surface_do_not_turn():
    grain, q = np.random.default_rng(0).normal(size=(9, 96)), np.linspace(0, 30, 20)
    spot = 3 * grain * (np.abs(np.arange(96) - 20) < 3)
    turn = _Turn(q, np.ones(9, bool), 9.0)
    assert _all_around(rings_of(grain, q, 48), turn)
    assert not _all_around(rings_of(grain, q, 10), turn)
    assert not _all_around(rings_of(spot, q, 48), turn)
