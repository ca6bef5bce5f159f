"""Articulated objects in a room, path traced by Blender's Cycles: soft shadows, bounced light, gloss, film curves.

Depth and part ids are cast, the image alone is Blender's. Needs `pip install --no-deps bpy==4.2.0` (Python 3.11).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from art_perception.data.model import SimObject, Surface, moved
from art_perception.data.raycast import Hits, cast, make_body
from art_perception.data.shapes import box, cylinder, ellipsoid, placed
from art_perception.geometry.lie import exp_so3, from_rotation_translation
from benchmarks.room import HEIGHT, WIDTH, Room, Thing, clutter

_PERCENT = 75  # of the resolution is traced, the rest interpolated: a camera that is not quite sharp
_OPENCV_TO_BLENDER = np.diag([1.0, -1, -1, 1])


@dataclass(frozen=True, slots=True)
class _Look:
    """A principled material: colour (3,), an optional pattern that modulates it, its size in metres."""

    color: tuple[float, ...]
    roughness: float
    metallic: float
    pattern: str | None
    contrast: float
    size_m: float
    bump: float


@dataclass(frozen=True, slots=True, eq=False)
class _Lamp:
    """An area light at (3,) that looks at (3,), watts, metres."""

    at: np.ndarray
    toward: np.ndarray
    watt: float
    size_m: float
    color: tuple[float, ...]


def _look(color: np.ndarray, patterned: bool, size_m: float, rng: np.random.Generator) -> _Look:
    pattern = str(rng.choice(["noise", "wave", "checker", "voronoi", "brick", "magic"])) if patterned else None
    return _Look(
        tuple(np.clip(color, 0.01, 0.95)),
        float(rng.uniform(0.15, 0.95)),
        float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0.3, 1)])),
        pattern,
        float(rng.uniform(0.1, 0.7)),
        size_m * float(np.exp(rng.uniform(-1, 0.7))),
        float(rng.choice([0, 0, 0.2])),
    )


class Scene:
    """An object in a room, with random looks and lights, in the object frame; Blender knows one scene at a time."""

    frames = (28, 40)

    def __init__(self, obj: SimObject, T_world_object: np.ndarray, room: Room, rng: np.random.Generator) -> None:
        self.K = room.K
        size = float(np.linalg.norm(np.ptp(obj.bounds, axis=0)))
        patterned = rng.choice([0.0, 0.4, 0.8])
        self.looks = [_look(np.array(m.color), rng.random() < patterned, 0.2 * size, rng) for m in obj.materials]
        self.surfaces = [p for p in obj.parts if len(p.faces)]
        self.ids = [k + 1 for k, p in enumerate(obj.parts) if len(p.faces)]
        self.fixed = self._room(obj, room, size, rng)
        self.lamps = _lamps(room, rng)
        self.sky = tuple(rng.uniform(0.3, 1, 3) * rng.uniform(0.1, 0.6))
        self.film = str(rng.choice(["AgX", "Filmic", "Standard"]))
        self.exposure = float(rng.uniform(-0.3, 0.5))
        self.samples = int(rng.choice([4, 6]))
        self.bodies = tuple(
            make_body(s, np.full(len(s.faces), i))
            for s, i in zip([*self.surfaces, *self.fixed], self._all_ids(), strict=True)
        )
        self.poses = np.tile(np.eye(4), (len(self.bodies), 1, 1))
        self._blender: _Blender | None = None

    def _all_ids(self) -> list[int]:
        return self.ids + [0] * len(self.fixed)

    def _room(self, obj: SimObject, room: Room, size: float, rng: np.random.Generator) -> list[Surface]:
        """Floor, walls and things that stand about, object frame; their looks are appended."""

        def material(color: np.ndarray, patterned: bool, size_m: float) -> int:
            self.looks.append(_look(color, patterned, size_m, rng))
            return len(self.looks) - 1

        floor = material(rng.uniform(0.1, 0.7, 3), rng.random() < 0.75, 0.6)
        fixed = [box((-4, -4, -0.2), (4, 4, 0), floor)]
        if room.wall_m is not None:
            wall = material(rng.uniform(0.2, 0.9, 3), rng.random() < 0.4, 0.8)
            behind = room.azimuth + np.pi
            fixed.append(
                placed(box((room.wall_m, -4, 0), (room.wall_m + 0.2, 4, 3), wall), _about_z(behind), np.zeros(3))
            )
        for _ in range(room.clutter):
            own = material(rng.uniform(0.05, 0.9, 3), rng.random() < 0.5, 0.2)
            if thing := clutter(obj, room, rng):
                fixed.append(_solid(thing, own))
        return fixed

    def pose(self, T_object_part: np.ndarray, T_object_camera: np.ndarray) -> None:
        """Put parts (P, 4, 4) and camera, whose z looks ahead, where they are."""
        self.poses[: len(self.ids)] = [T_object_part[i - 1] for i in self.ids]
        self.T_object_camera = T_object_camera
        self._hits: Hits = cast(self.bodies, self.poses, T_object_camera, self.K, (HEIGHT, WIDTH))

    def part_ids(self) -> np.ndarray:
        """(H, W) uint8: 0 background, 1 static body, 2.. moving parts."""
        return np.where(self._hits.body >= 0, np.array(self._all_ids(), np.uint8)[self._hits.body], 0).astype(np.uint8)

    def depth(self) -> np.ndarray:
        """(H, W) metres, exact."""
        return self._hits.depth_m

    def color(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        if self._blender is None:
            self._blender = _Blender(self)
        return self._blender.render()

    def close(self) -> None:
        """Nothing to free: Blender's scene goes when the next one is made."""


def _solid(thing: Thing, material: int) -> Surface:
    half = thing.half
    if thing.kind == "box":
        shape = box(tuple(-half), tuple(half), material)
    elif thing.kind == "cylinder":
        shape = moved(cylinder(half[0], 2 * half[1], material), np.array([0, 0, -half[1]]))
    else:
        shape = ellipsoid(tuple(half), material)
    return placed(shape, _about_z(thing.turn), thing.at)


def _about_z(angle: float) -> np.ndarray:
    return exp_so3(np.array([0, 0, angle]))


def _lamps(room: Room, rng: np.random.Generator) -> list[_Lamp]:
    low, high = room.swept
    middle, size = (low + high) / 2, float(np.linalg.norm(high - low))
    lamps = []
    for _ in range(int(rng.integers(1, 4))):
        angle = room.azimuth + rng.uniform(-1.5, 1.5)
        out = np.array([np.cos(angle), np.sin(angle), 0]) * rng.uniform(0.5, 2) * max(size, 0.5)
        at = middle + out + np.array([0, 0, rng.uniform(0.6, 2) * max(size, 0.5)])
        distance = float(np.linalg.norm(at - middle))
        warm = rng.uniform(0.7, 1.0)
        lamps.append(
            _Lamp(
                at,
                middle,
                float(rng.uniform(15, 50)) * distance**2,
                float(rng.uniform(0.05, 1.0)) * distance,
                (1, (1 + warm) / 2, warm),
            )
        )
    return lamps


class _Blender:
    """Blender's copy of a scene."""

    def __init__(self, scene: Scene) -> None:
        import bpy

        self.bpy, self.scene = bpy, scene
        bpy.ops.wm.read_factory_settings(use_empty=True)
        materials = [self._material(f"m{i}", look) for i, look in enumerate(scene.looks)]
        self.objects = [self._mesh(f"b{i}", s, materials) for i, s in enumerate([*scene.surfaces, *scene.fixed])]
        for lamp in scene.lamps:
            self._lamp(lamp)
        self._world(scene.sky)
        self._camera()
        s = bpy.context.scene
        s.render.engine = "CYCLES"
        s.cycles.device, s.cycles.samples, s.cycles.max_bounces = "CPU", scene.samples, 2
        s.cycles.use_denoising, s.cycles.denoising_quality, s.cycles.denoising_prefilter = True, "FAST", "NONE"
        s.render.resolution_x, s.render.resolution_y, s.render.resolution_percentage = WIDTH, HEIGHT, _PERCENT
        s.render.use_persistent_data = True
        s.render.threads_mode, s.render.threads = "FIXED", 1
        s.view_settings.view_transform, s.view_settings.exposure = scene.film, scene.exposure
        s.render.image_settings.file_format = "PNG"
        self.folder = tempfile.TemporaryDirectory()

    def _material(self, name: str, look: _Look) -> Any:
        material = self.bpy.data.materials.new(name)
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        shader = nodes["Principled BSDF"]
        if look.roughness > 0.5:  # hardly shines, and is traced faster so
            shader = nodes.new("ShaderNodeBsdfDiffuse")
            links.new(shader.outputs["BSDF"], nodes["Material Output"].inputs["Surface"])
        else:
            shader.inputs["Roughness"].default_value = look.roughness
            shader.inputs["Metallic"].default_value = look.metallic
        color = shader.inputs["Color" if "Color" in shader.inputs else "Base Color"]
        color.default_value = (*look.color, 1)
        if look.pattern is None:
            return material
        where = nodes.new("ShaderNodeTexCoord")
        pattern = nodes.new(f"ShaderNodeTex{look.pattern.capitalize()}")
        pattern.inputs["Scale"].default_value = 1 / look.size_m
        if "Detail" in pattern.inputs:
            pattern.inputs["Detail"].default_value = 0.5
        links.new(where.outputs["Object"], pattern.inputs["Vector"])
        mix = nodes.new("ShaderNodeMix")
        mix.data_type = "RGBA"
        mix.inputs["A"].default_value = (*look.color, 1)
        mix.inputs["B"].default_value = (*(c * (1 - look.contrast) for c in look.color), 1)
        value = pattern.outputs["Fac" if "Fac" in pattern.outputs else "Distance"]
        links.new(value, mix.inputs["Factor"])
        links.new(mix.outputs["Result"], color)
        if look.bump:
            bump = nodes.new("ShaderNodeBump")
            bump.inputs["Strength"].default_value = look.bump
            links.new(value, bump.inputs["Height"])
            links.new(bump.outputs["Normal"], shader.inputs["Normal"])
        return material

    def _mesh(self, name: str, surface: Surface, materials: list[Any]) -> Any:
        mesh = self.bpy.data.meshes.new(name)
        mesh.from_pydata(surface.vertices.tolist(), [], surface.faces.tolist())
        for m in materials:
            mesh.materials.append(m)
        mesh.polygons.foreach_set("material_index", surface.material.astype(np.int32))
        mesh.update()
        thing = self.bpy.data.objects.new(name, mesh)
        self.bpy.context.collection.objects.link(thing)
        return thing

    def _lamp(self, lamp: _Lamp) -> None:
        light = self.bpy.data.lights.new("lamp", "AREA")
        light.energy, light.size, light.color = lamp.watt, lamp.size_m, lamp.color
        thing = self.bpy.data.objects.new("lamp", light)
        ahead = (lamp.toward - lamp.at) / np.linalg.norm(lamp.toward - lamp.at)
        side = np.cross(ahead, [0, 0, 1.0])
        side /= np.linalg.norm(side)
        thing.matrix_world = _matrix(
            from_rotation_translation(np.stack([side, np.cross(side, ahead), -ahead], 1), lamp.at)
        )
        self.bpy.context.collection.objects.link(thing)

    def _world(self, color: tuple[float, ...]) -> None:
        world = self.bpy.data.worlds.new("world")
        world.use_nodes = True
        world.node_tree.nodes["Background"].inputs["Color"].default_value = (*color, 1)
        world.cycles.sampling_method = "NONE"
        self.bpy.context.scene.world = world

    def _camera(self) -> None:
        K = self.scene.K
        camera = self.bpy.data.cameras.new("camera")
        camera.sensor_width, camera.lens, camera.clip_start = 36.0, K[0, 0] / WIDTH * 36.0, 0.01
        camera.shift_x = ((WIDTH - 1) / 2 - K[0, 2]) / WIDTH
        camera.shift_y = (K[1, 2] - (HEIGHT - 1) / 2) / WIDTH
        self.camera = self.bpy.data.objects.new("camera", camera)
        self.bpy.context.collection.objects.link(self.camera)
        self.bpy.context.scene.camera = self.camera

    def render(self) -> np.ndarray:
        for thing, T in zip(self.objects, self.scene.poses, strict=True):
            thing.matrix_world = _matrix(T)
        self.camera.matrix_world = _matrix(self.scene.T_object_camera @ _OPENCV_TO_BLENDER)
        path = Path(self.folder.name) / "frame.png"
        self.bpy.context.scene.render.filepath = str(path)
        self.bpy.context.scene.cycles.seed += 1
        self.bpy.ops.render.render(write_still=True)
        return cv2.resize(cv2.imread(str(path)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., ::-1]


def _matrix(T: np.ndarray) -> Any:
    import mathutils

    return mathutils.Matrix(T.tolist())
