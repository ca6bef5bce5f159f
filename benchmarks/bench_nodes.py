"""Play a bag at 30 Hz through track_node: frames lost, and the time from image to joint_states.

``python benchmarks/bench_nodes.py --bag CLIP`` uses a recording with ground truth; without it a clip is simulated.
The image's arrival is taken from the camera pose of the same stamp, which is published just before it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "test")]

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from ros_harness import ROOT, Graph, graph
from sensor_msgs.msg import JointState

from art_perception.data.objects import make_object
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.io.bag import BagWriter, bag_info, read_ground_truth
from art_perception.io.messages import stamp_ns

SETTLE_S = 3.0
TRANSPORT = {
    name: str(ROOT / "config" / "fastdds_large_data.xml")
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
}


def simulate_bag(path: Path, frames: int) -> None:
    """Render a laptop being opened, 640x480 at 30 Hz, uncompressed."""
    clip = simulate(make_object("laptop", 1), SimulateConfig(frames=frames, rate_hz=30.0), 0)
    truth = {"robot_description": clip.robot_description, "joint_names": clip.joint_names}
    with BagWriter(path, color="rgb8", depth="16UC1", **truth) as bag:
        for sample in clip:
            bag.write(sample.frame, sample.part_ids, sample.q)


def measure(ros: Graph, bag: Path, env: dict[str, str], with_reconstruct: bool) -> None:
    """Run the nodes once and print one line per number."""
    truth = read_ground_truth(bag)
    urdf = ros.folder / "truth.urdf"
    urdf.write_text(truth.robot_description)
    states, poses = ros.listen("/joint_states", JointState), ros.listen("/camera/pose", PoseStamped)
    health = ros.listen("/diagnostics", DiagnosticArray)
    ros.start("track", {"urdf": urdf, "tracking.estimate_base": "never"}, env=env)
    nodes = 1 + with_reconstruct
    if with_reconstruct:
        ros.start("reconstruct", {"idle_s": 0.5}, remaps={"robot_description": "found"}, env=env)
    ros.until(lambda: ros.node.count_subscribers("/camera/pose") == 1 + nodes, 60, "the nodes")
    ros.start("replay", {"bag": bag, "min_subscribers": 1 + nodes}, env=env).wait(600)
    time.sleep(SETTLE_S)
    report(states, poses, truth, bag_info(bag).frame_count)
    for status in health[-1][1].status:
        print(f"{status.name}: {status.message}", {v.key: v.value for v in status.values})
    print(f"exit code of track_node after SIGINT: {ros.processes[0].stop()}")


def report(states: list, poses: list, truth: object, frames: int) -> None:
    """Print losses, latency and error against the truth."""
    sent = {stamp_ns(m.header): t for t, m in poses}
    got = {stamp_ns(m.header): (t, m.position[0]) for t, m in states}
    latency_ms = [1e3 * (t - sent[s]) for s, (t, _) in got.items() if s in sent]
    true_q = dict(zip(truth.stamps_ns.tolist(), truth.positions[:, 0], strict=True))
    error_deg = np.degrees([abs(q - true_q[s]) for s, (_, q) in got.items()])
    missing = [i for i, s in enumerate(truth.stamps_ns.tolist()) if s not in got]
    print("missing frames:", missing)
    print(f"frames {frames}, states {len(got)}, lost {frames - len(got)}")
    print("image to joint_states p50 {:.1f} p99 {:.1f} max {:.1f} ms".format(*np.percentile(latency_ms, [50, 99, 100])))
    print("state error p50 {:.2f} max {:.2f} deg".format(*np.percentile(error_deg, [50, 100])))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path)
    parser.add_argument("--frames", type=int, default=150, help="length of the simulated clip")
    parser.add_argument("--default-transport", action="store_true", help="without config/fastdds_large_data.xml")
    parser.add_argument("--reconstruct", action="store_true", help="run reconstruct_node at the same time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bag = args.bag or Path(folder) / "clip"
        if args.bag is None:
            simulate_bag(bag, args.frames)
        with graph(Path(folder)) as ros:
            measure(ros, bag, {} if args.default_transport else TRANSPORT, args.reconstruct)


if __name__ == "__main__":
    main()
