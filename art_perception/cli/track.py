"""``art-perception track``: follow a known URDF through a recording."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from art_perception.cli.files import write_text
from art_perception.cli.options import parse
from art_perception.cli.progress import counted
from art_perception.cli.run import Recording
from art_perception.estimation.tracking import Tracker, TrackingConfig, TrackState
from art_perception.io.bag import bag_info
from art_perception.types import ArticulatedObject, JointType, RgbdFrame
from art_perception.urdf.reader import load_urdf


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """Follow a known URDF through a recording: joint values per frame, no network and no reconstruction."""

    urdf: Positional[Path]
    """Any URDF with meshes whose root link is the fixed frame of the camera poses."""
    bag: Positional[Path]
    """Rosbag2 folder, .mcap or .db3 file."""
    out: Path | None = None
    """CSV file for stamp, joint values, quality and whether the object was tracked; none by default."""
    recording: Recording = field(default_factory=Recording)
    config: TrackingConfig = field(default_factory=TrackingConfig)


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = parse(TrackOptions, "track", arguments)
    obj = load_urdf(options.urdf)
    source = options.recording
    info = bag_info(options.bag, source.topics, source.pose_source, source.fixed_frame)
    tracker = Tracker(obj, options.config)
    frames = counted(source.frames(options.bag), info.frame_count, "tracking")
    states, milliseconds = zip(*_timed(tracker, frames), strict=True)
    if options.out is not None:
        write_text(options.out, states_csv(obj, states))
        print(f"states  {options.out.resolve()}")
    print(describe(obj, states, float(np.median(milliseconds))))
    return 0


def _timed(tracker: Tracker, frames: Iterable[RgbdFrame]) -> Iterator[tuple[TrackState, float]]:
    """State of every frame and the milliseconds it took."""
    for frame in frames:
        start = time.perf_counter()
        state = tracker.update(frame)
        yield state, 1e3 * (time.perf_counter() - start)


def states_csv(obj: ArticulatedObject, states: Iterable[TrackState]) -> str:
    """One line per frame: stamp in seconds, joint values (rad, m), quality, tracked."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stamp", *(joint.name for joint in obj.joints), "quality", "tracked"])
    for state in states:
        stamp = f"{state.stamp_ns // 10**9}.{state.stamp_ns % 10**9:09d}"
        writer.writerow([stamp, *(f"{v:.6f}" for v in state.q), f"{state.quality:.3f}", int(state.tracked)])
    return text.getvalue()


def describe(obj: ArticulatedObject, states: tuple[TrackState, ...], milliseconds: float) -> str:
    """Lines for the terminal: how much was tracked and how far each joint moved."""
    tracked = np.array([state.q for state in states if state.tracked])
    lines = [f"tracked {len(tracked)} of {len(states)} frames, {milliseconds:.1f} ms per frame (median)"]
    if len(tracked):
        lines += [_describe_joint(obj, j, tracked[:, j]) for j in range(len(obj.joints))]
    return "\n".join(lines)


def _describe_joint(obj: ArticulatedObject, j: int, q: np.ndarray) -> str:
    scale, unit = (np.degrees(1), "deg") if obj.joints[j].type is JointType.REVOLUTE else (100, "cm")
    return f"{obj.joints[j].name}  {q.min() * scale:.1f} .. {q.max() * scale:.1f} {unit}"
