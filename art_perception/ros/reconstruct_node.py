"""Watch a moving object, and turn what was seen into a URDF: robot_description, parts and markers.

While frames come, a quick look tells how far something has moved. As soon as that is enough an early estimate is
published, and again when much more has moved; the complete one follows when the motion or the clip has ended. When
the object's category is known, its shape prior stands in until something has moved.
"""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
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

from art_perception.errors import ArtPerceptionError, FrameError, MotionError
from art_perception.estimation.onset import largest_motion, no_motion
from art_perception.io.atomic import atomic_directory
from art_perception.io.results import Result
from art_perception.pipeline import Config, Reconstruction, reconstruct
from art_perception.prior import NONE
from art_perception.ros import diagnostics
from art_perception.ros.camera import Arrival, CameraInput
from art_perception.ros.clip import Clip
from art_perception.ros.continuity import continued
from art_perception.ros.early import Found, better_grounded, early_config, thinned
from art_perception.ros.params import declare_config
from art_perception.ros.publishers import ObjectPublisher, with_absolute_meshes
from art_perception.ros.spin import run_node
from art_perception.ros.worker import Worker
from art_perception.types import Window
from art_perception.urdf.writer import URDF_FILE, safe_name
from art_perception.viz.save import write_data, write_folder

POLL_S = 0.2
NICENESS = 10  # camera drivers, the tracker and this node's own inputs come first


@dataclass(frozen=True, slots=True)
class ReconstructNodeConfig:
    """Settings of the node itself."""

    object: str = "object"
    """Name of the object and of its folder."""
    output_dir: str = "urdf_out"
    """Folder that receives one folder per object."""
    enabled: bool = True
    """Collect frames from the start; otherwise wait for the service ~/enable."""
    growth: float = field(default=1.5, metadata={"bounds": (1.05, 100.0)})
    """An early estimate is made again when this many times more has moved, or the last came to nothing and the clip has
    become this many times longer; a complete one when the clip has become this many times longer."""
    early_frames: int = field(default=16, metadata={"bounds": (6, 1000)})
    """Frames, spread over the window, that an early estimate uses."""
    early_confidence: float = field(default=0.8, metadata={"bounds": (0.0, 1.0)})
    """Confidence that every joint of an early estimate needs to be published."""
    idle_s: float = field(default=1.0, metadata={"bounds": (0.1, 600.0)})
    """A complete estimate is made when no new frame came, or nothing moved further, for this long, s."""
    max_s: float = field(default=60.0, metadata={"bounds": (1.0, 3600.0)})
    """Clip length at which collecting ends when an object was found, and starts over when not, s."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A window to look at; or to reconstruct, with the future that a service call waits for.

    Attributes:
        clip: what the window belongs to.
        window: frames.
        span_s: length of the clip up to the window's end, s.
        session: resets before it was submitted.
        done: gets (success, message) of a reconstruction.
    """

    clip: Clip
    window: Window
    span_s: float
    session: int
    done: Future[Any] | None = None


class Cancelled(Exception):  # noqa: N818 - not an error
    """The node is closing or was reset: the reconstruction stops at its next stage."""


class ReconstructNode(Node):
    """Collects frames on the executor's thread; looks and reconstructs on the worker's."""

    def __init__(self) -> None:
        super().__init__("reconstruct")
        self._config = declare_config(self, ReconstructNodeConfig)
        self._pipeline = declare_config(self, Config)
        self._camera = CameraInput(self, self._on_frame, self._on_jump, with_mask=True)
        self._publisher = ObjectPublisher(self)
        self._enabled = self._config.enabled
        self._closing = False
        self._session = 0
        self._found: Found | None = None
        self._last: Future[Any] | None = None
        self._pending_s = 0.0  # clip length behind the attempt under way
        self._clear()
        self._stage = ""
        self._problem = ""
        self._frame_problem = ""
        self._seconds = 0.0
        self._attempts = 0
        self._worker: Worker[Job] = Worker(self._work, 1, "reconstruction", NICENESS)
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
            self._clip.push(arrival.parts.decode())
            self._frame_problem = ""
        except FrameError as error:
            self._frame_problem = str(error)

    def _on_jump(self) -> None:
        """Time went back, so the clip has ended: use it if it grew since the last attempt, and start a new one."""
        if self._enabled and self._clip.is_longer() and not self._worker.waiting:
            self._attempt()
        self._clear()

    def _clear(self) -> None:
        """Forget the clip."""
        nothing = no_motion(self._pipeline.segment)
        found_s, tried = (0.0, nothing) if self._found is None else (self._found.complete_s, self._found.seen)
        self._clip = Clip(self._pipeline.window, max(found_s, self._pending_s), tried, nothing)
        self._looked = 0  # frames

    def _poll(self) -> None:
        """Reconstruct when the clip has grown enough or has ended; otherwise look at what is new."""
        self._worker.raise_failure()
        if not self._enabled:
            return
        if self._clip.still:
            self._clear()
        if not self._worker.idle:
            return
        if self._clip.has_grown(self._config.growth, self._config.idle_s):
            self._attempt()
        elif self._clip.count > self._looked:
            self._look()
        if self._clip.span_s > self._config.max_s:
            self._finish_clip()

    def _finish_clip(self) -> None:
        if not self._measured:
            self.get_logger().info(f"nothing moved in {self._clip.span_s:.0f} s of images; starting over")
            self._clear()
        else:
            self._enabled = False
            self.get_logger().info("enough seen; call ~/enable to go on or ~/reset to start over")

    @property
    def _measured(self) -> bool:
        """Whether there is an estimate that is more than the shape prior's."""
        return self._found is not None and not self._found.guessed

    def _look(self) -> None:
        """Let the worker see how far something has moved."""
        self._looked = self._clip.count
        if len(self._clip) >= self._pipeline.window.min_frames:
            self._submit(None)

    def _attempt(self) -> Future[Any]:
        """Hand the current window to the worker; the future's result is (success, message)."""
        done: Future[Any] = Future()
        self._last = done
        self._clip.tried_s = self._pending_s = self._clip.span_s
        self._submit(done)
        return done

    def _submit(self, done: Future[Any] | None) -> None:
        try:
            window = self._clip.window(self._camera.fixed_frame)
        except FrameError as error:
            self._problem = str(error)
            if done is not None:
                done.set_result((False, str(error)))
            return
        replaced = self._worker.submit(Job(self._clip, window, self._clip.span_s, self._session, done))
        if replaced is not None and replaced.done is not None:
            replaced.done.set_result((False, "replaced by a newer attempt"))

    def _work(self, job: Job) -> None:
        """Run on the worker's thread."""
        outcome = False, "stopped by a reset or a shutdown"
        try:
            if job.done is None:
                self._see(job)
            else:
                outcome = True, self._complete(job)
        except ArtPerceptionError as error:
            self._problem = str(error)
            outcome = False, str(error)
        except Cancelled:
            pass
        self._stage = ""
        if job.done is not None:
            self._pending_s = 0.0 if self._worker.waiting == 0 else self._pending_s
            job.done.set_result(outcome)

    def _see(self, job: Job) -> None:
        """Look how far something has moved; if that is enough, make an early estimate, else ask the prior once."""
        job.clip.add(largest_motion(job.window, self._pipeline.segment, self._pipeline.flow), job.span_s)
        if job.clip.has_moved(self._config.growth):
            self._early(job)
        elif self._found is None and self._pipeline.prior.category != NONE and not job.clip.guessed:
            job.clip.guessed = True
            self._take(job, Found(self._guess(job), job.span_s, job.clip.seen, complete=False))

    def _guess(self, job: Job) -> Reconstruction:
        """What the shape prior makes of a single frame."""
        return self._reconstruct(job, thinned(job.window, 1), self._pipeline)

    def _early(self, job: Job) -> None:
        """Publish an estimate from part of the window if all its joints are sure."""
        job.clip.tried, job.clip.failed_s = job.clip.seen, job.span_s
        try:
            window = thinned(job.window, self._config.early_frames)
            made = self._reconstruct(job, window, early_config(self._pipeline))
        except MotionError as error:
            self.get_logger().debug(str(error))
            return
        if min(joint.confidence for joint in made.object.joints) >= self._config.early_confidence:
            job.clip.failed_s = math.inf
            self._take(job, Found(made, job.span_s, job.clip.tried, complete=False))

    def _complete(self, job: Job) -> str:
        """Publish an estimate from the whole window, and an early one before it when there is nothing yet."""
        if not self._measured:
            self._early(job)
        made = self._reconstruct(job, job.window, self._pipeline)
        self._problem = ""
        return self._take(job, Found(made, job.span_s, job.clip.seen, complete=True))

    def _reconstruct(self, job: Job, window: Window, config: Config) -> Reconstruction:
        self._attempts += 1
        start = time.monotonic()

        def on_progress(stage: str, _: float) -> None:
            self._check(job)
            self._stage = stage

        try:
            return reconstruct(window, config, self._config.object, on_progress)
        finally:
            self._seconds = time.monotonic() - start
            give_back_memory()

    def _check(self, job: Job) -> None:
        """Stop work that nobody waits for any more."""
        if self._closing or job.session != self._session:
            raise Cancelled

    def _take(self, job: Job, found: Found) -> str:
        """Write and publish an estimate unless what is there is better grounded; say what is there now."""
        known = self._found
        self._check(job)
        if known is not None:
            if not better_grounded(found, known):
                return f"the earlier estimate is better grounded: {self._describe(known)}"
            found = replace(found, reconstruction=continued(found.reconstruction, known.reconstruction))
        with atomic_directory(self._folder) as work:
            urdf = self._write(work, found)
            description = with_absolute_meshes(urdf.read_text(), self._folder)
        self._publisher.publish(found.reconstruction, description)
        self._found = found
        self.get_logger().info(self._describe(found))
        return self._describe(found)

    @property
    def _folder(self) -> Path:
        return Path(self._config.output_dir) / safe_name(self._config.object)

    def _write(self, work: Path, found: Found) -> Path:
        """Fill the result folder; an early one without what takes long, the report. Return the URDF's path."""
        made = found.reconstruction
        stamps_s = np.array([frame.stamp_s for frame in made.window.frames])
        seconds = {**made.seconds, "total": sum(made.seconds.values())}
        fixed_frame, source = made.window.fixed_frame, self._camera.color_topic
        result = Result(
            fixed_frame,
            source,
            made.object.joints,
            stamps_s,
            made.motion.q,
            seconds,
            prior=made.prior,
            correction=made.window.correction,
        )
        return (write_folder if found.complete else write_data)(work, made, result)

    def _describe(self, found: Found) -> str:
        count = len(found.reconstruction.object.joints)
        kind = " (from the shape prior alone)" if found.guessed else "" if found.complete else " (early)"
        return f"{count} joint(s) in {self._folder.resolve() / URDF_FILE}{kind}"

    async def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Use all frames seen; answer with the last attempt when it had as many, rather than replace its result."""
        last = self._last
        if last is None or self._clip.is_longer():
            last = self._attempt()
        response.success, response.message = await Waiting(last)
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._session += 1
        self._found, self._last, self._pending_s = None, None, 0.0
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
            "frames in window": len(self._clip),
            "clip length": f"{self._clip.span_s:.1f} s",
            "motion": str(self._clip.seen),
            "attempts": self._attempts,
            "attempts dropped": self._worker.dropped,
            "last attempt took": f"{self._seconds:.1f} s",
            "stage": self._stage or "none",
            "joints": 0 if self._found is None else len(self._found.reconstruction.object.joints),
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
        if self._found is not None and self._found.guessed:
            return diagnostics.OK, "guess of the shape prior; move a part to have it measured"
        if self._found is not None:
            return diagnostics.OK, "object found" if self._found.complete else "early estimate; keep moving the part"
        return diagnostics.OK, f"collecting frames: seen {self._clip.seen}"


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
