"""Clips are chosen fairly and repeatably, results survive the file, and the oracle row is what it says."""

from pathlib import Path

import numpy as np
import pytest

from art_perception.errors import ObjectError
from art_perception.eval import benchmark
from art_perception.eval.benchmark import Asset
from art_perception.eval.scoring import ClipScore, JointScore

ASSETS = [Asset(Path(f"a/{i}"), kind, joints) for i, (kind, joints) in enumerate(
    [("oven", 1), ("oven", 2), ("oven", 1), ("cart", 1), ("desk", 4), ("desk", 1)]
)]  # fmt: skip


def test_categories_come_by_turns() -> None:
    specs = benchmark.asset_clips(ASSETS, 6, 1, 0)
    assert [s.category for s in specs] == ["cart", "desk", "oven", "desk", "oven", "oven"]
    assert len({s.asset for s in specs}) == 6


def test_clips_are_unique_and_the_same_every_time() -> None:
    specs = [s for batch in range(3) for s in benchmark.asset_clips(ASSETS, 15, 1, batch)]
    assert len({s.name for s in specs}) == len({s.seed for s in specs}) == 45
    assert specs[:15] == benchmark.asset_clips(ASSETS, 15, 1, 0)


def test_only_objects_with_enough_joints_move_several() -> None:
    specs = benchmark.asset_clips(ASSETS, 8, 2, 0)
    assert {s.asset.name for s in specs} == {"1", "4"}
    assert all(s.moving == 2 for s in specs if s.asset.name == "1")
    assert {s.moving for s in specs if s.asset.name == "4"} <= {2, 3}
    with pytest.raises(ObjectError, match="5 joints"):
        benchmark.asset_clips(ASSETS, 8, 5, 0)


def test_procedural_clips_use_other_objects_in_every_repetition() -> None:
    specs = [s for batch in range(2) for s in benchmark.procedural_clips(("a", "b"), 4, 1, batch)]
    assert [s.category for s in specs] == ["a", "b"] * 4
    assert len({s.object_seed for s in specs}) == 8


def test_a_missing_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectError, match=r"index\.json is missing"):
        benchmark.read_assets(tmp_path)


def make_score(success: bool) -> ClipScore:
    joint = JointScore("j", "revolute", True, True, 1.0 if success else 30.0, 0.5, 0.4, 0.2, 40.0, 0.9, True, 0.8)
    return ClipScore("c", "oven", (joint,), 0.8, 1, {"total": 2.0}, 300.0, None)


def test_a_score_survives_the_file() -> None:
    score = make_score(True)
    assert benchmark.from_json(benchmark.to_json(score)) == score


def test_success_is_reported_per_seed() -> None:
    text = benchmark.seeds_line({0: [make_score(True)] * 2, 1: [make_score(True), make_score(False)]})
    assert text == "success 75.0 ± 25.0 % over 2 seeds (100, 50)"


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "benchmarks.md"
    benchmark.write_section(document, "tracker", "old numbers")
    benchmark.write_section(document, "accuracy", "table 1")
    before = document.read_text()
    benchmark.write_section(document, "tracker", "new numbers\n")
    assert document.read_text() == before.replace("old numbers", "new numbers")


def test_true_part_masks_and_the_baseline_on_a_laptop() -> None:
    from art_perception.data.config import SimulateConfig
    from art_perception.data.objects import make_object
    from art_perception.data.simulate import simulate
    from art_perception.eval.benchmark_rows import baseline, oracle
    from art_perception.eval.scoring import score_clip, truth_from
    from art_perception.pipeline import Config
    from art_perception.types import Window
    from art_perception.urdf.reader import load_urdf

    clip = simulate(make_object("laptop", 1), SimulateConfig(frames=20, width=320, height=240, rate_hz=8), 1)
    frames, ids, q = zip(*clip, strict=True)
    window, ids = Window(frames), np.stack(ids)
    joints = load_urdf(clip.robot_description, load_meshes=False).joints
    truth = truth_from(joints, clip.joint_names, clip.stamps_ns * 1e-9, np.stack(q))
    prediction, samples = oracle(window, ids, truth, Config())
    score = score_clip("laptop", prediction, truth, samples)
    assert score.success
    assert score.count_correct
    assert score.miou == pytest.approx(1.0)
    prediction, samples = baseline(window, ids, truth, Config(), 0)
    assert len(prediction.joints) == 1
    assert score_clip("laptop", prediction, truth, samples).miou < 1
