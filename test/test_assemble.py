import numpy as np
import pytest
from bag_tools import OPTICAL, PERIOD_NS, POSE, START_NS, make_frames, pose_at
from bag_tools import messages as ros_messages

from art_perception.io import messages
from art_perception.io.assemble import FrameAssembler, TimeJumpError

FRAMES = make_frames(8)


def push(out: FrameAssembler, frame, *, without: str = "") -> None:
    """Feed one frame's messages as a node would."""
    for topic, _, m in ros_messages(frame):
        if without and without in topic:
            continue
        if topic == POSE:
            out.push_pose(m.header.frame_id, messages.stamp_ns(m.header), messages.pose(m.pose))
        elif hasattr(m, "k"):
            out.push_camera(messages.camera_model(m))
        else:
            (out.push_color if "/color/" in topic else out.push_depth)(messages.image(m))


def test_frames_come_out_as_soon_as_they_are_complete():
    out = FrameAssembler()
    for frame in FRAMES:
        push(out, frame)
        (parts,) = out.pop()
        back = parts.decode()
        assert back.stamp_ns == frame.stamp_ns
        np.testing.assert_array_equal(back.color, frame.color)
        np.testing.assert_allclose(back.T_world_camera, frame.T_world_camera, atol=1e-12)
    assert out.pop() == []
    assert (out.fixed_frame, out.dropped) == ("world", 0)


def test_a_pose_is_awaited_not_guessed():
    out = FrameAssembler("tf", "map")
    push(out, FRAMES[0], without=POSE)
    out.push_transform("map", OPTICAL, START_NS - 5_000_000, pose_at(START_NS - 5_000_000))
    assert out.pop() == []
    out.push_transform("map", OPTICAL, START_NS + 5_000_000, pose_at(START_NS + 5_000_000))
    (parts,) = out.pop()
    np.testing.assert_allclose(parts.T_world_camera, pose_at(START_NS), atol=1e-12)


def test_time_jump_and_reset():
    out = FrameAssembler()
    for frame in FRAMES:
        push(out, frame)
    assert len(out.pop()) == len(FRAMES)
    with pytest.raises(TimeJumpError, match="time goes backwards"):
        push(out, FRAMES[0])
    out.reset()
    for frame in FRAMES:
        push(out, frame)
    assert len(out.pop()) == len(FRAMES)


def test_repeated_stamps_are_dropped_and_named():
    out = FrameAssembler()
    push(out, FRAMES[0])
    push(out, FRAMES[0])
    assert len(out.pop()) == 1
    assert out.dropped == 1
    assert "two colour images have the stamp" in out.problem


def test_without_depth_nothing_piles_up():
    out = FrameAssembler()
    for i, frame in enumerate(make_frames(100)):
        push(out, frame, without="depth")
        out.pop()
        assert i - out.dropped <= 1_000_000_000 / PERIOD_NS + 1
    assert "none was seen" in out.problem


def test_depth_in_another_frame_is_questioned_once(caplog):
    out = FrameAssembler("static")
    for frame in FRAMES:
        for topic, _, m in ros_messages(frame):
            if "depth" in topic:
                m.header.frame_id = "depth_optical"
                out.push_depth(messages.image(m))
            elif "image" in topic:
                m.header.frame_id = OPTICAL
                out.push_color(messages.image(m))
            elif hasattr(m, "k"):
                out.push_camera(messages.camera_model(m))
    out.flush()
    assert caplog.text.count("is it registered to colour?") == 1


def test_messages_of_rclpy_read_the_same():
    ros = pytest.importorskip("sensor_msgs.msg", exc_type=ImportError)
    image = ros.Image(height=2, width=3, encoding="mono8", step=3)
    image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id = 2, 5, "lens"
    image.data = bytes(range(6))
    got = messages.image(image)
    assert (got.stamp_ns, got.frame_id, got.height, got.width, got.step) == (2_000_000_005, "lens", 2, 3, 3)
    np.testing.assert_array_equal(got.data, np.arange(6))
    compressed = messages.image(ros.CompressedImage(format="jpeg", data=b"ab"))
    assert (compressed.format, compressed.data.tobytes()) == ("jpeg", b"ab")
    info = ros.CameraInfo(height=2, width=3, k=np.arange(9.0), d=[0.1, 0.2], distortion_model="plumb_bob")
    camera = messages.camera_model(info)
    np.testing.assert_array_equal(camera.K, np.arange(9.0).reshape(3, 3))
    np.testing.assert_array_equal(camera.distortion, [0.1, 0.2])
