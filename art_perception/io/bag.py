"""Read RGB-D clips and their ground truth from rosbag2 recordings, without ROS and in constant memory."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from art_perception.errors import BagError
from art_perception.io import messages
from art_perception.io.assemble import FrameAssembler, FrameParts, PoseSource
from art_perception.io.bag_writer import BagWriter as BagWriter
from art_perception.io.frames import decode_labels
from art_perception.io.storage import Bag, open_bag
from art_perception.io.topics import DEFAULT_TOPICS, JOINT_STATES_TOPIC, PART_IDS_TOPIC, ROBOT_DESCRIPTION_TOPIC
from art_perception.io.topics import Topics as Topics
from art_perception.types import RgbdFrame

log = logging.getLogger(__name__)

_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO_TYPES = ("sensor_msgs/msg/CameraInfo",)
_POSE_TYPES = ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")
_ODOMETRY_TYPES = ("nav_msgs/msg/Odometry",)
_TF_TYPES = ("tf2_msgs/msg/TFMessage",)
_TF_SCAN = 2000  # messages looked at to find the root of the transform tree


@dataclass(frozen=True, slots=True)
class BagInfo:
    """What a recording holds.

    Attributes:
        fixed_frame: frame the camera poses are given in.
        camera_frame: colour optical frame.
        frame_count: number of colour images; fewer frames come out when some have no depth or no pose.
        duration_s: last minus first record time.
        width, height: size of the colour images, pixels.
        has_mask, has_ground_truth: whether mask and ground-truth topics are there.
    """

    fixed_frame: str
    camera_frame: str
    frame_count: int
    duration_s: float
    width: int
    height: int
    has_mask: bool
    has_ground_truth: bool


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """What the recording says about the object's true motion.

    Attributes:
        robot_description: URDF text, root link = the fixed frame.
        stamps_ns: (F,) int64.
        joint_names: movable joints.
        positions: (F, J) joint values, rad or m.
    """

    robot_description: str
    stamps_ns: np.ndarray
    joint_names: tuple[str, ...]
    positions: np.ndarray


def _candidates(name: str) -> tuple[str, ...]:
    """A topic's own name, its compressed variants, and the same under RealSense's doubled namespace."""
    names = [name, f"{name}/compressedDepth", f"{name}/compressed"]
    return (*names, *(f"/camera{n}" for n in names if n.startswith("/camera/")))


def _find(bag: Bag, name: str, types: tuple[str, ...]) -> str | None:
    return next((c for c in _candidates(name) if bag.types.get(c) in types), None)


def _require(bag: Bag, what: str, name: str, types: tuple[str, ...], remedy: str) -> str:
    found = _find(bag, name, types)
    if found is None:
        seen = ", ".join(sorted(t for t, kind in bag.types.items() if kind in types)) or "none"
        expected = " or ".join(kind.split("/")[-1] for kind in types)
        raise BagError(f"{bag.path} has no {what} on {name} (its topics of type {expected}: {seen}): {remedy}")
    return found


Handler = Callable[[Any], None]


def _image_handlers(bag: Bag, topics: Topics, out: FrameAssembler) -> dict[str, Handler]:
    rename = "record it, or give its name"
    align = f"{rename}; on a RealSense start the driver with align_depth.enable:=true"
    handlers: dict[str, Handler] = {
        _require(bag, "colour", topics.color, _IMAGE_TYPES, rename): lambda m: out.push_color(messages.image(m)),
        _require(bag, "depth", topics.depth, _IMAGE_TYPES, align): lambda m: out.push_depth(messages.image(m)),
        _require(bag, "camera info", topics.camera_info, _INFO_TYPES, rename): lambda m: out.push_camera(
            messages.camera_model(m)
        ),
    }
    mask = _find(bag, topics.mask, _IMAGE_TYPES)
    if mask is not None:
        handlers[mask] = lambda m: out.push_mask(messages.image(m))
    return handlers


def _pose_handlers(bag: Bag, topics: Topics, pose_source: PoseSource, out: FrameAssembler) -> dict[str, Handler]:
    if pose_source == "static":
        return {}
    if pose_source == "topic":
        remedy = "record the camera pose, or choose pose_source odom, tf or static"
        return {_require(bag, "camera pose", topics.pose, _POSE_TYPES, remedy): lambda m: _push_pose(m, out)}
    static: dict[str, Handler] = {topics.tf_static: lambda m: _push_static_transforms(m, out)}
    if pose_source == "odom":
        name = topics.odom if _find(bag, topics.odom, _ODOMETRY_TYPES) else topics.pose
        remedy = f"record {topics.odom}, or choose pose_source topic, tf or static"
        return {_require(bag, "odometry", name, _ODOMETRY_TYPES, remedy): lambda m: _push_odometry(m, out)} | static
    return {topics.tf: lambda m: _push_transforms(m, out)} | static


def _push_pose(m: Any, out: FrameAssembler) -> None:
    pose = m.pose.pose if hasattr(m.pose, "pose") else m.pose
    out.push_pose(m.header.frame_id, messages.stamp_ns(m.header), messages.pose(pose))


def _push_odometry(m: Any, out: FrameAssembler) -> None:
    T, stamp_ns = messages.pose(m.pose.pose), messages.stamp_ns(m.header)
    out.push_odometry(m.header.frame_id, m.child_frame_id, stamp_ns, T)


def _push_transforms(m: Any, out: FrameAssembler) -> None:
    for t in m.transforms:
        stamp_ns = messages.stamp_ns(t.header)
        out.push_transform(t.header.frame_id, t.child_frame_id, stamp_ns, messages.transform(t.transform))


def _push_static_transforms(m: Any, out: FrameAssembler) -> None:
    for t in m.transforms:
        out.push_static_transform(t.header.frame_id, t.child_frame_id, messages.transform(t.transform))


def _tf_root(bag: Bag, topics: Topics) -> str:
    """Topmost frame above the colour camera, from the first messages of the recording."""
    color = _require(bag, "colour", topics.color, _IMAGE_TYPES, "record it, or give its name")
    if bag.types.get(topics.tf) not in _TF_TYPES and bag.types.get(topics.tf_static) not in _TF_TYPES:
        raise BagError(
            f"{bag.path} has no camera pose: neither {topics.tf} nor {topics.tf_static} is recorded: "
            "record them, or choose pose_source topic, odom or static"
        )
    _, first = next(bag.messages((color,)))
    frame, parents = first.header.frame_id, {}
    for _, m in itertools.islice(bag.messages((topics.tf, topics.tf_static)), _TF_SCAN):
        parents.update({t.child_frame_id: t.header.frame_id for t in m.transforms})
    seen: set[str] = set()
    while frame in parents and frame not in seen:
        seen.add(frame)
        frame = parents[frame]
    return frame


def _parts(
    bag: Bag, topics: Topics, pose_source: PoseSource, fixed_frame: str
) -> Iterator[tuple[FrameParts, FrameAssembler]]:
    """Complete frames, still encoded, with the assembler that made them."""
    if pose_source == "tf" and not fixed_frame:
        fixed_frame = _tf_root(bag, topics)
    out = FrameAssembler(pose_source, fixed_frame, has_mask=_find(bag, topics.mask, _IMAGE_TYPES) is not None)
    handlers = _pose_handlers(bag, topics, pose_source, out) | _image_handlers(bag, topics, out)
    count = 0
    for topic, message in bag.messages(handlers):
        handlers[topic](message)
        for parts in out.pop():
            count += 1
            yield parts, out
    for parts in out.flush():
        count += 1
        yield parts, out
    if count == 0:
        raise BagError(f"{bag.path} gives no frame: {out.problem}")
    if out.dropped:
        log.warning("%s: %d of %d colour images skipped: %s", bag.path, out.dropped, out.dropped + count, out.problem)


def read_frames(
    path: Path | str, topics: Topics = DEFAULT_TOPICS, pose_source: PoseSource = "topic", fixed_frame: str = ""
) -> Iterator[RgbdFrame]:
    """Read a clip frame by frame.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        topics: topic names.
        pose_source: where camera poses come from: topic, odom, tf or static (the camera stands still).
        fixed_frame: frame of the camera poses; by default the poses' own frame, for tf the root of the tree.

    Yields:
        Rectified frames in time order.

    Raises:
        BagError: the recording is missing or damaged, lacks a topic, or has no usable depth or mask at all.
        FrameError: a message in it cannot be used.
    """
    has_depth = has_mask = False
    mask_seen = False
    with open_bag(path) as bag:
        for parts, _ in _parts(bag, topics, pose_source, fixed_frame):
            frame = parts.decode()
            has_depth |= bool(frame.depth_m.any())
            mask_seen |= frame.mask is not None
            has_mask |= frame.mask is not None and bool(frame.mask.any())
            yield frame
    if not has_depth:
        raise BagError(f"{path} has depth images without any measurement (all zero): check the depth camera")
    if mask_seen and not has_mask:
        raise BagError(
            f"{path} has an empty mask in every frame on {topics.mask}: mark the object, or leave the topic out"
        )


def bag_info(
    path: Path | str, topics: Topics = DEFAULT_TOPICS, pose_source: PoseSource = "topic", fixed_frame: str = ""
) -> BagInfo:
    """Summarise a clip from its index and its first frame.

    Raises:
        BagError: as for ``read_frames``.
        FrameError: the first frame cannot be used.
    """
    with open_bag(path) as bag:
        parts, assembler = next(_parts(bag, topics, pose_source, fixed_frame))
        height, width = parts.decode().depth_m.shape
        color = _find(bag, topics.color, _IMAGE_TYPES)
        return BagInfo(
            fixed_frame=assembler.fixed_frame,
            camera_frame=parts.color.frame_id,
            frame_count=bag.counts[color] if color else 0,
            duration_s=bag.duration_s,
            width=width,
            height=height,
            has_mask=_find(bag, topics.mask, _IMAGE_TYPES) is not None,
            has_ground_truth=JOINT_STATES_TOPIC in bag.types,
        )


def read_ground_truth(path: Path | str) -> GroundTruth | None:
    """Read the true object and joint values; None when the recording has none.

    Raises:
        BagError: missing or damaged recording.
    """
    description, stamps, rows = "", [], []
    names: tuple[str, ...] = ()
    with open_bag(path) as bag:
        if ROBOT_DESCRIPTION_TOPIC not in bag.types or JOINT_STATES_TOPIC not in bag.types:
            return None
        for topic, m in bag.messages((ROBOT_DESCRIPTION_TOPIC, JOINT_STATES_TOPIC)):
            if topic == ROBOT_DESCRIPTION_TOPIC:
                description = m.data
                continue
            names = names or tuple(m.name)
            value = dict(zip(m.name, m.position, strict=True))
            stamps.append(messages.stamp_ns(m.header))
            rows.append([value[n] for n in names])
    return GroundTruth(description, np.array(stamps, np.int64), names, np.array(rows, np.float64))


def read_part_ids(path: Path | str) -> Iterator[tuple[int, np.ndarray]]:
    """Read the true part number of every pixel.

    Yields:
        Stamp in nanoseconds and (H, W) uint8: 0 background, 1 static body, 2.. moving parts in the order of the URDF's
        movable joints. Nothing when the recording has no such topic.

    Raises:
        BagError: missing or damaged recording.
    """
    with open_bag(path) as bag:
        for _, m in bag.messages((PART_IDS_TOPIC,)):
            image = messages.image(m)
            yield image.stamp_ns, decode_labels(image, "part_ids")
