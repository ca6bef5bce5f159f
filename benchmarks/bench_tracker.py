"""Milliseconds per tracked frame and state error for 1, 2 and 4 joints at 640x480 on one core.

Usage: ``python benchmarks/bench_tracker.py [--frames 90]``. Threads are limited to one before NumPy is loaded.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time

import numpy as np
import open3d as o3d

from art_perception.estimation.tracking import Tracker, TrackingConfig
from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import from_rotation_translation, transform
from art_perception.types import ArticulatedObject, Joint, JointType, Mesh, Part, RgbdFrame

K = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
SHAPE = (480, 640)


def box(lo: tuple[float, float, float], hi: tuple[float, float, float]) -> o3d.geometry.TriangleMesh:
    """Axis-aligned box."""
    return o3d.geometry.TriangleMesh.create_box(*np.subtract(hi, lo)).translate(lo)


def to_mesh(*pieces: o3d.geometry.TriangleMesh) -> Mesh:
    """Join pieces into one mesh."""
    joined = sum(pieces[1:], pieces[0])
    return Mesh(np.asarray(joined.vertices), np.asarray(joined.triangles).astype(np.int64))


def chest(joints: int) -> ArticulatedObject:
    """A chest facing -x with ``joints`` fronts stacked upwards, doors and drawers in turn."""
    height = 0.9 / joints
    sides = [box((0, y, 0), (0.4, y + 0.02, 0.9)) for y in (-0.3, 0.28)] + [box((0.38, -0.28, 0), (0.4, 0.28, 0.9))]
    shelves = [box((0, -0.28, i * height), (0.38, 0.28, i * height + 0.01)) for i in range(joints + 1)]
    parts, chain = [Part("base", to_mesh(*sides, *shelves))], []
    for i in range(joints):
        z = i * height
        front = box((-0.02, -0.29, z + 0.01), (0, 0.29, z + height - 0.005))
        handle = box((-0.05, -0.2, z + height / 2), (-0.02, -0.1, z + height / 2 + 0.02))
        drawer = [box((0, y, z + 0.02), (0.3, y + 0.01, z + 0.6 * height)) for y in (-0.27, 0.26)]
        parts.append(Part(f"part_{i}", to_mesh(front, handle, *(drawer if i % 2 else []))))
        kind = JointType.PRISMATIC if i % 2 else JointType.REVOLUTE
        axis, limits = ((-1.0, 0, 0), (0.0, 0.3)) if i % 2 else ((0, 0, 1.0), (-1.6, 0.0))
        chain.append(Joint(f"joint_{i}", "base", f"part_{i}", kind, np.array(axis), np.array([0, 0.29, z]), limits))
    return ArticulatedObject("chest", "world", tuple(parts), tuple(chain), np.eye(4))


def camera(i: int) -> np.ndarray:
    """T_world_camera (4, 4), a slow arc around the front."""
    yaw = 0.3 + 0.25 * np.sin(0.04 * i)
    eye = np.array([0.1, 0, 0.45]) + 1.5 * np.array([-np.cos(yaw), np.sin(yaw), 0.35])
    z = np.array([0.1, 0, 0.45]) - eye
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    return from_rotation_translation(np.stack([x, np.cross(z, x), z], 1), eye)


def render(obj: ArticulatedObject, q: np.ndarray, i: int) -> RgbdFrame:
    """Noisy depth (2 mm at 1 m, growing with depth^2; 5 % holes) of object and floor."""
    scene = o3d.t.geometry.RaycastingScene()
    D = with_base(displacements(chain_of(obj.joints), q))
    floor = to_mesh(box((-4, -4, -0.1), (4, 4, 0)))
    for mesh, T in [*zip((p.visual for p in obj.parts), D, strict=True), (floor, np.eye(4))]:
        scene.add_triangles(transform(T, mesh.vertices).astype(np.float32), mesh.faces.astype(np.uint32))
    T = camera(i)
    rays = scene.create_rays_pinhole(K, np.linalg.inv(T), SHAPE[1], SHAPE[0]).numpy()
    hit = scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
    depth = np.where(np.isfinite(hit), hit, 0) * (rays[..., 3:] @ T[:3, 2])
    rng = np.random.default_rng(i)
    depth = depth + rng.normal(size=SHAPE) * 0.002 * depth**2
    depth = np.where(rng.random(SHAPE) > 0.05, depth, 0).astype(np.float32)
    return RgbdFrame(int(i * 1e9 / 30), np.zeros((*SHAPE, 3), np.uint8), depth, K, T)


def measure(joints: int, frames: int) -> None:
    """Track one motion and print a row."""
    obj = chest(joints)
    phase = np.arange(joints) * 0.7
    reach = np.array([0.25 if i % 2 else -1.2 for i in range(joints)])
    truth = np.array([reach * (0.5 - 0.5 * np.cos(0.07 * i + phase)) for i in range(frames)])
    tracker, times, cpu, errors = Tracker(obj, TrackingConfig()), [], [], []
    for i, q in enumerate(truth):
        frame = render(obj, q, i)
        start, start_cpu = time.perf_counter(), time.thread_time()
        state = tracker.update(frame)
        times.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.thread_time() - start_cpu))
        errors.append(np.abs(state.q - q))
    turn, slide = np.degrees(np.array(errors)[1:, ::2]), 1e3 * np.array(errors)[1:, 1::2]
    row = f"| {joints} | {np.median(times):.1f} | {np.percentile(times, 99):.1f} | {np.median(cpu):.1f} "
    row += f"| {1e3 / np.median(cpu):.0f} "
    row += f"| {np.median(turn):.2f} / {turn.max():.2f} | "
    print(row + (f"{np.median(slide):.1f} / {slide.max():.1f} |" if slide.size else "- |"))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=90)
    frames = parser.parse_args().frames
    print("| joints | ms median | ms p99 | CPU ms median | Hz of a core | deg error med / max | mm error med / max |")
    print("|---|---|---|---|---|---|---|")
    for joints in (1, 2, 4):
        measure(joints, frames)


if __name__ == "__main__":
    main()
