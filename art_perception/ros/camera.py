"""The RGB-D input of both nodes: subscriptions in, paired frames with interpolated camera poses out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, JumpThreshold
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from art_perception.errors import FrameError, MissingDependencyError
from art_perception.io import messages
from art_perception.io.assemble import FrameAssembler, FrameParts, PoseSource
from art_perception.io.topics import Topics
from art_perception.ros import diagnostics
from art_perception.ros.inputs import Reliability, TopicInput, Variant, latched
from art_perception.ros.params import declare_config

if TYPE_CHECKING:
    from rclpy.node import Node

FOLLOW_PERIOD_S = 0.25  # how often subscriptions are compared with what the publishers offer
BACKWARD_NS = 100_000_000  # poses may arrive this much out of order before it counts as a jump of time
PATIENCE_S = 4.0  # DDS may take 3 s to send a lost image again
RESTART_S = 1.0  # after one stream's time went back, how long the colour stream may take to follow


@dataclass(frozen=True, slots=True)
class InputConfig:
    """Where the frames and camera poses come from."""

    pose_source: PoseSource = "topic"
    """Camera pose: topic (PoseStamped), odom (Odometry + static transforms), tf, or static (it never moves)."""
    fixed_frame: str = ""
    """Frame the object is described in; empty means the frame of the camera poses. Needed for pose_source tf."""
    reliability: Reliability = "auto"
    """QoS of the inputs; auto asks for reliable unless a publisher offers only best effort."""
    queue_depth: int = field(default=120, metadata={"bounds": (1, 1000)})
    """Messages that the middleware keeps per input while the node is busy."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One complete instant, still encoded, and the steady-clock time (s) at which its colour image arrived."""

    parts: FrameParts
    arrived_s: float


class CameraInput:
    """Subscribes to everything that makes a frame and calls ``on_frame`` for every complete one.

    Args:
        node: owner of the subscriptions; gets the parameters of :class:`InputConfig` and of the topics' names.
        on_frame: called on the executor's thread.
        on_jump: called when time went back, before the first frame after it.
        with_mask: also listen to the object mask.
    """

    def __init__(
        self,
        node: Node,
        on_frame: Callable[[Arrival], None],
        on_jump: Callable[[], None],
        with_mask: bool,
    ) -> None:
        self._node = node
        self._config = config = declare_config(node, InputConfig)
        self._topics = declare_config(node, Topics, "topics.")
        self._on_frame = on_frame
        self._on_jump = on_jump
        self._with_mask = with_mask
        self._assembler = FrameAssembler(config.pose_source, config.fixed_frame, patience_s=PATIENCE_S)
        self._inputs: list[TopicInput] = []
        self._mask: TopicInput | None = None
        self._newest_ns: dict[str, int] = {}
        self._arrived_s: dict[int, float] = {}
        self._restarted_s = -math.inf
        self._problem = ""
        self.frames = diagnostics.RateMeter()
        self.complete = 0
        self.jumps = 0

    @property
    def fixed_frame(self) -> str:
        """Frame of the camera poses, ``world`` until known."""
        return self._assembler.fixed_frame or "world"

    @property
    def color_topic(self) -> str:
        """Topic that the colour images come from."""
        return self._inputs[0].topic

    @property
    def started(self) -> bool:
        """Whether the subscriptions exist."""
        return bool(self._inputs)

    def start(self) -> None:
        """Create the subscriptions; does nothing the second time."""
        if self.started:
            return
        self._subscribe()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(FOLLOW_PERIOD_S, self._follow, clock=steady)
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        clock = self._node.get_clock()
        self._jump = clock.create_jump_callback(threshold, post_callback=lambda _: self._clock_jumped())
        self._follow()

    def status(self) -> DiagnosticStatus:
        """What arrives, what is missing and what was lost."""
        seen = self._inputs[0].received if self._inputs else 0
        values = {
            **{f"{i.name} rate": f"{i.rate.hz:.1f} Hz" for i in self._inputs},
            "frame rate": f"{self.frames.hz:.1f} Hz",
            "sync ratio": f"{self.complete / seen:.3f}" if seen else "none",
            "colour images in": seen,
            "frames out": self.complete,
            "frames without partner or pose": self._assembler.dropped,
            "time jumps": self.jumps,
            "fixed frame": self.fixed_frame,
        }
        level, message = self._judgement()
        return diagnostics.status(f"{self._node.get_fully_qualified_name()}: input", level, message, values)

    def _judgement(self) -> tuple[bytes, str]:
        incompatible = [i.incompatible for i in self._inputs if i.incompatible]
        if incompatible:
            return diagnostics.ERROR, "; ".join(incompatible)
        missing = [text for i in self._inputs if i is not self._mask and (text := i.missing())]
        if missing:
            return diagnostics.WARN, "waiting for: " + "; ".join(missing)
        if self.frames.hz == 0:
            why = self._problem or self._assembler.problem or "stamps or poses do not match yet"
            return diagnostics.WARN, f"all inputs arrive but give no frame: {why}"
        return diagnostics.OK, self._problem or "receiving frames"

    def _subscribe(self) -> None:
        topics, source = self._topics, self._config.pose_source
        self._listen("colour", topics.color, (Image, CompressedImage), self._on_color)
        self._listen("depth", topics.depth, (Image, CompressedImage), self._on_depth)
        self._listen("camera_info", topics.camera_info, (CameraInfo,), self._on_camera_info)
        if self._with_mask:
            self._mask = self._listen("mask", topics.mask, (Image, CompressedImage), self._on_mask)
        if source == "topic":
            self._listen("camera pose", topics.pose, (PoseStamped, PoseWithCovarianceStamped), self._on_pose)
        if source == "odom":
            self._listen("odometry", topics.odom, (Odometry,), self._on_odometry)
        if source in ("odom", "tf"):
            self._subscribe_transforms()

    def _subscribe_transforms(self) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise MissingDependencyError(
                f"pose_source {self._config.pose_source} needs the ROS package tf2_msgs, which is not installed: "
                "install ros-<distro>-tf2-msgs, or use pose_source topic"
            ) from error
        if self._config.pose_source == "tf":
            self._listen("transforms", self._topics.tf, (TFMessage,), self._on_transforms)
        self._static = self._node.create_subscription(
            TFMessage, self._topics.tf_static, self._on_static_transforms, latched(100)
        )

    def _listen(self, name: str, topic: str, types: tuple[type, ...], callback: Callable[[Any], None]) -> TopicInput:
        def guarded(message: Any) -> None:
            try:
                callback(message)
                self._emit()
            except FrameError as error:
                self._problem = str(error)

        variants = [Variant(t, kind) for t in _candidates(self._node.resolve_topic_name(topic)) for kind in types]
        topic_input = TopicInput(
            self._node, name, variants, guarded, self._config.reliability, self._config.queue_depth
        )
        self._inputs.append(topic_input)
        return topic_input

    def _follow(self) -> None:
        for topic_input in self._inputs:
            topic_input.follow_publishers()
        if self._mask is not None:
            self._assembler.has_mask = self._mask.has_publisher

    def _on_color(self, message: Any) -> None:
        image = messages.image(message)
        if not self._accept_color(image.stamp_ns):
            return
        self._arrived_s[image.stamp_ns] = time.monotonic()
        self._assembler.push_color(image)

    def _on_depth(self, message: Any) -> None:
        image = messages.image(message)
        self._check_order("depth", image.stamp_ns)
        self._assembler.push_depth(image)

    def _on_mask(self, message: Any) -> None:
        image = messages.image(message)
        self._check_order("mask", image.stamp_ns)
        self._assembler.push_mask(image)

    def _on_camera_info(self, message: CameraInfo) -> None:
        camera = messages.camera_model(message)
        self._check_order("camera_info", camera.stamp_ns)
        self._assembler.push_camera(camera)

    def _on_pose(self, message: PoseStamped | PoseWithCovarianceStamped) -> None:
        stamp_ns = messages.stamp_ns(message.header)
        pose = message.pose.pose if isinstance(message, PoseWithCovarianceStamped) else message.pose
        self._check_order("pose", stamp_ns)
        self._assembler.push_pose(message.header.frame_id, stamp_ns, messages.pose(pose))

    def _on_odometry(self, message: Odometry) -> None:
        stamp_ns, T = messages.stamp_ns(message.header), messages.pose(message.pose.pose)
        self._check_order("odometry", stamp_ns)
        self._assembler.push_odometry(message.header.frame_id, message.child_frame_id, stamp_ns, T)

    def _on_transforms(self, message: Any) -> None:
        for t in message.transforms:
            stamp_ns, T = messages.stamp_ns(t.header), messages.transform(t.transform)
            self._check_order(f"transform of {t.child_frame_id}", stamp_ns)
            self._assembler.push_transform(t.header.frame_id, t.child_frame_id, stamp_ns, T)

    def _on_static_transforms(self, message: Any) -> None:
        for t in message.transforms:
            T = messages.transform(t.transform)
            self._assembler.push_static_transform(t.header.frame_id, t.child_frame_id, T)

    def _check_order(self, stream: str, stamp_ns: int) -> None:
        """Forget the past when this stream's time went back: its old messages would pair with new images."""
        if stamp_ns < self._newest_ns.get(stream, stamp_ns) - BACKWARD_NS:
            self._restart(stamp_ns)
        self._newest_ns[stream] = stamp_ns

    def _accept_color(self, stamp_ns: int) -> bool:
        """Announce a jump back of the colour stream; refuse late images from before a jump of the others."""
        restarted = time.monotonic() - self._restarted_s < RESTART_S
        back = stamp_ns < self._newest_ns.get("colour", stamp_ns)
        if restarted and not back:
            return False
        if back:
            if not restarted:
                self._restart(stamp_ns)
            self._restarted_s = -math.inf
            self.jumps += 1
            self._on_jump()
        self._newest_ns["colour"] = stamp_ns
        return True

    def _clock_jumped(self) -> None:
        """Simulated time went back: the images are still to follow if they are newer than the clock."""
        now_ns = self._node.get_clock().now().nanoseconds
        if self._newest_ns.get("colour", now_ns) > now_ns + BACKWARD_NS:
            self._restart(now_ns)

    def _restart(self, stamp_ns: int) -> None:
        """Drop what was received because time went back to ``stamp_ns``; note whether colour has yet to follow."""
        self._assembler.reset()
        self._arrived_s.clear()
        color_ns = self._newest_ns.get("colour", stamp_ns)
        self._newest_ns = {"colour": color_ns}
        self._restarted_s = time.monotonic() if color_ns > stamp_ns + BACKWARD_NS else -math.inf

    def _emit(self) -> None:
        for parts in self._assembler.pop():
            self.complete += 1
            self.frames.tick()
            self._problem = ""
            self._on_frame(Arrival(parts, self._arrived_s.get(parts.color.stamp_ns, time.monotonic())))
            self._arrived_s = {s: t for s, t in self._arrived_s.items() if s > parts.color.stamp_ns}


def _candidates(topic: str) -> list[str]:
    """A topic's own name, its compressed variants, and the same under RealSense's doubled namespace."""
    names = [topic, f"{topic}/compressed", f"{topic}/compressedDepth"]
    return names + ([f"/camera{name}" for name in names] if topic.startswith("/camera/") else [])
