"""Loop a bag through both nodes and watch memory, threads and open files: ``bench_soak.py --bag CLIP --minutes 30``.

Prints one line per sample and a verdict: growth of each number from the end of the warm-up to the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "test")]

import numpy as np
from ros_harness import ROOT, Graph, Process, graph
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from art_perception.io.bag import read_ground_truth

PERIOD_S = 10.0
RESET_EVERY = 6  # samples; otherwise the reconstruction rests on its first result
WARM_UP = 0.2  # share of the run
TRANSPORT = {
    name: str(ROOT / "config" / "fastdds_large_data.xml")
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
}


def sample(processes: dict[str, Process]) -> list[float]:
    """Memory (MiB), threads and open files of each process."""
    numbers: list[float] = []
    for process in processes.values():
        numbers += [process.memory_mib(), process.threads(), process.files()]
    return numbers


def start(ros: Graph, bag: Path) -> dict[str, Process]:
    """Both nodes and the player; the tracker follows the bag's true object when there is one."""
    truth = read_ground_truth(bag)
    track: dict[str, object] = {"use_sim_time": True}
    if truth is not None:
        (ros.folder / "truth.urdf").write_text(truth.robot_description)
        track["urdf"] = ros.folder / "truth.urdf"
    apart = {"robot_description": "found"}
    return {
        "reconstruct": ros.start("reconstruct", {"use_sim_time": True}, remaps=apart, env=TRANSPORT),
        "track": ros.start("track", track, env=TRANSPORT),
        "replay": ros.start("replay", {"bag": bag.resolve(), "loop": True}, env=TRANSPORT),
    }


def watch(ros: Graph, processes: dict[str, Process], minutes: float) -> np.ndarray:
    """Sample until the time is up or a process dies; rows of :func:`sample`."""
    states = ros.listen("/joint_states", JointState)
    rows, end = [], time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        time.sleep(PERIOD_S)
        dead = [name for name, process in processes.items() if process.popen.poll() is not None]
        if dead:
            raise SystemExit(f"{', '.join(dead)} died:\n" + "\n".join(processes[name].output[-2000:] for name in dead))
        rows.append(sample(processes))
        print(f"{len(rows) * PERIOD_S:6.0f} s", *(f"{v:7.0f}" for v in rows[-1]), f"{len(states)} states", flush=True)
        states.clear()
        if len(rows) % RESET_EVERY == 0:
            ros.call("/reconstruct/reset", Trigger, Trigger.Request())
    return np.array(rows)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, graph(Path(folder)) as ros:
        processes = start(ros, args.bag)
        rows = watch(ros, processes, args.minutes)
        settled = rows[int(WARM_UP * len(rows)) :]
        tail = max(1, len(settled) // 5)
        growth = np.median(settled[-tail:], 0) - np.median(settled[:tail], 0)
        for k, name in enumerate(processes):
            memory, threads, files = growth[3 * k : 3 * k + 3]
            print(f"{name}: memory {memory:+.1f} MiB, threads {threads:+.1f}, files {files:+.1f}")
        print("exit codes after SIGINT:", [process.stop() for process in processes.values()])


if __name__ == "__main__":
    main()
