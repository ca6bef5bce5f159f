"""What turns in place is found by its looks alone; looks that stand still, or follow the light, are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clip_tools import NOISE_M, clip_of

from art_perception.data.assembly import SLIDE, TURN, Mover, Y, Z, assemble, at, shifted
from art_perception.data.model import Material
from art_perception.data.shapes import box, cylinder, lathe
from art_perception.estimation.align import Fit
from art_perception.estimation.dense import densify
from art_perception.estimation.explain import ExplainConfig, explain, surface_of
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.segment import SegmentConfig
from art_perception.estimation.select import VALID, Choice, confidence
from art_perception.estimation.spin import Spin, find_spins, joined
from art_perception.geometry.screw import line_distance

BODY = lathe(np.array([[0, 0], [0.12, 0], [0.12, 0.2], [0.08, 0.24], [0.08, 0.26], [0, 0.26]]), segments=48)
CAP = shifted(cylinder(0.1, 0.07, 1, segments=48), 0, 0, 0.26)
WOOD = Material((0.6, 0.4, 0.2), "wood", 0.3, 0.9)
PLAIN = Material((0.5, 0.5, 0.5))


def spins_of(cap: Material, turns: bool, seed: int, everything: bool = False):
    """Spins in a clip of a jar whose lid turns, or of one that stands beside a moving box, and its truth."""
    lid = Mover(CAP, TURN, Z, at(0, 0, 0.3), 1.5)
    crate = Mover(box((-0.1, 0.2, 0), (0.1, 0.3, 0.1)), SLIDE, Y, at(0, 0.2, 0), 0.2)
    base, mover = ([BODY], lid) if turns else ([BODY, CAP], crate)
    clip = clip_of(assemble("jar", base, [mover], [PLAIN, cap]), seed)
    dense = densify(clip.window, 320)
    surface = surface_of(dense, NOISE_M, np.arange(0, len(dense.depth_m), 2))
    still = np.broadcast_to(np.eye(4), (len(dense.depth_m), 4, 4))
    changed = explain(dense, surface, still, ExplainConfig()).refuted > ExplainConfig().max_refuted
    pick = np.ones(len(changed), bool) if everything else changed
    return find_spins(dense, surface.subset(pick), NOISE_M, ExplainConfig(), SegmentConfig()), clip


def error_of(motion: Motion, truth: Motion) -> np.ndarray:
    q = motion.q * np.sign(motion.axis @ truth.axis)
    return np.rad2deg(np.abs(q - truth.q))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_grained_lid_that_turns_is_found(seed: int):
    spins, clip = spins_of(WOOD, True, seed)
    truth = clip.truth
    assert len(spins) == 1
    motion = spins[0].motion
    assert abs(motion.axis @ truth.axis) > np.cos(np.deg2rad(2))
    assert line_distance(motion.origin, truth.origin, truth.axis) < 0.005
    assert np.ptp(truth.q) > np.deg2rad(60)
    assert error_of(motion, truth).mean() < 5
    assert confidence(spins[0].choice) > VALID
    part, own = clip.part, spins[0].own[:, ::2, ::2]
    assert (part & own).sum() > 0.7 * (part | own & clip.dense.usable).sum()


def test_a_plain_lid_that_turns_is_not():
    """Nothing shows it: better no joint than a guess."""
    spins, _ = spins_of(replace(PLAIN, gloss=0.6), True, 0)
    assert not spins


@pytest.mark.parametrize("seed", [0, 1])
def test_a_grained_lid_that_stands_is_not_even_if_all_of_it_is_under_suspicion(seed: int):
    spins, _ = spins_of(replace(WOOD, gloss=0.6), False, seed, everything=True)
    assert not spins


def choice_of(axis: np.ndarray, q: np.ndarray, margin: float = 9.0) -> Choice:
    return Choice(Fit(Motion(TURN, axis, np.zeros(3), q), 0.0, 1.0), margin)


def test_what_turns_in_step_with_a_known_joint_is_a_piece_of_its_part():
    q, nothing = np.linspace(0, 1.2, 9), np.zeros((9, 1, 1), bool)
    lever, door = choice_of(Z, q), choice_of(Y, 0.5 * q)
    drum, dial, spoke = (Spin(choice_of(axis, values), nothing) for axis, values in ((-Z, -q), (Z, 0.5 * q), (Y, q)))
    together, follows = joined([door, lever], [drum, dial, spoke])
    assert together == [door, lever, dial.choice, spoke.choice]
    assert follows == [1, 2, 3]
