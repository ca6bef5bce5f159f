"""What a camera does wrong, one thing at a time: what `art-perception evaluate` makes of disturbed recordings.

    python -m benchmarks.bench_disturbed --out OUT                       # procedural objects, needs nothing
    python -m benchmarks.bench_disturbed --out OUT --bags BAG BAG --publish

Every recording is written once more for each disturbance, evaluated and deleted. Scores are appended to
OUT/scores.jsonl; a second run with the same OUT goes on where the first one stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tyro
from scipy.ndimage import gaussian_filter

from art_perception.cli.evaluate import Job, evaluate_clip
from art_perception.cli.run import Recording
from art_perception.cli.scores import require_truth
from art_perception.data.config import SimulateConfig
from art_perception.eval.benchmark import from_json, procedural_clips, to_json
from art_perception.eval.scoring import ClipScore
from art_perception.eval.tables import markdown_lines
from art_perception.io.bag import read_frames, read_ground_truth, read_part_ids
from art_perception.io.bag_writer import BagWriter
from art_perception.io.results import code_version
from art_perception.pipeline import Config
from art_perception.types import RgbdFrame
from benchmarks.bench_accuracy import Job as Rendering
from benchmarks.bench_accuracy import render
from benchmarks.publish import published

_BASELINE_M = 0.05  # of the stereo pair whose steps are imitated
_OWN = ("cabinet", "laptop", "drawer_table", "microwave")  # kinds of the recordings that are rendered without --bags


@dataclass(frozen=True, slots=True)
class Options:
    """Measure accuracy on recordings with one thing wrong each."""

    out: Path
    """Folder for scores; a run that was interrupted goes on from what is there."""
    bags: tuple[Path, ...] = ()
    """Recordings with ground truth; without any, procedural objects are rendered."""
    publish: bool = False
    """Write the table into docs/benchmarks.md."""


Frames = list[RgbdFrame]


def as_recorded(frames: Frames, _: np.random.Generator) -> Frames:
    """Nothing is changed."""
    return frames


def poses_late(frames: Frames, _: np.random.Generator) -> Frames:
    """Camera poses are those of the frame before."""
    return [replace(f, T_world_camera=frames[max(0, i - 1)].T_world_camera) for i, f in enumerate(frames)]


def depth_late(frames: Frames, _: np.random.Generator) -> Frames:
    """Depth is that of the frame before."""
    return [replace(f, depth_m=frames[max(0, i - 1)].depth_m) for i, f in enumerate(frames)]


def misaligned(frames: Frames, _: np.random.Generator) -> Frames:
    """Colour lies 3 pixels to the right and 2 down of depth."""
    return [replace(f, color=np.roll(f.color, (2, 3), (0, 1))) for f in frames]


def holes(frames: Frames, rng: np.random.Generator) -> Frames:
    """No depth within 2 pixels of edges and in blotches, 15 % of the image, that differ from frame to frame."""
    out = []
    for f in frames:
        blotches = gaussian_filter(rng.normal(size=f.depth_m.shape), 8)
        gone = (blotches > np.quantile(blotches, 0.85)) | _edge(f.depth_m, 2)
        out.append(replace(f, depth_m=np.where(gone, np.float32(0), f.depth_m)))
    return out


def flying_pixels(frames: Frames, rng: np.random.Generator) -> Frames:
    """Most depth at edges is a mean of both sides."""
    out = []
    for f in frames:
        mixed = _edge(f.depth_m, 1) & (f.depth_m > 0) & (rng.random(f.depth_m.shape) < 0.7)
        out.append(replace(f, depth_m=np.where(mixed, cv2.blur(f.depth_m, (5, 5)), f.depth_m)))
    return out


def depth_noise(frames: Frames, rng: np.random.Generator) -> Frames:
    """4 mm at 1 m and growing with its square, alike in neighbouring pixels."""
    out = []
    for f in frames:
        ripple = gaussian_filter(rng.normal(size=f.depth_m.shape), 1.5)
        wrong = 0.004 * f.depth_m**2 * ripple / ripple.std()
        out.append(replace(f, depth_m=np.where(f.depth_m > 0, f.depth_m + wrong, 0).astype(np.float32)))
    return out


def depth_steps(frames: Frames, _: np.random.Generator) -> Frames:
    """Disparity of a 5 cm stereo pair in steps of an eighth of a pixel."""
    out = []
    for f in frames:
        scale = 8 * f.K[0, 0] * _BASELINE_M
        steps = np.round(scale / np.maximum(f.depth_m, 0.05))
        out.append(replace(f, depth_m=np.where(f.depth_m > 0, scale / np.maximum(steps, 1), 0).astype(np.float32)))
    return out


def dark(frames: Frames, rng: np.random.Generator) -> Frames:
    """A third of the light, that flickers by 15 %, and much noise."""
    out = []
    for i, f in enumerate(frames):
        image = 0.3 * (1 + 0.15 * np.sin(2.1 * i)) * f.color + 8 * rng.normal(size=f.color.shape)
        out.append(replace(f, color=np.clip(image, 0, 255).astype(np.uint8)))
    return out


def blurred(frames: Frames, _: np.random.Generator) -> Frames:
    """Colour is smeared over 9 pixels."""
    return [replace(f, color=cv2.blur(f.color, (9, 1))) for f in frames]


def exposure(frames: Frames, _: np.random.Generator) -> Frames:
    """Brightness more than doubles from the first frame to the last."""
    gains = np.linspace(0.6, 1.4, len(frames))
    return [replace(f, color=np.clip(g * f.color, 0, 255).astype(np.uint8)) for g, f in zip(gains, frames, strict=True)]


def bad_masks(frames: Frames, _: np.random.Generator) -> Frames:
    """Masks are two frames late and 6 pixels too wide, every third 2 too narrow; of no mask, nothing is changed."""
    out = []
    for i, f in enumerate(frames):
        late = frames[max(0, i - 2)].mask
        if late is not None:
            image, wide, narrow = late.astype(np.uint8), np.ones((13, 13), np.uint8), np.ones((5, 5), np.uint8)
            late = (cv2.dilate(image, wide) if i % 3 else cv2.erode(image, narrow)) > 0
        out.append(replace(f, mask=late))
    return out


def no_masks(frames: Frames, _: np.random.Generator) -> Frames:
    """There are no masks."""
    return [replace(f, mask=None) for f in frames]


def wrong_focal_length(frames: Frames, _: np.random.Generator) -> Frames:
    """The focal length is 2 % and the centre 4 pixels off."""
    wrong = np.array([[1.02, 1, 1], [1, 1.02, 1], [1, 1, 1]])
    off = np.array([[0, 0, 4], [0, 0, -4], [0, 0, 0]])
    return [replace(f, K=f.K * wrong + off) for f in frames]


def wrong_depth_scale(frames: Frames, _: np.random.Generator) -> Frames:
    """Depth is 1.5 % too far."""
    return [replace(f, depth_m=f.depth_m * np.float32(1.015)) for f in frames]


def few_frames(frames: Frames, _: np.random.Generator) -> Frames:
    """Every fourth frame."""
    return frames[::4]


DISTURBANCES: tuple[Callable[[Frames, np.random.Generator], Frames], ...] = (
    as_recorded,
    poses_late,
    depth_late,
    misaligned,
    holes,
    flying_pixels,
    depth_noise,
    depth_steps,
    dark,
    blurred,
    exposure,
    bad_masks,
    no_masks,
    wrong_focal_length,
    wrong_depth_scale,
    few_frames,
)


def _edge(depth_m: np.ndarray, reach: int) -> np.ndarray:
    """Pixels (H, W) within ``reach`` of which depth leaves a plane by more than 1.5 %."""
    edge = np.zeros(depth_m.shape, bool)
    for axis in (0, 1):
        sides = np.stack([np.roll(depth_m, reach, axis), np.roll(depth_m, -reach, axis)])
        known = (sides > 0).all(0) & (depth_m > 0)
        edge |= known & (np.abs(sides.mean(0) - depth_m) > 0.015 * depth_m)
    return edge


def main() -> None:
    """Measure what is missing, then write the table."""
    options = tyro.cli(Options, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    published("disturbed", lambda: run(options), options.publish)


def run(options: Options) -> str:
    """Score what is missing; return the section of the document.

    Raises:
        BagError: a recording is missing or damaged, or has no ground truth.
    """
    store = options.out / "scores.jsonl"
    stored = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    done = {(r["disturbance"], r["clip"]) for r in stored}
    for bag in options.bags or own_bags(options.out):
        for disturb in DISTURBANCES:
            if (disturb.__name__, bag.name) in done:
                continue
            score = measure(bag, disturb)
            print(f"{bag.name}, {disturb.__name__}: success {score.success}, mIoU {score.miou:.2f}", flush=True)
            stored.append({"disturbance": disturb.__name__, "clip": bag.name, "score": to_json(score)})
            with store.open("a", encoding="utf-8") as out:
                out.write(json.dumps(stored[-1]) + "\n")
    return section(stored)


def own_bags(out: Path) -> Sequence[Path]:
    """Recordings of procedural objects, rendered unless they are there."""
    specs = procedural_clips(_OWN, len(_OWN), 1, 0)
    for spec in specs:
        if not (out / spec.name).exists():
            render(Rendering(spec, (), SimulateConfig(), Config()), out / spec.name)
    return [out / spec.name for spec in specs]


def measure(bag: Path, disturb: Callable[[Frames, np.random.Generator], Frames]) -> ClipScore:
    """Score what the pipeline makes of a recording after ``disturb``."""
    with tempfile.TemporaryDirectory(prefix="bench_") as name:
        copy = Path(name) / bag.name
        write_disturbed(bag, copy, disturb)
        job = Job(f"{bag.name}_{disturb.__name__}", copy, require_truth(copy), Path(name) / "result")
        return evaluate_clip(job, Config(), Recording())


def write_disturbed(bag: Path, copy: Path, disturb: Callable[[Frames, np.random.Generator], Frames]) -> None:
    """Record ``bag`` once more, disturbed, with its ground truth."""
    truth, ids = read_ground_truth(bag), dict(read_part_ids(bag))
    assert truth is not None
    with BagWriter(copy, robot_description=truth.robot_description, joint_names=truth.joint_names) as out:
        for frame in disturb(list(read_frames(bag)), np.random.default_rng(0)):
            at = int(np.abs(truth.stamps_ns - frame.stamp_ns).argmin())
            out.write(frame, ids[frame.stamp_ns], truth.positions[at])


def section(stored: Sequence[dict]) -> str:
    """The section of docs/benchmarks.md."""
    clips = list(dict.fromkeys(r["clip"] for r in stored))
    lines = [["disturbance", "joints right", "axis deg, median", "position cm, median", "mIoU", "joints too many"]]
    for disturb in DISTURBANCES:
        scores = [from_json(r["score"]) for r in stored if r["disturbance"] == disturb.__name__]
        if scores:
            lines.append([(disturb.__doc__ or "").rstrip("."), *_row(scores)])
    return (
        "## Recordings with one thing wrong\n\n"
        f"Recordings: {', '.join(clips)}; a joint that was missed counts 90 deg and 100 cm. "
        f"`python -m benchmarks.bench_disturbed --out OUT --bags ...`, commit {code_version()[:12]}.\n\n"
        f"{markdown_lines(lines)}"
    )


def _row(scores: Sequence[ClipScore]) -> list[str]:
    joints = [joint for score in scores for joint in score.joints]
    places = [joint.position_cm for joint in joints if joint.position_cm is not None]
    return [
        f"{sum(joint.success for joint in joints)} of {len(joints)}",
        f"{np.median([joint.axis_deg for joint in joints]):.2f}",
        f"{np.median(places):.2f}" if places else "-",
        f"{np.mean([score.miou for score in scores]):.2f}",
        str(sum(score.spurious for score in scores)),
    ]


if __name__ == "__main__":
    main()
