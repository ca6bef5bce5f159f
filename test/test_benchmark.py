"""Clips are chosen fairly and repeatably, results survive the file, and the oracle row is what it says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_perception.data.config import SimulateConfig
from art_perception.data.objects import make_object
from art_perception.data.simulate import simulate
from art_perception.errors import CheckpointError, ObjectError
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.flow import Flows, Tracks
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.parts import Hint, PartSearch
from art_perception.estimation.sharpen import Region
from art_perception.eval import benchmark, benchmark_rows
from art_perception.eval.benchmark import Asset
from art_perception.eval.benchmark_rows import baseline, network_only, oracle, unrefined
from art_perception.eval.scoring import (
    ClipScore,
    JointScore,
    Prediction,
    Samples,
    Truth,
    joint_at,
    moving_joints,
    score_clip,
    truth_from,
)
from art_perception.geometry.lie import exp_so3, inverse, transform
from art_perception.models.decode import Proposal
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig, Sim2ArtOutput
from art_perception.pipeline import Config
from art_perception.types import JointType, PointWindow, Window
from art_perception.urdf.reader import load_urdf

Laptop = tuple[Window, np.ndarray, Truth]
TINY = Sim2ArtConfig(width=16, layers=1, query_layers=1, heads=2, points=64, keypoints=8, neighbours=4)
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
    return ClipScore("c", "oven", (joint,), 0.8, 1, {"total": 2.0}, 300.0, None, (0.3,))


def test_a_score_survives_the_file() -> None:
    score = make_score(True)
    assert benchmark.from_json(benchmark.to_json(score)) == score
    older = {key: value for key, value in json.loads(benchmark.to_json(score)).items() if key != "unmatched"}
    assert benchmark.from_json(json.dumps(older)) == replace(score, unmatched=())


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


@pytest.fixture(scope="module")
def laptop() -> Laptop:
    """A small clip of a laptop being opened, true part ids and truth."""
    clip = simulate(make_object("laptop", 1), SimulateConfig(frames=20, width=320, height=240, rate_hz=8), 1)
    frames, ids, q = zip(*clip, strict=True)
    joints = load_urdf(clip.robot_description, load_meshes=False).joints
    return Window(frames), np.stack(ids), truth_from(joints, clip.joint_names, clip.stamps_ns * 1e-9, np.stack(q))


def test_true_part_masks_and_the_baseline_on_a_laptop(laptop: Laptop) -> None:
    window, ids, truth = laptop
    score = scored(oracle(window, ids, truth, Config()), truth)
    assert score.success
    assert score.count_correct
    assert score.miou == pytest.approx(1.0)
    score = scored(baseline(window, ids, truth, Config(), 0), truth)
    assert score.predicted_joints == 1
    assert score.miou < 1


def scored(found: tuple[Prediction, Samples], truth: Truth) -> ClipScore:
    prediction, samples = found
    return score_clip("laptop", prediction, truth, samples)


def true_ids(points: np.ndarray, frames: np.ndarray, window: Window, ids: np.ndarray) -> np.ndarray:
    """Part id (T, N) under points (T, N, 3) given in the first camera's frame."""
    out = np.zeros(points.shape[:2], int)
    for i, t in enumerate(frames):
        frame = window.frames[t]
        camera = transform(inverse(frame.T_world_camera) @ window.frames[0].T_world_camera, points[i])
        u, v, w = frame.K @ camera.T
        out[i] = ids[t][np.rint(v / w).astype(int), np.rint(u / w).astype(int)]
    return out


def decoded(truth: Truth, to_first_camera: np.ndarray, frames: np.ndarray) -> Proposal:
    """What a perfect network would say about the laptop's lid."""
    lid = moving_joints(truth)[0]
    axis, origin = joint_at(truth, lid, truth.stamps_s[0])
    q = (truth.q[frames, lid] - truth.q[0, lid]).astype(np.float32)
    R, t = to_first_camera[:3, :3], to_first_camera[:3, 3]
    tensors = (torch.as_tensor(x, dtype=torch.float32) for x in (R @ axis, R @ origin + t, q))
    return Proposal(JointType.REVOLUTE, *tensors, certainty=0.9)


def test_what_the_network_says_is_scored_as_it_is(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    window, ids, truth = laptop
    lid_id = truth.part_ids[moving_joints(truth)[0]]

    def perfect(_: Sim2ArtOutput, points: PointWindow) -> tuple[torch.Tensor, list[Proposal]]:
        frames = np.linspace(0, len(window.frames) - 1, points.points.shape[1]).round().astype(int)
        world = points.points[0].double() * points.scale[0] + points.center[0]
        part = torch.as_tensor(true_ids(world.numpy(), frames, window, ids) == lid_id).long()
        return torch.nn.functional.one_hot(part, 2).float(), [
            decoded(truth, inverse(window.frames[0].T_world_camera), frames)
        ]

    def still(_: Sim2ArtOutput, points: PointWindow) -> tuple[torch.Tensor, list[Proposal]]:
        return torch.ones(*points.points.shape[1:3], 1), []

    monkeypatch.setattr(benchmark_rows, "network", lambda _: Sim2Art(TINY).eval())
    monkeypatch.setattr(benchmark_rows, "decode", perfect)
    score = scored(network_only(window, ids, Config()), truth)
    assert (score.success, score.count_correct) == (True, True)
    assert score.joints[0].axis_deg < 0.1
    assert score.joints[0].position_cm < 0.1
    assert score.joints[0].state < 2.0  # interpolated between the frames of the network's window
    assert (score.joints[0].confidence, score.joints[0].proposed_by) == (0.9, "network")
    assert score.miou > 0.95
    monkeypatch.setattr(benchmark_rows, "decode", still)
    score = scored(network_only(window, ids, Config()), truth)
    assert (score.success, score.predicted_joints, score.error) == (False, 0, None)


def test_the_network_alone_needs_weights(laptop: Laptop) -> None:
    window, ids, _ = laptop
    config = Config()
    with pytest.raises(CheckpointError, match="needs weights"):
        network_only(window, ids, replace(config, network=replace(config.network, weights="none")))


def test_without_refinement_a_proposal_stays_as_it_was_made(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    window, ids, truth = laptop
    lid = moving_joints(truth)[0]
    axis, origin = joint_at(truth, lid, truth.stamps_s[0])
    across = np.cross(axis, [0.0, 0.0, 1.0])
    tilted = exp_so3(np.deg2rad(2) * across / np.linalg.norm(across)) @ axis
    proposal = Motion(JointType.REVOLUTE, tilted, origin, truth.q[:, lid] - truth.q[0, lid], source="network")

    def one_hint(_: DenseWindow, __: Flows, tracks: Tracks, *rest: object) -> tuple[list[Hint], None]:
        nowhere = Region(np.arange(2), np.zeros((2, 120, 160), bool))
        return [Hint(proposal, np.zeros(len(tracks.points), bool), nowhere, 0.9)], None

    monkeypatch.setattr(benchmark_rows, "propose", one_hint)
    monkeypatch.setattr(PartSearch, "_searched", lambda *_: iter(()))
    score = scored(unrefined(window, ids, Config()), truth)
    assert score.joints[0].axis_deg == pytest.approx(2.0, abs=1e-3)
    assert score.joints[0].state == pytest.approx(0.0, abs=1e-6)
    assert score.joints[0].proposed_by == "network"
    assert score.miou > 0.8
