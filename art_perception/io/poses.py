"""Camera poses over time: interpolated on SE(3), chained through a tree of frames, never extrapolated far."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from art_perception.errors import FrameError
from art_perception.geometry import lie

HISTORY_NS = 10_000_000_000
EXTRAPOLATION_NS = 20_000_000  # the nearest pose stands in for a stamp this far outside the recorded range
MAX_GAP_NS = 500_000_000


class PoseTrack:
    """A moving transform, sampled at increasing stamps; keeps the last ten seconds."""

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._poses: list[np.ndarray] = []

    @property
    def newest_ns(self) -> int:
        """Stamp of the newest sample."""
        return self._stamps[-1]

    def push(self, stamp_ns: int, T: np.ndarray) -> None:
        """Add a sample (4, 4); late ones are sorted in, a repeated stamp replaces the old sample."""
        i = bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            self._poses[i] = T
            return
        self._stamps.insert(i, stamp_ns)
        self._poses.insert(i, T)
        while self._stamps[0] < self._stamps[-1] - HISTORY_NS:
            del self._stamps[0], self._poses[0]

    def at(self, stamp_ns: int) -> np.ndarray:
        """Transform (4, 4) at ``stamp_ns``, on the geodesic between its neighbours.

        Raises:
            FrameError: the stamp lies outside the samples, or in a gap between them.
        """
        i = bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            return self._poses[i]
        if i in (0, len(self._stamps)):
            return self._at_end(stamp_ns, -1 if i else 0)
        before, after = self._stamps[i - 1], self._stamps[i]
        if after - before > MAX_GAP_NS:
            raise FrameError(
                f"the camera poses have a gap of {(after - before) * 1e-9:.2f} s around an image "
                f"(at most {MAX_GAP_NS * 1e-9:.1f} s): publish the pose at a higher rate"
            )
        return lie.interpolate(self._poses[i - 1], self._poses[i], (stamp_ns - before) / (after - before))

    def _at_end(self, stamp_ns: int, end: int) -> np.ndarray:
        distance = abs(stamp_ns - self._stamps[end])
        if distance > EXTRAPOLATION_NS:
            raise FrameError(
                f"an image is {distance * 1e-9:.3f} s {'after the last' if end else 'before the first'} camera pose "
                f"and poses are not extrapolated beyond {EXTRAPOLATION_NS * 1e-9:.2f} s: "
                "record the poses for the whole clip and on the same clock as the images"
            )
        return self._poses[end]


class TransformTree:
    """Named frames connected by moving and static transforms, as on /tf and /tf_static."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._moving: dict[str, PoseTrack] = {}
        self._static: dict[str, np.ndarray] = {}

    def push(self, parent: str, child: str, stamp_ns: int, T_parent_child: np.ndarray) -> None:
        """Add a sample of a moving transform."""
        self._parents[child] = parent
        self._moving.setdefault(child, PoseTrack()).push(stamp_ns, T_parent_child)

    def push_static(self, parent: str, child: str, T_parent_child: np.ndarray) -> None:
        """Set a transform that holds at all times."""
        self._parents[child] = parent
        self._static[child] = T_parent_child

    def forget_motion(self) -> None:
        """Drop the moving transforms, e.g. when time jumps; the static ones stay."""
        self._moving.clear()
        self._parents = {child: parent for child, parent in self._parents.items() if child in self._static}

    def root(self, frame: str) -> str:
        """Topmost ancestor of ``frame``."""
        return list(self._ancestors(frame))[-1]

    def newest_ns(self, fixed: str, frame: str) -> int | None:
        """Stamp up to which ``at`` interpolates between the two frames; None when they are not connected."""
        edges = self._edges(fixed, frame)
        if edges is None:
            return None
        return min((self._moving[e].newest_ns for e in edges[0] + edges[1] if e in self._moving), default=2**63)

    def at(self, fixed: str, frame: str, stamp_ns: int) -> np.ndarray:
        """Pose (4, 4) of ``frame`` in ``fixed`` at ``stamp_ns``.

        Raises:
            FrameError: the frames are not connected, or the stamp is outside the recorded transforms.
        """
        edges = self._edges(fixed, frame)
        if edges is None:
            known = ", ".join(f"{parent} -> {child}" for child, parent in self._parents.items()) or "none"
            raise FrameError(
                f"no transform connects '{fixed}' to the images' frame '{frame}' (transforms seen: {known}): "
                "record /tf and /tf_static with the camera's frames, or name another fixed frame"
            )
        T_top_fixed, T_top_frame = (self._product(side, stamp_ns) for side in edges)
        return lie.inverse(T_top_fixed) @ T_top_frame

    def _ancestors(self, frame: str) -> Iterator[str]:
        seen = set()
        while frame not in seen:
            yield frame
            seen.add(frame)
            frame = self._parents.get(frame, frame)

    def _edges(self, fixed: str, frame: str) -> tuple[list[str], list[str]] | None:
        """Children on the way from each frame up to their nearest common ancestor."""
        up_fixed, up_frame = list(self._ancestors(fixed)), list(self._ancestors(frame))
        for i, name in enumerate(up_frame):
            if name in up_fixed:
                return up_fixed[: up_fixed.index(name)], up_frame[:i]
        return None

    def _product(self, edges: list[str], stamp_ns: int) -> np.ndarray:
        T = np.eye(4)
        for child in edges:
            T = (self._moving[child].at(stamp_ns) if child in self._moving else self._static[child]) @ T
        return T
