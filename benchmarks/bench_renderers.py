"""Accuracy on clips of other renderers: what `art-perception evaluate` makes of objects that MuJoCo or Blender draws.

    python -m benchmarks.bench_renderers --renderer mujoco --assets DIR --out OUT --split val --clips 24 --publish

Simulators share their author's blind spots. Looks, lights, cameras, motions and depth noise are not those of
`art-perception simulate`: MuJoCo's OpenGL with hard shadows (needs EGL; a second per clip), or Blender's path tracing
with soft shadows and bounced light (needs `pip install --no-deps bpy==4.2.0`; five minutes per clip); a camera that
stands, travels or sways, depth with the errors of a stereo camera. Clips are kept in OUT, scores appended to
OUT/scores.jsonl; a second run with the same OUT goes on where the first one stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import tyro
from scipy.ndimage import gaussian_filter

from art_perception.cli.evaluate import Job, evaluate_clip
from art_perception.cli.run import Recording
from art_perception.cli.scores import require_truth
from art_perception.data.model import SimObject
from art_perception.data.motion import look_at
from art_perception.data.partnet import load_asset
from art_perception.data.strokes import observable_joints
from art_perception.data.truth import robot_description
from art_perception.eval.benchmark import from_json, read_assets, to_json
from art_perception.eval.scoring import ClipScore, moving_joints
from art_perception.eval.tables import markdown_lines
from art_perception.geometry.kinematics import displacements, with_base
from art_perception.geometry.lie import exp_so3, transform
from art_perception.io.bag import BagWriter
from art_perception.io.results import code_version
from art_perception.pipeline import Config
from art_perception.types import JointType, RgbdFrame
from benchmarks.publish import published
from benchmarks.room import HEIGHT, WIDTH, Room

SETS = {
    "one joint, mask": (1, True),
    "two joints, mask": (2, True),
    "one joint, no mask": (1, False),
}
COLUMNS = ("clips", "joints", "success %", "mIoU, mean / median", "axis deg, median", "position cm, median", "missed")
_BASELINE_M = 0.055  # of the stereo pair that is imitated


if TYPE_CHECKING:
    from benchmarks import blender_scene, mujoco_scene

    Scene = blender_scene.Scene | mujoco_scene.Scene

Renderer = Literal["mujoco", "blender"]
_TITLES: dict[Renderer, str] = {"mujoco": "MuJoCo", "blender": "Blender"}


@dataclass(frozen=True, slots=True)
class Options:
    """Measure accuracy on clips of another renderer."""

    renderer: Renderer
    """Which program draws them."""
    assets: Path
    """Asset collection with an index.json."""
    out: Path
    """Folder for clips and scores; a run that was interrupted goes on from what is there."""
    split: str = "val"
    """Objects of which split."""
    clips: int = 12
    """Clips with one moving joint and a mask; half as many of the others."""
    seed: int = 0
    """Of objects, looks, motions and noise."""
    publish: bool = False
    """Write the table into docs/benchmarks.md."""


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """What moves in a clip and how it is filmed, object frame.

    Attributes:
        moving: joints; q: (T, J) joint values.
        T_object_part: (T, P, 4, 4); T_object_camera: (T, 4, 4).
        azimuth: of the camera; swept: (2, 3) bounds of all that the object ever fills; radius: half their diagonal.
    """

    moving: tuple[int, ...]
    q: np.ndarray
    T_object_part: np.ndarray
    T_object_camera: np.ndarray
    azimuth: float
    swept: np.ndarray

    @property
    def radius(self) -> float:
        """Half the diagonal of what is swept, metres."""
        return float(np.linalg.norm(self.swept[1] - self.swept[0]) / 2)


def main() -> None:
    """Render and score what is missing, then write the table."""
    options = tyro.cli(Options, description=__doc__)
    published(options.renderer, lambda: run(options), options.publish)


def run(options: Options) -> str:
    """Render and score what is missing; return the section of the document.

    Raises:
        ObjectError: there are no assets.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "scores.jsonl"
    done = {json.loads(line)["clip"] for line in store.read_text().splitlines()} if store.exists() else set()
    assets = read_assets(options.assets, options.split)
    for title, (count, masked) in SETS.items():
        wanted = options.clips if (count, masked) == (1, True) else (options.clips + 1) // 2
        rng = np.random.default_rng([options.seed, count, masked])
        order = [assets[i] for i in rng.permutation(len(assets))]
        for i in range(20 * wanted):
            if wanted == 0:
                break
            asset = order[i % len(order)]
            name = f"{asset.category}_{asset.folder.name}_m{count}{'' if masked else '_bare'}_s{options.seed}_{i}"
            if name not in done:
                score = measure(
                    options.renderer, asset.folder, options.out / name, [options.seed, count, masked, i], count, masked
                )
                if score is None:
                    continue
                with store.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"clip": name, "set": title, "score": to_json(score)}) + "\n")
            wanted -= 1
    return section(options, [json.loads(line) for line in store.read_text().splitlines()])


def scenes_of(renderer: Renderer) -> type[Scene]:
    """The scenes of a renderer, which is imported only when it is asked for."""
    if renderer == "mujoco":
        from benchmarks import mujoco_scene

        return mujoco_scene.Scene
    from benchmarks import blender_scene

    return blender_scene.Scene


def measure(renderer: Renderer, asset: Path, bag: Path, seed: list[int], count: int, masked: bool) -> ClipScore | None:
    """Render a clip, unless it is there, and score what the pipeline makes of it; None when too few joints show."""
    rng = np.random.default_rng(seed)
    if not bag.exists() and not render(scenes_of(renderer), load_asset(asset), bag, rng, count, masked):
        return None
    truth = require_truth(bag)
    if len(moving_joints(truth)) < count:
        return None
    score = evaluate_clip(Job(bag.name, bag, truth, bag.with_name(bag.name + "_result")), Config(), Recording())
    print(f"{bag.name}: success {score.success}, mIoU {score.miou:.2f} {score.error or ''}", flush=True)
    return score


def render(scenes: type[Scene], obj: SimObject, bag: Path, rng: np.random.Generator, count: int, masked: bool) -> bool:
    """Write a clip; False when fewer than ``count`` joints of the object can be seen moving."""
    pool = observable_joints(obj) or tuple(range(len(obj.joints)))
    if len(pool) < count:
        return False
    frames, rate = int(rng.integers(*scenes.frames)), float(rng.choice([10, 15, 30]))
    f = WIDTH * rng.uniform(0.8, 1.1)
    cx, cy = (WIDTH - 1) / 2 + rng.normal(0, 4), (HEIGHT - 1) / 2 + rng.normal(0, 4)
    K = np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = exp_so3(np.array([0, 0, rng.uniform(-np.pi, np.pi)])), rng.uniform(-1, 1, 3)
    scene, take = _best_view(scenes, obj, T, K, frames, pool, count, rng)
    level, gain = float(rng.choice([0, 1, 2])), rng.uniform(0.8, 1.2)
    color, depth = rng.choice(["jpeg", "rgb8"]), rng.choice(["16UC1", "32FC1", "compressedDepth"])
    writer = BagWriter(
        bag, color=color, depth=depth, robot_description=robot_description(obj, T), joint_names=obj.joint_names
    )
    with writer as out:
        for t in range(frames):
            scene.pose(take.T_object_part[t], take.T_object_camera[t])
            ids = scene.part_ids()
            image = scene.color() * (gain * (1 + 0.02 * np.sin(t / 7))) + 2 * rng.normal(size=(HEIGHT, WIDTH, 3))
            frame = RgbdFrame(
                int(1e9 + t / rate * 1e9),
                np.clip(image, 0, 255).astype(np.uint8),
                stereo_depth(scene.depth(), f, level, rng),
                K,
                T @ take.T_object_camera[t],
                ids > 0 if masked else None,
            )
            out.write(frame, ids, take.q[t])
    scene.close()
    return True


def _best_view(
    scenes: type[Scene],
    obj: SimObject,
    T_world_object: np.ndarray,
    K: np.ndarray,
    frames: int,
    pool: tuple[int, ...],
    count: int,
    rng: np.random.Generator,
) -> tuple[Scene, Take]:
    """The first of ten takes that shows base and moving parts on 2 % of the image each, else the best of them."""
    best: tuple[float, Scene, Take] | None = None
    for _ in range(10):
        take = _take(obj, K[0, 0], frames, pool, count, rng)
        wall_m = take.radius * rng.uniform(1.2, 2) if rng.random() < 0.6 else None
        room = Room(K, take.azimuth, take.swept, wall_m, int(rng.integers(0, 6)))
        scene = scenes(obj, T_world_object, room, rng)
        seen = []
        for t in np.linspace(0, frames - 1, 4).astype(int):
            scene.pose(take.T_object_part[t], take.T_object_camera[t])
            ids = scene.part_ids()
            seen.append([(ids == k).mean() for k in (1, *(j + 2 for j in take.moving))])
        share = float(np.mean(seen, 0).min())
        if best is None or share > best[0]:
            if best is not None:
                best[1].close()
            best = share, scene, take
        else:
            scene.close()
        if share > 0.02:
            break
    assert best is not None
    return best[1], best[2]


def _take(obj: SimObject, f: float, frames: int, pool: tuple[int, ...], count: int, rng: np.random.Generator) -> Take:
    moving = tuple(int(j) for j in rng.choice(pool, count, replace=False))
    q = _motion(obj, moving, frames, rng)
    T_part = with_base(displacements(obj.chain, q))
    swept = np.concatenate([_swept(obj, T_part, k) for k in range(len(obj.parts))])
    bounds = np.stack([swept.min(0), swept.max(0)])
    centre, radius = bounds.mean(0), float(np.linalg.norm(bounds[1] - bounds[0])) / 2
    toward = np.concatenate([_swept(obj, T_part, j + 1) for j in moving]).mean(0) - centre
    azimuth = float(np.arctan2(toward[1], toward[0]) + rng.normal(0, 0.8))
    distance = np.clip(radius / (min(WIDTH, HEIGHT) / f / 2) * rng.uniform(0.7, 1.15), 0.3, 3)
    return Take(moving, q, T_part, _cameras(centre, radius, distance, azimuth, frames, rng), azimuth, bounds)


def _swept(obj: SimObject, T_part: np.ndarray, part: int) -> np.ndarray:
    """Vertices (n, 3) of a part in every sixth frame."""
    return transform(T_part[::6, part], obj.parts[part].vertices).reshape(-1, 3)


def _motion(obj: SimObject, moving: tuple[int, ...], frames: int, rng: np.random.Generator) -> np.ndarray:
    """Joint values (T, J): together or by turns; in one go, evenly, with a pause, or half the way back."""
    q = np.tile([np.clip(0, *j.limits) for j in obj.joints], (frames, 1)).astype(float)
    u, together = np.linspace(0, 1, frames), rng.random() < 0.5
    for n, j in enumerate(moving):
        low, high = obj.joints[j].limits
        size = float(np.ptp(obj.parts[j + 1].vertices, axis=0).max())
        most = min(high - low, 0.8 * size if obj.joints[j].type is JointType.PRISMATIC else 1.9)
        start = q[0, j]
        sign = 1 if high - start >= start - low else -1
        begin, end = rng.uniform(0, 0.15), rng.uniform(0.8, 1)
        if not together:
            begin, end = (n + begin) / len(moving), (n + end) / len(moving)
        x = (u - begin) / (end - begin)
        ways = [
            _min_jerk(x),
            np.clip(x, 0, 1),
            0.5 * _min_jerk(2.5 * x) + 0.5 * _min_jerk(2.5 * (x - 0.6)),
            _min_jerk(1.7 * x) - 0.5 * _min_jerk(2.5 * (x - 0.6)),
        ]
        path = start + sign * most * rng.uniform(0.45, 1) * ways[rng.integers(4)]
        q[:, j] = np.clip(path[::-1] if rng.random() < 0.3 and (together or len(moving) == 1) else path, low, high)
    return q


def _min_jerk(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 as an arm moves (Flash & Hogan, 1985)."""
    x = np.clip(x, 0, 1)
    return x**3 * (10 - 15 * x + 6 * x * x)


def _cameras(
    centre: np.ndarray, radius: float, distance: float, azimuth: float, frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Poses (T, 4, 4) of a camera that stands still, travels on an arc or sways."""
    sway = np.stack([gaussian_filter(rng.normal(size=frames), 6) for _ in range(6)], 1)
    sway /= np.abs(sway).max(0)
    style = rng.integers(3)
    arc, amount = (0.0, 0.0) if style == 0 else (rng.uniform(-0.6, 0.6), 0.02) if style == 1 else (0.0, 0.06)
    elevation = rng.uniform(0.15, 0.9)
    sway *= amount
    a = azimuth + arc * np.linspace(-0.5, 0.5, frames) + sway[:, 0]
    e = elevation + sway[:, 1]
    out = np.stack([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)], -1)
    eye = centre + distance * (1 + 0.5 * sway[:, 2:3]) * out
    eye[:, 2] = np.maximum(eye[:, 2], 0.05)
    return look_at(eye, centre + 0.5 * radius * sway[:, 3:6], 0.3 * sway[:, 5])


def stereo_depth(depth_m: np.ndarray, f: float, level: float, rng: np.random.Generator) -> np.ndarray:
    """Depth (H, W) as a stereo camera gives it: noise of the disparity, alone and in patches, steps of 1/16 px, holes.

    Holes are at depth edges, on surfaces seen at a grazing angle, and here and there.
    """
    exact = np.where(depth_m > 8, 0, depth_m).astype(float)
    if level == 0:
        return exact.astype(np.float32)
    shape = exact.shape
    noise = 0.6 * rng.normal(size=shape) + 5 * gaussian_filter(rng.normal(size=shape), 2)
    disparity = f * _BASELINE_M / np.maximum(exact, 0.1) + 0.06 * level * noise
    depth = f * _BASELINE_M / np.maximum(np.round(16 * disparity) / 16, 1e-3)
    edge = np.abs(np.diff(exact, axis=1, append=exact[:, -1:])) > 0.03 * np.maximum(exact, 0.1)
    edge = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    slope = np.hypot(*np.gradient(exact)) / np.maximum(exact, 0.1) * f
    patches = gaussian_filter(rng.normal(size=shape), 6) * 6 * np.sqrt(4 * np.pi) > 3.3
    lost = (edge & (rng.random(shape) < 0.7)) | (slope > 6) | patches | (exact == 0)
    return np.where(lost, 0, depth).astype(np.float32)


def section(options: Options, stored: list[dict]) -> str:
    """The section of docs/benchmarks.md."""
    lines = [list(COLUMNS)]
    for title in SETS:
        scores = [from_json(r["score"]) for r in stored if r["set"] == title]
        if scores:
            lines.append([f"{title}: {len(scores)}", *_row(scores)])
    title, frames = _TITLES[options.renderer], scenes_of(options.renderer).frames
    return (
        f"## {title}\n\n"
        f"Objects of the {options.split} split, rendered by {title} (`benchmarks/{options.renderer}_scene.py`), "
        f"{frames[0]} to {frames[1] - 1} frames of 640x480 at 10 to 30 Hz, masks exact where there are any; medians "
        "are of the joints found. "
        f"`python -m benchmarks.bench_renderers --renderer {options.renderer} --assets DIR --out OUT "
        f"--split {options.split} --clips {options.clips} --seed {options.seed}`, commit {code_version()[:12]}.\n\n"
        f"{markdown_lines(lines)}"
    )


def _row(scores: list[ClipScore]) -> list[str]:
    joints = [j for s in scores for j in s.joints]
    right = [j for j in joints if j.success]
    missed = [f"{s.clip.split('_')[0]} {j.name}" for s in scores for j in s.joints if not j.success]
    miou = [s.miou for s in scores]
    place = [j.position_cm for j in right if j.position_cm is not None]
    return [
        str(len(joints)),
        f"{100 * len(right) / max(len(joints), 1):.0f}",
        f"{np.mean(miou):.2f} / {np.median(miou):.2f}",
        f"{np.median([j.axis_deg for j in right]):.2f}" if right else "-",
        f"{np.median(place):.2f}" if place else "-",
        ", ".join(missed) or "none",
    ]


if __name__ == "__main__":
    main()
