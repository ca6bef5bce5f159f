"""Triangle meshes: moving, merging, sampling, mass, convex pieces; the bridge between ``types.Mesh`` and trimesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from art_perception.geometry.lie import transform
from art_perception.types import Mesh

if TYPE_CHECKING:
    import trimesh

Solid = Any  # manifold3d.Manifold, which has no type stubs

MIN_MASS_KG = 0.01
MIN_SIZE_M = 0.004  # a solid thinner than this is given the inertia of one this thick


@dataclass(frozen=True, slots=True, eq=False)
class MassProperties:
    """Mass of a rigid body.

    Attributes:
        mass_kg: mass.
        center_m: (3,) centre of mass, in the frame of the vertices.
        inertia_kgm2: (3, 3) about the centre of mass, axes of the frame of the vertices.
    """

    mass_kg: float
    center_m: np.ndarray
    inertia_kgm2: np.ndarray


def empty_mesh() -> Mesh:
    """Return the mesh of something never seen: no vertex, no face."""
    return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """Return ``mesh`` as a ``trimesh.Trimesh`` with the same vertices and faces in the same order."""
    import trimesh

    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colors, process=False)


def from_trimesh(mesh: trimesh.Trimesh) -> Mesh:
    """Return a ``types.Mesh``; textures become vertex colours, plain meshes stay without colour."""
    return Mesh(np.array(mesh.vertices, float), np.array(mesh.faces, np.int64), _vertex_colors(mesh))


def _vertex_colors(mesh: trimesh.Trimesh) -> np.ndarray | None:
    visual, count = mesh.visual, len(mesh.vertices)
    if visual is None or not visual.defined or not count:
        return None
    if visual.kind == "texture":
        colors = visual.material.to_color(visual.uv) if visual.uv is not None else None
        if colors is None or len(colors) != count:
            colors = np.tile(visual.material.main_color, (count, 1))
    else:
        colors = visual.vertex_colors
    return np.array(colors)[:, :3].astype(np.uint8)


def transformed(mesh: Mesh, T: np.ndarray) -> Mesh:
    """Return ``mesh`` moved by an affine map (4, 4); a mirroring map also flips the faces, so outside stays outside."""
    faces = mesh.faces if np.linalg.det(T[:3, :3]) > 0 else mesh.faces[:, ::-1]
    return Mesh(transform(T, mesh.vertices), faces, mesh.colors)


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """Return all ``meshes`` as one; those without colour become grey when another one has colours."""
    filled = [m for m in meshes if len(m.vertices)]
    if not filled:
        return empty_mesh()
    offsets = np.cumsum([0] + [len(m.vertices) for m in filled[:-1]])
    colors = None
    if any(m.colors is not None for m in filled):
        grey = [np.full((len(m.vertices), 3), 180, np.uint8) if m.colors is None else m.colors for m in filled]
        colors = np.concatenate(grey)
    faces = np.concatenate([m.faces + o for m, o in zip(filled, offsets, strict=True)])
    return Mesh(np.concatenate([m.vertices for m in filled]), faces, colors)


def face_areas(mesh: Mesh) -> np.ndarray:
    """Return the area of every face (F,), square metres."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` points (count, 3) spread uniformly over the surface; none when the mesh has no area."""
    return sample_oriented(mesh, count, rng)[0]


def sample_oriented(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`sample_surface`, with the unit normals (count, 3) of the faces the points are on."""
    areas = face_areas(mesh)
    if areas.sum() <= 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    face = rng.choice(len(areas), count, p=areas / areas.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = (mesh.vertices[mesh.faces[face, i]] for i in range(3))
    normals = np.cross(b - a, c - a) / (2 * areas[face, None])
    return a + u[:, None] * (b - a) + v[:, None] * (c - a), normals


def signed_volume(mesh: Mesh) -> float:
    """Return the volume inside a closed mesh, cubic metres; negative when its faces are inside out."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def largest_piece(mesh: Mesh) -> tuple[Mesh, float]:
    """Return the connected piece of a mesh with the largest area, and its share of the whole area; empty: 0."""
    piece, areas = _pieces(mesh)
    if not len(areas):
        return mesh, 0.0
    return _with_faces(mesh, piece == areas.argmax()), float(areas.max() / areas.sum())


def without_crumbs(mesh: Mesh, min_share: float) -> Mesh:
    """Drop the connected pieces of a mesh that have less than ``min_share`` of the largest one's area."""
    piece, areas = _pieces(mesh)
    return _with_faces(mesh, areas[piece] >= min_share * areas.max()) if len(areas) > 1 else mesh


def _pieces(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Connected piece (F,) of every face, and the area (P,) of every piece."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = mesh.faces[:, [0, 1, 2]].ravel(), mesh.faces[:, [1, 2, 0]].ravel()
    count = len(mesh.vertices)
    _, piece = connected_components(coo_array((np.ones(len(i), bool), (i, j)), (count, count)), directed=False)
    _, piece = np.unique(piece[mesh.faces[:, 0]], return_inverse=True)
    return piece, np.bincount(piece, face_areas(mesh))


def _with_faces(mesh: Mesh, keep: np.ndarray) -> Mesh:
    """The faces that a mask (F,) keeps, and the vertices they use."""
    used, faces = np.unique(mesh.faces[keep], return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3), colors)


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge is shared by exactly two faces of opposite direction."""
    if not len(mesh.faces):
        return False
    solid = to_trimesh(mesh)
    return bool(solid.is_watertight and solid.is_winding_consistent)


def mass_properties(mesh: Mesh, density_kgm3: float) -> MassProperties:
    """Mass, centre and inertia of the solid inside ``mesh``, or of its convex hull when the mesh is open.

    Mass and thickness have a floor (``MIN_MASS_KG``, ``MIN_SIZE_M``), so the inertia is always positive definite and
    its eigenvalues satisfy the triangle inequality, which simulators insist on. An empty mesh is a small cube.
    """
    solid = _solid(mesh)
    if solid is None:
        center = mesh.vertices.mean(0) if len(mesh.vertices) else np.zeros(3)
        return MassProperties(MIN_MASS_KG, center, _inertia(MIN_MASS_KG, np.zeros((3, 3))))
    mass = max(float(solid.volume) * density_kgm3, MIN_MASS_KG)
    inertia = np.array(solid.moment_inertia) / float(solid.volume)
    covariance = 0.5 * np.trace(inertia) * np.eye(3) - inertia
    return MassProperties(mass, np.array(solid.center_mass), _inertia(mass, covariance))


def _solid(mesh: Mesh) -> trimesh.Trimesh | None:
    """The closed solid whose volume stands for the mesh; None when it has no volume."""
    if is_watertight(mesh):
        solid = to_trimesh(mesh)
        if solid.volume > 1e-9:
            return solid
    hull = convex_hull(mesh)
    return to_trimesh(hull) if len(hull.faces) else None


def _inertia(mass_kg: float, covariance_m2: np.ndarray) -> np.ndarray:
    """Inertia tensor of a second-moment matrix whose eigenvalues are raised to those of a thin slab."""
    values, vectors = np.linalg.eigh(covariance_m2)
    C = (vectors * np.maximum(values, MIN_SIZE_M**2 / 12)) @ vectors.T
    return mass_kg * (np.trace(C) * np.eye(3) - C)


def convex_hull(mesh: Mesh) -> Mesh:
    """Return the convex hull; empty when the vertices span no volume."""
    from scipy.spatial import ConvexHull, QhullError

    if len(mesh.vertices) < 4:
        return empty_mesh()
    try:
        hull = ConvexHull(mesh.vertices)
    except QhullError:
        return empty_mesh()
    if hull.volume < 1e-10:
        return empty_mesh()
    return _outward(mesh.vertices, hull.simplices, hull.equations[:, :3])


def _outward(vertices: np.ndarray, simplices: np.ndarray, normals: np.ndarray) -> Mesh:
    """Mesh of hull simplices with unused vertices dropped and faces counter-clockwise from outside."""
    used, faces = np.unique(simplices, return_inverse=True)
    faces = faces.reshape(simplices.shape)
    points = vertices[used]
    a, b, c = (points[faces[:, i]] for i in range(3))
    inward = (np.cross(b - a, c - a) * normals).sum(-1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return Mesh(points, faces.astype(np.int64))


def to_manifold(mesh: Mesh) -> Solid:
    """Return ``mesh`` as a ``manifold3d.Manifold``, empty when it is not a closed oriented manifold."""
    import manifold3d

    return manifold3d.Manifold(manifold3d.Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32)))


def from_manifold(solid: Solid) -> Mesh:
    """Return the mesh of a ``manifold3d.Manifold``."""
    raw = solid.to_mesh()
    return Mesh(np.array(raw.vert_properties[:, :3], float), np.array(raw.tri_verts, np.int64))


def smoothed(mesh: Mesh, iterations: int) -> Mesh:
    """Smooth away noise without shrinking the mesh (Taubin 1995); faces and colours are kept."""
    from trimesh.smoothing import filter_taubin

    out = to_trimesh(mesh)
    filter_taubin(out, iterations=2 * iterations)
    return Mesh(np.array(out.vertices), mesh.faces, mesh.colors)


def simplified(mesh: Mesh, tolerance_m: float, max_faces: int) -> Mesh:
    """Simplify a closed mesh, without its colours, and keep it closed.

    First every vertex that is flat within ``tolerance_m`` goes (manifold3d), then quadric decimation (Garland &
    Heckbert 1997) down to ``max_faces``, or to more when that would open the mesh or change its volume by over 2 %.
    """
    if tolerance_m > 0:
        solid = to_manifold(mesh)
        mesh = mesh if solid.is_empty() else from_manifold(solid.simplify(tolerance_m))
    for faces in (max_faces, 2 * max_faces, 4 * max_faces):
        if len(mesh.faces) <= faces:
            return mesh
        decimated = _decimated(mesh, faces)
        if is_watertight(decimated) and abs(signed_volume(decimated) / signed_volume(mesh) - 1) < 0.02:
            return decimated
    return mesh


def _decimated(mesh: Mesh, max_faces: int) -> Mesh:
    import open3d as o3d

    legacy = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    out = legacy.simplify_quadric_decimation(max_faces)
    return Mesh(np.asarray(out.vertices).copy(), np.asarray(out.triangles, np.int64))
