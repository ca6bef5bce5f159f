"""Pair colour, depth, calibration, mask and camera pose of one instant out of independent streams.

The bag reader and the ROS nodes feed the same class, so a clip gives the same frames either way. Push what arrives, in
any order between streams; ``pop`` returns what is complete. Nothing is decoded here: that is ``FrameParts.decode``,
which a node calls on its worker thread.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Generic, Literal, Protocol, TypeVar, get_args

import numpy as np

from art_perception.errors import FrameError
from art_perception.io.frames import make_frame
from art_perception.io.messages import AnyImage, CameraModel
from art_perception.io.poses import TransformTree
from art_perception.types import RgbdFrame

PoseSource = Literal["topic", "odom", "tf", "static"]

MAX_OFFSET_NS = 50_000_000
DEFAULT_PERIOD_NS = 33_333_333
_CAMERA = "<camera>"  # child frame of poses that are the optical frame's own


class TimeJumpError(FrameError):
    """Colour stamps went backwards: the clip looped or the clock was reset."""


class _Stamped(Protocol):
    @property
    def stamp_ns(self) -> int: ...


log = logging.getLogger(__name__)
S = TypeVar("S", bound=_Stamped)


class _Stream(Generic[S]):
    """Messages of one topic, sorted by stamp."""

    def __init__(self) -> None:
        self._items: list[S] = []

    def push(self, item: S) -> None:
        stamps = [i.stamp_ns for i in self._items]
        self._items.insert(bisect_left(stamps, item.stamp_ns), item)

    def reached(self, stamp_ns: int) -> bool:
        return bool(self._items) and self._items[-1].stamp_ns >= stamp_ns

    def nearest(self, stamp_ns: int) -> S | None:
        return min(self._items, key=lambda i: abs(i.stamp_ns - stamp_ns), default=None)

    def forget_before(self, stamp_ns: int) -> None:
        """Drop old messages but the newest one."""
        self._items = [i for i in self._items[:-1] if i.stamp_ns >= stamp_ns] + self._items[-1:]


@dataclass(frozen=True, slots=True, eq=False)
class FrameParts:
    """The messages of one instant, still encoded; see ``frames.make_frame`` for the fields."""

    color: AnyImage
    depth: AnyImage
    camera: CameraModel
    T_world_camera: np.ndarray
    mask: AnyImage | None

    def decode(self) -> RgbdFrame:
        """Decode and check (milliseconds for VGA).

        Raises:
            FrameError: anything in the messages is unusable.
        """
        return make_frame(self.color, self.depth, self.camera, self.T_world_camera, self.mask)


class FrameAssembler:
    """Streams in, complete frames out, in time order and with bounded memory.

    Args:
        pose_source: where camera poses come from: the optical frame's own pose (topic), a robot's odometry plus static
            transforms (odom), transforms only (tf), or a camera that stands still (static).
        fixed_frame: frame of the camera poses; required for tf, otherwise taken from the messages.
        has_mask: wait for masks as well.
        patience_s: a colour image older than the newest one by this much waits no longer.

    Attributes:
        fixed_frame: frame of the camera poses, empty until known.
        has_mask: as above; may change while running.
        dropped: colour images that found no partner or no pose.
        problem: why the last of them was dropped.
    """

    def __init__(
        self,
        pose_source: PoseSource = "topic",
        fixed_frame: str = "",
        *,
        has_mask: bool = False,
        patience_s: float = 1.0,
    ) -> None:
        if pose_source not in get_args(PoseSource):
            raise FrameError(f"pose_source is '{pose_source}': choose one of {', '.join(get_args(PoseSource))}")
        if pose_source == "tf" and not fixed_frame:
            raise FrameError("pose_source is tf without a fixed frame: name the camera poses' frame, e.g. map or odom")
        self.fixed_frame = fixed_frame
        self.dropped = 0
        self.problem = ""
        self._pose_source = pose_source
        self.has_mask = has_mask
        self._patience_ns = round(patience_s * 1e9)
        self._tree = TransformTree()
        self._newest_ns: int | None = None
        self._warned = False
        self._clear()

    def _clear(self) -> None:
        self._color: deque[AnyImage] = deque()
        self._depth: _Stream[AnyImage] = _Stream()
        self._mask: _Stream[AnyImage] = _Stream()
        self._camera: _Stream[CameraModel] = _Stream()
        self._periods_ns: deque[int] = deque([DEFAULT_PERIOD_NS], maxlen=15)

    def reset(self) -> None:
        """Forget everything but static transforms, e.g. after a time jump."""
        self._clear()
        self._newest_ns = None
        self._tree.forget_motion()

    def push_color(self, image: AnyImage) -> None:
        """Add a colour image.

        Raises:
            TimeJumpError: its stamp lies before the previous one's; call ``reset`` to go on.
        """
        if self._newest_ns is not None:
            if image.stamp_ns == self._newest_ns:
                self._drop(f"two colour images have the stamp {image.stamp_ns * 1e-9:.3f} s: stamp them when captured")
                return
            if image.stamp_ns < self._newest_ns:
                raise TimeJumpError(
                    f"time goes backwards: a colour image stamped {image.stamp_ns * 1e-9:.3f} s follows one stamped "
                    f"{self._newest_ns * 1e-9:.3f} s, expected increasing stamps: cut the recording where it restarts"
                )
            self._periods_ns.append(image.stamp_ns - self._newest_ns)
        self._newest_ns = image.stamp_ns
        self._color.append(image)

    def push_depth(self, image: AnyImage) -> None:
        """Add a depth image."""
        self._depth.push(image)

    def push_mask(self, image: AnyImage) -> None:
        """Add an object mask."""
        self._mask.push(image)

    def push_camera(self, camera: CameraModel) -> None:
        """Add a calibration."""
        self._camera.push(camera)

    def push_pose(self, parent: str, stamp_ns: int, T_parent_camera: np.ndarray) -> None:
        """Add a pose (4, 4) of the colour optical frame.

        Raises:
            FrameError: the poses' own frame changed.
        """
        self.push_odometry(parent, _CAMERA, stamp_ns, T_parent_camera)

    def push_odometry(self, parent: str, child: str, stamp_ns: int, T_parent_child: np.ndarray) -> None:
        """Add a pose (4, 4) of a frame that static transforms connect to the camera.

        Raises:
            FrameError: the poses' own frame changed.
        """
        parent = parent or "world"
        if self.fixed_frame and parent != self.fixed_frame:
            raise FrameError(
                f"camera poses are given in '{parent}' and in '{self.fixed_frame}', expected one fixed frame: "
                "record the poses of a single localisation node"
            )
        self.fixed_frame = parent
        self._tree.push(parent, child, stamp_ns, T_parent_child)

    def push_transform(self, parent: str, child: str, stamp_ns: int, T_parent_child: np.ndarray) -> None:
        """Add a sample of a moving transform (4, 4) from /tf."""
        self._tree.push(parent, child, stamp_ns, T_parent_child)

    def push_static_transform(self, parent: str, child: str, T_parent_child: np.ndarray) -> None:
        """Add a transform (4, 4) from /tf_static."""
        self._tree.push_static(parent, child, T_parent_child)

    def pop(self) -> list[FrameParts]:
        """Frames that became complete, oldest first."""
        return self._take(final=False)

    def flush(self) -> list[FrameParts]:
        """The remaining frames once no more messages will come."""
        return self._take(final=True)

    def _drop(self, problem: str) -> None:
        self.dropped += 1
        self.problem = problem

    def _take(self, final: bool) -> list[FrameParts]:
        out = []
        while self._color and (final or self._is_ready(self._color[0])):
            color = self._color.popleft()
            try:
                out.append(self._match(color))
            except FrameError as error:
                self._drop(str(error))
        if self._newest_ns is not None:
            oldest_ns = (self._color[0].stamp_ns if self._color else self._newest_ns) - self._patience_ns
            for stream in (self._depth, self._mask, self._camera):
                stream.forget_before(oldest_ns)
        return out

    def _is_ready(self, color: AnyImage) -> bool:
        assert self._newest_ns is not None
        stamp = color.stamp_ns
        if self._newest_ns - stamp > self._patience_ns:
            return True
        # calibration often comes once only: wait for its own stamp no longer than until the next image
        camera = self._camera.nearest(stamp)
        has_camera = camera is not None and (camera.stamp_ns == stamp or self._newest_ns > stamp)
        has_mask = not self.has_mask or self._mask.reached(stamp)
        return has_camera and has_mask and self._depth.reached(stamp) and self._has_pose(color)

    def _has_pose(self, color: AnyImage) -> bool:
        if self._pose_source == "static":
            return True
        newest = self._tree.newest_ns(self.fixed_frame, self._camera_frame(color))
        return newest is not None and newest >= color.stamp_ns

    def _camera_frame(self, color: AnyImage) -> str:
        return _CAMERA if self._pose_source == "topic" else color.frame_id

    def _match(self, color: AnyImage) -> FrameParts:
        tolerance_ns = min(median(self._periods_ns) / 2, MAX_OFFSET_NS)
        depth, camera = self._depth.nearest(color.stamp_ns), self._camera.nearest(color.stamp_ns)
        if depth is None or abs(depth.stamp_ns - color.stamp_ns) > tolerance_ns:
            seen = "none was seen" if depth is None else f"nearest {abs(depth.stamp_ns - color.stamp_ns) * 1e-9:.3f} s"
            raise FrameError(
                f"a colour image has no depth image within {tolerance_ns * 1e-6:.0f} ms ({seen}): "
                "publish depth at the rate and on the clock of colour"
            )
        if camera is None:
            raise FrameError("no camera_info arrived with the images: publish it, or check its topic name")
        if depth.frame_id != color.frame_id and not self._warned:
            self._warned = True
            log.warning(
                "depth is in frame '%s' but colour in '%s': is it registered to colour?", depth.frame_id, color.frame_id
            )
        mask = self._mask.nearest(color.stamp_ns)
        if mask is not None and abs(mask.stamp_ns - color.stamp_ns) > tolerance_ns:
            mask = None
        return FrameParts(color, depth, camera, self._pose(color), mask)

    def _pose(self, color: AnyImage) -> np.ndarray:
        if self._pose_source == "static":
            self.fixed_frame = self.fixed_frame or color.frame_id or "world"
            return np.eye(4)
        return self._tree.at(self.fixed_frame, self._camera_frame(color), color.stamp_ns)
