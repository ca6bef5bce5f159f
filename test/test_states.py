"""Joint values of frames that the window had no room for."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from art_perception.cli import run
from art_perception.cli.states import combine, joint_values
from art_perception.estimation.tracking import TrackingConfig
from art_perception.estimation.window import WindowConfig
from art_perception.types import PartMotion, Window

SAMPLE = files("art_perception") / "data_files" / "laptop.mcap"


@pytest.fixture(scope="module")
def thinned(sample_run):
    """The bundled clip's reconstruction as if its window held every fourth frame only."""
    found = sample_run.reconstruction
    window = Window(found.window.frames[::4], found.window.fixed_frame)
    return replace(
        found, window=window, motion=PartMotion(found.motion.labels[::4], found.motion.joints, found.motion.q[::4])
    )


def test_frames_in_between_are_tracked(sample_run, thinned):
    full = sample_run.reconstruction
    stamps_s, q = joint_values(thinned, full.window.frames, TrackingConfig())
    assert stamps_s.tolist() == [frame.stamp_s for frame in full.window.frames]
    assert np.array_equal(q[::4], full.motion.q[::4])
    assert np.median(np.abs(q - full.motion.q)) < np.deg2rad(1)
    assert np.abs(q - full.motion.q).max() < np.deg2rad(10)


def test_a_recording_longer_than_the_window_has_a_state_per_frame(sample_run, monkeypatch, tmp_path):
    full = sample_run.reconstruction

    def reconstruct(window, *_):
        assert [frame.stamp_ns for frame in window.frames] == [frame.stamp_ns for frame in full.window.frames[::2]]
        motion = PartMotion(full.motion.labels[::2], full.motion.joints, full.motion.q[::2])
        return replace(full, window=window, motion=motion)

    monkeypatch.setattr(run, "reconstruct", reconstruct)
    result = run.run_bag(SAMPLE, tmp_path / "out", run.Config(window=WindowConfig(max_frames=30))).result
    assert np.allclose(result.stamps_s, sample_run.result.stamps_s)
    assert np.array_equal(result.q[::2], full.motion.q[::2])
    assert np.median(np.abs(result.q - full.motion.q)) < np.deg2rad(1)


def test_frames_without_depth_are_interpolated(sample_run, thinned):
    frames = sample_run.reconstruction.window.frames
    blind = [f if t % 4 == 0 else replace(f, depth_m=np.zeros_like(f.depth_m)) for t, f in enumerate(frames)]
    _, q = joint_values(thinned, blind, TrackingConfig())
    expected = [(1 - w) * a + w * b for a, b in zip(q[0:-1:4], q[4::4], strict=False) for w in (0, 0.25, 0.5, 0.75)]
    assert np.allclose(q[: len(expected)], expected, atol=1e-6)


def test_a_constant_error_of_the_tracker_is_no_motion():
    stamps_ns = np.arange(9) * 10**8
    truth = np.sin(stamps_ns * 1e-8)[:, None]
    assert np.allclose(combine(stamps_ns, truth + 0.1, stamps_ns[::4], truth[::4]), truth)
    lost = np.full_like(truth, np.nan)
    straight = np.interp(stamps_ns, stamps_ns[::4], truth[::4, 0])[:, None]
    assert np.allclose(combine(stamps_ns, lost, stamps_ns[::4], truth[::4]), straight)
