"""Disturbed recordings: each thing that goes wrong does, and nothing else changes."""

import importlib
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from art_perception.io.bag import read_frames, read_ground_truth, read_part_ids
from art_perception.types import RgbdFrame

SAMPLE = files("art_perception") / "data_files" / "laptop.mcap"
CHANGES = {
    "as_recorded": set(),
    "poses_late": {"T_world_camera"},
    "depth_late": {"depth_m"},
    "misaligned": {"color"},
    "holes": {"depth_m"},
    "flying_pixels": {"depth_m"},
    "depth_noise": {"depth_m"},
    "depth_steps": {"depth_m"},
    "dark": {"color"},
    "blurred": {"color"},
    "exposure": {"color"},
    "bad_masks": {"mask"},
    "no_masks": {"mask"},
    "wrong_focal_length": {"K"},
    "wrong_depth_scale": {"depth_m"},
}


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield importlib.import_module("benchmarks.bench_disturbed")


@pytest.fixture(scope="module")
def frames():
    return list(read_frames(SAMPLE))[:8]


def test_every_disturbance_but_dropped_frames_is_listed(bench):
    assert {f.__name__ for f in bench.DISTURBANCES} == {*CHANGES, "few_frames"}


@pytest.mark.parametrize("name", CHANGES)
def test_it_changes_what_it_says_and_nothing_else(bench, frames, name):
    disturbed = getattr(bench, name)(frames, np.random.default_rng(0))
    changed = {
        f.name
        for f in fields(RgbdFrame)
        for before, after in zip(frames, disturbed, strict=True)
        if not np.array_equal(getattr(before, f.name), getattr(after, f.name))
    }
    assert changed == CHANGES[name]


def test_depth_stays_where_there_was_none(bench, frames):
    for name in ("holes", "flying_pixels", "depth_noise", "depth_steps", "wrong_depth_scale"):
        for before, after in zip(frames, getattr(bench, name)(frames, np.random.default_rng(0)), strict=True):
            assert after.depth_m.dtype == np.float32
            assert not after.depth_m[before.depth_m == 0].any()


def test_sizes_are_those_that_are_named(bench, frames):
    rng = np.random.default_rng(0)
    before, known = frames[0], frames[0].depth_m > 0
    noise = (bench.depth_noise(frames, rng)[0].depth_m - before.depth_m)[known] / before.depth_m[known] ** 2
    assert noise.std() == pytest.approx(0.004, rel=0.1)
    gone = (bench.holes(frames, rng)[0].depth_m[known] == 0).mean()
    assert 0.1 < gone < 0.35
    steps = 8 * before.K[0, 0] * 0.05 / bench.depth_steps(frames, rng)[0].depth_m[known]
    assert np.abs(steps - steps.round()).max() < 1e-3
    assert len(bench.few_frames(frames, rng)) == 2


def test_a_copy_keeps_stamps_and_truth(bench, tmp_path):
    bench.write_disturbed(SAMPLE, tmp_path / "copy", bench.few_frames)
    before, after = read_ground_truth(SAMPLE), read_ground_truth(tmp_path / "copy")
    stamps = [f.stamp_ns for f in read_frames(SAMPLE)][::4]
    assert [f.stamp_ns for f in read_frames(tmp_path / "copy")] == stamps
    assert after.robot_description == before.robot_description
    at = [int(np.abs(before.stamps_ns - stamp).argmin()) for stamp in stamps]
    np.testing.assert_array_equal(after.positions, before.positions[at])
    ids = dict(read_part_ids(SAMPLE))
    for stamp, image in read_part_ids(tmp_path / "copy"):
        np.testing.assert_array_equal(image, ids[stamp])
