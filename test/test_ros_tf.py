"""TF in and out; needs tf2_msgs, which a ROS installation has and the rclpy wheels do not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not on PyPI; comes with a ROS installation")

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from ros_harness import graph
from sensor_msgs.msg import JointState
from tf2_msgs.msg import TFMessage

from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.geometry.lie import exp_se3, inverse
from art_perception.io import messages
from art_perception.io.bag_writer import CAMERA_FRAME, BagWriter
from art_perception.ros import convert
from art_perception.ros.inputs import latched
from art_perception.urdf.reader import load_urdf

T_BODY_CAMERA = exp_se3(np.array([0.1, 0.0, 0.3, 0.5, -1.2, 0.4]))
FRAMES = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "laptop"
    made = simulate(make_object("laptop", 1), SimulateConfig(frames=FRAMES, rate_hz=20.0, width=160, height=120), 0)
    with BagWriter(path, color="rgb8", depth="16UC1") as bag:
        for sample in made:
            bag.write(sample.frame)
    (path / "truth.urdf").write_text(made.robot_description)
    return path


@pytest.fixture
def ros(tmp_path):
    with graph(tmp_path) as made:
        yield made


def relay_as_tf(ros):
    """Publish the recorded camera pose as world -> odom -> camera, the first one static."""
    static = ros.node.create_publisher(TFMessage, "/tf_static", latched())
    static.publish(TFMessage(transforms=[convert.transform(0, "world", "odom", T_BODY_CAMERA)]))
    tf = ros.node.create_publisher(TFMessage, "/tf", 100)

    def relay(message: PoseStamped) -> None:
        T = inverse(T_BODY_CAMERA) @ messages.pose(message.pose)
        stamped = convert.transform(messages.stamp_ns(message.header), "odom", CAMERA_FRAME, T)
        tf.publish(TFMessage(transforms=[stamped]))

    ros.node.create_subscription(PoseStamped, "/camera/pose", relay, 100)
    return tf


def relay_as_odometry(ros):
    """Publish the recorded camera pose as that of a robot body that carries the camera."""
    static = ros.node.create_publisher(TFMessage, "/tf_static", latched())
    static.publish(TFMessage(transforms=[convert.transform(0, "body", CAMERA_FRAME, T_BODY_CAMERA)]))
    odometry = ros.node.create_publisher(Odometry, "/odom", 100)

    def relay(message: PoseStamped) -> None:
        T = messages.pose(message.pose) @ inverse(T_BODY_CAMERA)
        t = convert.transform(0, "world", "body", T).transform
        out = Odometry(header=message.header, child_frame_id="body")
        p, q = out.pose.pose.position, t.translation
        p.x, p.y, p.z = q.x, q.y, q.z
        out.pose.pose.orientation = t.rotation
        odometry.publish(out)

    ros.node.create_subscription(PoseStamped, "/camera/pose", relay, 100)
    return odometry


def play(ros, clip, params, relay=None):
    states = ros.listen("/joint_states", JointState)
    track = ros.start("track", {"urdf": clip / "truth.urdf", "tracking.estimate_base": "never", **params})
    ros.until(lambda: ros.node.count_subscribers("/camera/color/image_raw"), 60, "the tracker")
    ros.until(lambda: relay is None or relay.get_subscription_count(), 10, "the tracker to hear the relay")
    ros.play(clip).wait(60)
    ros.until(lambda: len(states) >= FRAMES, 10, "all states")
    return track, states


def test_link_frames_follow_the_joints(ros, clip):
    heard = ros.listen("/tf", TFMessage)
    track, states = play(ros, clip, {})
    obj = load_urdf(clip / "truth.urdf")
    ros.until(lambda: len(heard) >= FRAMES, 5, "transforms")
    for (_, state), (_, message) in zip(states, heard, strict=True):
        edges = {t.child_frame_id: t for t in message.transforms}
        assert [messages.stamp_ns(t.header) for t in message.transforms] == [messages.stamp_ns(state.header)] * 2
        assert edges["base"].header.frame_id == "world"
        T_base, T_part = (messages.transform(edges[name].transform) for name in ("base", "part_1"))
        np.testing.assert_allclose(T_base, obj.T_world_base, atol=1e-9)
        D = displacements(chain_of(obj.joints), np.array(state.position))[0]
        rest = T_base @ T_part
        np.testing.assert_allclose(inverse(D) @ rest, first_rest(obj), atol=1e-6)
    assert track.stop() == 0


def first_rest(obj):
    """Pose of the part's link at rest: the base's orientation at the joint."""
    T = obj.T_world_base.copy()
    T[:3, 3] = obj.joints[0].origin
    return T


@pytest.mark.parametrize(
    ("relay", "params"),
    [(relay_as_tf, {"pose_source": "tf", "fixed_frame": "world"}), (relay_as_odometry, {"pose_source": "odom"})],
    ids=["tf", "odom"],
)
def test_other_sources_of_the_camera_pose_give_the_same_states(ros, clip, relay, params):
    track, states = play(ros, clip, params, relay(ros))
    through_relay = [list(m.position) for _, m in states]
    assert track.stop() == 0
    states.clear()
    play(ros, clip, {})
    np.testing.assert_allclose([list(m.position) for _, m in states], through_relay, atol=1e-3)
