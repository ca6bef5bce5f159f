"""Recorded camera poses that disagree with what stands still are corrected; good ones are left as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fuse_tools import BODY, DOOR, HINGE, look_at, render

from art_perception.data.motion import pose_error
from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.estimation.camera_poses import PoseConfig, corrected
from art_perception.geometry.lie import exp_se3, inverse, log_se3
from art_perception.types import UNLABELLED, PoseCorrection, Window

FRAMES = 24


@pytest.fixture(scope="module")
def clip() -> Window:
    """A drawer that opens in a room, from a camera that moves; depth with noise, poses exact."""
    config = SimulateConfig(frames=FRAMES, width=320, height=240)
    return Window(tuple(sample.frame for sample in simulate(make_object("drawer_table", 1), config, 1)))


def poses_of(window: Window) -> np.ndarray:
    return np.stack([frame.T_world_camera for frame in window.frames])


def with_poses(window: Window, poses: np.ndarray) -> Window:
    return replace(
        window, frames=tuple(replace(f, T_world_camera=T) for f, T in zip(window.frames, poses, strict=True))
    )


def errors(poses: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Root-mean-square metres and degrees between poses, but for one common displacement of the fixed frame."""
    common, apart = np.eye(4), poses @ inverse(truth)
    for _ in range(3):
        common = common @ exp_se3(np.mean([log_se3(T) for T in inverse(common) @ apart], 0))
    left = np.stack([log_se3(T) for T in inverse(truth) @ inverse(common) @ poses])
    shift, turn = (np.sqrt((part**2).sum(-1).mean()) for part in (left[:, :3], left[:, 3:]))
    return float(shift), float(np.degrees(turn))


def drifted(window: Window, metres: float, degrees: float) -> Window:
    sigma = np.repeat([metres, np.radians(degrees)], 3)
    error = pose_error(np.linspace(0, 6, len(window.frames)), sigma, np.random.default_rng(2))
    return with_poses(window, poses_of(window) @ error)


@pytest.mark.parametrize(("metres", "degrees"), [(0.005, 0.5), (0.01, 1.0)])
def test_drift_and_jitter_are_taken_back(clip: Window, metres: float, degrees: float):
    recorded = drifted(clip, metres, degrees)
    before = errors(poses_of(recorded), poses_of(clip))
    fixed = corrected(recorded, PoseConfig())
    shift, turn = errors(poses_of(fixed), poses_of(clip))
    assert before[1] > 0.35
    assert turn < 0.2
    assert shift < 0.006
    moved = np.stack([log_se3(T) for T in inverse(poses_of(recorded)) @ poses_of(fixed)])
    assert fixed.correction.rms_m == pytest.approx(np.sqrt((moved[:, :3] ** 2).sum(-1).mean()))
    assert fixed.correction.rms_deg == pytest.approx(np.degrees(np.sqrt((moved[:, 3:] ** 2).sum(-1).mean())))


def test_exact_poses_stay_exactly_as_they_are(clip: Window):
    assert corrected(clip, PoseConfig()) is clip
    assert clip.correction == PoseCorrection()


def test_poses_that_are_trusted_stay(clip: Window):
    recorded = drifted(clip, 0.01, 1.0)
    assert corrected(recorded, PoseConfig(sigma_m=0.0)) is recorded
    assert corrected(recorded, PoseConfig(sigma_deg=0.0)) is recorded


def test_of_an_object_alone_poses_are_taken_as_they_are(clip: Window):
    """Poses that follow the larger part would agree with it; where no room is seen nothing can tell."""

    def alone(window: Window) -> Window:
        cut = (replace(f, depth_m=np.where(f.mask, f.depth_m, 0).astype(np.float32)) for f in window.frames)
        return replace(window, frames=tuple(cut))

    for window in (alone(clip), alone(drifted(clip, 0.01, 1.0))):
        assert corrected(window, PoseConfig()) is window
        bare = replace(window, frames=tuple(replace(f, mask=None) for f in window.frames))
        assert corrected(bare, PoseConfig()) is bare


def test_without_a_mask_the_whole_image_tells(clip: Window):
    bare = replace(clip, frames=tuple(replace(f, mask=None) for f in clip.frames))
    assert corrected(bare, PoseConfig()) is bare
    fixed = corrected(drifted(bare, 0.01, 1.0), PoseConfig())
    assert errors(poses_of(fixed), poses_of(clip))[1] < 0.2


def test_too_few_frames_or_too_little_surface_stay(clip: Window):
    recorded = drifted(clip, 0.01, 1.0)
    short = replace(recorded, frames=recorded.frames[:3])
    assert corrected(short, PoseConfig()) is short
    blind = replace(recorded.frames[5], depth_m=np.zeros_like(recorded.frames[5].depth_m))
    holed = replace(recorded, frames=(*recorded.frames[:5], blind, *recorded.frames[6:]))
    assert corrected(holed, PoseConfig()) is holed


@pytest.mark.parametrize("frames", [30, 45])
def test_before_a_plain_wall_a_door_does_not_take_exact_poses_along(frames: int):
    """The wall says nothing about where along it the camera is; what moves is no reason to shift it there."""
    angles = np.radians(np.linspace(-30, 30, frames))
    cameras = [look_at(np.array([1.2 * np.cos(a), 1.2 * np.sin(a), 0.75]), BODY[0]) for a in angles]
    window, motion = render((BODY, DOOR), (HINGE,), np.linspace(0, 1.0, frames)[:, None], cameras, 0.002)
    known = zip(window.frames, motion.labels != UNLABELLED, strict=True)
    window = replace(window, frames=tuple(replace(frame, mask=mask) for frame, mask in known))
    assert corrected(window, PoseConfig()) is window
