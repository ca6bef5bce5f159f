"""Access to rosbag2 recordings (sqlite3 and MCAP) without ROS, with readable errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from art_perception.errors import BagError

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


_LATCHED_TOPICS = ("/tf_static", "/robot_description")


class Bag:
    """An open recording.

    Attributes:
        types: message type of every topic that holds messages.
        counts: number of messages per topic.
        latched: topics recorded as transient local, or that are so by convention.
        duration_s: last minus first record time.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self._reader = reader
        recorded = [c for c in reader.connections if c.msgcount]
        self.types = {c.topic: c.msgtype for c in recorded}
        self.counts = {t: sum(c.msgcount for c in recorded if c.topic == t) for t in self.types}
        self.latched = {c.topic for c in recorded if c.topic.endswith(_LATCHED_TOPICS) or _offers_latched(c)}
        self.duration_s = max(0, reader.duration - 1) * 1e-9

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, Any]]:
        """Topic and message, in record order.

        Raises:
            BagError: the recording is truncated or damaged.
        """
        for topic, _, data in self.raw_messages(topics):
            try:
                message = TYPESTORE.deserialize_cdr(data, self.types[topic])
            except Exception as error:
                raise _unreadable(self.path, error) from error
            yield topic, message

    def raw_messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        """Topic, record time (ns) and serialized message, in record order.

        Raises:
            BagError: the recording is truncated or damaged.
        """
        connections = [c for c in self._reader.connections if c.topic in topics and c.msgcount]
        raw = self._reader.messages(connections) if connections else iter(())
        while True:
            # the rosbags library fails in many ways on damaged files (struct, zstd, sqlite, unicode, type errors)
            try:
                connection, time_ns, data = next(raw)
            except StopIteration:
                return
            except Exception as error:
                raise _unreadable(self.path, error) from error
            yield connection.topic, time_ns, bytes(data)


def _offers_latched(connection: Connection) -> bool:
    profiles = getattr(connection.ext, "offered_qos_profiles", ())
    return any(p.durability is QosDurability.TRANSIENT_LOCAL for p in profiles)


def _unreadable(path: Path, error: Exception) -> BagError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return BagError(
        f"{path} is truncated or damaged ({reason}), expected a complete rosbag2 recording: "
        "record it again, or repair it with `ros2 bag reindex` or `mcap recover`"
    )


def _storage_path(path: Path) -> Path:
    """Folder or file to open; a folder without metadata (the recorder was killed) may hold one readable file."""
    if not path.exists():
        raise BagError(f"{path} does not exist, expected a rosbag2 folder, .mcap or .db3 file: check the path")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = [*path.glob("*.mcap"), *path.glob("*.db3")]
        if len(files) != 1:
            raise BagError(
                f"{path} has no metadata.yaml and {len(files)} .mcap or .db3 files, expected a rosbag2 recording: "
                "name the recording's own folder, or run `ros2 bag reindex` on it"
            )
        return files[0]
    if path.is_file() and path.suffix not in (".mcap", ".db3"):
        raise BagError(
            f"{path} is no rosbag2 recording, expected a folder, .mcap or .db3 file: "
            "convert ROS 1 bags with `rosbags-convert`"
        )
    return path


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """Open a rosbag2 folder or a single .mcap or .db3 file.

    Raises:
        BagError: missing, unreadable or damaged.
    """
    path = Path(path)
    storage = _storage_path(path)
    try:
        reader = Reader(storage)
        reader.open()
    except Exception as error:
        raise _unreadable(path, error) from error
    try:
        yield Bag(path, reader)
    finally:
        reader.close()
