"""What a node tells about itself once a second: what it waits for, rates, losses, latency, memory."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

if TYPE_CHECKING:
    from rclpy.node import Node

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
PERIOD_S = 1.0


class RateMeter:
    """Events per second over the last few seconds, by a clock that never jumps; any thread may tick or read."""

    def __init__(self, window_s: float = 3.0) -> None:
        self._window_s = window_s
        self._ticks: deque[float] = deque(maxlen=2000)

    def tick(self) -> None:
        """Count one event now."""
        self._ticks.append(time.monotonic())

    @property
    def hz(self) -> float:
        """Events per second."""
        now = time.monotonic()
        return sum(now - t < self._window_s for t in self._ticks.copy()) / self._window_s


class LatencyMeter:
    """Median and 99th percentile of the last few hundred durations; any thread may add or read."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=300)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._seconds.append(seconds)

    def text(self) -> str:
        """Return ``p50 / p99 ms``, or ``none`` before the first duration."""
        seconds = self._seconds.copy()
        if not seconds:
            return "none"
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        return f"{p50:.1f} / {p99:.1f} ms"


def memory() -> dict[str, str]:
    """Resident memory, and GPU memory when torch uses one."""
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    out = {"memory": f"{pages * 4096 / 2**20:.0f} MiB"}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        out["device memory"] = f"{torch.cuda.memory_allocated() / 2**20:.0f} MiB"
    return out


def status(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    """Build a DiagnosticStatus; values are turned into strings."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id="art_perception", values=pairs)


class Diagnostics:
    """Publishes ``collect()`` on /diagnostics at 1 Hz of a steady clock, so that it works without /clock too."""

    def __init__(self, node: Node, collect: Callable[[], list[DiagnosticStatus]]) -> None:
        self._node = node
        self._collect = collect
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = node.create_timer(PERIOD_S, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._last = ""

    def _publish(self) -> None:
        message = DiagnosticArray(status=self._collect())
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        self._log_change(message.status)

    def _log_change(self, statuses: list[DiagnosticStatus]) -> None:
        """Say every new problem once in the log as well: most users look there first."""
        problems = "; ".join(s.message for s in statuses if s.level != OK)
        if problems and problems != self._last:
            self._node.get_logger().warning(problems)
        self._last = problems
