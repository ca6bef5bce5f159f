"""One view and a category: with an oracle for the networks, what comes out is the truth in the fixed frame."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from physics_tools import deepest_m, mujoco_ranges
from prior_tools import View, save_networks, untrained, view_of
from shape_tools import GREY, slabs

from art_perception import prior as module
from art_perception.cli.main import BAD_INPUT, main
from art_perception.data.assembly import SLIDE, Mover, X, assemble, at
from art_perception.data.shapes import box
from art_perception.errors import FrameError
from art_perception.fit import FitConfig
from art_perception.geometry.lie import transform
from art_perception.geometry.screw import line_distance
from art_perception.io.bag import BagWriter
from art_perception.io.results import read_labels, read_result
from art_perception.pipeline import Config, reconstruct
from art_perception.prior import PriorConfig, agreement, nearest_part
from art_perception.types import RgbdFrame, Window
from art_perception.urdf.check import check_urdf
from art_perception.urdf.reader import load_urdf

FRAME = RgbdFrame(10**9, np.zeros((60, 80, 3), np.uint8), np.ones((60, 80), np.float32),
                  np.array([[80.0, 0, 39.5], [0, 80.0, 29.5], [0, 0, 1]]), np.eye(4))  # fmt: skip


@functools.cache
def laptop() -> View:
    return view_of(slabs(), 5)


@functools.cache
def chest() -> View:
    """Two boards, and a block that slides out between them."""
    boards = [box((-0.2, -0.2, 0), (0.2, 0.2, 0.1)), box((-0.2, -0.2, 0.3), (0.2, 0.2, 0.4))]
    block = Mover(box((-0.2, -0.2, 0.11), (0.2, 0.2, 0.29)), SLIDE, X, at(0.2, 0, 0.2), 0.3)
    return view_of(assemble("cabinet", boards, [block], [GREY]), 5)


@pytest.fixture
def oracle(monkeypatch):
    """Let the networks' answer be exactly right, or whatever a test makes of that."""

    def answer(found):
        monkeypatch.setattr(module, "networks", lambda weights: untrained())
        monkeypatch.setattr(module, "complete", lambda *_: found)

    return answer


def write(path: Path, frames: list[RgbdFrame]) -> Path:
    with BagWriter(path, depth="32FC1") as bag:
        for frame in frames:
            bag.write(frame, None, None)
    return path


def frame_of(view: View) -> RgbdFrame:
    return view.clip.render(0).frame


def run(bag: Path, out: Path, *more: str) -> int:
    return main(["run", str(bag), "--out", str(out), "--category", "laptop", *more])


def test_one_frame_gives_the_object_in_the_fixed_frame(oracle, tmp_path, capsys):
    view = laptop()
    oracle(view.truth)
    out = tmp_path / "result"
    assert run(write(tmp_path / "bag", [frame_of(view)]), out) == 0
    printed = capsys.readouterr().out
    assert "typical laptop" in printed
    result = read_result(out)
    (joint,), truth = result.joints, view.clip
    (hinge,) = truth.obj.joints
    T = truth.plan.T_world_object
    assert joint.axis @ (T[:3, :3] @ hinge.axis) > np.cos(1e-6), "positive opens"
    assert line_distance(transform(T, hinge.origin[None])[0], joint.origin, joint.axis) < 1e-6
    q = truth.q[0, 0]
    assert 0.2 < q < hinge.limits[1], "a lid half open"
    np.testing.assert_allclose(joint.limits, np.array(hinge.limits) - q, atol=1e-6, err_msg="zero is what is seen")
    assert (result.q.tolist(), result.stamps_s.tolist()) == ([[0.0]], [truth.stamps_ns[0] * 1e-9])
    assert (result.prior.category, result.prior.used) == ("laptop", "all")
    assert result.prior.score > 0.95
    assert result.prior.reason == "motion needs 6 usable frames, there is 1"
    assert joint.proposed_by == "prior"
    assert 0.85 < joint.confidence < 1
    assert joint.valid
    assert "typical laptop" in (out / "report.html").read_text()


def test_parts_lie_where_the_truth_has_them_and_simulators_load_them(oracle, tmp_path):
    view = laptop()
    oracle(view.truth)
    out = tmp_path / "result"
    assert run(write(tmp_path / "bag", [frame_of(view)]), out) == 0
    assert check_urdf(out / "object.urdf") == []
    obj = load_urdf(out / "object.urdf")
    for k, part in enumerate(obj.parts):
        true = transform(view.clip.part_poses(0)[k], view.clip.obj.parts[k].vertices)
        np.testing.assert_allclose(part.visual.vertices.min(0), true.min(0), atol=1e-3)
        np.testing.assert_allclose(part.visual.vertices.max(0), true.max(0), atol=1e-3)
    assert deepest_m(out / "object.urdf") < 0.005
    (joint,) = read_result(out).joints
    assert mujoco_ranges(out / "object.urdf") == pytest.approx(np.array([joint.limits]), abs=1e-5)
    yourdfpy = pytest.importorskip("yourdfpy")
    assert yourdfpy.URDF.load(str(out / "object.urdf")).validate()


def test_pixels_belong_to_the_part_they_show(oracle, tmp_path):
    view = laptop()
    oracle(view.truth)
    out = tmp_path / "result"
    assert run(write(tmp_path / "bag", [frame_of(view)]), out) == 0
    labels = read_labels(out)
    column, row = labels.pixel[0].T
    true = view.clip.exact(0).part_ids[row, column].astype(int) - 1
    assert set(labels.part[0].tolist()) == {0, 1}
    assert (labels.part[0] == true)[true >= 0].mean() > 0.97


def test_a_sliding_joint_is_in_metres(oracle):
    view = chest()
    oracle(view.truth)
    window = Window((frame_of(view),))
    found = reconstruct(window, Config(prior=PriorConfig("drawer", min_score=0.8)))
    (joint,) = found.object.joints
    (true,) = view.clip.obj.joints
    assert joint.axis @ (view.clip.plan.T_world_object[:3, :3] @ true.axis) > np.cos(1e-6)
    np.testing.assert_allclose(joint.limits, np.array(true.limits) - view.clip.q[0, 0], atol=1e-6)
    assert found.guessed


def test_a_clip_in_which_nothing_moves_gives_the_prior_and_says_why(oracle, tmp_path):
    view = laptop()
    oracle(view.truth)
    still = [replace(frame_of(view), stamp_ns=10**9 + i * 66_000_000) for i in range(7)]
    bag = write(tmp_path / "bag", still)
    assert main(["run", str(bag), "--out", str(tmp_path / "none")]) == BAD_INPUT
    assert run(bag, tmp_path / "result") == 0
    result = read_result(tmp_path / "result")
    assert result.prior.used == "all"
    assert len(result.stamps_s) == 1
    assert "moved" in result.prior.reason


def test_wide_spread_makes_a_joint_invalid(oracle):
    view = laptop()
    oracle(replace(view.truth, axis_std_rad=np.array([0.2])))
    found = reconstruct(Window((frame_of(view),)), Config(prior=PriorConfig("laptop")))
    (joint,) = found.object.joints
    assert not joint.valid
    assert joint.confidence < 0.1
    assert joint.axis_std_rad == pytest.approx(0.2, rel=0.01)


def test_an_object_of_an_unusual_size_is_not_sure(oracle, monkeypatch):
    """Two factors of e larger than the category's objects: the prior can be made to fit, but is it the category?"""
    view = laptop()
    oracle(view.truth)
    window, config = Window((frame_of(view),)), Config(prior=PriorConfig("laptop"))
    (usual,) = reconstruct(window, config).object.joints
    known = untrained()
    smaller = replace(known.census, log_size=known.census.log_size - torch.tensor([2.0, 0.0]))
    monkeypatch.setattr(module, "networks", lambda weights: replace(known, census=smaller))
    found = reconstruct(window, config)
    (joint,) = found.object.joints
    deviations = (np.log(view.truth.size_m) + 3) / 0.35
    assert joint.confidence == pytest.approx(usual.confidence * np.exp(2 - deviations), abs=1e-4)
    assert not joint.valid
    assert f"{view.truth.size_m:.2f} m is an unusual size of a laptop" in found.prior.reason


def test_the_wrong_object_is_refused(oracle, tmp_path, capsys):
    view, away = laptop(), np.eye(4)
    away[0, 3] = 0.5
    oracle(replace(view.truth, T_camera_base=away @ view.truth.T_camera_base))
    out = tmp_path / "result"
    assert run(write(tmp_path / "bag", [frame_of(view)]), out) == BAD_INPUT
    printed = capsys.readouterr().err
    assert "agrees with" in printed
    assert printed.count("\n") == 1
    assert not out.exists()


def test_agreement_is_the_share_explained_times_the_share_not_seen_through():
    wall = np.stack([*np.meshgrid(np.linspace(-0.3, 0.3, 60), np.linspace(-0.2, 0.2, 40)), np.ones((40, 60))], -1)
    points = wall.reshape(-1, 3)
    assert agreement([points], FRAME, points, 0.01) == 1
    half = points[points[:, 0] < 0]
    assert agreement([half], FRAME, points, 0.01) == pytest.approx(0.5, abs=0.03)
    floating = points * 0.7
    assert agreement([points, floating], FRAME, points, 0.01) == pytest.approx(0.5), "half of it is in mid-air"
    behind = points * 1.5
    assert agreement([points, behind], FRAME, points, 0.01) == 1, "what is hidden contradicts nothing"
    assert agreement([np.zeros((0, 3))], FRAME, points, 0.01) == 0


def test_nearest_part():
    sides = [np.array([[-1.0, 0, 1]]), np.zeros((0, 3)), np.array([[1.0, 0, 1]])]
    assert nearest_part(np.array([[-0.2, 0, 1], [0.3, 0, 1]]), sides).tolist() == [0, 2]


def small(frame: RgbdFrame) -> RgbdFrame:
    """Hardly anything is the object."""
    mask = np.zeros_like(frame.mask)
    rows, columns = np.nonzero(frame.mask)
    mask[rows[len(rows) // 2] - 5 :, columns[len(rows) // 2] - 5 :][:10, :10] = True
    return replace(frame, mask=mask)


BAD = {
    "few points": (small, [], ("points", "need 200")),
    "millimetres": (lambda f: replace(f, depth_m=1000 * f.depth_m), [], ("give metres, not millimetres",)),
    "no number at all": (lambda f: replace(f, depth_m=np.full_like(f.depth_m, np.nan)), [], ("depth",)),
    "no mask": (lambda f: replace(f, mask=None), [], ("object mask", "/object/mask")),
    "unknown category": (lambda f: f, ["--category", "lamp"], ("'lamp' is unknown", "laptop, eyeglasses")),
    "no weights": (lambda f: f, ["--config.prior.weights", "nowhere"], ("nowhere", "train kinediff3d")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case, tmp_path, capsys):
    change, more, words = BAD[case]
    bag = write(tmp_path / "bag", [change(frame_of(laptop()))])
    weights = tmp_path / "weights"
    weights.mkdir()
    save_networks(untrained(), weights)
    quick = ["--config.prior.completion.pose.hypotheses", "4", "--config.prior.completion.voxels", "16"]
    arguments = ["--config.prior.weights", str(weights), *quick, *more]
    assert run(bag, tmp_path / "out", *arguments) == BAD_INPUT
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert all(word in printed for word in words), printed
    assert not (tmp_path / "out").exists()


def test_pixels_without_depth_are_left_out(monkeypatch):
    view = laptop()
    seen = []

    def watch(points, *rest):
        seen.append(points)
        return view.truth

    monkeypatch.setattr(module, "networks", lambda weights: untrained())
    monkeypatch.setattr(module, "complete", watch)
    frame = frame_of(view)
    holes = np.where(np.arange(frame.depth_m.shape[1]) % 40, frame.depth_m, 0).astype(np.float32)
    reconstruct(Window((replace(frame, depth_m=holes),)), Config(prior=PriorConfig("laptop")))
    assert np.isfinite(seen[-1]).all()
    assert (seen[-1][:, 2] > 0).all()


def test_untrained_networks_are_never_confident(tmp_path):
    frame = frame_of(laptop())
    config = PriorConfig("laptop", str(save_networks(untrained(), tmp_path)))
    sampler = replace(config.completion.pose, hypotheses=8)
    quick = replace(config.completion, pose=sampler, voxels=16, points=256, fit=FitConfig(rounds=0))
    with pytest.raises(FrameError, match="agrees with"):
        reconstruct(Window((frame,)), Config(prior=replace(config, completion=quick)))
