"""ROS messages from plain values, for writing recordings; the counterpart of ``frames`` and ``messages``."""

from __future__ import annotations

import sys
from typing import Any, Literal

import cv2
import numpy as np

from art_perception.geometry import lie
from art_perception.io.storage import TYPESTORE

ColorEncoding = Literal["rgb8", "jpeg", "png"]
DepthEncoding = Literal["16UC1", "32FC1", "compressedDepth"]

TYPES = TYPESTORE.types

_JPEG_FLAGS = (cv2.IMWRITE_JPEG_QUALITY, 95)
_PNG_FLAGS = (cv2.IMWRITE_PNG_COMPRESSION, 1)  # higher levels save little on noisy depth and cost much time
_COMPRESSED_DEPTH_HEADER = bytes(12)  # format and quantisation, unused for 16UC1


def header(stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    stamp = TYPES["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def image(head: Any, encoding: str, pixels: np.ndarray) -> Any:
    """sensor_msgs/Image of (H, W) or (H, W, C) pixels in the machine's byte order."""
    height, width = pixels.shape[:2]
    return TYPES["sensor_msgs/msg/Image"](
        header=head,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=pixels.nbytes // height,
        data=np.ascontiguousarray(pixels).view(np.uint8).reshape(-1),
    )


def _compressed(
    head: Any, format: str, prefix: bytes, extension: str, pixels: np.ndarray, flags: tuple[int, int]
) -> Any:
    data = prefix + cv2.imencode(extension, pixels, flags)[1].tobytes()
    return TYPES["sensor_msgs/msg/CompressedImage"](header=head, format=format, data=np.frombuffer(data, np.uint8))


def color_image(head: Any, rgb: np.ndarray, encoding: ColorEncoding) -> Any:
    """Image or CompressedImage of (H, W, 3) uint8 RGB; jpeg is lossy."""
    if encoding == "rgb8":
        return image(head, encoding, rgb)
    flags = _JPEG_FLAGS if encoding == "jpeg" else _PNG_FLAGS
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return _compressed(head, f"rgb8; {encoding} compressed bgr8", b"", f".{encoding}", bgr, flags)


def depth_image(head: Any, depth_m: np.ndarray, encoding: DepthEncoding) -> Any:
    """Image or compressedDepth of (H, W) metres, 0 = no measurement; all but 32FC1 round to millimetres."""
    if encoding == "32FC1":
        return image(head, encoding, np.where(depth_m > 0, depth_m, np.nan).astype(np.float32))
    millimetres = np.clip(np.rint(depth_m * 1e3), 0, 65535).astype(np.uint16)
    if encoding == "16UC1":
        return image(head, encoding, millimetres)
    return _compressed(head, "16UC1; compressedDepth png", _COMPRESSED_DEPTH_HEADER, ".png", millimetres, _PNG_FLAGS)


def camera_info(head: Any, K: np.ndarray, shape: tuple[int, ...]) -> Any:
    """sensor_msgs/CameraInfo of a rectified (height, width) image."""
    roi = TYPES["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return TYPES["sensor_msgs/msg/CameraInfo"](
        header=head,
        height=shape[0],
        width=shape[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.asarray(K, np.float64).ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([K, np.zeros((3, 1))]).astype(np.float64).ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def text(value: str) -> Any:
    """std_msgs/String."""
    return TYPES["std_msgs/msg/String"](data=value)


def pose(T: np.ndarray) -> Any:
    """geometry_msgs/Pose of a rigid transform (4, 4)."""
    w, x, y, z = (float(v) for v in lie.quaternion_from_matrix(np.asarray(T, np.float64)[:3, :3]))
    px, py, pz = (float(v) for v in T[:3, 3])
    return TYPES["geometry_msgs/msg/Pose"](
        position=TYPES["geometry_msgs/msg/Point"](x=px, y=py, z=pz),
        orientation=TYPES["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
    )


def pose_stamped(head: Any, T: np.ndarray) -> Any:
    """geometry_msgs/PoseStamped of a rigid transform (4, 4)."""
    return TYPES["geometry_msgs/msg/PoseStamped"](header=head, pose=pose(T))


def joint_state(head: Any, names: tuple[str, ...], q: np.ndarray) -> Any:
    """sensor_msgs/JointState with positions (J,) only."""
    positions, none = np.asarray(q, np.float64), np.zeros(0)
    return TYPES["sensor_msgs/msg/JointState"](
        header=head, name=list(names), position=positions, velocity=none, effort=none
    )
