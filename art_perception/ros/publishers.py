"""What the nodes publish: the object once (description, parts, markers), its state with every image."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import Vector3
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import ColorRGBA, Header, String
from visualization_msgs.msg import Marker, MarkerArray

from art_perception.geometry.camera import unproject
from art_perception.geometry.lie import exp_se3, transform
from art_perception.geometry.screw import closest_on_line, twist_of_joint
from art_perception.ros import convert
from art_perception.ros.inputs import latched
from art_perception.ros.link_frames import Edge, LinkFrames
from art_perception.types import UNLABELLED, Joint, JointType, Part
from art_perception.viz.palette import part_rgb

if TYPE_CHECKING:
    from rclpy.node import Node

    from art_perception.pipeline import Reconstruction  # heavy; the tracker does without

MAX_POINTS = 60_000  # of ~/parts
ARROW_M, SHAFT_M, TEXT_M = 0.3, 0.012, 0.04


def with_absolute_meshes(description: str, folder: Path) -> str:
    """Turn mesh paths relative to the URDF into ``file://`` URIs that RViz and robot_state_publisher resolve."""
    return re.sub(r'filename="(?!/|\w+://)', f'filename="file://{folder.resolve()}/', description)


def give_description(node: Node, state_publisher: str, description: str) -> None:
    """Set the description of a running robot_state_publisher; it publishes the links' frames from joint_states."""
    client: Client[Any, Any] = node.create_client(SetParameters, f"{state_publisher}/set_parameters")
    if not client.wait_for_service(timeout_sec=2.0):
        node.get_logger().warning(f"{client.srv_name} is not there: is {state_publisher} running?")
        return
    value = Parameter("robot_description", Parameter.Type.STRING, description).to_parameter_msg()
    client.call_async(SetParameters.Request(parameters=[value]))


class ObjectPublisher:
    """Publishes a reconstruction so that late joiners get it too."""

    def __init__(self, node: Node) -> None:
        self._description = node.create_publisher(String, "robot_description", latched())
        self._parts = node.create_publisher(PointCloud2, "~/parts", latched())
        self._markers = node.create_publisher(MarkerArray, "~/markers", latched())

    def publish(self, reconstruction: Reconstruction, description: str) -> None:
        """Publish the URDF text with its points and axes."""
        self._description.publish(String(data=description))
        self._parts.publish(parts_cloud(reconstruction))
        self._markers.publish(markers(reconstruction))


class StatePublisher:
    """Publishes joint values, and the object's link frames when tf2_msgs is installed and they are wanted."""

    def __init__(self, node: Node, publish_tf: bool) -> None:
        self._joints = node.create_publisher(JointState, "joint_states", 10)
        self._tf: Any = None
        self._tf_static: Any = None
        if publish_tf:
            self._create_tf(node)

    def publish(self, stamp_ns: int, q: dict[str, float], edges: Iterable[Edge]) -> None:
        """Publish joint values (rad or m) and moving frames, stamped with the image's stamp."""
        self._joints.publish(convert.joint_state(stamp_ns, list(q), np.array(list(q.values()))))
        if self._tf is not None:
            self._tf.publish(self._message(stamp_ns, edges))

    def publish_static(self, stamp_ns: int, frames: LinkFrames) -> None:
        """Publish the frames that never move, once per object."""
        edges = frames.static()
        if self._tf_static is not None and edges:
            self._tf_static.publish(self._message(stamp_ns, edges))

    def _create_tf(self, node: Node) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().warning(
                "tf2_msgs is not installed, so the object's frames are not published on /tf; joint_states are"
            )
            return
        self._message_type = TFMessage
        self._tf = node.create_publisher(TFMessage, "/tf", 100)
        self._tf_static = node.create_publisher(TFMessage, "/tf_static", latched())

    def _message(self, stamp_ns: int, edges: Iterable[Edge]) -> Any:
        return self._message_type(transforms=[convert.transform(stamp_ns, *edge) for edge in edges])


def parts_cloud(reconstruction: Reconstruction) -> PointCloud2:
    """Labelled points of the window's last frame, in the fixed frame."""
    frame, labels = reconstruction.window.frames[-1], reconstruction.motion.labels[-1]
    seen = (labels != UNLABELLED) & (frame.depth_m > 0)
    every = max(1, int(np.ceil(seen.sum() / MAX_POINTS)))
    points = transform(frame.T_world_camera, unproject(frame.depth_m, frame.K)[seen][::every].astype(float))
    head = convert.header(frame.stamp_ns, reconstruction.window.fixed_frame)
    return convert.point_cloud(head, points, frame.color[seen][::every], labels[seen][::every])


def markers(reconstruction: Reconstruction) -> MarkerArray:
    """Axis arrow, swept range and label of every joint, in the fixed frame at zero joint values."""
    window, obj = reconstruction.window, reconstruction.object
    head = convert.header(window.frames[-1].stamp_ns, window.fixed_frame)
    out = [Marker(header=head, action=Marker.DELETEALL)]
    for k, (joint, part) in enumerate(zip(obj.joints, obj.parts[1:], strict=True)):
        out += _joint_markers(head, joint, part, _color(k + 1, joint.valid))
    return MarkerArray(markers=out)


def _color(part: int, valid: bool) -> ColorRGBA:
    r, g, b = (c / 255 for c in part_rgb(part))
    return ColorRGBA(r=r, g=g, b=b, a=1.0 if valid else 0.35)


def _joint_markers(head: Header, joint: Joint, part: Part, color: ColorRGBA) -> list[Marker]:
    centre = part.visual.vertices.mean(0) if len(part.visual.vertices) else joint.origin
    start = closest_on_line(centre, joint.origin, joint.axis) if joint.type is JointType.REVOLUTE else centre
    tip = start + ARROW_M * joint.axis
    arrow = _marker(head, joint, "axis", Marker.ARROW, color, (SHAFT_M, 2 * SHAFT_M, 0.0))
    arrow.points = [convert.point(start), convert.point(tip)]
    sweep = _marker(head, joint, "limits", Marker.LINE_STRIP, color, (SHAFT_M / 3, 0.0, 0.0))
    sweep.points = [convert.point(p) for p in _swept(joint, centre)]
    label = _marker(head, joint, "label", Marker.TEXT_VIEW_FACING, color, (0.0, 0.0, TEXT_M))
    label.text = joint_text(joint)
    label.pose.position = convert.point(tip + TEXT_M * joint.axis)
    return [arrow, sweep, label]


def _marker(
    head: Header, joint: Joint, kind: str, shape: int, color: ColorRGBA, scale: tuple[float, float, float]
) -> Marker:
    marker = Marker(header=head, ns=f"{joint.name}/{kind}", id=0, type=shape, action=Marker.ADD, color=color)
    marker.scale = Vector3(x=scale[0], y=scale[1], z=scale[2])
    marker.pose.orientation.w = 1.0
    return marker


def _swept(joint: Joint, start: np.ndarray, steps: int = 24) -> np.ndarray:
    """Path (steps, 3) of a point of the part from the lower to the upper limit."""
    q = np.linspace(*joint.limits, steps)
    return transform(exp_se3(q[:, None] * twist_of_joint(joint)), start[None])[:, 0]


def joint_text(joint: Joint) -> str:
    """One line about a joint: name, type, range, confidence."""
    low, high = joint.limits
    span = f"{low:.3f}..{high:.3f} m" if joint.type is JointType.PRISMATIC else _degrees(low, high)
    return f"{joint.name} {joint.type.value} {span} ({joint.confidence:.0%}{'' if joint.valid else ', not valid'})"


def _degrees(low: float, high: float) -> str:
    return f"{np.degrees(low):.0f}..{np.degrees(high):.0f} deg"
