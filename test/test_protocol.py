"""Scores become numbers as the protocol says: every category counts alike, failures count, spread is over seeds."""

from dataclasses import replace

import pytest

from art_perception.eval import protocol
from art_perception.eval.scoring import ClipScore, JointScore

RIGHT = JointScore("j", "revolute", True, True, 2.0, 1.0, 1.0, 3.0, 40.0, 0.9, True, 0.9)
MISSED = replace(RIGHT, found=False, type_correct=False, axis_deg=90.0, position_cm=100.0, state=40.0, valid=False)


def clip(category: str, joint: JointScore, miou: float = 0.8, error: str | None = None) -> ClipScore:
    return ClipScore("c", category, (joint,), miou, 1, error=error)


def test_every_category_counts_alike() -> None:
    scores = [clip("box", replace(RIGHT, axis_deg=a)) for a in (1.0, 2.0, 3.0)] + [clip("oven", MISSED, 0.0)]
    summary = protocol.over_categories(scores)
    assert summary["axis_deg"] == pytest.approx((2 + 90) / 2)
    assert summary["success"] == pytest.approx(50)
    assert summary["miou"] == pytest.approx(0.4)


def test_the_median_is_over_joints() -> None:
    scores = [clip("box", replace(RIGHT, axis_deg=a)) for a in (1.0, 2.0, 3.0, 4.0)] + [clip("oven", MISSED)]
    assert protocol.over_categories(scores)["axis_deg_median"] == 3.0


def test_a_category_without_a_quantity_does_not_dilute_it() -> None:
    slide = replace(RIGHT, type="prismatic", position_cm=None, state=0.5)
    summary = protocol.over_categories([clip("box", RIGHT), clip("drawer", slide)])
    assert summary["position_cm"] == 1.0
    assert (summary["state_deg"], summary["state_cm"]) == (3.0, 0.5)


def test_spread_is_over_repetitions() -> None:
    seeds = {0: [clip("box", RIGHT, 0.9)] * 2, 1: [clip("box", RIGHT, 0.9), clip("box", MISSED, 0.1)]}
    spread = protocol.over_seeds(seeds)
    assert spread["success"].text(0) == "75 ± 25"
    assert spread["miou"].text(2) == "0.70 ± 0.20"
    assert protocol.over_seeds({0: seeds[0]})["miou"].text(2) == "0.90"


def test_clips_without_result_are_counted() -> None:
    seeds = {0: [clip("box", RIGHT), clip("box", MISSED, 0.0, "nothing moved")]}
    row = protocol.score_table({"ours": seeds}, "method").splitlines()[2]
    assert row == "| ours | 2 | 1 | 0.40 | 46.00 | 46.00 | 50.50 | 50.50 | 21.50 | - | 50 | 50 |"


def test_categories_are_listed_with_their_mean() -> None:
    seeds = {0: [clip("oven", RIGHT, 0.6), clip("box", RIGHT, 0.8)], 1: [clip("box", RIGHT, 0.8)]}
    table = [[cell.strip() for cell in line.split("|")[1:5]] for line in protocol.category_table(seeds).splitlines()]
    assert table[2:] == [
        ["box", "2", "0", "0.80 ± 0.00"],
        ["oven", "1", "0", "0.60"],
        ["mean", "3", "0", "0.75 ± 0.05"],
    ]


def test_measured_numbers_stand_beside_their_targets() -> None:
    rows = {
        "mask": {0: [clip("box", RIGHT, 0.91)]},
        "network": {0: [clip("box", replace(RIGHT, axis_deg=5.5), 0.7)]},
        "nomask": {0: [clip("box", RIGHT), clip("box", MISSED)]},
    }
    table = {line.split(" | ")[0][2:]: line for line in protocol.target_table(rows).splitlines()}
    assert table["mIoU"] == "| mIoU | 0.70 | >= 0.80 | 0.91 | >= 0.89 |"
    assert table["axis angle, mean deg"] == "| axis angle, mean deg | 5.50 | 6 | 2.00 | <= 2.5 |"
    assert table["success, 2-3 joints %"] == "| success, 2-3 joints % | - |  | - | >= 75 |"
    assert table["success, one joint, no mask %"] == "| success, one joint, no mask % | - |  | 50 | >= 80 |"


def test_targets_name_rows_and_quantities_that_exist() -> None:
    for target in protocol.TARGETS:
        assert {target.ours, target.network} <= {*protocol.ROWS, ""}
        assert target.key in protocol.COLUMNS
