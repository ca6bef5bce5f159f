"""reconstruct_node on the bundled clip: the same object as `art-perception run`, published and written."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from prior_tools import save_networks, untrained, view_of
from ros_harness import Graph, graph
from sensor_msgs.msg import JointState, PointCloud2
from shape_tools import slabs
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from art_perception.eval.metrics import axis_angle_deg
from art_perception.geometry.screw import line_distance
from art_perception.io.bag import BagWriter, read_frames, read_ground_truth
from art_perception.io.messages import stamp_ns
from art_perception.io.results import read_result
from art_perception.ros.inputs import latched
from art_perception.types import Joint, JointType
from art_perception.urdf.reader import load_urdf

SAMPLE = files("art_perception") / "data_files" / "laptop.mcap"


@pytest.fixture
def ros(tmp_path):
    with graph(tmp_path) as made:
        yield made


def start_reconstruction(ros: Graph, **params):
    process = ros.start("reconstruct", {"object": "my laptop", "use_sim_time": True, **params})
    topic = "/camera/color/image_raw"
    ros.until(lambda: ros.node.count_subscribers(topic), 60, "the node to listen")
    return process


def assert_same(found: Joint, expected: Joint) -> None:
    """Equal within 0.1 deg and 1 mm; the direction is that of the first estimate, so it may be the other one."""
    assert found.type is expected.type
    assert axis_angle_deg(found.axis, expected.axis) < 0.1
    if found.type is JointType.REVOLUTE:
        assert line_distance(found.origin, expected.origin, expected.axis) < 1e-3
    tolerance = np.radians(0.1) if found.type is JointType.REVOLUTE else 1e-3
    sign = np.sign(found.axis @ expected.axis)
    np.testing.assert_allclose(sorted(sign * np.array(found.limits)), expected.limits, atol=tolerance)


def test_the_node_finds_what_the_command_finds(ros, tmp_path, sample_run):
    process = start_reconstruction(ros, idle_s=600.0)  # no complete attempt of its own
    tracker = ros.start("track", {"use_sim_time": True})
    health = ros.listen("/diagnostics", DiagnosticArray)
    assert ros.play(SAMPLE).wait(120) == 0
    parts = ros.listen("/reconstruct/parts", PointCloud2, latched())
    markers = ros.listen("/reconstruct/markers", MarkerArray, latched())
    folder = tmp_path / "urdf_out" / "my_laptop"
    saved = ros.call("/reconstruct/save", Trigger, Trigger.Request(), 180)
    assert saved.success
    assert ros.call("/reconstruct/save", Trigger, Trigger.Request(), 5) == saved, "nothing new to reconstruct from"
    assert str(folder / "object.urdf") in saved.message
    description = ros.listen("/robot_description", String, latched())
    ros.until(lambda: description and parts and markers, 10, "the object, by late joiners")

    expected = sample_run.reconstruction.object.joints
    joints = read_result(folder).joints
    assert len(joints) == len(expected)
    for found, truth in zip(joints, expected, strict=True):
        assert_same(found, truth)
    assert {p.name for p in folder.iterdir()} >= {"object.urdf", "meshes", "result.json", "labels.npz", "report.html"}
    obj = load_urdf(description[0][1].data)
    assert all(len(part.visual.vertices) for part in obj.parts), "meshes resolve wherever the reader runs"
    assert parts[0][1].width > 500
    texts = [m.text for m in markers[0][1].markers if m.text]
    assert texts[0].startswith(f"{joints[0].name} {joints[0].type.value}")

    states = ros.listen("/joint_states", JointState)
    ros.until(lambda: ros.node.count_subscribers("/camera/pose") >= 2, 60, "the tracker")
    ros.play(SAMPLE)
    ros.until(lambda: len(states) > 5, 60, "joint states of the new object")
    assert list(states[0][1].name) == [joint.name for joint in joints]
    assert health
    assert [process.stop(), tracker.stop()] == [0, 0]


def halves(folder: Path) -> tuple[Path, Path]:
    """The sample as two recordings, so that however slow the machine is, the first may be done before the second."""
    frames = list(read_frames(SAMPLE))
    parts = {"begin": frames[:30], "end": frames[30:]}
    for name, part in parts.items():
        with BagWriter(folder / name) as bag:
            for frame in part:
                bag.write(frame)
    return folder / "begin", folder / "end"


def test_an_early_estimate_precedes_the_complete_one(ros, tmp_path):
    """It comes from a window that ends before the clip does; the complete one has its name and is no worse."""
    truth = read_ground_truth(SAMPLE)
    begin, end = halves(tmp_path)
    process = start_reconstruction(ros, idle_s=600.0)  # the camera may pause
    health = ros.listen("/diagnostics", DiagnosticArray)
    markers = ros.listen("/reconstruct/markers", MarkerArray, latched())
    descriptions = ros.listen("/robot_description", String, latched())
    ros.play(begin)
    ros.until(lambda: descriptions and markers, 120, "the early estimate")
    report = tmp_path / "urdf_out" / "my_laptop" / "report.html"
    assert not report.exists()
    assert ros.play(end).wait(60) == 0
    assert ros.call("/reconstruct/save", Trigger, Trigger.Request(), 180).success
    assert report.exists()
    ros.until(lambda: len(descriptions) > 1 and len(markers) > 1, 10, "the complete estimate's description")
    assert stamp_ns(markers[0][1].markers[1].header) < truth.stamps_ns[-1]
    (true_joint,) = load_urdf(truth.robot_description, load_meshes=False).joints
    (first,), *_, (last,) = (load_urdf(text.data).joints for _, text in descriptions)
    assert (first.name, first.child) == (last.name, last.child)
    assert first.axis @ last.axis > 0
    errors = [axis_angle_deg(joint.axis, true_joint.axis) for joint in (first, last)]
    assert errors[0] < 5
    assert errors[1] < min(errors[0] + 0.5, 2)
    assert line_distance(first.origin, true_joint.origin, true_joint.axis) < 0.05
    assert line_distance(last.origin, true_joint.origin, true_joint.axis) < 0.02
    assert any("collecting frames: seen" in s.message for _, m in health for s in m.status)
    assert process.stop() == 0, process.output


def test_services_and_a_clean_end_while_working(ros):
    process = start_reconstruction(ros, enabled=False)
    health = ros.listen("/diagnostics", DiagnosticArray)
    refused = ros.call("/reconstruct/save", Trigger, Trigger.Request())
    assert not refused.success
    assert "0 usable frames" in refused.message
    assert ros.call("/reconstruct/enable", SetBool, SetBool.Request(data=True)).success
    ros.play(SAMPLE)
    ros.until(lambda: any("working" in s.message for _, m in health for s in m.status), 120, "an attempt")
    assert ros.call("/reconstruct/reset", Trigger, Trigger.Request()).success
    assert process.stop() == 0, process.output
    assert "Traceback" not in process.output


def test_the_shape_prior_stands_in_until_something_has_moved(ros, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    save_networks(untrained(bulk=0.25), weights)
    still = view_of(slabs(), 5).clip.render(0).frame
    with BagWriter(tmp_path / "still") as bag:
        for i in range(12):
            bag.write(replace(still, stamp_ns=10**9 + i * 66_000_000), None, None)
    prior = {"category": "laptop", "weights": weights, "min_score": 0.0, "completion.voxels": 16}
    prior |= {"completion.pose.hypotheses": 4, "completion.latent.steps": 5, "completion.fit.rounds": 0}
    process = start_reconstruction(ros, **{f"prior.{name}": value for name, value in prior.items()})
    health = ros.listen("/diagnostics", DiagnosticArray)
    descriptions = ros.listen("/robot_description", String, latched())
    ros.play(tmp_path / "still")
    ros.until(lambda: descriptions, 120, "the prior's object")
    folder = tmp_path / "urdf_out" / "my_laptop"
    assert read_result(folder).prior.used == "all"
    assert not read_result(folder).joints[0].valid
    ros.until(lambda: any("guess" in s.message for _, m in health for s in m.status), 30, "diagnostics to say so")
    ros.play(SAMPLE)
    ros.until(lambda: read_result(folder).prior.used == "none", 240, "a measurement in its place")
    assert read_result(folder).joints[0].valid
    assert process.stop() == 0, process.output
