"""Errors of completed objects: known displacements give known numbers, the truth gives the floor of its samples."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from shape_tools import slabs, small_bank

from art_perception.data.categories import samples_of
from art_perception.data.shape_bank import QUANTUM
from art_perception.eval.completion import (
    FAILED,
    Estimate,
    TrueObject,
    floor,
    joint_errors,
    pose_errors,
    score,
)
from art_perception.eval.completion_tables import (
    LEVELS,
    Scored,
    at_levels,
    by_category,
    from_json,
    rounds_table,
    section,
    spreads,
    to_json,
)
from art_perception.eval.shape_error import MISSING
from art_perception.eval.symmetry import half_turns
from art_perception.geometry.lie import exp_so3, from_rotation_translation
from art_perception.geometry.mesh import empty_mesh
from art_perception.types import Mesh

SIZE_M = 0.5
X, Y, Z = np.eye(3)


def truth() -> TrueObject:
    """The laptop of two plates, open by 1 rad, half a metre large, seen from somewhere."""
    bank, (sample,) = small_bank(), samples_of(slabs(), "procedural")
    return TrueObject(
        points=bank.points[0] * QUANTUM,
        label=bank.part[0].astype(int),
        twists=sample.twists,
        axis=sample.axis,
        origin=sample.origin,
        revolute=True,
        upper=sample.limits[:, 1],
        q=np.array([1.0]),
        novel=np.array([1.7]),
        T_camera_base=from_rotation_translation(exp_so3(np.array([0.4, -1.0, 2.0])), np.array([0.1, -0.2, 0.9])),
        size_m=SIZE_M,
    )


def perfect(true: TrueObject) -> Estimate:
    """The truth as an estimate, in metres."""
    (sample,) = samples_of(slabs(), "procedural")
    return Estimate(
        T_camera_base=true.T_camera_base,
        size_m=true.size_m,
        q=true.q,
        twists=true.twists * [SIZE_M, SIZE_M, SIZE_M, 1, 1, 1],
        axis=true.axis,
        origin=SIZE_M * true.origin,
        parts=tuple(Mesh(SIZE_M * part.vertices, part.faces) for part in sample.parts),
    )


def scored(found: Estimate, true: TrueObject) -> dict[str, float]:
    return score(found, true, 3000, np.random.default_rng(1))


def moved(T: np.ndarray, R: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A pose turned in the object's frame and shifted in the camera's."""
    return from_rotation_translation(T[:3, :3] @ R, T[:3, 3] + shift)


def test_the_truth_scores_the_floor_of_its_samples():
    true = truth()
    found, least = scored(perfect(true), true), floor(true, np.random.default_rng(0))
    for key, value in least.items():
        assert found[key] == pytest.approx(value, rel=0.12), key
        assert found[key.replace("now", "placed")] == pytest.approx(value, rel=0.12)
    exact = ("rotation", "rotation_up_to_symmetry", "translation", "size", "state", "axis", "axis_camera", "position")
    assert all(found[key] == pytest.approx(0, abs=1e-5) for key in exact)
    assert set(FAILED) <= set(found)


def test_the_floor_falls_with_the_root_of_the_samples():
    true = truth()
    some = replace(true, points=true.points[::4], label=true.label[::4])
    more, fewer = (floor(t, np.random.default_rng(0)) for t in (true, some))
    assert fewer["now_w"] == pytest.approx(2 * more["now_w"], rel=0.1)
    assert fewer["now_w_sq"] == pytest.approx(4 * more["now_w_sq"], rel=0.15)


def test_a_pose_error_is_that_number_and_not_the_shapes():
    true = truth()
    wrong = moved(true.T_camera_base, exp_so3(np.deg2rad(10) * Z), np.array([0.0, 0.03, 0.04]))
    found = scored(replace(perfect(true), T_camera_base=wrong), true)
    assert found["rotation"] == pytest.approx(10, abs=1e-6)
    assert found["translation_cm"] == pytest.approx(5, abs=1e-9)
    assert found["translation"] == pytest.approx(100 * 0.05 / SIZE_M)
    assert found["turned"] == 0
    least = floor(true, np.random.default_rng(0))
    assert found["now_w"] == pytest.approx(least["now_w"], rel=0.12)
    assert found["placed_w"] > 2 * least["now_w"]
    far = replace(perfect(true), T_camera_base=moved(true.T_camera_base, np.eye(3), np.array([0, 0, 100 * SIZE_M])))
    assert scored(far, true)["placed_w"] == pytest.approx(100_000, rel=0.02), "a hundred diagonals"


def test_scale_is_an_error_of_the_size_alone():
    true, exact = truth(), perfect(truth())
    larger = replace(
        exact,
        size_m=1.1 * SIZE_M,
        twists=exact.twists * [1.1, 1.1, 1.1, 1, 1, 1],
        origin=1.1 * exact.origin,
        parts=tuple(Mesh(1.1 * part.vertices, part.faces) for part in exact.parts),
    )
    found, least = scored(larger, true), floor(true, np.random.default_rng(0))
    assert found["size"] == pytest.approx(10)
    assert found["now_w"] == pytest.approx(least["now_w"], rel=0.12)
    assert found["position"] == pytest.approx(0, abs=1e-9)
    assert found["placed_w"] > 1.5 * least["now_w"]


def test_joint_errors_are_those_numbers():
    true, exact = truth(), perfect(truth())
    along = true.axis[0]
    across = np.cross(along, Z)
    tilted = exp_so3(np.deg2rad(3) * across) @ along
    shifted = exact.origin + 0.02 * Z + 0.3 * along
    found = joint_errors(replace(exact, q=true.q + 0.1, axis=tilted[None]), true)
    assert found["state_deg"] == pytest.approx(np.degrees(0.1))
    assert found["state"] == pytest.approx(100 * 0.1 / true.upper[0])
    assert found["axis"] == pytest.approx(3, abs=1e-6)
    assert joint_errors(replace(exact, origin=shifted), true)["position"] == pytest.approx(100 * 0.02 / SIZE_M)
    assert joint_errors(replace(exact, axis=-exact.axis), true)["axis"] == pytest.approx(180), "it opens the other way"


def test_the_poses_error_reaches_the_axis_in_the_camera_alone():
    true, exact = truth(), perfect(truth())
    across = np.cross(true.axis[0], Z)
    wrong = moved(true.T_camera_base, exp_so3(np.deg2rad(7) * across), np.zeros(3))
    found = joint_errors(replace(exact, T_camera_base=wrong), true)
    assert found["axis"] == pytest.approx(0, abs=1e-6)
    assert found["axis_camera"] == pytest.approx(7, abs=1e-6)
    assert found["position_camera"] > found["position"] == pytest.approx(0, abs=1e-9)


def test_a_wrong_joint_value_shows_now_and_a_wrong_axis_later():
    true, exact = truth(), perfect(truth())
    least = floor(true, np.random.default_rng(0))
    closed = scored(replace(exact, q=np.zeros(1)), true)
    assert closed["now_m"] > 5 * least["now_m"]
    for key in ("now_s", "novel_m", "novel_w"):
        assert closed[key] == pytest.approx(least[key], rel=0.12)
    backwards = scored(replace(exact, twists=-exact.twists, q=-exact.q), true)
    assert backwards["now_m"] == pytest.approx(least["now_m"], rel=0.12)
    assert backwards["novel_m"] > 5 * least["novel_m"]


def test_sliding_joints_are_measured_in_metres():
    true = replace(
        truth(), revolute=False, twists=np.array([[1.0, 0, 0, 0, 0, 0]]), axis=X[None], upper=np.array([0.4])
    )
    true = replace(true, q=np.array([0.2]), novel=np.array([0.3]))
    exact = replace(perfect(true), twists=true.twists, q=SIZE_M * true.q)
    found, least = scored(exact, true), floor(true, np.random.default_rng(0))
    for key, value in least.items():
        assert found[key] == pytest.approx(value, rel=0.12), key
    off = joint_errors(replace(exact, q=exact.q + 0.02), true)
    assert off["state_cm"] == pytest.approx(2)
    assert off["state"] == pytest.approx(100 * 0.02 / (0.4 * SIZE_M))
    assert "state_deg" not in off
    assert "position" not in off


def test_a_part_that_is_not_there_is_a_diagonal_away():
    true, exact = truth(), perfect(truth())
    found = scored(replace(exact, parts=(exact.parts[0], empty_mesh())), true)
    assert found["now_m"] == found["novel_m_sq"] == MISSING
    assert found["now_s"] == pytest.approx(floor(true, np.random.default_rng(0))["now_s"], rel=0.12)


def surface_of_box(sides: tuple[float, float, float], count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 3) on a box about the origin."""
    s = np.array(sides)
    area = np.array([s[1] * s[2], s[0] * s[2], s[0] * s[1]])
    face = rng.choice(3, count, p=area / area.sum())
    points = rng.uniform(-0.5, 0.5, (count, 3))
    points[np.arange(count), face] = rng.choice([-0.5, 0.5], count)
    return points * s


def test_half_turns_of_a_box_and_of_one_with_a_handle():
    rng = np.random.default_rng(0)
    turn = exp_so3(np.array([0.3, 0.2, 0.5]))
    box = surface_of_box((0.8, 0.5, 0.3), 20_000, rng)
    found = half_turns(box @ turn.T)
    assert len(found) == 3, "about its axes, wherever these point"
    axes = [exp_so3(np.pi * axis) for axis in turn.T]
    assert all(min(np.abs(R - A).max() for A in axes) < 0.05 for R in found)
    handle = surface_of_box((0.2, 0.2, 0.2), 5000, rng) + [0.5, 0.3, 0.1]
    assert not half_turns(np.concatenate([box, handle]))


def test_plates_that_change_roles_are_a_symmetry():
    rng = np.random.default_rng(0)
    plate = surface_of_box((0.5, 0.7, 0.02), 15_000, rng) + [0.25, 0, 0]
    opened = np.concatenate([plate, plate @ exp_so3(-1.9 * Y).T])
    found = half_turns(opened)
    assert len(found) == 1
    bisector = exp_so3(-0.95 * Y) @ X
    np.testing.assert_allclose(found[0], exp_so3(np.pi * bisector), atol=0.05)


def test_a_symmetric_half_turn_is_forgiven_beside_the_rotation():
    rng = np.random.default_rng(0)
    true = replace(truth(), points=surface_of_box((0.8, 0.5, 0.3), 20_000, rng), label=np.zeros(20_000, int))
    wrong = moved(true.T_camera_base, exp_so3(np.pi * Z) @ exp_so3(np.deg2rad(5) * X), np.zeros(3))
    found = pose_errors(replace(perfect(true), T_camera_base=wrong), true)
    assert found["rotation"] > 175
    assert found["rotation_up_to_symmetry"] == pytest.approx(5, abs=2)
    assert (found["turned"], found["symmetric"]) == (100, 100)


def a_score(
    seed: int, rotation: float, category: str = "box", hidden: float = 0.5, row: str = "round_0", seconds: float = 2.0
) -> Scored:
    numbers = FAILED | {"rotation": rotation, "now_w": 10 * rotation, "seconds": seconds, "processor_seconds": 1.0}
    return Scored(row, category, "a", "procedural", seed, 0, hidden, numbers, None)


def test_means_are_over_categories_and_spreads_over_seeds():
    scores = [a_score(0, 1), a_score(0, 3), a_score(0, 8, "drawer"), a_score(1, 1), a_score(1, 5, "drawer")]
    found = spreads(scores)["rotation"]
    assert (found.mean, found.std, found.count) == pytest.approx((4.0, 1.0, 2)), "5 and 3"
    assert spreads(scores)["rotation_median"].mean == pytest.approx((3 + 3) / 2)
    lines = by_category(scores, {"rotation": "rotation deg"}).splitlines()
    assert lines[2] == "| box | 3 | 0 | 1.50 ± 0.50 |"
    assert lines[4] == "| mean | 5 | 0 | 4.00 ± 1.00 |"


def test_levels_of_occlusion_partition():
    shares = np.linspace(0, 1, 101)
    levels = at_levels([a_score(0, 1, hidden=float(share)) for share in shares])
    assert list(levels) == list(LEVELS)
    assert sorted(s.hidden for own in levels.values() for s in own) == pytest.approx(shares)
    assert [len(own) for own in levels.values()] == [40, 40, 21]


def test_a_view_without_result_stays_in_the_table():
    failed = replace(a_score(0, 0), numbers=FAILED, error="no")
    assert by_category([a_score(0, 20), failed], {"rotation": "deg", "seconds": "s"}).splitlines()[2] == (
        "| box | 2 | 1 | 100.00 | 2.00 |"
    )


def test_seconds_of_a_round_are_what_it_adds():
    rows = {f"round_{k}": [a_score(0, 4 - k, seconds=2.0 + 1.5 * k)] for k in range(3)}
    lines = [line.split(" | ")[-4:] for line in rounds_table(rows, {"round_2": 512.4}).splitlines()[2:]]
    assert lines == [
        ["2.00", "-", "1.00", "- |"],
        ["3.50", "1.50", "1.00", "- |"],
        ["5.00", "1.50", "1.00", "512 |"],
    ]


def test_the_section_shows_the_last_round_and_every_row():
    scores = [a_score(0, 4 - k, category, row=f"round_{k}") for k in range(2) for category in ("laptop", "box")]
    scores += [a_score(0, 7, "laptop", row="true_latent"), a_score(0, 9, "laptop", row="regression")]
    text = section("## Title", scores, ("round_0", "round_1"), {})
    assert "| laptop | 1 | 0 | 30.00 |" in text, "reconstruction after the last round"
    assert "| true pose and joints, true latent | 70.00 | - | 70.00 |" in text
    assert "| 1.81 |" in text
    assert "### Diffusion against regression" in text
    assert "| regression | 1 | 0 | 90.00 |" in text


def test_a_score_survives_the_file():
    for one in (a_score(1, 2.5), replace(a_score(0, 1), error="why not")):
        assert asdict(from_json(to_json(one))) == asdict(one)
