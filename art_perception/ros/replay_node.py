"""Publish a recording as it was recorded, with /clock: `ros2 bag play` for machines without it."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from typing import Any

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from art_perception.errors import BagError
from art_perception.io.storage import Bag, open_bag
from art_perception.ros import convert
from art_perception.ros.inputs import latched
from art_perception.ros.params import declare_config
from art_perception.ros.spin import run_node

CLOCK_PERIOD_NS = 10_000_000  # bag time
SETTLE_S = 1.0  # discovery takes up to about this long
LOOP_PAUSE_S = 0.1  # so that the last messages are not overtaken by the first ones
DELIVERY_S = 5.0  # how long the last messages may take to arrive


@dataclass(frozen=True, slots=True)
class ReplayNodeConfig:
    """What to play and how."""

    bag: str = ""
    """Recording: rosbag2 folder, .mcap or .db3 file."""
    rate: float = field(default=1.0, metadata={"bounds": (0.01, 100.0)})
    """Speed relative to the recording."""
    loop: bool = False
    """Start again at the end; time then jumps back."""
    min_subscribers: int = field(default=1, metadata={"bounds": (0, 100)})
    """Start when some topic has this many subscribers; 0 starts at once."""


class ReplayNode(Node):
    """Plays on the main thread and spins in between, so that SIGINT and parameter requests are served at all times."""

    def __init__(self) -> None:
        super().__init__("replay")
        self._config = declare_config(self, ReplayNodeConfig)
        if not self._config.bag:
            raise BagError("no recording given: set the parameter bag, e.g. --ros-args -p bag:=clip")
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10)
        self._clock_ns = 0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def close(self) -> bool:
        """Stop spinning."""
        self._executor.remove_node(self)
        return True

    def play(self) -> None:
        """Publish the whole recording, again and again with ``loop``.

        Raises:
            BagError: the recording is missing or damaged, or none of its message types is installed.
        """
        with open_bag(self._config.bag) as bag:
            publishers = self._advertise(bag)
            self._wait_for_subscribers(list(publishers.values()))
            self.get_logger().info(f"playing {bag.path} ({bag.duration_s:.1f} s) at rate {self._config.rate:g}")
            self._play_once(bag, publishers)
            while self._config.loop:
                self._spin_until(time.monotonic() + LOOP_PAUSE_S)
                self._play_once(bag, publishers)
        for publisher in publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))

    def _advertise(self, bag: Bag) -> dict[str, Publisher]:
        publishers = {}
        for topic, type_name in bag.types.items():
            kind = message_type(type_name)
            if kind is None:
                self.get_logger().warning(f"{topic} is skipped: the message type {type_name} is not installed")
                continue
            qos = latched() if topic in bag.latched else QoSProfile(depth=100)
            publishers[topic] = self.create_publisher(kind, topic, qos)
        if not publishers:
            raise BagError(f"{bag.path} has no topic whose message type is installed: install its message packages")
        return publishers

    def _wait_for_subscribers(self, publishers: list[Publisher]) -> None:
        """Wait until enough subscribers exist, and all that exist are connected and have been for a while."""
        wanted = self._config.min_subscribers
        if not wanted:
            return
        if max(self._connected(publishers)) < wanted:
            self.get_logger().info(f"waiting for {wanted} subscriber(s)")
        last: list[int] = []
        while (now := self._connected(publishers)) != last or max(now) < wanted or now != self._known(publishers):
            last = now
            self._spin_until(time.monotonic() + SETTLE_S)

    def _connected(self, publishers: list[Publisher]) -> list[int]:
        return [p.get_subscription_count() for p in publishers]

    def _known(self, publishers: list[Publisher]) -> list[int]:
        """Subscribers per topic that the graph knows of, connected or not."""
        return [self.count_subscribers(p.topic_name) for p in publishers]

    def _play_once(self, bag: Bag, publishers: dict[str, Publisher]) -> None:
        start_s, start_ns = time.monotonic(), None
        for topic, time_ns, data in bag.raw_messages(publishers.keys()):
            if start_ns is None:
                start_ns = time_ns
                self._publish_clock(time_ns)
            while self._clock_ns + CLOCK_PERIOD_NS < time_ns:
                self._tick(self._clock_ns + CLOCK_PERIOD_NS, start_s, start_ns)
            self._tick(time_ns, start_s, start_ns)
            publishers[topic].publish(data)

    def _tick(self, time_ns: int, start_s: float, start_ns: int) -> None:
        """Wait until bag time ``time_ns`` is due, and announce it."""
        if time_ns > self._clock_ns:
            self._spin_until(start_s + (time_ns - start_ns) * 1e-9 / self._config.rate)
            self._publish_clock(time_ns)

    def _publish_clock(self, time_ns: int) -> None:
        self._clock_ns = time_ns
        self._clock_publisher.publish(Clock(clock=convert.stamp(time_ns)))

    def _spin_until(self, end_s: float) -> None:
        self._executor.spin_once(timeout_sec=0)
        while (left := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)


def message_type(name: str) -> Any:
    """Message class of e.g. ``sensor_msgs/msg/Image``, or None when its package is not installed."""
    package, kind, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), message, None)
    except ImportError:
        return None


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script."""
    return run_node(ReplayNode, args, ReplayNode.play)


if __name__ == "__main__":
    raise SystemExit(main())
