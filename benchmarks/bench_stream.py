"""Play a bag through reconstruct_node: how soon joints come, how right they are, and what they cost.

``python benchmarks/bench_stream.py CLIP...`` plays recordings with ground truth; without any, the clip of the demo.
Times count from the moment the true joint has moved 5 degrees (1.5 cm), and from the last frame; processor time is the
node's own since the clip began.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "test")]

from bench_nodes import TRANSPORT
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from ros_harness import Graph, Process, graph
from std_msgs.msg import String

from art_perception.eval.metrics import axis_angle_deg
from art_perception.geometry.screw import line_distance
from art_perception.io.bag import GroundTruth, read_ground_truth
from art_perception.io.messages import stamp_ns
from art_perception.ros.inputs import latched
from art_perception.types import Joint, JointType
from art_perception.urdf.reader import load_urdf

ENOUGH = {JointType.REVOLUTE: np.deg2rad(5), JointType.PRISMATIC: 0.015}
PATIENCE_S = 120.0


def processor_s(process: Process) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def moved_ns(truth: GroundTruth) -> int:
    """Stamp at which some joint has moved enough."""
    joints = {joint.name: joint.type for joint in load_urdf(truth.robot_description, load_meshes=False).joints}
    need = np.array([ENOUGH[joints[name]] for name in truth.joint_names])
    moved = (np.abs(truth.positions - truth.positions[0]) >= need).any(1)
    return int(truth.stamps_ns[moved.argmax()])


def error(joint: Joint, truths: tuple[Joint, ...]) -> str:
    """Error against the most similar true joint."""
    best = min(truths, key=lambda t: axis_angle_deg(joint.axis, t.axis) + (90 if t.type is not joint.type else 0))
    off = f", {100 * line_distance(joint.origin, best.origin, best.axis):.1f} cm" if joint.type is best.type else ""
    return (
        f"{joint.name} {joint.type.value} {axis_angle_deg(joint.axis, best.axis):.1f} deg{off} ({joint.confidence:.2f})"
    )


def measure(ros: Graph, bag: Path, rate: float) -> None:
    """Play one clip and print a line per published estimate."""
    truth = read_ground_truth(bag)
    node = ros.start("reconstruct", {}, env=TRANSPORT)
    poses = ros.listen("/camera/pose", PoseStamped)
    health = ros.listen("/diagnostics", DiagnosticArray)
    found = ros.listen("/robot_description", String, latched())
    ros.until(lambda: ros.node.count_subscribers("/camera/pose") == 2, 60, "the node")
    ros.play(bag, rate=rate)
    ros.until(lambda: poses, 60, "the clip")
    before_s, cost = processor_s(node), []
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s and not (ros.folder / "urdf_out" / "object" / "report.html").exists():
        cost += [processor_s(node) - before_s] * (len(found) - len(cost))
        time.sleep(0.02)
    time.sleep(1.0)
    cost += [processor_s(node) - before_s] * (len(found) - len(cost))
    sent = {stamp_ns(m.header): t for t, m in poses}
    moved_s, last_s = sent[moved_ns(truth)], max(sent.values())
    truths = load_urdf(truth.robot_description, load_meshes=False).joints
    for (arrived_s, text), cpu_s in zip(found, cost, strict=True):
        joints = "; ".join(error(joint, truths) for joint in load_urdf(text.data).joints)
        print(
            f"{arrived_s - moved_s:6.1f} s after the motion, {arrived_s - last_s:6.1f} s after the last frame, ", end=""
        )
        print(f"{cpu_s:5.1f} s of processor time: {joints}")
    if not found:
        print({s.message for _, m in health for s in m.status})
    node.stop()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bags", nargs="*", type=Path, default=[files("art_perception") / "data_files" / "laptop.mcap"])
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the player")
    args = parser.parse_args()
    for bag in args.bags:
        print(bag)
        with tempfile.TemporaryDirectory() as folder, graph(Path(folder)) as ros:
            measure(ros, bag, args.rate)


if __name__ == "__main__":
    main()
