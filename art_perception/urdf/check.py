"""Check a URDF with everything simulators and robot_state_publisher stumble over, all problems at once."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from art_perception.errors import ObjectError
from art_perception.geometry.mesh import convex_hull, signed_volume
from art_perception.types import Mesh
from art_perception.urdf.reader import load_mesh, load_urdf, resolve_mesh

INERTIA_KEYS = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
CONVEX_TOLERANCE = 0.01  # share of the hull's volume that a convex piece may miss


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a URDF.

    Attributes:
        where: the element, such as ``joint 'joint_1'``.
        what: what was seen and what was expected.
    """

    where: str
    what: str

    def __str__(self) -> str:
        """Return one line for a terminal."""
        return f"{self.where}: {self.what}"


def check_urdf(path: Path) -> list[Problem]:
    """Return every problem of the URDF at ``path``; an empty list means it is good to use.

    Structure, joints, inertias and meshes are checked here; the ``check_urdf`` program of liburdfdom is run as well
    when it is installed.

    Raises:
        ObjectError: the file cannot be read at all.
    """
    path = Path(path)
    if not path.is_file():
        raise ObjectError(f"there is no URDF at {path}; give the path of an object.urdf")
    try:
        load_urdf(path, load_meshes=False)
    except ObjectError as error:
        return [Problem("structure", str(error))]
    robot = ET.parse(path).getroot()
    found = [*_duplicates(robot)]
    for joint in robot.findall("joint"):
        found += _joint_problems(joint)
    for link in robot.findall("link"):
        found += _inertia_problems(link)
        found += _mesh_problems(link, path.parent)
    return found + _liburdfdom_problems(path)


def _duplicates(robot: ET.Element) -> Iterator[Problem]:
    for tag in ("link", "joint"):
        for name, count in Counter(e.get("name", "") for e in robot.findall(tag)).items():
            if count > 1:
                yield Problem(f"{tag} '{name}'", f"is defined {count} times, expected once")
            if not name:
                yield Problem(tag, "has no name")


def _joint_problems(joint: ET.Element) -> Iterator[Problem]:
    where, kind = f"joint '{joint.get('name')}'", joint.get("type")
    if kind == "fixed":
        return
    axis = joint.find("axis")
    length = 1.0 if axis is None else float(np.linalg.norm([float(v) for v in axis.get("xyz", "1 0 0").split()]))
    if abs(length - 1) > 1e-3:
        yield Problem(where, f"has an axis of length {length:.4g}, expected 1")
    limit = joint.find("limit")
    required = ("effort", "velocity") if kind == "continuous" else ("lower", "upper", "effort", "velocity")
    missing = [] if limit is None else [k for k in required if limit.get(k) is None]
    if missing:
        yield Problem(where, f"has a <limit> without {', '.join(missing)}")


def _inertia_problems(link: ET.Element) -> Iterator[Problem]:
    where, inertial = f"link '{link.get('name')}'", link.find("inertial")
    if inertial is None:
        if len(link):
            yield Problem(where, "has geometry but no <inertial>; simulators make up a mass")
        return
    m, I = _mass_and_inertia(inertial)  # noqa: E741
    if not m > 0:
        yield Problem(where, f"has mass {m:g}, expected a positive number")
    if not np.isfinite(I).all():
        yield Problem(where, "has an inertia with missing or unreadable entries")
        return
    low, mid, high = np.linalg.eigvalsh(I)
    if low <= 0:
        yield Problem(where, f"has an inertia with eigenvalue {low:.3g}, expected positive definite")
    elif low + mid < high * (1 - 1e-6):
        yield Problem(where, f"has principal inertias {low:.3g} + {mid:.3g} < {high:.3g}, which no body has")


def _mass_and_inertia(inertial: ET.Element) -> tuple[float, np.ndarray]:
    """Mass and tensor; NaN where an entry is missing or no number."""

    def number(tag: str, key: str) -> float:
        element = inertial.find(tag)
        try:
            return float("nan" if element is None else element.get(key, "nan"))
        except ValueError:
            return np.nan

    tensor = np.zeros((3, 3))
    for key, (i, j) in INERTIA_KEYS.items():
        tensor[i, j] = tensor[j, i] = number("inertia", key)
    return number("mass", "value"), tensor


def _mesh_problems(link: ET.Element, folder: Path) -> Iterator[Problem]:
    where = f"link '{link.get('name')}'"
    for kind in ("visual", "collision"):
        for element in link.iterfind(f"{kind}/geometry/mesh"):
            filename = element.get("filename", "")
            if filename.startswith(("/", "file://")):
                yield Problem(
                    where, f"names the mesh {filename} by an absolute path, expected one relative to the URDF"
                )
            try:
                mesh = load_mesh(resolve_mesh(filename, folder, f"a {kind} of {where}"), where)
            except ObjectError as error:
                yield Problem(where, str(error))
                continue
            if kind == "collision" and not _is_convex(mesh):
                yield Problem(where, f"has the collision mesh {filename}, which is not convex")


def _is_convex(mesh: Mesh) -> bool:
    hull = convex_hull(mesh)
    return bool(len(hull.faces)) and signed_volume(mesh) >= (1 - CONVEX_TOLERANCE) * signed_volume(hull)


def _liburdfdom_problems(path: Path) -> list[Problem]:
    program = shutil.which("check_urdf")
    if program is None:
        return []
    done = subprocess.run([program, str(path)], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0 and "Successfully Parsed XML" in done.stdout:
        return []
    lines = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
    return [Problem("liburdfdom check_urdf", lines[0])]
