"""Load articulated objects from asset folders: PartNet-Mobility, Infinigen-Articulated or any URDF with OBJ meshes.

Every link's pose comes from the URDF's own chain at zero joint values; the mesh frame means nothing (PartNet-Mobility
meshes are y-up and turned by the base joint). Joints that move too little or too little surface are frozen.
PartNet-Mobility is unit-sized: each category gets its usual metric size.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from art_perception.data.looks import anything
from art_perception.data.model import Material, SimObject, Surface, grounded, merge, without_duplicates
from art_perception.errors import ObjectError
from art_perception.geometry.lie import transform
from art_perception.types import Joint, JointType

SIZE_M = {
    "bottle": 0.26, "box": 0.42, "bucket": 0.38, "camera": 0.15, "cart": 0.95, "chair": 0.95, "coffeemachine": 0.38,
    "dishwasher": 0.88, "eyeglasses": 0.15, "faucet": 0.32, "kettle": 0.28, "kitchenpot": 0.32, "knife": 0.2,
    "laptop": 0.36, "microwave": 0.52, "oven": 0.9, "refrigerator": 1.7, "safe": 0.45, "scissors": 0.2,
    "stapler": 0.17, "storagefurniture": 1.1, "stovetop": 0.75, "switch": 0.12, "table": 1.2, "toaster": 0.32,
}  # fmt: skip
"""Usual largest extent of each PartNet-Mobility category, metres (our choice)."""

MIN_TURN_RAD = 0.17
MIN_SLIDE_M = 0.01
MIN_AREA_SHARE = 0.004
MIN_EXTENT_M = 0.015


@dataclass(frozen=True, slots=True, eq=False)
class _UrdfJoint:
    name: str
    kind: str
    parent: str
    child: str
    T_parent_joint: np.ndarray
    axis: np.ndarray
    limits: tuple[float, float]


def load_asset(path: Path | str) -> SimObject:
    """Load the asset folder (or URDF file) at ``path``.

    Raises:
        ObjectError: no URDF, a missing mesh or a URDF that is not one tree.
    """
    urdf = _urdf_file(Path(path))
    try:
        root = ET.parse(urdf).getroot()
    except ET.ParseError as error:
        raise ObjectError(f"{urdf} is not XML ({error}); give a URDF file") from error
    category, metric = _category(urdf)
    joints = [_read_joint(e) for e in root.findall("joint")]
    links = [e.get("name", "") for e in root.findall("link")]
    pose = _link_poses(links, joints, urdf)
    materials: list[Material] = []
    elements = dict(zip(links, root.findall("link"), strict=True))
    surfaces = {link: _read_link(e, urdf, pose[link], materials) for link, e in elements.items()}
    if not any(len(s.faces) for s in surfaces.values()):
        raise ObjectError(f"{urdf} has no visible geometry; expected OBJ meshes or boxes in its <visual> elements")
    scale = _metric_scale(category, metric, surfaces, urdf)
    name = f"{category}_{urdf.parent.name}".replace("-", "_").lower()
    return grounded(_assemble(name, category, links, joints, pose, surfaces, tuple(materials), scale))


def _urdf_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.urdf")) if path.is_dir() else []
    if not found:
        raise ObjectError(f"{path} holds no .urdf file; give an asset folder with one URDF in it")
    return found[0]


def _category(urdf: Path) -> tuple[str, bool]:
    """Lower-case category and whether the URDF is metric already."""
    if urdf.name != "mobility.urdf":
        return urdf.stem.lower(), True
    meta = urdf.with_name("meta.json")
    if not meta.is_file():
        return "object", False
    return str(json.loads(meta.read_text()).get("model_cat", "object")).lower(), False


def _floats(text: str | None, default: str) -> np.ndarray:
    return np.array((text or default).split(), float)


def _origin(element: ET.Element | None) -> np.ndarray:
    T = np.eye(4)
    if element is None:
        return T
    roll, pitch, yaw = _floats(element.get("rpy"), "0 0 0")
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    T[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    T[:3, 3] = _floats(element.get("xyz"), "0 0 0")
    return T


def _read_joint(element: ET.Element) -> _UrdfJoint:
    def link_of(tag: str) -> str:
        found = element.find(tag)
        return found.get("link", "") if found is not None else ""

    axis_element, limit = element.find("axis"), element.find("limit")
    axis = _floats(axis_element.get("xyz") if axis_element is not None else None, "1 0 0")
    kind = element.get("type", "fixed")
    limits = (-np.pi, np.pi) if kind == "continuous" else (0.0, 0.0)
    if limit is not None and kind != "continuous":
        limits = (float(limit.get("lower", 0)), float(limit.get("upper", 0)))
    norm = float(np.linalg.norm(axis))
    if norm == 0:
        kind = "fixed"
    return _UrdfJoint(
        element.get("name", ""), kind, link_of("parent"), link_of("child"), _origin(element.find("origin")),
        axis / max(norm, 1e-12), limits,
    )  # fmt: skip


def _link_poses(links: list[str], joints: list[_UrdfJoint], urdf: Path) -> dict[str, np.ndarray]:
    """Pose (4, 4) of every link frame in the root link at zero joint values."""
    parent_joint = {j.child: j for j in joints}
    pose: dict[str, np.ndarray] = {}

    def solve(link: str, depth: int) -> np.ndarray:
        if depth > len(links):
            raise ObjectError(f"{urdf}: the links form a loop at {link!r}; a URDF must be a tree")
        if link not in pose:
            joint = parent_joint.get(link)
            pose[link] = np.eye(4) if joint is None else solve(joint.parent, depth + 1) @ joint.T_parent_joint
        return pose[link]

    for link in links:
        solve(link, 0)
    return pose


def _read_link(element: ET.Element, urdf: Path, T_root_link: np.ndarray, materials: list[Material]) -> Surface:
    surfaces = []
    for visual in element.findall("visual"):
        mesh = visual.find("geometry/mesh")
        if mesh is None:
            continue
        surface = read_obj(urdf.parent / mesh.get("filename", ""), materials)
        T = T_root_link @ _origin(visual.find("origin"))
        vertices = transform(T, surface.vertices * _floats(mesh.get("scale"), "1 1 1"))
        surfaces.append(Surface(vertices, surface.faces, surface.material))
    return without_duplicates(merge(surfaces))


def read_obj(path: Path, materials: list[Material]) -> Surface:
    """Read vertices, faces (fans of polygons) and material colours of an OBJ file; new materials are appended.

    Raises:
        ObjectError: the file is missing or malformed.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ObjectError(f"mesh {path} cannot be read; the URDF refers to it") from error
    colors = _read_mtl(path, lines)
    try:
        vertices = np.array(b" ".join(line[2:] for line in lines if line[:2] == b"v ").split(), float)
        vertices = vertices.reshape(-1, len(vertices) // max(sum(line[:2] == b"v " for line in lines), 1))[:, :3]
        return _faces_of(lines, vertices, colors, materials)
    except ValueError as error:
        raise ObjectError(f"mesh {path} is malformed ({error}); expected a Wavefront OBJ") from error


def _faces_of(
    lines: list[bytes], vertices: np.ndarray, colors: dict[bytes, Material], materials: list[Material]
) -> Surface:
    index: dict[bytes, int] = {}
    current = b""
    triangles: list[tuple[bytes, bytes, bytes]] = []
    owner: list[int] = []
    for line in lines:
        if line[:2] == b"f ":
            corner = [c.partition(b"/")[0] for c in line[2:].split()]
            if current not in index:
                index[current] = len(materials)
                materials.append(colors.get(current, Material((0.6, 0.6, 0.6))))
            triangles += [(corner[0], corner[i], corner[i + 1]) for i in range(1, len(corner) - 1)]
            owner += [index[current]] * (len(corner) - 2)
        elif line[:7] == b"usemtl ":
            current = line[7:].strip()
    faces = np.array(triangles, np.int64).reshape(-1, 3)
    faces = np.where(faces > 0, faces - 1, faces + len(vertices))
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError("a face refers to a vertex that does not exist")
    return Surface(vertices, faces, np.array(owner, np.int64))


def _read_mtl(obj: Path, lines: list[bytes]) -> dict[bytes, Material]:
    """Diffuse colours; a material whose image file is absent gets a procedural texture of its own instead."""
    name = next((line[7:].strip().decode() for line in lines if line[:7] == b"mtllib "), None)
    mtl = obj.parent / name if name else None
    if mtl is None or not mtl.is_file():
        return {}
    out: dict[bytes, Material] = {}
    current = b""
    for line in mtl.read_bytes().splitlines():
        word = line.split()
        if line[:7] == b"newmtl ":
            current = line[7:].strip()
        elif word[:1] == [b"Kd"]:
            r, g, b = (float(x) ** 2.2 for x in word[1:4])
            out[current] = Material((r, g, b))
        elif word[:1] == [b"map_Kd"]:
            out[current] = anything(np.random.default_rng(zlib.crc32(word[-1])))
    return out


def _metric_scale(category: str, metric: bool, surfaces: dict[str, Surface], urdf: Path) -> float:
    """Factor to metres: by category for unit-sized assets; metric ones shrink only when they are implausibly large."""
    points = np.concatenate([s.vertices for s in surfaces.values()])
    extent = float(np.ptp(points, axis=0).max())
    if metric:
        return min(1.0, 1.2 * SIZE_M.get(category, np.inf) / extent)
    spread = 0.85 + 0.3 * (zlib.crc32(urdf.parent.name.encode()) % 1000) / 1000
    return SIZE_M.get(category, 0.5) * spread / extent


def _assemble(
    name: str,
    category: str,
    links: list[str],
    joints: list[_UrdfJoint],
    pose: dict[str, np.ndarray],
    surfaces: dict[str, Surface],
    materials: tuple[Material, ...],
    scale: float,
) -> SimObject:
    scaled = {k: Surface(s.vertices * scale, s.faces, s.material) for k, s in surfaces.items()}
    kept = _with_solid_base(_kept(joints, scaled, scale), links, joints, scaled)
    owner = {link: _owner(link, joints, {j.child for j in kept}) for link in links}
    ordered = sorted(kept, key=lambda j: _depth(j.child, joints))
    part_of = {j.child: f"part_{i + 1}" for i, j in enumerate(ordered)}
    groups = [None, *(j.child for j in ordered)]
    parts = tuple(merge([scaled[link] for link in links if owner[link] == g]) for g in groups)
    truth = tuple(
        Joint(
            name=joint_name,
            parent=part_of.get(owner[j.parent] or "", "base"),
            child=part_of[j.child],
            type=JointType.PRISMATIC if j.kind == "prismatic" else JointType.REVOLUTE,
            axis=pose[j.child][:3, :3] @ j.axis,
            origin=pose[j.child][:3, 3] * scale,
            limits=_limits(j, scale),
        )
        for j, joint_name in zip(ordered, _safe_names(ordered), strict=True)
    )
    return SimObject(name, category, parts, truth, materials)


def _safe_names(joints: list[_UrdfJoint]) -> list[str]:
    """Joint names of letters, digits and underscores, all different."""
    names: list[str] = []
    for i, joint in enumerate(joints):
        name = re.sub(r"\W", "_", joint.name) or f"joint_{i}"
        names.append(name if name not in names else f"{name}_{i}")
    return names


def _kept(joints: list[_UrdfJoint], surfaces: dict[str, Surface], scale: float) -> list[_UrdfJoint]:
    """Joints that move enough; of two joints in series through a massless helper link, the first that does."""
    kept: list[_UrdfJoint] = []
    for joint in sorted(joints, key=lambda j: _depth(j.child, joints)):
        helper = any(k.child == joint.parent and not len(surfaces[k.child].faces) for k in kept)
        if not helper and _moves(joint, joints, surfaces, scale):
            kept.append(joint)
    return kept


def _with_solid_base(
    kept: list[_UrdfJoint], links: list[str], joints: list[_UrdfJoint], surfaces: dict[str, Surface]
) -> list[_UrdfJoint]:
    """Freeze the joint of the largest part while the base itself has no surface: something must stand still."""
    while kept:
        owner = {link: _owner(link, joints, {j.child for j in kept}) for link in links}
        if any(owner[link] is None and len(surfaces[link].faces) for link in links):
            break
        area = {j.child: sum(float(surfaces[k].areas.sum()) for k in links if owner[k] == j.child) for j in kept}
        roots = [j for j in kept if owner[j.parent] is None]
        largest = max(roots, key=lambda j: area[j.child])
        kept = [j for j in kept if j is not largest]
    return kept


def _limits(joint: _UrdfJoint, scale: float) -> tuple[float, float]:
    low, high = sorted(joint.limits)
    return (low * scale, high * scale) if joint.kind == "prismatic" else (low, high)


def _moves(joint: _UrdfJoint, joints: list[_UrdfJoint], surfaces: dict[str, Surface], scale: float) -> bool:
    """Whether the joint visibly moves its own link: enough range, and enough surface of its own or carried rigidly."""
    if joint.kind not in ("prismatic", "revolute", "continuous"):
        return False
    low, high = _limits(joint, scale)
    if high - low < (MIN_SLIDE_M if joint.kind == "prismatic" else MIN_TURN_RAD):
        return False
    own = merge([surfaces[link] for link in _carried(joint, joints, surfaces)])
    total = sum(float(s.areas.sum()) for s in surfaces.values())
    if not len(own.faces) or float(np.ptp(own.vertices, axis=0).max()) < MIN_EXTENT_M:
        return False
    return float(own.areas.sum()) >= MIN_AREA_SHARE * total


def _carried(joint: _UrdfJoint, joints: list[_UrdfJoint], surfaces: dict[str, Surface]) -> set[str]:
    """Links that move rigidly with the joint's child; a massless child passes the motion on to its own child."""
    rigid = {joint.child}
    helper = None if len(surfaces[joint.child].faces) else joint.child
    for _ in joints:
        rigid |= {j.child for j in joints if j.parent in rigid and (j.kind == "fixed" or j.parent == helper)}
    return rigid


def _owner(link: str, joints: list[_UrdfJoint], movable: set[str]) -> str | None:
    """The nearest ancestor link (itself included) driven by a movable joint, or None for the base."""
    parent = {j.child: j.parent for j in joints}
    while link not in movable:
        if link not in parent:
            return None
        link = parent[link]
    return link


def _depth(link: str, joints: list[_UrdfJoint]) -> int:
    parent = {j.child: j.parent for j in joints}
    depth = 0
    while link in parent:
        link = parent[link]
        depth += 1
    return depth
