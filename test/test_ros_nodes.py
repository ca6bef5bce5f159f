"""The nodes as processes, started exactly as ros2 launch starts them."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_harness import Graph, graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.estimation.tracking import BaseMotion, Tracker, TrackingConfig
from art_perception.io.bag import BagWriter, read_frames, read_ground_truth
from art_perception.io.messages import stamp_ns
from art_perception.ros.inputs import latched
from art_perception.urdf.reader import load_urdf

COLOR = "/camera/color/image_raw"
STILL = {"tracking.estimate_base": "never"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A laptop being opened: 24 small frames in 1.2 s, and its true URDF beside the bag."""
    path = tmp_path_factory.mktemp("clip") / "laptop"
    made = simulate(make_object("laptop", 1), SimulateConfig(frames=24, rate_hz=20.0, width=160, height=120), 0)
    with BagWriter(
        path, color="rgb8", depth="16UC1", robot_description=made.robot_description, joint_names=made.joint_names
    ) as bag:
        for sample in made:
            bag.write(sample.frame, sample.part_ids, sample.q)
    (path / "truth.urdf").write_text(made.robot_description)
    return path


@pytest.fixture
def ros(tmp_path):
    with graph(tmp_path) as made:
        yield made


def said(ros: Graph, text: str, timeout_s: float = 30.0) -> str:
    """Wait until some diagnostic message contains ``text``."""
    heard = ros.received.get("/diagnostics") or ros.listen("/diagnostics", DiagnosticArray)

    def find() -> str:
        messages = [s.message for _, m in heard[-20:] for s in m.status]
        return next((m for m in messages if text in m), "")

    return ros.until(find, timeout_s, f"a diagnostic with '{text}'")


def value(ros: Graph, key: str) -> str:
    """Newest value of a diagnostic key."""
    heard = ros.received["/diagnostics"]
    return next((v.value for _, m in reversed(heard) for s in m.status for v in s.values if v.key == key), "")


def wait_for_tracker(ros: Graph) -> None:
    ros.until(lambda: ros.node.count_subscribers(COLOR) > 0, 60, "the tracker to listen")


def test_one_state_per_image_with_its_stamp(ros, clip):
    truth = read_ground_truth(clip)
    states = ros.listen("/kitchen/joint_states", JointState)
    track = ros.start("track", {"urdf": clip / "truth.urdf", **STILL}, namespace="/kitchen")
    wait_for_tracker(ros)
    assert ros.play(clip).wait(60) == 0
    ros.until(lambda: len(states) >= len(truth.stamps_ns), 10, "all states")
    assert [stamp_ns(m.header) for _, m in states] == truth.stamps_ns.tolist()
    assert {tuple(m.name) for _, m in states} == {truth.joint_names}
    np.testing.assert_allclose([m.position for _, m in states], tracked_offline(clip), atol=1e-9)
    late = ros.listen("/kitchen/robot_description", String, latched())
    ros.until(lambda: late, 10, "the description for a late joiner")
    assert "laptop_1" in late[0][1].data
    assert track.stop() == 0
    assert "Traceback" not in track.output


def tracked_offline(clip: Path) -> np.ndarray:
    tracker = Tracker(load_urdf(clip / "truth.urdf"), TrackingConfig(estimate_base=BaseMotion.NEVER))
    return np.array([tracker.update(replace(frame, mask=None)).q for frame in read_frames(clip)])


def test_tracker_takes_the_description_from_the_topic(ros, clip):
    states = ros.listen("/joint_states", JointState)
    track = ros.start("track", STILL)
    heard = said(ros, "waiting for: /robot_description; publishers 0")
    assert "transient local" in heard
    publisher = ros.node.create_publisher(String, "/robot_description", latched())
    publisher.publish(String(data="<robot name='broken'>"))
    assert "XML" in said(ros, "robot_description cannot be used")
    publisher.publish(String(data=(clip / "truth.urdf").read_text()))
    wait_for_tracker(ros)
    ros.play(clip)
    ros.until(lambda: len(states) >= 20, 30, "states")
    assert track.stop() == 0


def test_a_bag_loop_starts_over(ros, clip):
    states = ros.listen("/joint_states", JointState)
    track = ros.start("track", {"urdf": clip / "truth.urdf", "use_sim_time": True, **STILL})
    clock = ros.listen("/clock", Clock)
    wait_for_tracker(ros)
    ros.play(clip, loop=True, rate=1.0)
    ros.until(lambda: len(states) >= 3 * 24, 60, "three rounds")
    stamps = [stamp_ns(m.header) for _, m in states]
    jumps = [i for i in range(1, len(stamps)) if stamps[i] < stamps[i - 1]]
    assert len(jumps) >= 2
    assert jumps[1] - jumps[0] >= 22, "frames were lost where the bag starts over"
    said(ros, "receiving frames")
    ros.until(lambda: int(value(ros, "time jumps") or 0) >= 2, 10, "time jumps in the diagnostics")
    times_s = np.array([m.clock.sec + m.clock.nanosec * 1e-9 for _, m in clock])
    assert (np.diff(times_s) < -1).sum() >= 2
    assert track.stop() == 0


def test_diagnostics_name_what_is_missing(ros, clip):
    track = ros.start("track", {"urdf": clip / "truth.urdf"})
    heard = said(ros, "waiting for: colour on /camera/color/image_raw; publishers 0; QoS reliable")
    assert all(name in heard for name in ("depth on", "camera_info on", "camera pose on"))
    color = ros.node.create_publisher(Image, COLOR, 10)
    info = ros.node.create_publisher(CameraInfo, "/camera/color/camera_info", 10)
    timer = ros.node.create_timer(0.05, lambda: [color.publish(image(ros)), info.publish(CameraInfo())])
    heard = said(ros, "waiting for: depth on /camera/aligned_depth_to_color/image_raw; publishers 0")
    assert "colour" not in heard
    assert "camera pose on" in heard
    timer.cancel()
    assert track.stop() == 0


def image(ros: Graph) -> Image:
    message = Image(height=2, width=2, encoding="rgb8", step=6)
    message.data.frombytes(bytes(12))
    message.header.stamp = ros.node.get_clock().now().to_msg()
    return message


BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def test_auto_listens_to_best_effort_publishers(ros, clip):
    ros.start("track", {"urdf": clip / "truth.urdf"})
    wait_for_tracker(ros)
    color = ros.node.create_publisher(Image, COLOR, BEST_EFFORT)
    ros.node.create_timer(0.05, lambda: color.publish(image(ros)))
    said(ros, "waiting for: depth")
    ros.until(lambda: int(value(ros, "colour images in") or 0) > 3, 10, "colour images")


def test_incompatible_quality_of_service_is_an_error(ros, clip):
    ros.start("track", {"urdf": clip / "truth.urdf", "reliability": "reliable"})
    wait_for_tracker(ros)
    ros.node.create_publisher(Image, COLOR, BEST_EFFORT)
    assert "set reliability to auto" in said(ros, "incompatible QoS")


BAD_STARTS = [
    ("track", {"urdf": "/nowhere/object.urdf"}, "cannot read the URDF"),
    ("track", {"pose_source": "gps"}, "choose one of topic, odom, tf, static"),
    ("track", {"pose_source": "tf"}, "without a fixed frame"),
    ("track", {"tracking.gate_m": 1}, "a float is written 5.0"),
    ("reconstruct", {"idle_s": 0.0}, "out of bounds"),
    ("replay", {}, "no recording given"),
    ("replay", {"bag": "/nowhere/bag"}, "does not exist"),
]


@pytest.mark.parametrize(("name", "params", "reason"), BAD_STARTS, ids=[b[2][:20] for b in BAD_STARTS])
def test_a_bad_start_gives_one_sentence_and_exit_code_2(ros, name, params, reason):
    process = ros.start(name, params)
    assert process.wait(60) == 2
    lines = [line for line in process.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert reason in lines[0]
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: re.sub(r"<limit [^>]*>", "", text), "has no <limit>"),
        (lambda text: re.sub(r"<box [^>]*>", '<mesh filename="gone.obj"/>', text), "needs the mesh 'gone.obj'"),
    ],
    ids=["no limits", "missing mesh"],
)
def test_a_bad_urdf_is_refused(ros, clip, tmp_path, edit, reason):
    urdf = tmp_path / "bad.urdf"
    urdf.write_text(edit((clip / "truth.urdf").read_text()))
    process = ros.start("track", {"urdf": urdf})
    assert process.wait(60) == 2
    assert reason in process.output


@pytest.mark.parametrize("name", ["reconstruct", "track", "replay"])
def test_sigint_ends_an_idle_node(ros, name, clip):
    process = ros.start(name, {"bag": clip} if name == "replay" else {})
    ros.until(lambda: name in ros.node.get_node_names(), 60, "the node")
    time.sleep(0.5)
    assert process.stop() == 0
    assert "Traceback" not in process.output


def test_sigterm_ends_a_node(ros):
    process = ros.start("track")
    ros.until(lambda: "track" in ros.node.get_node_names(), 60, "the node")
    time.sleep(0.5)
    process.popen.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


def test_robot_state_publisher_is_given_the_description(ros, clip):
    """It starts with a placeholder, as in the launch file, and refuses an empty description."""
    stand_in = ros.add_node("robot_state_publisher")
    stand_in.declare_parameter("robot_description", "<robot name='unknown'><link name='world'/></robot>")
    ros.start("track", {"urdf": clip / "truth.urdf", "robot_state_publisher": "robot_state_publisher"})

    def current() -> str:
        return stand_in.get_parameter("robot_description").value

    ros.until(lambda: "laptop_1" in current(), 30, "the description")
    assert ros.node.count_publishers("/tf") == 0
