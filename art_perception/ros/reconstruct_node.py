"""Watch a moving object, and turn what was seen into a URDF: robot_description, parts and markers."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from art_perception.errors import ArtPerceptionError, FrameError
from art_perception.estimation.window import WindowBuffer
from art_perception.io.atomic import atomic_directory
from art_perception.io.results import Result
from art_perception.io.topics import Topics
from art_perception.pipeline import Config, Reconstruction, reconstruct
from art_perception.ros import diagnostics
from art_perception.ros.camera import Arrival, CameraInput, InputConfig
from art_perception.ros.params import declare_config
from art_perception.ros.publishers import ObjectPublisher, with_absolute_meshes
from art_perception.ros.spin import run_node
from art_perception.ros.worker import Worker
from art_perception.types import Window
from art_perception.urdf.writer import safe_name
from art_perception.viz.save import write_folder

POLL_S = 0.2
NICENESS = 10  # camera drivers, the tracker and this node's own inputs come first
NOTICEABLE = 1.05  # a clip this many times longer than the last one is worth another attempt when it has ended


@dataclass(frozen=True, slots=True)
class ReconstructNodeConfig:
    """Settings of the node itself."""

    object: str = "object"
    """Name of the object and of its folder."""
    output_dir: str = "urdf_out"
    """Folder that receives one folder per object."""
    enabled: bool = True
    """Collect frames from the start; otherwise wait for the service ~/enable."""
    first_s: float = field(default=2.0, metadata={"bounds": (0.1, 600.0)})
    """Clip length from which attempts are made while frames still come, s."""
    growth: float = field(default=1.5, metadata={"bounds": (1.05, 100.0)})
    """An attempt is made when the clip has become this many times longer than at the last one."""
    idle_s: float = field(default=1.0, metadata={"bounds": (0.1, 600.0)})
    """The clip counts as ended, which is worth an attempt too, when no new frame came for this long, s."""
    max_s: float = field(default=60.0, metadata={"bounds": (1.0, 3600.0)})
    """Clip length at which collecting ends when an object was found, and starts over when not, s."""


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """A window to reconstruct, and the future that a service call waits for."""

    window: Window
    span_s: float
    done: Future[Any]


class Cancelled(Exception):  # noqa: N818 - not an error
    """The node is closing: stop the reconstruction at its next stage."""


class ReconstructNode(Node):
    """Collects frames on the executor's thread and reconstructs on the worker's."""

    def __init__(self) -> None:
        super().__init__("reconstruct")
        self._config = declare_config(self, ReconstructNodeConfig)
        self._pipeline = declare_config(self, Config)
        self._camera = CameraInput(
            self,
            declare_config(self, InputConfig),
            declare_config(self, Topics, "topics."),
            on_frame=self._on_frame,
            on_jump=self._on_jump,
            with_mask=True,
        )
        self._buffer = WindowBuffer(self._pipeline.window)
        self._publisher = ObjectPublisher(self)
        self._enabled = self._config.enabled
        self._closing = False
        self._found: Reconstruction | None = None
        self._last: Future[Any] | None = None
        self._found_s = self._pending_s = 0.0  # clip lengths behind the object, and behind the attempts under way
        self._stage = ""
        self._problem = ""
        self._frame_problem = ""
        self._seconds = 0.0
        self._attempts = 0
        self._first_ns: int | None = None
        self._clear()
        self._worker: Worker[Attempt] = Worker(self._work, 1, "reconstruction", NICENESS)
        self._diagnostics = diagnostics.Diagnostics(self, self._statuses)
        self._timer = self.create_timer(POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._create_services()
        self._camera.start()

    def close(self) -> bool:
        """End the worker thread; a running reconstruction stops at its next stage. False when that takes too long."""
        self._closing = True
        return self._worker.close()

    def _create_services(self) -> None:
        # a waiting ~/save must not block the subscriptions, which share the default callback group
        group = ReentrantCallbackGroup()
        self.create_service(Trigger, "~/save", self._on_save, callback_group=group)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)

    def _on_frame(self, arrival: Arrival) -> None:
        if not self._enabled:
            return
        try:
            self._buffer.push(arrival.parts.decode())
            self._frame_problem = ""
        except FrameError as error:
            self._frame_problem = str(error)
            return
        self._first_ns = self._first_ns or arrival.parts.color.stamp_ns
        self._span_s = (arrival.parts.color.stamp_ns - self._first_ns) * 1e-9
        self._last_frame_s = time.monotonic()

    def _on_jump(self) -> None:
        """Time went back, so the clip has ended: use it if it grew since the last attempt, and start a new one."""
        if self._enabled and self._has_grown(ended=True) and not self._worker.waiting:
            self._attempt()
        self._clear()

    def _clear(self) -> None:
        """Forget the clip."""
        self._buffer = WindowBuffer(self._pipeline.window, self._camera.fixed_frame)
        self._first_ns = None
        self._span_s = 0.0
        self._tried_s = max(self._found_s, self._pending_s)
        self._last_frame_s = time.monotonic()

    def _poll(self) -> None:
        """Attempt a reconstruction when the clip has grown enough or has ended."""
        self._worker.raise_failure()
        if not self._enabled or not self._worker.idle:
            return
        idle = time.monotonic() - self._last_frame_s > self._config.idle_s
        if self._has_grown(ended=idle):
            self._attempt()
        if self._span_s > self._config.max_s:
            self._finish_clip()

    def _has_grown(self, *, ended: bool) -> bool:
        """Whether the clip is so much longer than the one tried last that it is worth an attempt."""
        if ended:
            return self._span_s > self._tried_s * NOTICEABLE
        return self._span_s >= max(self._config.first_s, self._tried_s * self._config.growth)

    def _finish_clip(self) -> None:
        if self._found is None:
            self.get_logger().info(f"nothing found in {self._span_s:.0f} s of images; starting over")
            self._clear()
        else:
            self._enabled = False
            self.get_logger().info("enough seen; call ~/enable to go on or ~/reset to start over")

    def _attempt(self) -> Future[Any]:
        """Hand the current window to the worker; the future's result is (success, message)."""
        done: Future[Any] = Future()
        self._last = done
        self._tried_s = self._span_s
        try:
            window = self._buffer.window()
        except FrameError as error:
            self._problem = str(error)
            done.set_result((False, str(error)))
            return done
        fixed = Window(window.frames, self._camera.fixed_frame)
        self._pending_s = self._span_s
        replaced = self._worker.submit(Attempt(fixed, self._span_s, done))
        if replaced is not None:
            replaced.done.set_result((False, "replaced by a newer attempt"))
        return done

    def _work(self, attempt: Attempt) -> None:
        """Run on the worker's thread."""
        self._attempts += 1
        start = time.monotonic()
        try:
            reconstruction = reconstruct(attempt.window, self._pipeline, self._config.object, self._on_progress)
            outcome = True, self._publish(reconstruction)
            self._found, self._found_s, self._problem = reconstruction, attempt.span_s, ""
        except ArtPerceptionError as error:
            self._problem = str(error)
            outcome = False, str(error)
        except Cancelled:
            outcome = False, "the node is shutting down"
        self._stage, self._seconds = "", time.monotonic() - start
        self._pending_s = 0.0 if self._worker.waiting == 0 else self._pending_s
        attempt.done.set_result(outcome)
        give_back_memory()

    def _on_progress(self, stage: str, _: float) -> None:
        if self._closing:
            raise Cancelled
        self._stage = stage

    def _publish(self, reconstruction: Reconstruction) -> str:
        """Write the result folder, publish the object and say where it is."""
        folder = Path(self._config.output_dir) / safe_name(self._config.object)
        stamps_s = [frame.stamp_s for frame in reconstruction.window.frames]
        joints, q = reconstruction.object.joints, reconstruction.motion.q
        source = self._camera.color_topic
        seconds = {**reconstruction.seconds, "total": sum(reconstruction.seconds.values())}
        result = Result(reconstruction.window.fixed_frame, source, joints, np.array(stamps_s), q, seconds)
        with atomic_directory(folder) as work:
            urdf = write_folder(work, reconstruction, result)
            description = with_absolute_meshes(urdf.read_text(), folder)
        self._publisher.publish(reconstruction, description)
        message = f"{len(joints)} joint(s) in {folder.resolve() / urdf.name}"
        self.get_logger().info(message)
        return message

    async def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Use all frames seen; answer with the last attempt when it had as many, rather than replace its result."""
        last = self._last
        if last is None or self._has_grown(ended=True):
            last = self._attempt()
        response.success, response.message = await Waiting(last)
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._found, self._found_s, self._last = None, 0.0, None
        self._clear()
        self._enabled = True
        response.success, response.message = True, "collecting from now on"
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success, response.message = True, "collecting" if request.data else "paused"
        return response

    def _statuses(self) -> list[DiagnosticStatus]:
        """Called at 1 Hz on the executor's thread."""
        return [self._camera.status(), self._reconstruction_status()]

    def _reconstruction_status(self) -> DiagnosticStatus:
        values = {
            "frames in window": len(self._buffer),
            "clip length": f"{self._span_s:.1f} s",
            "attempts": self._attempts,
            "last attempt took": f"{self._seconds:.1f} s",
            "stage": self._stage or "none",
            "joints": 0 if self._found is None else len(self._found.object.joints),
            **diagnostics.memory(),
        }
        name = f"{self.get_fully_qualified_name()}: reconstruction"
        return diagnostics.status(name, *self._judgement(), values)

    def _judgement(self) -> tuple[bytes, str]:
        if self._frame_problem:
            return diagnostics.ERROR, self._frame_problem
        if self._stage:
            return diagnostics.OK, f"working: {self._stage}"
        if self._problem:
            return diagnostics.WARN, self._problem
        if not self._enabled:
            return diagnostics.OK, "paused"
        return diagnostics.OK, "collecting frames" if self._found is None else "object found"


def give_back_memory() -> None:
    """Return freed memory to the system; glibc keeps what a finished reconstruction freed, in every thread's arena."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Waiting:
    """Await a future without keeping a core busy: rclpy re-runs a waiting coroutine in every spin."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __await__(self) -> Generator[None, None, Any]:
        while not self._future.done():
            time.sleep(0.002)
            yield
        return self._future.result()


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script."""
    return run_node(ReconstructNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
