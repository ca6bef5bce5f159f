"""Articulated objects in a room, rendered by MuJoCo: another program's shading, shadows, textures and depth buffer."""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "egl")

import cv2
import mujoco
import numpy as np
from scipy.ndimage import gaussian_filter

from art_perception.data.model import SimObject, Surface
from art_perception.geometry.lie import exp_so3
from benchmarks.room import HEIGHT, WIDTH, Room, clutter

_SHEET_M = 1e-5  # faces are drawn from both sides, this far apart


class _Document:
    """The scene's MJCF and its files while it is put together."""

    def __init__(self, T_world_object: np.ndarray, rng: np.random.Generator) -> None:
        self.files: dict[str, bytes] = {}
        self.assets: list[str] = []
        self.bodies: list[str] = []
        self.rng, self.T = rng, T_world_object

    def material(self, name: str, linear: np.ndarray, textured: bool, repeat: float = 1.0) -> None:
        rng = self.rng
        color = np.clip(np.asarray(linear) ** (1 / 2.2), 0.02, 0.98)
        shine = f'specular="{rng.uniform(0, 0.6):.2f}" shininess="{rng.uniform(0.1, 0.8):.2f}" reflectance="0"'
        if not textured:
            self.assets.append(f'<material name="{name}" rgba="{_text(color)} 1" {shine}/>')
            return
        image = np.clip(color * np.exp(rng.uniform(0.05, 0.35) * _noise(rng))[..., None], 0, 1)
        _, png = cv2.imencode(".png", (255 * image).astype(np.uint8)[..., ::-1])
        self.files[f"{name}.png"] = png.tobytes()
        self.assets.append(f'<texture name="{name}" type="cube" file="{name}.png"/>')
        texture = f'texture="{name}" texuniform="true" texrepeat="{repeat:.2f} {repeat:.2f}"'
        self.assets.append(f'<material name="{name}" {texture} {shine}/>')

    def part(self, k: int, surface: Surface) -> None:
        """Part ``k`` as a body that is put where it belongs in every frame."""
        geoms = []
        for i in np.unique(surface.material):
            corners = surface.vertices[surface.faces[surface.material == i]]
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            area = np.linalg.norm(normal, axis=1)
            if not (area > 1e-10).any():
                continue
            corners, normal = corners[area > 1e-10], (normal / np.maximum(area[:, None], 1e-300))[area > 1e-10]
            self.files[f"p{k}_{i}.obj"] = _both_sides(corners, normal)
            self.assets.append(f'<mesh name="p{k}_{i}" file="p{k}_{i}.obj" inertia="shell"/>')
            geoms.append(f'<geom type="mesh" mesh="p{k}_{i}" material="m{i}" {_GHOST} mass="0.001"/>')
        if geoms:
            self.bodies.append(f'<body name="part{k}" mocap="true">{"".join(geoms)}</body>')

    def solid(self, kind: str, size: np.ndarray, at: np.ndarray, material: str, turn: float = 0.0) -> None:
        """A box, cylinder or ellipsoid that stands in the object frame."""
        R = self.T[:3, :3]
        where = f'pos="{_text(R @ at + self.T[:3, 3])}" quat="{_text(_quaternion(R @ _about_z(turn)))}"'
        self.bodies.append(f'<geom type="{kind}" size="{_text(size)}" {where} material="{material}" {_GHOST}/>')


_GHOST = 'contype="0" conaffinity="0"'


def _text(values: np.ndarray) -> str:
    return " ".join(f"{v:.6f}" for v in np.atleast_1d(values))


def _about_z(angle: float) -> np.ndarray:
    return exp_so3(np.array([0, 0, angle]))


def _quaternion(R: np.ndarray) -> np.ndarray:
    q = np.zeros(4)
    mujoco.mju_mat2Quat(q, np.ascontiguousarray(R).flatten())
    return q


def _noise(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A grey pattern (size, size): blobs, streaks, clouds or squares, of mean 0 and deviation 1."""
    kind = rng.integers(4)
    if kind == 0:
        image = gaussian_filter(rng.normal(size=(size, size)), rng.uniform(1, 6), mode="wrap")
    elif kind == 1:
        image = gaussian_filter(rng.normal(size=(size, size)), (rng.uniform(10, 30), rng.uniform(0.8, 2)), mode="wrap")
    elif kind == 2:
        image = sum(gaussian_filter(rng.normal(size=(size, size)), s, mode="wrap") * s for s in (1, 4, 16))
    else:
        n = int(rng.integers(4, 16))
        image = np.kron(rng.random((n, n)), np.ones((size // n + 1, size // n + 1)))[:size, :size]
    return (image - image.mean()) / image.std()


def _both_sides(corners: np.ndarray, normal: np.ndarray) -> bytes:
    """Wavefront text of triangles (F, 3, 3), each with vertices of its own, so that shading is flat."""
    shift = _SHEET_M * np.repeat(normal, 3, 0)
    flat = corners.reshape(-1, 3)
    faces = np.arange(len(flat)).reshape(-1, 3)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in np.concatenate([flat + shift, flat - shift])]
    lines += [f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in np.concatenate([faces, faces[:, ::-1] + len(flat)])]
    return "".join(lines).encode()


def _build(obj: SimObject, T_world_object: np.ndarray, room: Room, rng: np.random.Generator) -> mujoco.MjModel:
    """The model of a scene."""
    doc = _Document(T_world_object, rng)
    textured = rng.choice([0.0, 0.4, 0.8])
    for i, material in enumerate(obj.materials):
        doc.material(f"m{i}", np.array(material.color), rng.random() < textured)
    for k, part in enumerate(obj.parts):
        if len(part.faces):
            doc.part(k, part)
    doc.material("floor", rng.uniform(0.1, 0.7, 3), rng.random() < 0.75, 1.5)
    doc.material("wall", rng.uniform(0.2, 0.9, 3), rng.random() < 0.5)
    doc.solid("box", np.array([4, 4, 0.5]), np.array([0, 0, -0.5]), "floor")
    if room.wall_m is not None:
        behind = room.azimuth + np.pi
        out = np.array([np.cos(behind), np.sin(behind), 0]) * (room.wall_m + 0.1)
        doc.solid("box", np.array([0.1, 4, 3]), out + np.array([0, 0, 1.5]), "wall", behind)
    for i in range(room.clutter):
        doc.material(f"c{i}", rng.uniform(0.05, 0.9, 3), rng.random() < 0.5)
        if thing := clutter(obj, room, rng):
            doc.solid(
                thing.kind, thing.half[:2] if thing.kind == "cylinder" else thing.half, thing.at, f"c{i}", thing.turn
            )
    return mujoco.MjModel.from_xml_string(_mjcf(doc, room), doc.files)


def _mjcf(doc: _Document, room: Room) -> str:
    rng, R, t = doc.rng, doc.T[:3, :3], doc.T[:3, 3]
    low, high = room.swept
    lights = []
    for _ in range(int(rng.integers(1, 4))):
        angle = room.azimuth + rng.uniform(-1.2, 1.2)
        out = np.array([np.cos(angle), np.sin(angle), 0]) * rng.uniform(0.5, 3)
        lamp = R @ (out + np.array([0, 0, high[2] + rng.uniform(0.7, 2)])) + t
        toward = t + R @ ((low + high) / 2) - lamp
        color = _text(rng.uniform(0.25, 0.6) * np.array([1, 1, 0.95]))
        shadow = "true" if rng.random() < 0.7 else "false"
        lights.append(
            f'<light pos="{_text(lamp)}" dir="{_text(toward / np.linalg.norm(toward))}" diffuse="{color}" '
            f'specular=".3 .3 .3" cutoff="80" castshadow="{shadow}"/>'
        )
    K = room.K
    principal = np.array([WIDTH / 2 - (K[0, 2] + 0.5), HEIGHT / 2 - (K[1, 2] + 0.5)])
    camera = (
        f'<camera name="cam" resolution="{WIDTH} {HEIGHT}" sensorsize="{WIDTH * 1e-5} {HEIGHT * 1e-5}" '
        f'focalpixel="{K[0, 0]:.5f} {K[1, 1]:.5f}" principalpixel="{_text(principal)}"/>'
    )
    ambient, head = _text(rng.uniform(0.15, 0.4, 3)), _text(np.array([rng.uniform(0, 0.3), 0.1, 0.1]))
    return (
        f'<mujoco><visual><global offwidth="{WIDTH}" offheight="{HEIGHT}"/>'
        f'<headlight ambient="{ambient}" diffuse="{head}" specular="0 0 0"/>'
        '<map znear="0.01" zfar="50"/><quality shadowsize="2048" offsamples="4"/></visual>'
        f'<statistic extent="1" center="0 0 0"/><asset>{"".join(doc.assets)}</asset>'
        f"<worldbody>{''.join(lights)}{''.join(doc.bodies)}"
        f'<body name="cam" mocap="true">{camera}</body></worldbody></mujoco>'
    )


class Scene:
    """An object that stands at ``T_world_object`` in a room, with random looks and lights; to be closed."""

    frames = (36, 80)

    def __init__(self, obj: SimObject, T_world_object: np.ndarray, room: Room, rng: np.random.Generator) -> None:
        model = _build(obj, T_world_object, room, rng)
        self.model, self.data, self.T = model, mujoco.MjData(model), T_world_object
        self.renderer = mujoco.Renderer(model, HEIGHT, WIDTH)
        names = {k: model.body(f"part{k}") for k, part in enumerate(obj.parts) if len(part.faces)}
        self.body = {k: body.id for k, body in names.items()}
        self.mocap = {k: int(body.mocapid[0]) for k, body in names.items()}
        self.camera = int(model.body("cam").mocapid[0])

    def pose(self, T_object_part: np.ndarray, T_object_camera: np.ndarray) -> None:
        """Put parts (P, 4, 4) and camera, whose z looks ahead, where they are."""
        for k, i in self.mocap.items():
            self._put(i, self.T @ T_object_part[k])
        self._put(self.camera, self.T @ T_object_camera @ np.diag([1.0, -1, -1, 1]))
        mujoco.mj_forward(self.model, self.data)

    def _put(self, index: int, T: np.ndarray) -> None:
        self.data.mocap_pos[index] = T[:3, 3]
        self.data.mocap_quat[index] = _quaternion(T[:3, :3])

    def part_ids(self) -> np.ndarray:
        """(H, W) uint8: 0 background, 1 static body, 2.. moving parts."""
        self.renderer.enable_segmentation_rendering()
        geom = self._render()[..., 0]
        self.renderer.disable_segmentation_rendering()
        body = np.where(geom >= 0, self.model.geom_bodyid[np.maximum(geom, 0)], -1)
        ids = np.zeros(geom.shape, np.uint8)
        for k, own in self.body.items():
            ids[body == own] = k + 1
        return ids

    def depth(self) -> np.ndarray:
        """(H, W) metres, exact."""
        self.renderer.enable_depth_rendering()
        depth = self._render()
        self.renderer.disable_depth_rendering()
        return depth

    def color(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self._render()

    def _render(self) -> np.ndarray:
        self.renderer.update_scene(self.data, "cam")
        return self.renderer.render().copy()

    def close(self) -> None:
        """Free the renderer."""
        self.renderer.close()
