"""ROS message fields as plain values.

The functions read attributes only, so they accept messages of rclpy and of the rosbags library alike, and nothing here
imports either. Pixel buffers are views of the message's data, never copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from art_perception.errors import FrameError
from art_perception.geometry import lie


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """The fields of sensor_msgs/Image; ``data`` is (step * height,) uint8."""

    stamp_ns: int
    frame_id: str
    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: bool
    data: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """The fields of sensor_msgs/CompressedImage; ``data`` is (bytes,) uint8."""

    stamp_ns: int
    frame_id: str
    format: str
    data: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class CameraModel:
    """The fields of sensor_msgs/CameraInfo that matter: K is (3, 3), distortion is (n,) in the model's own order."""

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    K: np.ndarray
    distortion: np.ndarray
    distortion_model: str


AnyImage = RawImage | EncodedImage


def stamp_ns(header: Any) -> int:
    """Nanoseconds of a std_msgs/Header."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def image(message: Any) -> AnyImage:
    """Read sensor_msgs/Image or sensor_msgs/CompressedImage."""
    header, data = message.header, np.frombuffer(message.data, np.uint8)
    if hasattr(message, "format"):
        return EncodedImage(stamp_ns(header), header.frame_id, message.format, data)
    return RawImage(
        stamp_ns(header),
        header.frame_id,
        message.encoding,
        int(message.height),
        int(message.width),
        int(message.step),
        bool(message.is_bigendian),
        data,
    )


def camera_model(message: Any) -> CameraModel:
    """Read sensor_msgs/CameraInfo."""
    return CameraModel(
        stamp_ns(message.header),
        message.header.frame_id,
        int(message.height),
        int(message.width),
        np.array(message.k, np.float64).reshape(3, 3),
        np.array(message.d, np.float64),
        message.distortion_model,
    )


def pose(message: Any) -> np.ndarray:
    """Rigid transform (4, 4) of a geometry_msgs/Pose.

    Raises:
        FrameError: the pose holds NaN or a quaternion that is no rotation.
    """
    p, q = message.position, message.orientation
    return _rigid((p.x, p.y, p.z), (q.w, q.x, q.y, q.z))


def transform(message: Any) -> np.ndarray:
    """Rigid transform (4, 4) of a geometry_msgs/Transform.

    Raises:
        FrameError: the transform holds NaN or a quaternion that is no rotation.
    """
    p, q = message.translation, message.rotation
    return _rigid((p.x, p.y, p.z), (q.w, q.x, q.y, q.z))


def _rigid(position: tuple[float, ...], wxyz: tuple[float, ...]) -> np.ndarray:
    t, q = np.array(position, np.float64), np.array(wxyz, np.float64)
    if not (np.isfinite(t).all() and np.isfinite(q).all()):
        raise FrameError(
            f"a camera pose holds NaN or infinity (position {t.tolist()}, quaternion wxyz {q.tolist()}): "
            "the localisation lost track; cut that part out of the recording or record again"
        )
    if abs(np.linalg.norm(q) - 1) > 0.1:
        raise FrameError(
            f"a camera pose has the quaternion wxyz {q.tolist()}, expected unit length: "
            "check the node that publishes the camera pose"
        )
    return lie.from_rotation_translation(lie.matrix_from_quaternion(q), t)
