import numpy as np
import pytest

from art_perception.errors import FrameError
from art_perception.geometry import lie
from art_perception.io.poses import PoseTrack, TransformTree

SECOND = 10**9
RNG = np.random.default_rng(0)
A, B, C = lie.exp_se3(RNG.normal(size=(3, 6)))
TWIST = np.array([0.3, -0.2, 0.1, 0.4, 0.8, -0.5])


def moving(stamp_ns: int) -> np.ndarray:
    return A @ lie.exp_se3(TWIST * stamp_ns * 1e-9)


def track(period_ns: int = SECOND // 10, count: int = 20) -> PoseTrack:
    out = PoseTrack()
    for i in range(count):
        out.push(i * period_ns, moving(i * period_ns))
    return out


def test_constant_twist_is_reproduced_exactly():
    poses = track()
    for stamp_ns in RNG.integers(0, 1_900_000_000, 50):
        np.testing.assert_allclose(poses.at(int(stamp_ns)), moving(int(stamp_ns)), atol=1e-12)


def test_late_and_repeated_samples():
    poses = PoseTrack()
    for i in (0, 2, 1, 3, 3):
        poses.push(i * SECOND // 10, moving(i * SECOND // 10))
    np.testing.assert_allclose(poses.at(SECOND // 20), moving(SECOND // 20), atol=1e-12)


@pytest.mark.parametrize(("stamp_ns", "words"), [(-SECOND, "before the first"), (3 * SECOND, "after the last")])
def test_no_extrapolation(stamp_ns, words):
    with pytest.raises(FrameError, match=words):
        track().at(stamp_ns)


def test_the_nearest_pose_serves_just_outside():
    np.testing.assert_array_equal(track().at(-10_000_000), moving(0))


def test_no_interpolation_across_a_gap():
    with pytest.raises(FrameError, match=r"gap of 1\.00 s"):
        track(period_ns=SECOND, count=3).at(SECOND // 2)


def test_history_is_bounded():
    poses = track(period_ns=SECOND // 100, count=5000)
    with pytest.raises(FrameError, match="before the first"):
        poses.at(0)
    poses.at(49 * SECOND)


def tree() -> TransformTree:
    """map -> odom -> base -> (camera, arm -> gripper); odom -> base and arm -> gripper move."""
    out = TransformTree()
    out.push_static("map", "odom", B)
    out.push_static("base", "camera", C)
    out.push_static("base", "arm", B)
    for i in range(20):
        out.push("odom", "base", i * SECOND // 10, moving(i * SECOND // 10))
        out.push("arm", "gripper", i * SECOND // 10, moving(i * SECOND // 10))
    return out


def test_chains_through_the_common_ancestor():
    t = 777_000_000
    np.testing.assert_allclose(tree().at("map", "camera", t), B @ moving(t) @ C, atol=1e-12)
    np.testing.assert_allclose(tree().at("odom", "camera", t), moving(t) @ C, atol=1e-12)
    np.testing.assert_allclose(tree().at("gripper", "camera", t), lie.inverse(B @ moving(t)) @ C, atol=1e-12)
    np.testing.assert_allclose(tree().at("camera", "camera", t), np.eye(4), atol=1e-12)


def test_newest_stamp_is_the_slowest_moving_edge():
    frames = tree()
    frames.push("odom", "base", 5 * SECOND, moving(5 * SECOND))
    assert frames.newest_ns("map", "camera") == 5 * SECOND
    assert frames.newest_ns("map", "gripper") == 1_900_000_000
    assert frames.newest_ns("base", "camera") > 10**18  # static: always
    assert frames.newest_ns("map", "elsewhere") is None


def test_forgetting_motion_keeps_static_transforms():
    frames = tree()
    frames.forget_motion()
    np.testing.assert_allclose(frames.at("base", "camera", 0), C)
    assert frames.newest_ns("map", "camera") is None


def test_unconnected_frames_and_loops():
    with pytest.raises(FrameError, match="no transform connects 'map' to the images' frame 'lens'"):
        tree().at("map", "lens", 0)
    loop = TransformTree()
    loop.push_static("a", "b", A)
    loop.push_static("b", "a", A)
    assert loop.newest_ns("x", "a") is None
