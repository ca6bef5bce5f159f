"""Recordings for tests: any topic, any message, header stamps and record times chosen apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from art_perception.geometry import lie
from art_perception.io import encode
from art_perception.io.storage import TYPESTORE
from art_perception.types import RgbdFrame

K = np.array([[60.0, 0, 31.5], [0, 62.0, 23.5], [0, 0, 1]])
SHAPE = (48, 64)
PERIOD_NS = 33_333_333
START_NS = 5_000_000_000
OPTICAL = "camera_color_optical_frame"
COLOR = "/camera/color/image_raw"
DEPTH = "/camera/aligned_depth_to_color/image_raw"
INFO = "/camera/color/camera_info"
POSE = "/camera/pose"
MASK = "/object/mask"

Recorded = tuple[str, int, Any]


def make_frames(count: int = 4, *, mask: bool = False, seed: int = 0) -> list[RgbdFrame]:
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        depth_mm = rng.integers(400, 2000, SHAPE)
        depth_mm[:4] = 0
        frames.append(
            RgbdFrame(
                START_NS + i * PERIOD_NS,
                rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8),
                (depth_mm * 1e-3).astype(np.float32),
                K,
                pose_at(START_NS + i * PERIOD_NS),
                rng.random(SHAPE) > 0.5 if mask else None,
            )
        )
    return frames


TWIST = np.array([0.3, -0.1, 0.2, 0.5, -0.9, 0.4])  # per second
T_START = lie.exp_se3(np.array([1.0, 2.0, 0.5, 0.3, 0.2, -0.4]))


def pose_at(stamp_ns: int) -> np.ndarray:
    """Camera pose of a constant-twist motion, which SE(3) interpolation reproduces exactly."""
    return T_START @ lie.exp_se3(TWIST * (stamp_ns - START_NS) * 1e-9)


def messages(frame: RgbdFrame, *, depth: encode.DepthEncoding = "16UC1") -> list[Recorded]:
    """The raw messages of one frame as (topic, record time, message)."""
    head, t = encode.header(frame.stamp_ns, OPTICAL), frame.stamp_ns
    out = [
        (INFO, t, encode.camera_info(head, frame.K, frame.depth_m.shape)),
        (POSE, t, encode.pose_stamped(encode.header(t, "world"), frame.T_world_camera)),
        (COLOR, t, encode.color_image(head, frame.color, "rgb8")),
        (DEPTH, t, encode.depth_image(head, frame.depth_m, depth)),
    ]
    if frame.mask is not None:
        out.append((MASK, t, encode.image(head, "mono8", frame.mask.astype(np.uint8) * 255)))
    return out


def transform(stamp_ns: int, parent: str, child: str, T: np.ndarray) -> Any:
    """tf2_msgs/TFMessage with one transform."""
    p = encode.pose(T)
    stamped = encode.TYPES["geometry_msgs/msg/TransformStamped"](
        header=encode.header(stamp_ns, parent),
        child_frame_id=child,
        transform=encode.TYPES["geometry_msgs/msg/Transform"](
            translation=encode.TYPES["geometry_msgs/msg/Vector3"](x=p.position.x, y=p.position.y, z=p.position.z),
            rotation=p.orientation,
        ),
    )
    return encode.TYPES["tf2_msgs/msg/TFMessage"](transforms=[stamped])


def odometry(stamp_ns: int, parent: str, child: str, T: np.ndarray) -> Any:
    """nav_msgs/Odometry."""
    zero = encode.TYPES["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    twist = encode.TYPES["geometry_msgs/msg/Twist"](linear=zero, angular=zero)
    return encode.TYPES["nav_msgs/msg/Odometry"](
        header=encode.header(stamp_ns, parent),
        child_frame_id=child,
        pose=encode.TYPES["geometry_msgs/msg/PoseWithCovariance"](pose=encode.pose(T), covariance=np.zeros(36)),
        twist=encode.TYPES["geometry_msgs/msg/TwistWithCovariance"](twist=twist, covariance=np.zeros(36)),
    )


def write_bag(path: Path, recorded: Iterable[Recorded], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write (topic, record time, message) triples as they are."""
    connections: dict[str, Any] = {}
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        for topic, record_ns, message in recorded:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPESTORE)
            writer.write(connections[topic], record_ns, TYPESTORE.serialize_cdr(message, kind))
    return path
