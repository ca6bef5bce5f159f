import itertools
import tracemalloc

import numpy as np
import pytest
from bag_tools import (
    COLOR,
    DEPTH,
    INFO,
    MASK,
    OPTICAL,
    PERIOD_NS,
    POSE,
    SHAPE,
    START_NS,
    K,
    make_frames,
    messages,
    odometry,
    pose_at,
    transform,
    write_bag,
)
from rosbags.rosbag2 import StoragePlugin

from art_perception.geometry import lie
from art_perception.io import encode
from art_perception.io.bag import BagWriter, Topics, bag_info, read_frames, read_ground_truth, read_part_ids

Q = np.array([[0.0, 0.1], [0.2, 0.3], [0.4, 0.5], [0.6, 0.7]])


def assert_same(frames, back, *, color_tolerance=0):
    assert len(frames) == len(back)
    for a, b in zip(frames, back, strict=True):
        assert a.stamp_ns == b.stamp_ns
        assert np.abs(a.color.astype(int) - b.color).mean() <= color_tolerance
        np.testing.assert_allclose(b.depth_m, a.depth_m, atol=1e-6)
        np.testing.assert_allclose(b.T_world_camera, a.T_world_camera, atol=1e-9)
        np.testing.assert_array_equal(b.K, a.K)
        assert (a.mask is None) == (b.mask is None)
        if a.mask is not None:
            np.testing.assert_array_equal(a.mask, b.mask)


@pytest.mark.parametrize("format", ["mcap", "sqlite3"])
@pytest.mark.parametrize("color", ["rgb8", "png", "jpeg"])
@pytest.mark.parametrize("depth", ["16UC1", "32FC1", "compressedDepth"])
def test_round_trip(tmp_path, format, color, depth):
    frames = make_frames(mask=True)
    parts = [np.full(SHAPE, i, np.uint8) for i in range(len(frames))]
    truth = {"robot_description": "<robot name='é'/>", "joint_names": ("door", "drawer")}
    with BagWriter(tmp_path / "clip", format, color=color, depth=depth, fixed_frame="map", **truth) as writer:
        for frame, part, q in zip(frames, parts, Q, strict=True):
            writer.write(frame, part, q)
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]

    assert_same(frames, list(read_frames(tmp_path / "clip")), color_tolerance=60 if color == "jpeg" else 0)
    info = bag_info(tmp_path / "clip")
    assert (info.fixed_frame, info.camera_frame, info.frame_count) == ("map", OPTICAL, 4)
    assert (info.width, info.height, info.has_mask, info.has_ground_truth) == (64, 48, True, True)
    assert info.duration_s == pytest.approx(3 * PERIOD_NS * 1e-9)
    back = read_ground_truth(tmp_path / "clip")
    assert back is not None
    assert (back.robot_description, back.joint_names) == ("<robot name='é'/>", ("door", "drawer"))
    np.testing.assert_array_equal(back.positions, Q)
    np.testing.assert_array_equal(back.stamps_ns, [f.stamp_ns for f in frames])
    for (stamp, got), frame, part in zip(read_part_ids(tmp_path / "clip"), frames, parts, strict=True):
        assert stamp == frame.stamp_ns
        np.testing.assert_array_equal(got, part)


@pytest.mark.parametrize(("plugin", "suffix"), [(StoragePlugin.MCAP, "mcap"), (StoragePlugin.SQLITE3, "db3")])
def test_single_file_and_folder_without_metadata(tmp_path, plugin, suffix):
    frames = make_frames()
    bag = write_bag(tmp_path / "clip", itertools.chain.from_iterable(map(messages, frames)), plugin)
    assert_same(frames, list(read_frames(bag / f"clip.{suffix}")))
    (bag / "metadata.yaml").unlink()
    assert_same(frames, list(read_frames(bag)))


def test_a_recording_without_truth_or_mask(tmp_path):
    bag = write_bag(tmp_path / "clip", itertools.chain.from_iterable(map(messages, make_frames())))
    assert read_ground_truth(bag) is None
    assert list(read_part_ids(bag)) == []
    info = bag_info(bag)
    assert not info.has_mask
    assert not info.has_ground_truth


def test_joint_states_in_another_order(tmp_path):
    def state(i, names, q):
        return "/ground_truth/joint_states", START_NS + i, encode.joint_state(encode.header(START_NS + i, ""), names, q)

    text = ("/ground_truth/robot_description", START_NS, encode.text("<robot/>"))
    bag = write_bag(tmp_path / "clip", [text, state(0, ("a", "b"), [1, 2]), state(1, ("b", "a"), [4, 3])])
    np.testing.assert_array_equal(read_ground_truth(bag).positions, [[1, 2], [3, 4]])


def test_one_frame(tmp_path):
    bag = write_bag(tmp_path / "clip", messages(make_frames(1)[0]))
    assert bag_info(bag).frame_count == 1
    assert len(list(read_frames(bag))) == 1


def test_latency_and_order_of_topics_do_not_matter(tmp_path):
    frames, rng = make_frames(20, mask=True), np.random.default_rng(1)
    recorded = []
    for topic, latency_ns in [(INFO, 2e7), (POSE, 3e8), (COLOR, 3e7), (DEPTH, 1e8), (MASK, 5e8)]:
        sent = [(at, m) for f in frames for name, at, m in messages(f) if name == topic]
        arrival = np.sort([at + int(rng.uniform(0, latency_ns)) for at, _ in sent])  # no publisher overtakes itself
        recorded += [(topic, int(at), m) for at, (_, m) in zip(arrival, sent, strict=True)]
    assert_same(frames, list(read_frames(write_bag(tmp_path / "clip", recorded))))


def test_poses_are_interpolated_at_the_image_stamp(tmp_path):
    frames = make_frames(10)
    recorded = [r for f in frames for r in messages(f) if r[0] != POSE]
    for t in range(START_NS - 7_000_000, START_NS + 400_000_000, 90_000_000):
        recorded.append((POSE, t + 50_000_000, encode.pose_stamped(encode.header(t, "odom"), pose_at(t))))
    bag = write_bag(tmp_path / "clip", recorded)
    assert_same(frames, list(read_frames(bag)))
    assert bag_info(bag).fixed_frame == "odom"


def test_images_before_and_after_the_poses_are_skipped(tmp_path, caplog):
    frames = make_frames(10)
    recorded = [r for i, f in enumerate(frames) for r in messages(f) if r[0] != POSE or 2 <= i < 8]
    assert_same(frames[2:8], list(read_frames(write_bag(tmp_path / "clip", recorded))))
    assert "4 of 10 colour images skipped" in caplog.text


def test_slow_or_shifted_depth_pairs_with_the_nearest_image(tmp_path):
    frames = make_frames(10)
    recorded = [r for i, f in enumerate(frames) for r in messages(f) if r[0] != DEPTH]
    for f in frames[::2]:
        stamp = f.stamp_ns + 10_000_000
        recorded.append((DEPTH, stamp, encode.depth_image(encode.header(stamp, OPTICAL), f.depth_m, "16UC1")))
    assert_same(frames[::2], list(read_frames(write_bag(tmp_path / "clip", recorded))))


def test_a_slow_mask_leaves_frames_without(tmp_path):
    frames = make_frames(6, mask=True)
    recorded = [r for i, f in enumerate(frames) for r in messages(f) if r[0] != MASK or i % 3 == 0]
    masks = [f.mask is not None for f in read_frames(write_bag(tmp_path / "clip", recorded))]
    assert masks == [True, False, False] * 2


def test_calibration_sent_once(tmp_path):
    frames = make_frames(5)
    recorded = [r for i, f in enumerate(frames) for r in messages(f) if r[0] != INFO or i == 0]
    assert_same(frames, list(read_frames(write_bag(tmp_path / "clip", recorded))))


def test_calibration_that_changes_is_paired_by_stamp(tmp_path):
    frames = make_frames(6)
    recorded = [r for f in frames for r in messages(f) if r[0] != INFO]
    for i, f in enumerate(frames):  # arrives after the image, before the next one
        info = encode.camera_info(encode.header(f.stamp_ns, OPTICAL), K + np.diag([i, i, 0]), SHAPE)
        recorded.append((INFO, f.stamp_ns + 20_000_000, info))
    back = list(read_frames(write_bag(tmp_path / "clip", recorded)))
    assert [f.K[0, 0] for f in back] == [60 + i for i in range(6)]


def test_realsense_namespace_and_renamed_topics(tmp_path):
    frames = make_frames()
    recorded = [(f"/camera{t}" if t != POSE else t, at, m) for f in frames for t, at, m in messages(f)]
    assert_same(frames, list(read_frames(write_bag(tmp_path / "realsense", recorded))))
    recorded = [(f"/robot{t}", at, m) for f in frames for t, at, m in messages(f)]
    topics = Topics(f"/robot{COLOR}", f"/robot{DEPTH}", f"/robot{INFO}", f"/robot{POSE}")
    assert_same(frames, list(read_frames(write_bag(tmp_path / "robot", recorded), topics)))


T_BASE_CAMERA = lie.exp_se3(np.array([0.1, 0.0, 0.3, -1.2, 1.1, -1.0]))
T_MAP_ODOM = lie.exp_se3(np.array([3.0, -1.0, 0.0, 0.0, 0.0, 2.0]))


def images_only(frames):
    return [r for f in frames for r in messages(f) if r[0] != POSE]


def base_motion(make, topic):
    """Base poses at 50 Hz whose camera moves as in ``pose_at``."""
    for t in range(START_NS - 20_000_000, START_NS + 500_000_000, 20_000_000):
        yield topic, t + 15_000_000, make(t, "odom", "base_link", pose_at(t) @ lie.inverse(T_BASE_CAMERA))


def test_poses_from_tf(tmp_path):
    frames = make_frames(8)
    static = [
        ("/tf_static", START_NS, transform(0, "base_link", OPTICAL, T_BASE_CAMERA)),
        ("/tf_static", START_NS, transform(0, "map", "odom", T_MAP_ODOM)),
    ]
    bag = write_bag(tmp_path / "clip", [*static, *base_motion(transform, "/tf"), *images_only(frames)])
    assert_same(frames, list(read_frames(bag, pose_source="tf", fixed_frame="odom")))
    assert bag_info(bag, pose_source="tf").fixed_frame == "map"
    for frame, back in zip(frames, read_frames(bag, pose_source="tf"), strict=True):
        np.testing.assert_allclose(back.T_world_camera, T_MAP_ODOM @ frame.T_world_camera, atol=1e-9)


@pytest.mark.parametrize("topic", ["/odom", POSE])
def test_poses_from_odometry_and_the_robot_s_static_transforms(tmp_path, topic):
    frames = make_frames(8)
    static = ("/tf_static", START_NS, transform(0, "base_link", OPTICAL, T_BASE_CAMERA))
    bag = write_bag(tmp_path / "clip", [static, *base_motion(odometry, topic), *images_only(frames)])
    assert_same(frames, list(read_frames(bag, pose_source="odom")))
    assert bag_info(bag, pose_source="odom").fixed_frame == "odom"


def test_a_camera_that_stands_still(tmp_path):
    bag = write_bag(tmp_path / "clip", images_only(make_frames()))
    assert all((f.T_world_camera == np.eye(4)).all() for f in read_frames(bag, pose_source="static"))
    assert bag_info(bag, pose_source="static").fixed_frame == OPTICAL


def peak_memory(bag) -> int:
    tracemalloc.start()
    for _ in read_frames(bag):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_length(tmp_path):
    frame = make_frames(1)[0]
    big = [np.repeat(np.repeat(a, 5, 0), 5, 1) for a in (frame.color, frame.depth_m)]

    def clip(count):
        with BagWriter(tmp_path / str(count), color="rgb8", depth="16UC1") as writer:
            for i in range(count):
                writer.write(type(frame)(START_NS + i * PERIOD_NS, *big, K, np.eye(4)))
        return tmp_path / str(count)

    short, long = clip(40), clip(240)  # 15 and 92 MB
    peak_memory(short)
    assert peak_memory(long) < 1.2 * peak_memory(short)
