"""Fill a result directory (layout: the contract, version 1): one function for the command line and for the node."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from art_perception.geometry.camera import unproject
from art_perception.geometry.lie import transform
from art_perception.io.results import Labels, Result, write_labels, write_result
from art_perception.pipeline import Reconstruction
from art_perception.types import UNLABELLED, RgbdFrame
from art_perception.urdf.writer import write_urdf
from art_perception.viz.report import write_report

POINTS_PER_FRAME = 4096


def write_folder(folder: Path, reconstruction: Reconstruction, result: Result) -> Path:
    """Write object.urdf, meshes, labels.npz, report.html and, last, result.json; return the URDF's path.

    Args:
        folder: an empty folder; make it with ``io.atomic.atomic_directory``.
        reconstruction: the object and the window it comes from.
        result: joints and the joint values of every processed frame.

    Raises:
        ObjectError: the object cannot be expressed as a URDF.
        OutputError: a file cannot be written.
    """
    write_report(folder, reconstruction, result, labels_of(reconstruction))
    return write_data(folder, reconstruction, result)


def write_data(folder: Path, reconstruction: Reconstruction, result: Result) -> Path:
    """Write everything but the report; arguments and errors as in :func:`write_folder`."""
    urdf = write_urdf(reconstruction.object, folder)
    write_labels(folder, labels_of(reconstruction))
    write_result(folder, result)
    return urdf


def labels_of(reconstruction: Reconstruction, per_frame: int = POINTS_PER_FRAME) -> Labels:
    """Sample ``per_frame`` labelled points from each frame of the window that has any; repeats fill up small frames."""
    window, rng = reconstruction.window, np.random.default_rng(0)
    rows = [
        (frame.stamp_s, *_sample(frame, labels, per_frame, rng), frame.T_world_camera)
        for frame, labels in zip(window.frames, reconstruction.motion.labels, strict=True)
        if ((labels != UNLABELLED) & (frame.depth_m > 0)).any()
    ]
    stamp, pixel, point, part, T_world_camera = (np.array(column) for column in zip(*rows, strict=True))
    return Labels(stamp, pixel, point, part, T_world_camera)


def _sample(
    frame: RgbdFrame, labels: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (N, 2) as column and row, points (N, 3) in the fixed frame and parts (N,)."""
    rows, columns = np.nonzero((labels != UNLABELLED) & (frame.depth_m > 0))
    chosen = rng.choice(len(rows), count, replace=len(rows) < count)
    rows, columns = rows[chosen], columns[chosen]
    points = unproject(frame.depth_m, frame.K)[rows, columns].astype(float)
    parts = labels[rows, columns].astype(np.int64)
    return np.stack([columns, rows], -1), transform(frame.T_world_camera, points), parts
