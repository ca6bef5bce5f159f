"""Arrays to ROS messages, fast.

Sequences of bytes must be ``array.array('B')``: assigning an ndarray or bytes to ``data`` makes rclpy visit every byte.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, TransformStamped
from sensor_msgs.msg import JointState, PointCloud2, PointField
from std_msgs.msg import Header

from art_perception.geometry.lie import quaternion_from_matrix

POINT_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("part", "<u1")])
_POINT_TYPES = {"<f4": PointField.FLOAT32, "|u1": PointField.UINT8}


def stamp(stamp_ns: int) -> Time:
    """Time message of integer nanoseconds."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame: str) -> Header:
    """Header of a stamp in nanoseconds and a frame."""
    return Header(stamp=stamp(stamp_ns), frame_id=frame)


def byte_array(values: np.ndarray) -> array[int]:
    """Copy the bytes of a C-contiguous array into the container that message fields take without a check per byte."""
    out = array("B")
    out.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return out


def point_cloud(head: Header, points: np.ndarray, colors: np.ndarray, part: np.ndarray) -> PointCloud2:
    """Build an unordered cloud with the fields x, y, z, rgb, part.

    Args:
        head: stamp and frame.
        points: (N, 3) metres.
        colors: (N, 3) uint8 RGB.
        part: (N,) part number, 0 static body.
    """
    cloud = np.zeros(len(points), POINT_DTYPE)
    cloud["x"], cloud["y"], cloud["z"] = np.asarray(points, np.float32).reshape(-1, 3).T
    r, g, b = np.asarray(colors, np.uint32).reshape(-1, 3).T
    cloud["rgb"] = r << 16 | g << 8 | b
    cloud["part"] = part
    fields = [
        # rgb is declared as a float whose bits are the colour: the convention RViz and PCL read
        PointField(name=name, offset=offset, datatype=_POINT_TYPES.get(dtype.str, PointField.FLOAT32), count=1)
        for name, (dtype, offset, *_) in (POINT_DTYPE.fields or {}).items()
    ]
    return PointCloud2(
        header=head,
        height=1,
        width=len(cloud),
        fields=fields,
        is_bigendian=False,
        point_step=POINT_DTYPE.itemsize,
        row_step=POINT_DTYPE.itemsize * len(cloud),
        data=byte_array(cloud),
        is_dense=True,
    )


def joint_state(stamp_ns: int, names: Sequence[str], positions: np.ndarray) -> JointState:
    """Joint positions (J,), rad or m; name and position always have the same length."""
    return JointState(header=header(stamp_ns, ""), name=list(names), position=array("d", positions.astype(float)))


def transform(stamp_ns: int, parent: str, child: str, T_parent_child: np.ndarray) -> TransformStamped:
    """Stamped transform of a rigid (4, 4)."""
    out = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    w, x, y, z = (float(v) for v in quaternion_from_matrix(T_parent_child[:3, :3]))
    t, r = out.transform.translation, out.transform.rotation
    t.x, t.y, t.z = (float(v) for v in T_parent_child[:3, 3])
    r.w, r.x, r.y, r.z = w, x, y, z
    return out


def point(p: np.ndarray) -> Point:
    """Point message of (3,) metres."""
    return Point(x=float(p[0]), y=float(p[1]), z=float(p[2]))
