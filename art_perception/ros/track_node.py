"""Follow an articulated object at camera rate: robot_description and images in, joint_states (and TF) out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import String

from art_perception.errors import ArtPerceptionError, FrameError
from art_perception.estimation.tracking import Tracker, TrackingConfig, TrackState
from art_perception.ros import diagnostics
from art_perception.ros.camera import Arrival, CameraInput
from art_perception.ros.inputs import latched
from art_perception.ros.link_frames import LinkFrames, read_link_frames
from art_perception.ros.params import declare_config
from art_perception.ros.publishers import StatePublisher, give_description, with_absolute_meshes
from art_perception.ros.spin import run_node
from art_perception.ros.worker import Worker
from art_perception.urdf.reader import load_urdf


@dataclass(frozen=True, slots=True)
class TrackNodeConfig:
    """Settings of the node itself."""

    urdf: str = ""
    """URDF file to follow; empty means the one on the topic robot_description."""
    publish_tf: bool = True
    """Publish the object's link frames on /tf."""
    robot_state_publisher: str = ""
    """Name of a robot_state_publisher that is given the description and publishes the frames instead."""
    queue: int = field(default=120, metadata={"bounds": (1, 1000)})
    """Frames kept while the tracker is busy; beyond it the oldest is dropped and counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The object being followed."""

    tracker: Tracker
    joints: tuple[str, ...]
    description: str
    base: str


class TrackNode(Node):
    """Subscribes to the camera once it knows an object, and publishes one state per image."""

    def __init__(self) -> None:
        super().__init__("track")
        self._config = declare_config(self, TrackNodeConfig)
        self._tracking = declare_config(self, TrackingConfig, "tracking.")
        self._camera = CameraInput(self, self._on_frame, self._on_jump, with_mask=False)
        self._states = StatePublisher(self, self._config.publish_tf and not self._config.robot_state_publisher)
        self._model: Model | None = None
        self._frames: LinkFrames | None = None
        self._last: TrackState | None = None
        self._description = ""
        self._epoch = self._tracked_epoch = 0
        self._problem = ""
        self._published = 0
        self._rate = diagnostics.RateMeter()
        self._latency = diagnostics.LatencyMeter()
        self._worker: Worker[tuple[int, Arrival] | None] = Worker(self._work, self._config.queue, "tracker")
        self._diagnostics = diagnostics.Diagnostics(self, self._statuses)
        if self._config.urdf:
            self._use_file(Path(self._config.urdf))
        else:
            self._subscription = self.create_subscription(String, "robot_description", self._on_description, latched())

    def close(self) -> bool:
        """End the worker thread."""
        return self._worker.close()

    def _use_file(self, path: Path) -> None:
        """Follow the object of a URDF file, and show it to others.

        Raises:
            ObjectError: the file cannot be used.
        """
        self._model = self._load(path)
        self._description_publisher = self.create_publisher(String, "robot_description", latched())
        self._description_publisher.publish(String(data=self._model.description))
        self._start()

    def _on_description(self, message: String) -> None:
        if message.data != self._description:
            self._description = message.data
            self._worker.submit(None)

    def _on_frame(self, arrival: Arrival) -> None:
        self._worker.submit((self._epoch, arrival))

    def _on_jump(self) -> None:
        self._worker.clear()
        self._epoch += 1

    def _work(self, item: tuple[int, Arrival] | None) -> None:
        """Run on the worker's thread: load a new description, or track one frame."""
        try:
            if self._description and (self._model is None or self._model.description != self._description):
                self._load_description()
            if item is not None and self._model is not None:
                self._track(self._model, *item)
        except FrameError as error:
            self._problem = str(error)

    def _load_description(self) -> None:
        text = self._description
        try:
            self._model = self._load(text)
        except ArtPerceptionError as error:
            self._problem = f"robot_description cannot be used: {error}"
            self._description = ""
            return
        self._frames = self._last = None
        assert self.executor is not None
        self.executor.create_task(self._start)

    def _start(self) -> None:
        """Runs on the executor's thread as soon as there is an object to follow."""
        self._camera.start()
        if self._config.robot_state_publisher and self._model is not None:
            give_description(self, self._config.robot_state_publisher, self._model.description)

    def _load(self, source: Path | str) -> Model:
        obj = load_urdf(source)
        text = with_absolute_meshes(source.read_text(), source.parent) if isinstance(source, Path) else source
        self._problem = ""
        self.get_logger().info(f"following '{obj.name}' with {len(obj.joints)} joint(s)")
        names = tuple(joint.name for joint in obj.joints)
        return Model(Tracker(obj, self._tracking), names, text, obj.parts[0].name)

    def _track(self, model: Model, epoch: int, arrival: Arrival) -> None:
        if epoch != self._tracked_epoch:
            model.tracker.reset()
            self._tracked_epoch = epoch
        state = model.tracker.update(arrival.parts.decode())
        self._last = state
        self._problem = ""
        if state.tracked:
            self._publish(model, state)
            self._latency.add(time.monotonic() - arrival.arrived_s)

    def _publish(self, model: Model, state: TrackState) -> None:
        if self._frames is None:
            self._frames = read_link_frames(model.description, model.base, self._camera.fixed_frame)
            self._states.publish_static(state.stamp_ns, self._frames)
        q = {name: float(value) for name, value in zip(model.joints, state.q, strict=True)}
        self._states.publish(state.stamp_ns, q, self._frames.moving(q, state.T_world_base))
        self._published += 1
        self._rate.tick()

    def _statuses(self) -> list[DiagnosticStatus]:
        """Called at 1 Hz on the executor's thread."""
        self._worker.raise_failure()
        statuses = [self._camera.status()] if self._camera.started else []
        return [*statuses, self._tracking_status()]

    def _tracking_status(self) -> DiagnosticStatus:
        values = {
            "state rate": f"{self._rate.hz:.1f} Hz",
            "states out": self._published,
            "frames dropped by the queue": self._worker.dropped,
            "frames waiting": self._worker.waiting,
            "image to state p50 / p99": self._latency.text(),
            "quality": "none" if self._last is None else f"{self._last.quality:.2f}",
            **diagnostics.memory(),
        }
        return diagnostics.status(f"{self.get_fully_qualified_name()}: tracking", *self._judgement(), values)

    def _judgement(self) -> tuple[bytes, str]:
        if self._problem:
            return diagnostics.ERROR, self._problem
        if self._model is None:
            topic = self._subscription.topic_name
            count = self.count_publishers(topic)
            return diagnostics.WARN, f"waiting for: {topic}; publishers {count}; QoS reliable, transient local"
        if self._last is not None and not self._last.tracked:
            return diagnostics.WARN, "the object is not where the model says: is it in view, and is the URDF its own?"
        return diagnostics.OK, "following" if self._rate.hz else "ready"


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script."""
    return run_node(TrackNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
