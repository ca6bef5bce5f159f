"""Write RGB-D clips, with ground truth when there is some, as rosbag2 recordings."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from art_perception.errors import OutputError
from art_perception.io import encode
from art_perception.io.atomic import atomic_directory
from art_perception.io.storage import TYPESTORE
from art_perception.io.topics import DEFAULT_TOPICS, JOINT_STATES_TOPIC, PART_IDS_TOPIC, ROBOT_DESCRIPTION_TOPIC
from art_perception.types import RgbdFrame

BagFormat = Literal["mcap", "sqlite3"]

CAMERA_FRAME = "camera_color_optical_frame"
_PLUGINS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """Context manager that writes frames into a rosbag2 folder, which appears complete or not at all.

    Args:
        path: folder to create; an earlier recording there is replaced.
        format: storage, mcap or sqlite3.
        fixed_frame: frame of the camera poses.
        color: encoding of the colour images; jpeg (quality 95) is lossy.
        depth: encoding of the depth images; all but 32FC1 round to millimetres.
        robot_description: URDF of the true object, or empty.
        joint_names: the URDF's movable joints, in the order of ``q``.

    Raises:
        OutputError: the folder cannot be written, is no earlier recording, or the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        format: BagFormat = "mcap",
        *,
        fixed_frame: str = "world",
        color: encode.ColorEncoding = "jpeg",
        depth: encode.DepthEncoding = "compressedDepth",
        robot_description: str = "",
        joint_names: tuple[str, ...] = (),
    ) -> None:
        self._path = Path(path)
        self._format = format
        self._fixed_frame = fixed_frame
        self._color = color
        self._depth = depth
        self._robot_description = robot_description
        self._joint_names = joint_names
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        """Start the recording."""
        with ExitStack() as stack:
            folder = stack.enter_context(atomic_directory(self._path, marker="metadata.yaml"))
            folder.rmdir()  # the rosbags writer insists on creating it
            writer = Writer(folder, version=9, storage_plugin=_PLUGINS[self._format])
            if self._format == "mcap":
                writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)  # masks shrink a hundredfold
            self._writer = stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Finish the recording, or drop it when the block failed."""
        try:
            return self._stack.__exit__(kind, error, trace)
        except sqlite3.OperationalError as failure:
            raise self._failed(failure) from failure

    def _failed(self, failure: sqlite3.Error) -> OutputError:
        return OutputError(f"{self._path} cannot be written ({failure}): free some space or choose another folder")

    def write(self, frame: RgbdFrame, part_ids: np.ndarray | None = None, q: np.ndarray | None = None) -> None:
        """Append one frame; every message is stamped and recorded at the frame's stamp.

        Args:
            frame: image, depth, calibration, pose and, when not None, mask.
            part_ids: (H, W) uint8 true part of each pixel: 0 background, 1 static body, 2.. moving parts.
            q: (J,) true joint values, rad or m.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self._write_sensors(frame)
            self._write_truth(frame.stamp_ns, part_ids, q)
        except sqlite3.OperationalError as failure:
            raise self._failed(failure) from failure

    def _write_sensors(self, frame: RgbdFrame) -> None:
        topics, stamp_ns = DEFAULT_TOPICS, frame.stamp_ns
        head = encode.header(stamp_ns, CAMERA_FRAME)
        world = encode.header(stamp_ns, self._fixed_frame)
        self._put(topics.camera_info, stamp_ns, encode.camera_info(head, frame.K, frame.depth_m.shape))
        self._put(topics.pose, stamp_ns, encode.pose_stamped(world, frame.T_world_camera))
        self._put(topics.depth, stamp_ns, encode.depth_image(head, frame.depth_m, self._depth))
        if frame.mask is not None:
            self._put(topics.mask, stamp_ns, encode.image(head, "mono8", frame.mask.astype(np.uint8) * 255))
        self._put(topics.color, stamp_ns, encode.color_image(head, frame.color, self._color))

    def _write_truth(self, stamp_ns: int, part_ids: np.ndarray | None, q: np.ndarray | None) -> None:
        if self._robot_description and ROBOT_DESCRIPTION_TOPIC not in self._connections:
            self._put(ROBOT_DESCRIPTION_TOPIC, stamp_ns, encode.text(self._robot_description), (_LATCHED,))
        if part_ids is not None:
            head = encode.header(stamp_ns, CAMERA_FRAME)
            self._put(PART_IDS_TOPIC, stamp_ns, encode.image(head, "mono8", part_ids.astype(np.uint8)))
        if q is not None:
            head = encode.header(stamp_ns, self._fixed_frame)
            self._put(JOINT_STATES_TOPIC, stamp_ns, encode.joint_state(head, self._joint_names, q))

    def _put(self, topic: str, stamp_ns: int, message: Any, qos: tuple[Qos, ...] = ()) -> None:
        kind = message.__msgtype__
        if kind == "sensor_msgs/msg/CompressedImage":
            topic += "/compressedDepth" if "compressedDepth" in message.format else "/compressed"
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=TYPESTORE, offered_qos_profiles=qos
            )
        self._writer.write(self._connections[topic], stamp_ns, TYPESTORE.serialize_cdr(message, kind))
