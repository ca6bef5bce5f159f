"""The pieces of the nodes that need no running node."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSReliabilityPolicy
from ros_harness import next_domain

from art_perception.bounds import bounded
from art_perception.errors import ArtPerceptionError
from art_perception.estimation.tracking import TrackingConfig
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.geometry.lie import exp_se3, matrix_from_quaternion
from art_perception.io.topics import Topics
from art_perception.pipeline import Config
from art_perception.ros import convert
from art_perception.ros.camera import InputConfig
from art_perception.ros.diagnostics import LatencyMeter, RateMeter
from art_perception.ros.inputs import choose_reliability
from art_perception.ros.link_frames import read_link_frames
from art_perception.ros.params import declare_config, field_descriptions, parameter_names
from art_perception.ros.publishers import with_absolute_meshes
from art_perception.ros.reconstruct_node import ReconstructNodeConfig
from art_perception.ros.replay_node import ReplayNodeConfig
from art_perception.ros.track_node import TrackNodeConfig
from art_perception.ros.worker import Worker
from art_perception.urdf.reader import load_urdf

CONFIGS = (Config, TrackingConfig, Topics, InputConfig, ReconstructNodeConfig, TrackNodeConfig, ReplayNodeConfig)

TREE = """<robot name="cabinet"><link name="map"/><link name="base"/><link name="door"/><link name="drawer"/>
<joint name="placed" type="fixed"><parent link="map"/><child link="base"/><origin xyz="1 2 0" rpy="0.1 -0.2 1.2"/>
</joint>
<joint name="hinge" type="revolute"><parent link="base"/><child link="door"/><origin xyz="0.3 0 0.1" rpy="0 0.4 0"/>
<axis xyz="0 1 1"/><limit lower="0" upper="2" effort="1" velocity="1"/></joint>
<joint name="slide" type="prismatic"><parent link="door"/><child link="drawer"/><origin xyz="0 0.2 0" rpy="0.5 0 0"/>
<axis xyz="0 0 -1"/><limit lower="0" upper="1" effort="1" velocity="1"/></joint></robot>"""


@pytest.fixture(autouse=True)
def check_fields(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")


# ---- messages


def test_point_cloud_reads_back():
    rng = np.random.default_rng(0)
    points, colors = rng.normal(size=(50, 3)), rng.integers(0, 256, (50, 3), np.uint8)
    part = rng.integers(0, 4, 50)
    cloud = convert.point_cloud(convert.header(5_000_000_007, "map"), points, colors, part)
    offsets = {f.name: f.offset for f in cloud.fields}
    assert list(offsets) == ["x", "y", "z", "rgb", "part"]
    rows = np.frombuffer(cloud.data, np.uint8).reshape(cloud.width, cloud.point_step)
    xyz = rows[:, :12].copy().view("<f4")
    np.testing.assert_allclose(xyz, points, rtol=1e-6)
    blue_green_red = rows[:, offsets["rgb"] : offsets["rgb"] + 3]
    np.testing.assert_array_equal(blue_green_red[:, ::-1], colors)
    np.testing.assert_array_equal(rows[:, offsets["part"]], part)
    assert (cloud.header.stamp.sec, cloud.header.stamp.nanosec) == (5, 7)


def test_an_empty_point_cloud_is_a_message():
    cloud = convert.point_cloud(convert.header(0, "map"), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0))
    assert cloud.width == 0
    assert len(cloud.data) == 0


def test_transform_reads_back():
    T = exp_se3(np.array([0.1, -2.0, 3.0, 0.4, -1.0, 2.0]))
    t = convert.transform(1, "map", "base", T).transform
    q = np.array([t.rotation.w, t.rotation.x, t.rotation.y, t.rotation.z])
    np.testing.assert_allclose(matrix_from_quaternion(q), T[:3, :3], atol=1e-12)
    np.testing.assert_allclose([t.translation.x, t.translation.y, t.translation.z], T[:3, 3])


def test_mesh_paths_become_absolute(tmp_path):
    text = '<mesh filename="meshes/a.obj"/><mesh filename="/b.obj"/><mesh filename="package://p/c.obj"/>'
    out = with_absolute_meshes(text, tmp_path)
    assert f'filename="file://{tmp_path}/meshes/a.obj"' in out
    assert '"/b.obj"' in out
    assert '"package://p/c.obj"' in out


# ---- link frames


@pytest.mark.parametrize("fixed_frame", ["map", "odom"])
def test_link_frames_agree_with_the_reader(fixed_frame):
    """Chaining the published edges moves each part as product-of-exponentials kinematics does."""
    obj = load_urdf(TREE, load_meshes=False)
    frames = read_link_frames(TREE, "base", fixed_frame)
    q = np.array([0.7, 0.3])
    T_base = exp_se3(np.array([0.2, 0, 0.1, 0, 0.3, 0])) @ obj.T_world_base
    at_rest = compose(frames, [0.0, 0.0], obj.T_world_base, fixed_frame)
    moved = compose(frames, q, T_base, fixed_frame)
    D = displacements(chain_of(obj.joints), q)
    shift = T_base @ np.linalg.inv(obj.T_world_base)
    for k, joint in enumerate(obj.joints):
        np.testing.assert_allclose(moved[joint.child], shift @ D[k] @ at_rest[joint.child], atol=1e-9)
    np.testing.assert_allclose(moved["base"], T_base, atol=1e-9)


def compose(frames, q, T_world_base, fixed_frame):
    edges = frames.static() + frames.moving(dict(zip(("hinge", "slide"), q, strict=True)), T_world_base)
    poses, waiting = {fixed_frame: np.eye(4)}, list(edges)
    while waiting:
        parent, child, T = next(e for e in waiting if e[0] in poses)
        poses[child] = poses[parent] @ T
        waiting = [e for e in waiting if e[1] != child]
    return poses


# ---- worker


def test_latest_only_slot_drops_and_counts():
    started, go, done = threading.Event(), threading.Event(), []

    def handle(item: int) -> None:
        started.set()
        go.wait(5)
        done.append(item)

    worker = Worker(handle, capacity=1, name="w")
    worker.submit(0)
    started.wait(5)
    assert [worker.submit(i) for i in (1, 2, 3)] == [None, 1, 2]
    go.set()
    wait_until(lambda: worker.idle)
    assert done == [0, 3]
    assert worker.dropped == 2
    assert worker.close()


def test_queue_keeps_order_and_loses_nothing():
    done: list[int] = []
    worker = Worker(done.append, capacity=100, name="w")
    for i in range(100):
        worker.submit(i)
    wait_until(lambda: worker.idle)
    assert done == list(range(100))
    assert worker.dropped == 0
    worker.close()


def test_a_failure_reaches_the_main_thread():
    def handle(_: int) -> None:
        raise ZeroDivisionError

    worker = Worker(handle, capacity=1, name="w")
    worker.submit(1)
    wait_until(lambda: not worker._thread.is_alive())
    with pytest.raises(ZeroDivisionError):
        worker.raise_failure()


def wait_until(condition, timeout_s: float = 5.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_meters_are_read_while_they_are_written():
    rate, latency, stop = RateMeter(), LatencyMeter(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            rate.tick()
            latency.add(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            assert rate.hz >= 0
            assert latency.text() in ("none", "10.0 / 10.0 ms")
    finally:
        stop.set()
        writer.join()


# ---- quality of service


def test_auto_takes_what_every_publisher_offers():
    reliable, best_effort = QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT
    assert choose_reliability("auto", [reliable, reliable]) is reliable
    assert choose_reliability("auto", [reliable, best_effort]) is best_effort
    assert choose_reliability("auto", []) is reliable
    assert choose_reliability("reliable", [best_effort]) is reliable
    assert choose_reliability("best_effort", [reliable]) is best_effort


# ---- parameters


class Mode(str, Enum):
    SLOW = "slow"
    FAST = "fast"


@dataclass(frozen=True)
class Inner:
    """Inner."""

    gain: float = field(default=0.5, metadata={"bounds": (0.0, 1.0)})
    """How much."""


@dataclass(frozen=True)
class Outer:
    """Outer."""

    inner: Inner = field(default_factory=Inner)
    count: int = 3
    """How many
    of them."""
    kind: Literal["a", "b"] = "a"
    """Which."""
    mode: Mode = Mode.SLOW
    """Pace."""
    box: tuple[int, ...] = bounded((1, 2), 0, 9)
    """Pixels."""


@pytest.fixture
def make_node():
    context = Context()
    context.init(domain_id=next_domain())
    nodes = []

    def make(**overrides) -> Node:
        parameters = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
        nodes.append(Node("test", context=context, parameter_overrides=parameters))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def test_defaults_come_from_the_dataclass(make_node):
    assert declare_config(make_node(), Outer) == Outer()


def test_overrides_and_descriptions(make_node):
    node = make_node(inner__gain=0.25, count=7, kind="b", mode="fast", box=[5, 6])
    config = declare_config(node, Outer)
    assert config == Outer(Inner(0.25), 7, "b", Mode.FAST, (5, 6))
    assert node.describe_parameter("count").description == "How many of them."
    bounds = node.describe_parameter("inner.gain").floating_point_range[0]
    assert (bounds.from_value, bounds.to_value) == (0.0, 1.0)
    assert node.describe_parameter("kind").read_only


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"inner__gain": 1}, "inner.gain has the wrong type"),
        ({"inner__gain": 2.0}, "inner.gain is out of bounds"),
        ({"inner__gain": float("nan")}, "inner.gain is out of bounds"),
        ({"box": [5, 10]}, "box is 10: give 0 to 9"),
        ({"kind": "c"}, "choose one of a, b"),
        ({"mode": "x"}, "choose one of slow, fast"),
    ],
)
def test_bad_values_are_named(make_node, override, said):
    with pytest.raises(ArtPerceptionError, match=said):
        declare_config(make_node(**override), Outer)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_parameter_of_the_nodes_has_a_description(make_node, config):
    node = make_node()
    assert declare_config(node, config) == config()
    for name in parameter_names(config):
        assert node.describe_parameter(name).description, f"{config.__name__}.{name} has no docstring"


def test_descriptions_are_read_from_the_source():
    assert field_descriptions(Inner) == {"gain": "How much."}
