"""The files of a result directory, layout version 1: result.json and labels.npz."""

from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

import art_perception
from art_perception.errors import ObjectError
from art_perception.io.atomic import atomic_directory as atomic_directory
from art_perception.types import Joint, JointType, PoseCorrection, PriorUse

VERSION = 1
RESULT_FILE = "result.json"
LABELS_FILE = "labels.npz"


def code_version() -> str:
    """Git commit of a source checkout, else the installed package's version."""
    root = Path(art_perception.__file__).parents[1]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass
    try:
        return importlib.metadata.version("art_perception")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Joints and joint values over a whole clip.

    Attributes:
        fixed_frame: frame of the camera poses and of all joint geometry.
        source: the recording or topic the result comes from.
        joints: at zero joint values, i.e. at the first window stamp.
        stamps_s: (F,) image stamps of all processed frames, seconds.
        q: (F, J) joint values, rad or m; NaN where the object was lost.
        seconds: run time per stage, and ``total``.
        commit: version of the code that made the result.
        prior: what the shape prior of a category had to do with it.
        correction: how far the window's camera poses are from the recorded ones.
    """

    fixed_frame: str
    source: str
    joints: tuple[Joint, ...]
    stamps_s: np.ndarray
    q: np.ndarray
    seconds: Mapping[str, float] = field(default_factory=dict)
    commit: str = field(default_factory=code_version)
    prior: PriorUse = field(default_factory=PriorUse)
    correction: PoseCorrection = field(default_factory=PoseCorrection)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labelled surface points of the window's frames.

    Attributes:
        stamp: (T,) image stamps, seconds.
        pixel: (T, N, 2) int, column and row.
        point: (T, N, 3) metres in the fixed frame.
        part: (T, N) int, 0 = static body, k = child of the k-th joint (1-based).
        T_world_camera: (T, 4, 4) optical frame to fixed frame, or None when the file has none.
    """

    stamp: np.ndarray
    pixel: np.ndarray
    point: np.ndarray
    part: np.ndarray
    T_world_camera: np.ndarray | None = None


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return float(value) if math.isfinite(value) else None


def _joint_to_json(joint: Joint) -> dict[str, Any]:
    return {
        "name": joint.name,
        "child": joint.child,
        "parent": joint.parent,
        "type": joint.type.value,
        "axis": [float(v) for v in joint.axis],
        "origin": [float(v) for v in joint.origin],
        "limits": [float(v) for v in joint.limits],
        "valid": bool(joint.valid),
        "confidence": float(joint.confidence),
        "axis_std_deg": _number(math.degrees(joint.axis_std_rad)),
        "origin_std_m": _number(joint.origin_std_m),
        "proposed_by": joint.proposed_by,
    }


def _joint_from_json(d: dict[str, Any]) -> Joint:
    lo, hi = d["limits"]
    std = {k: math.inf if d[k] is None else d[k] for k in ("axis_std_deg", "origin_std_m")}
    return Joint(
        name=d["name"],
        parent=d["parent"],
        child=d["child"],
        type=JointType(d["type"]),
        axis=np.array(d["axis"], np.float64),
        origin=np.array(d["origin"], np.float64),
        limits=(lo, hi),
        valid=d["valid"],
        confidence=d["confidence"],
        axis_std_rad=math.radians(std["axis_std_deg"]),
        origin_std_m=std["origin_std_m"],
        proposed_by=d.get("proposed_by", ""),
    )


def write_result(folder: Path, result: Result) -> Path:
    """Write result.json and return its path."""
    states: dict[str, list[float | None]] = {"stamp": [float(s) for s in result.stamps_s]}
    for k, joint in enumerate(result.joints):
        states[joint.name] = [_number(v) for v in result.q[:, k]]
    document = {
        "version": VERSION,
        "fixed_frame": result.fixed_frame,
        "source": result.source,
        "commit": result.commit,
        "seconds": {stage: float(s) for stage, s in result.seconds.items()},
        "joints": [_joint_to_json(j) for j in result.joints],
        "states": states,
        "prior": asdict(result.prior),
        "camera_correction": asdict(result.correction),
    }
    path = Path(folder) / RESULT_FILE
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ObjectError(
            f"{path} cannot be read ({error.strerror}), expected a result directory: run `art-perception run` first"
        ) from error
    except ValueError as error:
        raise ObjectError(f"{path} is no valid JSON ({error}): run `art-perception run` again") from error
    if not isinstance(document, dict):
        raise ObjectError(f"{path} holds no JSON object: run `art-perception run` again")
    if document.get("version") != VERSION:
        raise ObjectError(
            f"{path} has version {document.get('version')}, expected {VERSION}: run `art-perception run` again"
        )
    return document


def read_result(folder: Path | str) -> Result:
    """Read result.json.

    Raises:
        ObjectError: missing, damaged, or of another version.
    """
    path = Path(folder) / RESULT_FILE
    document = _read(path)
    try:
        joints = tuple(_joint_from_json(j) for j in document["joints"])
        stamps, columns = document["states"]["stamp"], [document["states"][j.name] for j in joints]
        q = np.array(columns, np.float64).reshape(len(joints), len(stamps)).T  # null becomes NaN
        return Result(
            document["fixed_frame"],
            document["source"],
            joints,
            np.array(stamps, np.float64),
            q,
            document["seconds"],
            document["commit"],
            PriorUse(**document.get("prior", {})),
            PoseCorrection(**document.get("camera_correction", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ObjectError(f"{path} lacks or garbles {error}: run `art-perception run` again") from error


def write_labels(folder: Path, labels: Labels) -> Path:
    """Write labels.npz and return its path."""
    path = Path(folder) / LABELS_FILE
    columns = {f.name: getattr(labels, f.name) for f in fields(labels)}
    np.savez_compressed(path, **{name: column for name, column in columns.items() if column is not None})
    return path


def read_labels(folder: Path | str) -> Labels:
    """Read labels.npz.

    Raises:
        ObjectError: missing or damaged.
    """
    path = Path(folder) / LABELS_FILE
    try:
        with np.load(path) as data:
            return Labels(data["stamp"], data["pixel"], data["point"], data["part"], data.get("T_world_camera"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ObjectError(f"{path} cannot be read ({error}): run `art-perception run` again") from error
