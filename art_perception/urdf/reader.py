"""Read any URDF (ours, CAD exports, PartNet-Mobility style) into an articulated object.

Links joined by fixed joints become one part, so a part is whatever moves as one body. Geometry is brought into the
frame of the root link at zero joint values, where each movable joint is an axis and a point on it.
"""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from art_perception.errors import ObjectError
from art_perception.geometry.lie import from_rotation_translation
from art_perception.geometry.mesh import empty_mesh, from_trimesh, merged, transformed
from art_perception.types import ArticulatedObject, Joint, JointType, Mesh, Part

log = logging.getLogger(__name__)

MOVABLE = {"revolute": JointType.REVOLUTE, "continuous": JointType.REVOLUTE, "prismatic": JointType.PRISMATIC}


@dataclass(frozen=True, slots=True, eq=False)
class _Tree:
    """Links and joints of a URDF; ``parent_joint`` gives the joint above each link but the root."""

    links: dict[str, ET.Element]
    joints: list[ET.Element]
    parent_joint: dict[str, ET.Element]
    root: str


def load_urdf(source: Path | str, mesh_root: Path | None = None, load_meshes: bool = True) -> ArticulatedObject:
    """Read a URDF.

    Args:
        source: path of the file, or its text (anything that starts with ``<``).
        mesh_root: folder that relative and ``package://`` mesh names refer to; None means the URDF's own folder.
        load_meshes: False leaves every part without geometry (ground truth needs only joints).

    Returns:
        The object: ``fixed_frame`` is the root link, ``parts[0]`` the links rigidly joined to it, then one part per
        movable joint, in the order of the file (parents first). Continuous joints get limits of +-pi.

    Raises:
        ObjectError: the file is missing, no URDF, not a tree, lacks limits, or names a mesh that cannot be read.
    """
    text, folder = _text_and_folder(source)
    robot = _parse(text)
    tree = _tree(robot)
    joints = _ordered(tree)
    poses, owner = _poses_and_owners(tree)
    root_part = owner[tree.root]
    parts = [root_part, *(owner[_link(j, "child")] for j in joints)]
    geometry = _geometry(tree, poses, owner, mesh_root or folder) if load_meshes else {}
    return ArticulatedObject(
        name=robot.get("name") or "object",
        fixed_frame=tree.root,
        parts=tuple(geometry.get(name) or Part(name, empty_mesh(), (), 1.0) for name in parts),
        joints=tuple(_joint(j, poses, owner) for j in joints),
        T_world_base=poses[root_part],
    )


def _text_and_folder(source: Path | str) -> tuple[str, Path]:
    if isinstance(source, str) and source.lstrip().startswith("<"):
        return source, Path.cwd()
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8", errors="replace"), path.parent
    except OSError as error:
        where = "expected the object.urdf in a result folder of `art-perception run`, or another URDF; check the path"
        raise ObjectError(f"cannot read the URDF {path}: {error.strerror or error}: {where}") from error


def _parse(text: str) -> ET.Element:
    try:
        robot = ET.fromstring(text.strip())
    except ET.ParseError as error:
        raise ObjectError(f"the URDF is not valid XML: {error}; is the file complete?") from error
    if robot.tag != "robot":
        raise ObjectError(f"the file's root element is <{robot.tag}>, expected <robot>; give a URDF, not a xacro")
    return robot


def _tree(robot: ET.Element) -> _Tree:
    links = {link.get("name", ""): link for link in robot.findall("link")}
    joints = robot.findall("joint")
    if not links:
        raise ObjectError("the URDF has no <link>; expected at least one")
    parent_joint: dict[str, ET.Element] = {}
    for joint in joints:
        for role in ("parent", "child"):
            if _link(joint, role) not in links:
                raise ObjectError(
                    f"joint '{joint.get('name')}' names the {role} link '{_link(joint, role)}', which is not defined"
                )
        if _link(joint, "child") in parent_joint:
            raise ObjectError(f"link '{_link(joint, 'child')}' has two parent joints; a URDF must be a tree")
        parent_joint[_link(joint, "child")] = joint
    roots = [name for name in links if name not in parent_joint]
    if len(roots) != 1:
        raise ObjectError(f"the URDF has {len(roots)} root links {roots[:4]}, expected one; join every link by a joint")
    return _Tree(links, joints, parent_joint, roots[0])


def _link(joint: ET.Element, role: str) -> str:
    element = joint.find(role)
    return "" if element is None else element.get("link", "")


def _numbers(text: str | None, default: tuple[float, ...], what: str) -> np.ndarray:
    if text is None:
        return np.array(default)
    try:
        values = np.array([float(v) for v in text.split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) != len(default) or not np.isfinite(values).all():
        raise ObjectError(f"{what} is '{text}', expected {len(default)} finite number{'s' * (len(default) > 1)}")
    return values


def _number(text: str | None, default: float, what: str) -> float:
    return float(_numbers(text, (default,), what)[0])


def _origin(element: ET.Element, what: str) -> np.ndarray:
    origin = element.find("origin")
    if origin is None:
        return np.eye(4)
    xyz = _numbers(origin.get("xyz"), (0.0, 0.0, 0.0), f"the origin xyz of {what}")
    rpy = _numbers(origin.get("rpy"), (0.0, 0.0, 0.0), f"the origin rpy of {what}")
    return from_rotation_translation(matrix_from_rpy(rpy), xyz)


def matrix_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of fixed-axis roll, pitch, yaw: ``Rz(yaw) Ry(pitch) Rx(roll)``."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy), np.cos(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _moves(joint: ET.Element) -> bool:
    kind = joint.get("type", "")
    if kind not in MOVABLE and kind != "fixed":
        raise ObjectError(
            f"joint '{joint.get('name')}' is of type '{kind}', expected one of fixed, {', '.join(MOVABLE)}"
        )
    return kind in MOVABLE


def _ordered(tree: _Tree) -> list[ET.Element]:
    """Movable joints in file order, each pushed back until the joints above it are out."""
    waiting, reached, ordered = list(tree.joints), {tree.root}, []
    while waiting:
        ready = next((j for j in waiting if _link(j, "parent") in reached), None)
        if ready is None:
            raise ObjectError(f"the joints around link '{_link(waiting[0], 'child')}' form a loop, expected a tree")
        waiting.remove(ready)
        reached.add(_link(ready, "child"))
        if _moves(ready):
            ordered.append(ready)
    return ordered


def _poses_and_owners(tree: _Tree) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Pose of every link in the root link at zero, and the name of the part it belongs to."""
    poses, owner = {tree.root: np.eye(4)}, {tree.root: _root_part(tree)}

    def visit(name: str) -> None:
        if name in poses:
            return
        joint = tree.parent_joint[name]
        parent = _link(joint, "parent")
        visit(parent)
        poses[name] = poses[parent] @ _origin(joint, f"joint '{joint.get('name')}'")
        owner[name] = name if _moves(joint) else owner[parent]

    for name in tree.links:
        visit(name)
    return poses, owner


def _root_part(tree: _Tree) -> str:
    """The base link: the root, or its only child when the root is a mere frame that carries the object."""
    below = [j for j in tree.joints if _link(j, "parent") == tree.root]
    bare = tree.links[tree.root].find("visual") is None and tree.links[tree.root].find("collision") is None
    if bare and len(below) == 1 and not _moves(below[0]):
        return _link(below[0], "child")
    return tree.root


def _joint(element: ET.Element, poses: dict[str, np.ndarray], owner: dict[str, str]) -> Joint:
    name, child = element.get("name", ""), _link(element, "child")
    if element.find("mimic") is not None:
        log.warning("joint '%s' mimics another one; it is treated as independent", name)
    T = poses[child]
    given = element.find("axis")
    axis = _numbers(None if given is None else given.get("xyz"), (1.0, 0.0, 0.0), f"the axis of joint '{name}'")
    if np.linalg.norm(axis) < 1e-9:
        raise ObjectError(f"the axis of joint '{name}' is zero, expected a direction")
    return Joint(
        name=name,
        parent=owner[_link(element, "parent")],
        child=owner[child],
        type=MOVABLE[element.get("type", "")],
        axis=T[:3, :3] @ axis / np.linalg.norm(axis),
        origin=T[:3, 3].copy(),
        limits=_limits(element, name),
    )


def _limits(element: ET.Element, name: str) -> tuple[float, float]:
    if element.get("type") == "continuous":
        return (-np.pi, np.pi)
    limit = element.find("limit")
    if limit is None:
        raise ObjectError(f"{element.get('type')} joint '{name}' has no <limit>; add lower and upper")
    lower = _number(limit.get("lower"), 0.0, f"the lower limit of joint '{name}'")
    upper = _number(limit.get("upper"), 0.0, f"the upper limit of joint '{name}'")
    if lower > upper:
        raise ObjectError(f"joint '{name}' has lower limit {lower:g} above upper limit {upper:g}; swap them")
    return (lower, upper)


def _geometry(tree: _Tree, poses: dict[str, np.ndarray], owner: dict[str, str], folder: Path) -> dict[str, Part]:
    visuals: dict[str, list[Mesh]] = {name: [] for name in owner.values()}
    collisions: dict[str, list[Mesh]] = {name: [] for name in owner.values()}
    for name, link in tree.links.items():
        for kind, target in (("visual", visuals), ("collision", collisions)):
            meshes = [_shape(e, folder, f"a {kind} of link '{name}'") for e in link.findall(kind)]
            target[owner[name]] += [transformed(m, poses[name]) for m in meshes]
    return {name: Part(name, merged(visuals[name] or collisions[name]), tuple(collisions[name])) for name in visuals}


def _shape(element: ET.Element, folder: Path, what: str) -> Mesh:
    """Mesh of one <visual> or <collision> in its link's frame."""
    import trimesh

    geometry = element.find("geometry")
    shape = None if geometry is None or not len(geometry) else geometry[0]
    tag = "" if shape is None else shape.tag
    if shape is None or tag not in ("mesh", "box", "cylinder", "sphere"):
        raise ObjectError(f"{what} has geometry '{tag}', expected mesh, box, cylinder or sphere")
    if tag == "mesh":
        mesh = load_mesh(resolve_mesh(shape.get("filename", ""), folder, what), what)
        scale = _numbers(shape.get("scale"), (1.0, 1.0, 1.0), f"the mesh scale of {what}")
        mesh = transformed(mesh, np.diag([*scale, 1.0]))
    elif tag == "box":
        mesh = from_trimesh(trimesh.creation.box(_numbers(shape.get("size"), (1.0, 1.0, 1.0), f"the size of {what}")))
    else:
        radius = _number(shape.get("radius"), 1.0, f"the radius of {what}")
        length = _number(shape.get("length"), 1.0, f"the length of {what}")
        solid = trimesh.creation.icosphere(3, radius) if tag == "sphere" else trimesh.creation.cylinder(radius, length)
        mesh = from_trimesh(solid)
    return transformed(mesh, _origin(element, what))


def resolve_mesh(filename: str, folder: Path, what: str) -> Path:
    """Path of a mesh: absolute, file://, relative, or package:// looked up below ``folder`` and its parents.

    Raises:
        ObjectError: there is no such file.
    """
    name = filename.removeprefix("file://")
    if name.startswith("package://"):
        package, _, rest = name.removeprefix("package://").partition("/")
        inside = [p / rest for p in (folder, *folder.parents) if p.name == package]
        candidates = [*inside, folder / rest, folder / package / rest]
    else:
        candidates = [folder / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ObjectError(
        f"{what} needs the mesh '{filename}', which is not at {candidates[0]}; "
        "give the folder of the meshes or put the file there"
    )


def load_mesh(path: Path, what: str) -> Mesh:
    """Read a mesh file; ``what`` names its owner in error messages.

    Raises:
        ObjectError: the file cannot be read or has no triangles.
    """
    import trimesh

    try:
        mesh = trimesh.load(path, force="mesh", process=False)
    except Exception as error:  # trimesh raises whatever its parsers raise
        raise ObjectError(f"the mesh {path} of {what} cannot be read: {error}") from error
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise ObjectError(f"the mesh {path} of {what} has no triangles")
    return from_trimesh(mesh)
