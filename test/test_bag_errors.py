"""Bad recordings: each gives one sentence that says what was seen and what to do."""

import dataclasses
import itertools

import numpy as np
import pytest
from bag_tools import COLOR, DEPTH, INFO, OPTICAL, POSE, START_NS, make_frames, messages, odometry, transform, write_bag
from rosbags.rosbag2 import StoragePlugin

from art_perception.errors import ArtPerceptionError, BagError, FrameError
from art_perception.io import encode
from art_perception.io.bag import bag_info, read_frames, read_ground_truth, read_part_ids

NO_DEPTH_TOPIC = [r for f in make_frames() for r in messages(f) if r[0] != DEPTH]


def clip(tmp_path, frames=None, plugin=StoragePlugin.MCAP, without=""):
    recorded = itertools.chain.from_iterable(messages(f) for f in frames or make_frames())
    return write_bag(tmp_path / "clip", [r for r in recorded if r[0] != without], plugin)


def message_of(error: type[ArtPerceptionError], bag, **options) -> str:
    """Read the whole clip, expect this error, return its single sentence."""
    with pytest.raises(error) as caught:
        list(read_frames(bag, **options))
    text = str(caught.value)
    assert "\n" not in text
    assert ": " in text  # what was seen: what to do
    return text


def test_missing_recording(tmp_path):
    assert "does not exist" in message_of(BagError, tmp_path / "nothing.mcap")
    assert "no metadata.yaml and 0 .mcap or .db3 files" in message_of(BagError, tmp_path)


def test_not_a_recording(tmp_path):
    (tmp_path / "clip.bag").write_text("#ROSBAG V2.0")
    assert "rosbags-convert" in message_of(BagError, tmp_path / "clip.bag")
    (tmp_path / "clip.mcap").write_text("hello")
    assert "truncated or damaged" in message_of(BagError, tmp_path / "clip.mcap")
    (tmp_path / "empty.db3").write_bytes(b"")
    assert "empty.db3" in message_of(BagError, tmp_path / "empty.db3")


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("has_metadata", [True, False])
def test_truncated_recording(tmp_path, plugin, keep, has_metadata):
    bag = clip(tmp_path, make_frames(40), plugin)
    if not has_metadata:
        (bag / "metadata.yaml").unlink()
    (file,) = (p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    text = message_of(BagError, bag)
    assert "truncated or damaged" in text
    assert "ros2 bag reindex" in text


def test_damaged_metadata(tmp_path):
    bag = clip(tmp_path)
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information:\n  version: [9\n")
    assert "truncated or damaged" in message_of(BagError, bag)
    (bag / "metadata.yaml").write_text("")
    assert "truncated or damaged" in message_of(BagError, bag)


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (COLOR, ["no colour on", COLOR]),
        (DEPTH, ["no depth on", DEPTH, "align_depth.enable:=true"]),
        (INFO, ["no camera info on", INFO]),
        (POSE, ["no camera pose on", POSE, "pose_source odom, tf or static"]),
    ],
)
def test_missing_topic(tmp_path, topic, words):
    bag = clip(tmp_path, without=topic)
    text = message_of(BagError, bag)
    assert all(w in text for w in words), text
    with pytest.raises(BagError):
        bag_info(bag)


def test_missing_topic_names_those_of_its_type(tmp_path):
    other = [("/camera/depth/image_rect_raw", t, m) for name, t, m in messages(make_frames(1)[0]) if name == DEPTH]
    bag = write_bag(tmp_path / "clip", [*NO_DEPTH_TOPIC, *other])
    assert f"{COLOR}, /camera/depth/image_rect_raw" in message_of(BagError, bag)


def test_empty_recording(tmp_path):
    assert "no camera pose" in message_of(BagError, write_bag(tmp_path / "clip", []))
    assert read_ground_truth(tmp_path / "clip") is None
    assert list(read_part_ids(tmp_path / "clip")) == []


def changed(**fields):
    return [dataclasses.replace(f, **fields) for f in make_frames()]


def test_unaligned_depth_says_how_to_align(tmp_path):
    small = encode.depth_image(encode.header(START_NS, OPTICAL), np.ones((24, 32)), "16UC1")
    text = message_of(FrameError, write_bag(tmp_path / "clip", [*NO_DEPTH_TOPIC, (DEPTH, START_NS, small)]))
    assert "depth is 32x24 but the colour image is 64x48" in text
    assert "align_depth.enable:=true" in text


def test_unknown_depth_encoding(tmp_path):
    bad = encode.image(encode.header(START_NS, OPTICAL), "64FC1", np.ones((48, 64)))
    text = message_of(FrameError, write_bag(tmp_path / "clip", [*NO_DEPTH_TOPIC, (DEPTH, START_NS, bad)]))
    assert "'64FC1'" in text
    assert "16UC1" in text


def test_all_zero_depth(tmp_path):
    text = message_of(BagError, clip(tmp_path, changed(depth_m=np.zeros((48, 64), np.float32))))
    assert "all zero" in text


def test_some_zero_depth_is_fine(tmp_path):
    frames = [*changed(depth_m=np.zeros((48, 64), np.float32))[:2], *make_frames()[2:]]
    assert len(list(read_frames(clip(tmp_path, frames)))) == 4


def test_zero_camera_matrix(tmp_path):
    assert "calibrate the camera" in message_of(FrameError, clip(tmp_path, changed(K=np.zeros((3, 3)))))


def with_pose(tmp_path, pose):
    def spoilt(frame):
        for topic, t, m in messages(frame):
            yield topic, t, encode.TYPES[m.__msgtype__](header=m.header, pose=pose) if topic == POSE else m

    return write_bag(tmp_path / "clip", itertools.chain.from_iterable(map(spoilt, make_frames())))


def rosbag_pose(position, xyzw):
    x, y, z, w = xyzw
    return encode.TYPES["geometry_msgs/msg/Pose"](
        position=encode.TYPES["geometry_msgs/msg/Point"](x=position[0], y=position[1], z=position[2]),
        orientation=encode.TYPES["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
    )


@pytest.mark.parametrize(
    ("position", "xyzw", "words"),
    [
        ((np.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "NaN"),
        ((0.0, 0.0, 0.0), (np.nan,) * 4, "NaN"),
        ((0.0, 0.0, np.inf), (0.0, 0.0, 0.0, 1.0), "infinity"),
        ((0.0, 0.0, 0.0), (0.0,) * 4, "unit length"),
    ],
)
def test_bad_poses(tmp_path, position, xyzw, words):
    assert words in message_of(FrameError, with_pose(tmp_path, rosbag_pose(position, xyzw)))


def test_time_going_backwards(tmp_path):
    frames = make_frames(6)
    order = [*frames[3:], *frames[:3]]
    recorded = [(topic, START_NS + i, m) for i, f in enumerate(order) for topic, _, m in messages(f)]
    assert "time goes backwards" in message_of(FrameError, write_bag(tmp_path / "clip", recorded))


def test_empty_mask(tmp_path):
    text = message_of(BagError, clip(tmp_path, changed(mask=np.zeros((48, 64), bool))))
    assert "empty mask in every frame on /object/mask" in text


def test_stamps_on_different_clocks(tmp_path):
    shifted = [(t, at, m) for f in make_frames() for t, at, m in messages(f) if t == DEPTH]
    for _, _, m in shifted:
        m.header.stamp.sec += 1000
    text = message_of(BagError, write_bag(tmp_path / "depth", [*NO_DEPTH_TOPIC, *shifted]))
    assert "gives no frame" in text
    assert "on the clock of colour" in text
    poses = [(t, at, m) for f in make_frames() for t, at, m in messages(f)]
    for topic, _, m in poses:
        m.header.stamp.sec += 1000 * (topic == POSE)
    assert "on the same clock as the images" in message_of(BagError, write_bag(tmp_path / "pose", poses))


def test_poses_in_two_fixed_frames(tmp_path):
    recorded = [r for f in make_frames() for r in messages(f)]
    poses = [m for t, _, m in recorded if t == POSE]
    poses[-1].header.frame_id = "odom"
    text = message_of(FrameError, write_bag(tmp_path / "clip", recorded))
    assert "'odom' and in 'world'" in text


def test_odometry_without_the_camera_s_mounting(tmp_path):
    recorded = [r for f in make_frames() for r in messages(f) if r[0] != POSE]
    recorded += [("/odom", f.stamp_ns, odometry(f.stamp_ns, "odom", "base_link", np.eye(4))) for f in make_frames()]
    text = message_of(BagError, write_bag(tmp_path / "clip", recorded), pose_source="odom")
    assert f"no transform connects 'odom' to the images' frame '{OPTICAL}'" in text
    assert "odom -> base_link" in text


def test_pose_sources_that_are_not_there(tmp_path):
    bag = clip(tmp_path)
    assert "neither /tf nor /tf_static" in message_of(BagError, bag, pose_source="tf")
    assert "no odometry" in message_of(BagError, bag, pose_source="odom")
    assert "choose one of topic, odom, tf, static" in message_of(FrameError, bag, pose_source="guess")


def test_tf_with_nan(tmp_path):
    bad = transform(START_NS, "map", OPTICAL, np.eye(4))
    bad.transforms[0].transform.translation.x = np.nan
    recorded = [r for f in make_frames() for r in messages(f) if r[0] != POSE]
    bag = write_bag(tmp_path / "clip", [("/tf", START_NS, bad), *recorded])
    assert "NaN" in message_of(FrameError, bag, pose_source="tf")
