"""Write an articulated object as a URDF with meshes: what robot_state_publisher, MoveIt and simulators load.

Layout (contract version 1): root link = the fixed frame, a fixed joint to ``base``, one link per part. Link frames sit
at their joint's origin with the base's orientation, so every joint origin has zero ``rpy``; zero joint values are the
pose at the first window stamp.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from art_perception.errors import ObjectError, OutputError
from art_perception.geometry.lie import inverse
from art_perception.geometry.mesh import mass_properties, transformed
from art_perception.types import ArticulatedObject, Joint, JointType, Mesh, Part

URDF_FILE = "object.urdf"
BASE_JOINT = "fixed_frame_to_base"
GREY = np.array([180.0, 180.0, 180.0])


@dataclass(frozen=True, slots=True)
class UrdfConfig:
    """What a URDF needs and a camera cannot see."""

    density_kgm3: float = 500.0
    """Density that turns volume into mass (wood and plastic furniture), kg/m^3."""
    effort: float = 100.0
    """Largest effort of every joint, N or N m."""
    velocity: float = 2.0
    """Largest speed of every joint, rad/s or m/s."""
    damping: float = 0.1
    """Viscous damping of every joint, N s/m or N m s/rad."""
    friction: float = 0.05
    """Static friction of every joint, N or N m."""


def write_urdf(obj: ArticulatedObject, folder: Path, config: UrdfConfig | None = None) -> Path:
    """Write ``folder/object.urdf`` and ``folder/meshes/*``; return the URDF's path.

    Args:
        obj: parts and joints in the fixed frame at zero joint values.
        folder: created when missing; the caller makes it atomic.
        config: physical constants; None means the defaults.

    Raises:
        ObjectError: a joint has an impossible axis, origin or limits, or an unknown parent.
        OutputError: a file cannot be written.
    """
    config = config or UrdfConfig()
    names = _unique_names((part.name for part in obj.parts), {obj.fixed_frame})
    joint_names = _unique_names((joint.name for joint in obj.joints), {BASE_JOINT})
    frames = _link_frames(obj)
    try:
        (folder / "meshes").mkdir(parents=True, exist_ok=True)
        robot = ET.Element("robot", name=safe_name(obj.name) or "object")
        _add_simulator_options(robot)
        ET.SubElement(robot, "link", name=obj.fixed_frame)
        for part in obj.parts:
            _add_link(robot, part, names[part.name], frames[part.name], folder, config)
        base = obj.parts[0].name
        _add_joint_frame(robot, BASE_JOINT, "fixed", obj.fixed_frame, names[base], obj.T_world_base)
        for joint in obj.joints:
            _add_joint(robot, joint_names[joint.name], joint, names, frames, config)
        ET.indent(robot)
        path = folder / URDF_FILE
        ET.ElementTree(robot).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise OutputError(
            f"cannot write the URDF to {folder}: {error.strerror or error}; free the disk or choose another folder"
        ) from error
    return path


def safe_name(name: str) -> str:
    """Return ``name`` with everything but letters, digits, ``_`` and ``-`` replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _unique_names(names: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Map every name to a safe one; none equals another or one of ``taken``."""
    safe: dict[str, str] = {}
    for name in names:
        candidate = safe_name(name) or "part"
        while candidate in taken or candidate in safe.values():
            candidate += "_"
        safe[name] = candidate
    return safe


def _link_frames(obj: ArticulatedObject) -> dict[str, np.ndarray]:
    """Pose of every link frame in the fixed frame at zero joint values, by part name."""
    frames = {obj.parts[0].name: obj.T_world_base}
    for part, joint in zip(obj.parts[1:], obj.joints, strict=True):
        _check(joint, frames)
        frames[part.name] = obj.T_world_base.copy()
        frames[part.name][:3, 3] = joint.origin
    return frames


def _check(joint: Joint, known: Iterable[str]) -> None:
    if joint.parent not in known:
        raise ObjectError(
            f"joint '{joint.name}' hangs on '{joint.parent}', which is no earlier part; order the joints parents first"
        )
    if not np.isfinite(np.concatenate([joint.axis, joint.origin, joint.limits])).all():
        raise ObjectError(f"joint '{joint.name}' has an axis, origin or limit that is not a finite number")
    if abs(np.linalg.norm(joint.axis) - 1) > 1e-3 and joint.type is not JointType.FIXED:
        raise ObjectError(f"joint '{joint.name}' has an axis of length {np.linalg.norm(joint.axis):.3g}, expected 1")
    if joint.limits[0] > joint.limits[1]:
        raise ObjectError(f"joint '{joint.name}' has limits {joint.limits}, expected the lower one first")


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{v + 0.0:.9g}" for v in np.asarray(values, float))


def _add_simulator_options(robot: ET.Element) -> None:
    """MuJoCo drops the folder of mesh files unless told not to; every other parser ignores this element."""
    ET.SubElement(ET.SubElement(robot, "mujoco"), "compiler", strippath="false", discardvisual="false")


def _add_link(
    robot: ET.Element, part: Part, name: str, T_world_link: np.ndarray, folder: Path, config: UrdfConfig
) -> None:
    link = ET.SubElement(robot, "link", name=name)
    T_link_world = inverse(T_world_link)
    visual = transformed(part.visual, T_link_world)
    _add_inertial(link, visual, config)
    if len(visual.faces):
        write_obj(visual, folder / "meshes" / f"{name}.obj")
        element = _add_mesh(link, "visual", f"meshes/{name}.obj")
        color = (GREY if visual.colors is None else visual.colors.mean(0)) / 255
        material = ET.SubElement(element, "material", name=f"{name}_color")
        ET.SubElement(material, "color", rgba=_numbers([*color, 1]))
    for i, piece in enumerate(p for p in part.collision if len(p.faces)):
        write_obj(
            replace(transformed(piece, T_link_world), colors=None), folder / "meshes" / f"{name}_collision_{i}.obj"
        )
        _add_mesh(link, "collision", f"meshes/{name}_collision_{i}.obj")


def _add_inertial(link: ET.Element, visual: Mesh, config: UrdfConfig) -> None:
    properties = mass_properties(visual, config.density_kgm3)
    inertial = ET.SubElement(link, "inertial")
    ET.SubElement(inertial, "origin", xyz=_numbers(properties.center_m), rpy="0 0 0")
    ET.SubElement(inertial, "mass", value=_numbers([properties.mass_kg]))
    I = properties.inertia_kgm2  # noqa: E741
    keys = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
    ET.SubElement(inertial, "inertia", {key: _numbers([I[index]]) for key, index in keys.items()})


def _add_mesh(link: ET.Element, kind: str, filename: str) -> ET.Element:
    element = ET.SubElement(link, kind)
    ET.SubElement(element, "origin", xyz="0 0 0", rpy="0 0 0")
    ET.SubElement(ET.SubElement(element, "geometry"), "mesh", filename=filename)
    return element


def _add_joint_frame(
    robot: ET.Element, name: str, kind: str, parent: str, child: str, T_parent_child: np.ndarray
) -> ET.Element:
    element = ET.SubElement(robot, "joint", name=name, type=kind)
    rpy = rpy_from_matrix(T_parent_child[:3, :3])
    ET.SubElement(element, "origin", xyz=_numbers(T_parent_child[:3, 3]), rpy=_numbers(rpy))
    ET.SubElement(element, "parent", link=parent)
    ET.SubElement(element, "child", link=child)
    return element


def _add_joint(
    robot: ET.Element,
    name: str,
    joint: Joint,
    names: dict[str, str],
    frames: dict[str, np.ndarray],
    config: UrdfConfig,
) -> None:
    T_parent_child = inverse(frames[joint.parent]) @ frames[joint.child]
    T_parent_child[:3, :3] = np.eye(3)  # exactly, instead of up to rounding
    element = _add_joint_frame(robot, name, joint.type.value, names[joint.parent], names[joint.child], T_parent_child)
    if joint.type is JointType.FIXED:
        return
    ET.SubElement(element, "axis", xyz=_numbers(frames[joint.child][:3, :3].T @ joint.axis))
    lower, upper = joint.limits
    upper = max(upper, lower + 1e-4)  # MuJoCo refuses an empty range
    ET.SubElement(
        element,
        "limit",
        lower=_numbers([lower]),
        upper=_numbers([upper]),
        effort=_numbers([config.effort]),
        velocity=_numbers([config.velocity]),
    )
    ET.SubElement(element, "dynamics", damping=_numbers([config.damping]), friction=_numbers([config.friction]))


def rpy_from_matrix(R: np.ndarray) -> np.ndarray:
    """Fixed-axis roll, pitch, yaw (3,) of a rotation matrix: ``R = Rz(yaw) Ry(pitch) Rx(roll)``."""
    pitch = np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0]))
    if np.hypot(R[0, 0], R[1, 0]) < 1e-9:  # gimbal lock: only yaw - roll matters, choose roll = 0
        return np.array([0.0, pitch, np.arctan2(-R[0, 1], R[1, 1])])
    return np.array([np.arctan2(R[2, 1], R[2, 2]), pitch, np.arctan2(R[1, 0], R[0, 0])])


def write_obj(mesh: Mesh, path: Path) -> None:
    """Write a Wavefront OBJ.

    Colours go behind the coordinates of each vertex (read by trimesh, MeshLab, assimp); their mean goes into a material
    file for programs that know only materials, such as RViz.
    """
    lines = []
    if mesh.colors is None:
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices.tolist()]
    else:
        mean = " ".join(f"{c:.4f}" for c in mesh.colors.mean(0) / 255)
        path.with_suffix(".mtl").write_text(f"newmtl mean\nKa {mean}\nKd {mean}\nKs 0 0 0\nillum 1\n")
        lines += [f"mtllib {path.stem}.mtl", "usemtl mean"]
        rows = np.hstack([mesh.vertices, mesh.colors / 255]).tolist()
        lines += [f"v {x:.6f} {y:.6f} {z:.6f} {r:.4f} {g:.4f} {b:.4f}" for x, y, z, r, g, b in rows]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    path.write_text("\n".join([*lines, ""]))
