"""``art-perception run``: a recorded bag in, a result folder out.

The bag is read twice, each time as a stream: once to fill the window that the object is reconstructed from, once more,
when the window had no room for every frame, to follow the object through the frames in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from art_perception.cli.options import parse
from art_perception.cli.progress import stage_bar
from art_perception.cli.states import joint_values
from art_perception.estimation.window import WindowBuffer
from art_perception.io.assemble import PoseSource
from art_perception.io.atomic import atomic_directory
from art_perception.io.bag import bag_info, read_frames
from art_perception.io.results import Result
from art_perception.io.topics import Topics
from art_perception.pipeline import Config, Progress, Reconstruction, collected, reconstruct
from art_perception.types import Joint, JointType, PriorUse, RgbdFrame, Window
from art_perception.urdf.writer import URDF_FILE
from art_perception.viz.report import REPORT_FILE
from art_perception.viz.save import write_folder

READ, RECONSTRUCTED, TRACKED = 0.15, 0.75, 0.9  # share of the work that is done after each pass, for the bar


@dataclass(frozen=True, slots=True)
class Recording:
    """How to read a bag."""

    topics: Topics = field(default_factory=Topics)
    pose_source: PoseSource = "topic"
    """Where camera poses come from; static = the camera stands still."""
    fixed_frame: str = ""
    """Frame of the camera poses; empty = the poses' own, or the root of the transform tree."""

    def frames(self, bag: Path) -> Iterator[RgbdFrame]:
        """Stream the frames of ``bag``."""
        return read_frames(bag, self.topics, self.pose_source, self.fixed_frame)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Turn a recorded bag into a URDF with meshes, joint states and a report."""

    bag: Positional[Path]
    """Rosbag2 folder, .mcap or .db3 file."""
    out: Path
    """Folder for the result; an earlier result there is replaced."""
    name: str = "object"
    """Name of the object in the URDF."""
    category: str = ""
    """What the object is, short for --config.prior.category: its shape prior stands in where nothing moved."""
    recording: Recording = field(default_factory=Recording)
    config: Config = field(default_factory=Config)


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What a run found, and where it was written."""

    urdf: Path
    reconstruction: Reconstruction
    result: Result


def main(arguments: list[str]) -> int:
    """Entry point of the command."""
    options = parse(RunOptions, "run", arguments)
    config = with_category(options.config, options.category)
    with stage_bar() as progress:
        outcome = run_bag(options.bag, options.out, config, options.recording, options.name, progress)
    print(describe(outcome))
    return 0


def with_category(config: Config, category: str) -> Config:
    """Settings with the category of the object, if one is given."""
    return replace(config, prior=replace(config.prior, category=category)) if category else config


def run_bag(
    bag: Path,
    out: Path,
    config: Config | None = None,
    recording: Recording | None = None,
    name: str = "object",
    progress: Progress | None = None,
) -> RunResult:
    """Reconstruct the object in a recording and write the result folder, completely or not at all.

    Args:
        bag: rosbag2 folder, .mcap or .db3 file.
        out: folder to create or replace.
        config: settings of all stages.
        recording: topic names and pose source.
        name: name of the object in the URDF.
        progress: called with (stage, fraction done).

    Raises:
        BagError, FrameError: the recording cannot be used.
        MotionError: nothing moved, or too little, and no category was given.
        OutputError: ``out`` cannot be written.
    """
    config, recording, progress = config or Config(), recording or Recording(), progress or _silent
    start = time.perf_counter()
    with atomic_directory(out) as folder:
        window, count = read_window(bag, config, recording, progress)
        read = time.perf_counter()
        found = reconstruct(window, config, name, _between(progress, READ, RECONSTRUCTED))
        reconstructed = time.perf_counter()
        stamps_s, q = np.array([frame.stamp_s for frame in found.window.frames]), found.motion.q
        if count > len(window.frames) and not found.guessed:
            frames = _reporting(recording.frames(bag), "tracking", progress, RECONSTRUCTED, TRACKED, count)
            stamps_s, q = joint_values(found, frames, config.tracking)
        done = time.perf_counter()
        seconds = {"reading": read - start, **found.seconds, "tracking": done - reconstructed, "total": done - start}
        frame, joints, correction = window.fixed_frame, found.object.joints, found.window.correction
        result = Result(frame, str(bag), joints, stamps_s, q, seconds, prior=found.prior, correction=correction)
        progress("writing", TRACKED)
        write_folder(folder, found, result)
    return RunResult(Path(out) / URDF_FILE, found, result)


def read_window(bag: Path, config: Config, recording: Recording, progress: Progress) -> tuple[Window, int]:
    """Stream a bag into a window; also return how many frames the bag has.

    Raises:
        BagError, FrameError: the recording cannot be used.
    """
    info = bag_info(bag, recording.topics, recording.pose_source, recording.fixed_frame)
    buffer = WindowBuffer(collected(config), info.fixed_frame)
    count = 0
    for frame in _reporting(recording.frames(bag), "reading", progress, 0.0, READ, info.frame_count):
        buffer.push(frame)
        count += 1
    return buffer.window(), count


def describe(outcome: RunResult) -> str:
    """Lines for the terminal: where the URDF is and which joints were found."""
    result = outcome.result
    lines = [f"URDF    {outcome.urdf.resolve()}", f"report  {outcome.urdf.resolve().with_name(REPORT_FILE)}"]
    if result.prior.used != "none":
        lines.append(describe_prior(result.prior))
    if result.correction.rms_m:
        lines.append(f"camera  poses corrected by {result.correction}: they disagreed with what stands still")
    lines += [_describe_joint(joint, q) for joint, q in zip(result.joints, result.q.T, strict=True)]
    return "\n".join([*lines, f"{len(result.stamps_s)} frames in {result.seconds['total']:.1f} s"])


def describe_prior(use: PriorUse) -> str:
    """One line on what is the shape prior's and not measured."""
    what = "parts and joints are" if use.used == "all" else "what was never seen is"
    score = "" if use.score is None else f", which agrees with {use.score:.0%} of what was measured"
    return f"prior   {what} those of a typical {use.category}{score}: {use.reason}"


def _describe_joint(joint: Joint, q: np.ndarray) -> str:
    scale, unit = (np.degrees(1), "deg") if joint.type is JointType.REVOLUTE else (100, "cm")
    axis, origin = (" ".join(f"{v:.3f}" for v in vector) for vector in (joint.axis, joint.origin))
    verdict = "valid" if joint.valid else "NOT VALID"
    return (
        f"{joint.name}  {joint.type.value} {joint.parent} -> {joint.child}, moved {np.ptp(q) * scale:.1f} {unit}, "
        f"axis ({axis}), origin ({origin}) m, {verdict}, confidence {joint.confidence:.2f}"
    )


def _silent(stage: str, fraction: float) -> None:
    """Report to nobody."""


def _between(progress: Progress, low: float, high: float) -> Progress:
    """Map a pass's own fraction to its share of the whole."""
    return lambda stage, fraction: progress(stage, low + (high - low) * fraction)


def _reporting(
    frames: Iterable[RgbdFrame], stage: str, progress: Progress, low: float, high: float, count: int
) -> Iterator[RgbdFrame]:
    """Pass frames through and report each."""
    for i, frame in enumerate(frames):
        progress(stage, low + (high - low) * min(i / max(count, 1), 1.0))
        yield frame
