"""An articulated object as nodes of a viser scene that can be posed, recoloured and compared with labelled points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import quaternion_from_matrix
from art_perception.geometry.mesh import to_trimesh
from art_perception.io.results import Labels
from art_perception.types import ArticulatedObject, Part
from art_perception.viz.overlay import axis_arrows
from art_perception.viz.palette import part_rgb

if TYPE_CHECKING:
    import viser


_FLOOR_PLANES: tuple[Literal["yz", "xz", "xy"], ...] = ("yz", "xz", "xy")  # by the axis that points up
_FOV_RAD = float(np.deg2rad(50))


class ObjectScene:
    """The object of one page: a frame per part carries its meshes, another one the axis of the joint that moves it."""

    def __init__(self, server: viser.ViserServer, obj: ArticulatedObject, T_world_camera: np.ndarray | None) -> None:
        """Add the object, a floor and the starting view to the server's scene.

        Args:
            server: of the page.
            obj: parts and joints, fixed frame.
            T_world_camera: (4, 4) where the clip was filmed from, or None: then z is up and the view is a guess.
        """
        self._server, self._object = server, obj
        self._chain = chain_of(obj.joints)
        low, high = _bounds(obj.parts)
        self._size = float(np.linalg.norm(high - low))
        self._parts = [server.scene.add_frame(f"/object/{p.name}", show_axes=False) for p in obj.parts]
        self._axes = [server.scene.add_frame(f"/axes/{p.name}", show_axes=False) for p in obj.parts]
        self._tinted = [self._add_tinted(k) for k, p in enumerate(obj.parts) if len(p.visual.faces)]
        self._true = [self._add_true(p) for p in obj.parts if len(p.visual.faces)]
        self._add_axes()
        self._points: viser.PointCloudHandle | None = None
        self._points_visible = False
        self._add_floor(low, high, 2 if T_world_camera is None else upright_axis(-T_world_camera[:3, 1]))
        camera = server.initial_camera
        camera.position = self._guess_position(0.5 * (low + high)) if T_world_camera is None else T_world_camera[:3, 3]
        camera.look_at = 0.5 * (low + high)
        camera.fov = _FOV_RAD

    def show(self, q: np.ndarray) -> None:
        """Put the parts where joint values ``q`` (J,), rad or m, put them."""
        D = with_base(displacements(self._chain, np.asarray(q, float)))
        with self._server.atomic():
            for nodes in (self._parts, self._axes):
                for node, T in zip(nodes, D, strict=True):
                    node.wxyz, node.position = quaternion_from_matrix(T[:3, :3]), T[:3, 3]

    def use_true_colors(self, true_colors: bool) -> None:
        """Show the colours the camera saw, or one colour per part."""
        for tinted, true in zip(self._tinted, self._true, strict=True):
            tinted.visible, true.visible = not true_colors, true_colors

    def set_surface_visible(self, visible: bool) -> None:
        """Show or hide the meshes."""
        for node in self._parts:
            node.visible = visible

    def set_axes_visible(self, visible: bool) -> None:
        """Show or hide the joint axes."""
        for node in self._axes:
            node.visible = visible

    def set_points_visible(self, visible: bool) -> None:
        """Show or hide the labelled points."""
        self._points_visible = visible
        if self._points is not None:
            self._points.visible = visible

    def show_points(self, labels: Labels, stamp_s: float) -> None:
        """Show the labelled points of the frame nearest to ``stamp_s`` in their part's colour."""
        t = int(np.abs(labels.stamp - stamp_s).argmin())
        colors = np.array([part_rgb(k) for k in range(len(self._object.parts))], np.uint8)
        self._points = self._server.scene.add_point_cloud(
            "/labels",
            labels.point[t].astype(np.float32),
            colors[labels.part[t]],
            point_size=0.0035 * self._size,
            point_shape="circle",
            visible=self._points_visible,
        )

    def _add_tinted(self, index: int) -> viser.MeshHandle:
        part = self._object.parts[index]
        return self._server.scene.add_mesh_simple(
            f"/object/{part.name}/tinted",
            part.visual.vertices.astype(np.float32),
            part.visual.faces.astype(np.uint32),
            color=part_rgb(index),
            side="double",
        )

    def _add_true(self, part: Part) -> viser.GlbHandle:
        return self._server.scene.add_mesh_trimesh(f"/object/{part.name}/true", to_trimesh(part.visual), visible=False)

    def _add_axes(self) -> None:
        radius = 0.005 * self._size
        for arrow in axis_arrows(self._object.joints, self._object.parts, np.zeros(len(self._object.joints))):
            name = f"/axes/{self._object.parts[arrow.part].name}/{arrow.label}"
            self._server.scene.add_arrows(
                name,
                arrow.line[None].astype(np.float32),
                part_rgb(arrow.part),
                shaft_radius=radius,
                head_radius=2.4 * radius,
                head_length=6 * radius,
            )
            self._server.scene.add_label(f"{name}/label", arrow.label, position=arrow.line[1])

    def _add_floor(self, low: np.ndarray, high: np.ndarray, up: int) -> None:
        """Grid under the object; ``up`` is the axis (0, 1, 2) that points up, or its complement ``~up`` for down."""
        axis, down = (~up, True) if up < 0 else (up, False)
        position = 0.5 * (low + high)
        position[axis] = high[axis] if down else low[axis]
        self._server.scene.set_up_direction(np.eye(3)[axis] * (-1.0 if down else 1.0))
        self._server.scene.add_grid(
            "/floor",
            8 * self._size,
            8 * self._size,
            plane=_FLOOR_PLANES[axis],
            cell_size=self._size / 8,
            section_size=self._size / 2,
            fade_distance=6 * self._size,
            position=position,
        )

    def _guess_position(self, centre: np.ndarray) -> np.ndarray:
        """Stand on the side the parts move towards: that is the object's front."""
        front = _moved_centre(self._object) - centre
        front[2] = 0.0
        length = float(np.linalg.norm(front))
        front = front / length if length > 1e-3 else np.array([1.0, 0.0, 0.0])
        side = np.array([-front[1], front[0], 0.0])
        return centre + self._size * (1.3 * front + 0.75 * side + np.array([0, 0, 0.6]))


def upright_axis(up: np.ndarray) -> int:
    """Axis of the fixed frame nearest to a camera's up direction (3,): its index, or ``~index`` when it points down.

    Cameras look down at things, so their own up direction leans; the fixed frame's axes hardly ever do.
    """
    axis = int(np.abs(up).argmax())
    return axis if up[axis] > 0 else ~axis


def _bounds(parts: tuple[Part, ...]) -> tuple[np.ndarray, np.ndarray]:
    vertices = np.concatenate([np.zeros((0, 3)), *(p.visual.vertices for p in parts)])
    return (vertices.min(0), vertices.max(0)) if len(vertices) else (-0.5 * np.ones(3), 0.5 * np.ones(3))


def _moved_centre(obj: ArticulatedObject) -> np.ndarray:
    """Mean centre of the moving parts halfway through their motion."""
    q = np.array([0.5 * (j.limits[0] + j.limits[1]) for j in obj.joints])
    centres = np.zeros((0, 3))
    for D, part in zip(displacements(chain_of(obj.joints), q), obj.parts[1:], strict=True):
        if len(part.visual.vertices):
            centres = np.vstack([centres, D[:3, :3] @ part.visual.vertices.mean(0) + D[:3, 3]])
    return centres.mean(0) if len(centres) else np.zeros(3)
