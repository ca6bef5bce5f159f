"""Start nodes as ros2 launch does and listen to them, each test in a ROS domain of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo

ROOT = Path(__file__).parents[1]
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_domains = itertools.count(os.getppid())  # of all workers, one process


def next_domain() -> int:
    """A ROS domain id, odd or even by worker; those above 101 collide with ephemeral ports on Linux."""
    return 1 + (2 * next(_domains) + _worker) % 100


def command(
    name: str, params: Mapping[str, Any], remaps: Mapping[str, str], namespace: str, file: Path | None
) -> list[str]:
    """What ros2 launch would run for the node ``name``_node."""
    args = [sys.executable, "-m", f"art_perception.ros.{name}_node", "--ros-args", "-r", f"__node:={name}"]
    if namespace:
        args += ["-r", f"__ns:={namespace}"]
    if file:
        args += ["--params-file", str(file)]
    for key, value in params.items():
        args += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
    for old, new in remaps.items():
        args += ["-r", f"{old}:={new}"]
    return args


class Process:
    """A node in a process of its own; its output goes to a file."""

    def __init__(self, args: list[str], domain: int, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_PYTHON_CHECK_FIELDS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **(env or {}),
        }
        with log.open("w") as out:
            self.popen = subprocess.Popen(args, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=log.parent)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGINT, as ros2 launch and Ctrl-C send; returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.popen.pid}/task").iterdir()))

    def files(self) -> int:
        return len(list(Path(f"/proc/{self.popen.pid}/fd").iterdir()))

    def memory_mib(self) -> float:
        return int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1]) * 4096 / 2**20


class Graph:
    """One ROS domain: processes under test and a listening node."""

    def __init__(self, folder: Path) -> None:
        self.domain = next_domain()
        self.folder = folder
        self.processes: list[Process] = []
        self.received: dict[str, list[tuple[float, Any]]] = {}
        self._context = Context()
        self._context.init(domain_id=self.domain)
        self._executor = SingleThreadedExecutor(context=self._context)
        self.node = self.add_node("listener")
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def add_node(self, name: str) -> Node:
        """One more node in this process."""
        node = Node(name, context=self._context)
        self._executor.add_node(node)
        return node

    def start(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        remaps: Mapping[str, str] | None = None,
        namespace: str = "",
        file: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        log = self.folder / f"{name}_{len(self.processes)}.log"
        args = command(name, params or {}, remaps or {}, namespace, file)
        self.processes.append(Process(args, self.domain, log, env))
        return self.processes[-1]

    def play(self, bag: Path, **params: Any) -> Process:
        """Start the player; it waits until a node under test is connected to it as well as this listener."""
        self.listen("/camera/color/camera_info", CameraInfo)
        return self.start("replay", {"bag": bag, "min_subscribers": 2, **params})

    def listen(self, topic: str, kind: type, qos: QoSProfile | int = 1000) -> list[tuple[float, Any]]:
        """Messages of ``topic`` as (monotonic arrival time, message), growing while the test runs."""
        if topic in self.received:
            return self.received[topic]
        into = self.received[topic] = []
        self.node.create_subscription(kind, topic, lambda m: into.append((time.monotonic(), m)), qos)
        return into

    def call(self, name: str, kind: type, request: Any, timeout_s: float = 60.0) -> Any:
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f"no service {name}"
        future = client.call_async(request)
        self.until(future.done, timeout_s, f"an answer of {name}")
        return future.result()

    def until(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Wait for a condition; fails with the logs of the nodes."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                logs = "\n".join(f"--- {p.log.name}\n{p.output}" for p in self.processes)
                raise AssertionError(f"waited {timeout_s} s for {what}\n{logs}")
            time.sleep(0.02)
        return value

    def close(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
        self._executor.shutdown()
        self._context.try_shutdown()
        self._thread.join(5)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()


@contextmanager
def graph(folder: Path) -> Iterator[Graph]:
    made = Graph(folder)
    try:
        yield made
    finally:
        made.close()
