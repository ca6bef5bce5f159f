"""Reliability counts what was claimed: joints that do not exist are wrong, joints that were not found claim nothing."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import binomtest

from art_perception.eval import calibration
from art_perception.eval.benchmark_report import accuracy_section
from art_perception.eval.scoring import ClipScore, JointScore

RIGHT = JointScore("j", "revolute", True, True, 1.0, 1.0, 1.0, 3.0, 40.0, 0.9, True, 0.93, "network")
FAR_OFF = replace(RIGHT, axis_deg=20.0, proposed_by="tracks")
MISSED = replace(FAR_OFF, found=False, type_correct=False, confidence=0.0)


def clip(*joints: JointScore, unmatched: tuple[float, ...] = ()) -> ClipScore:
    found = sum(j.found for j in joints) + len(unmatched)
    return ClipScore("c", "box", joints, 0.8, found, {"total": 2.0, "flow": 1.0}, unmatched=unmatched)


def test_made_up_joints_are_wrong_and_missed_ones_claim_nothing() -> None:
    confidence, right = calibration.reported([clip(RIGHT, MISSED), clip(FAR_OFF, unmatched=(0.85,))])
    assert sorted(zip(confidence.tolist(), right.tolist(), strict=True)) == [(0.85, False), (0.93, False), (0.93, True)]


def test_every_joint_is_in_one_bin() -> None:
    claimed = [0.0, 0.2, 0.2001, 0.8, 0.85, 0.95, 1.0]
    scores = [clip(replace(RIGHT, confidence=c)) for c in claimed]
    bins = calibration.reliability(scores)
    assert [(b.low, b.high, b.count) for b in bins] == [
        (0.0, 0.2, 2), (0.2, 0.4, 1), (0.6, 0.8, 1), (0.8, 0.9, 1), (0.9, 0.95, 1), (0.95, 1.0, 1)
    ]  # fmt: skip
    assert sum(b.count for b in bins) == len(claimed)
    assert bins[0].confidence == pytest.approx(0.1)


def test_a_calibrated_estimator_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 4000)
    joints = [replace(RIGHT if rng.random() < c else FAR_OFF, confidence=float(c)) for c in confidence]
    for b in calibration.reliability([clip(joint) for joint in joints]):
        assert b.interval[0] - 0.02 < b.confidence < b.interval[1] + 0.02


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 10), (190, 200)])
def test_the_interval_is_the_exact_binomial_one(hits: int, count: int) -> None:
    exact = binomtest(hits, count).proportion_ci(method="exact")
    assert calibration.binomial_interval(hits, count) == pytest.approx((exact.low, exact.high))


def test_sure_joints_are_those_above_the_limit() -> None:
    scores = [clip(RIGHT)] * 19 + [clip(FAR_OFF), clip(replace(FAR_OFF, confidence=0.8))]
    assert calibration.sure_line(scores) == (
        "Joints with a confidence above 0.8: 19 of 20 are right, 95.0 % (95 % interval 75.1 to 99.9; target >= 95)."
    )
    assert calibration.sure([clip(MISSED)]) is None


def test_the_plot_shows_where_the_joints_are(tmp_path: Path) -> None:
    low, high = (calibration.reliability([clip(replace(RIGHT, confidence=c))] * 50) for c in (0.1, 1.0))
    images = []
    for name, bins in (("low", low), ("high", high)):
        calibration.draw_reliability(bins, tmp_path / "images" / f"{name}.png")
        images.append(cv2.imread(str(tmp_path / "images" / f"{name}.png")))
    blue = [np.nonzero((image[..., 0] > 150) & (image[..., 2] < 60))[1].mean() for image in images]
    assert blue[0] < 0.3 * images[0].shape[1] < 0.9 * images[0].shape[1] < blue[1]


def test_the_section_holds_every_table() -> None:
    rows = {"mask": {0: [clip(RIGHT), clip(FAR_OFF)]}, "network": {0: [clip(RIGHT)]}}
    text = accuracy_section("## Title", rows, ["cart has 1 usable joints, wanted 2"])
    for line in (
        "| mIoU | 0.80 | >= 0.80 | 0.80 | >= 0.89 |",
        "1 clips were not measured: 1 x 1 usable joints, wanted 2.",
        "### Per category: network only, one window",
        "- ours: 50 % of 2 joints right, 100 % called valid; 50 % of those right; 0.00 joints per clip too many; "
        "proposed by network 50 %, tracks 50 %; seconds per stage (mean): flow 1.0; peak memory 0 MB.",
        "| 0.9 to 0.95 | 2 | 0.93 | 50 | 1 to 99 |",
        "(images/calibration.png)",
    ):
        assert line in text
    assert "Calibration" not in accuracy_section("## Title", {"network": rows["network"]}, [])
