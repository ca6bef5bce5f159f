"""The simulator's own object: coloured rigid parts and true joints, in the object frame at zero joint values.

The object frame is metric, z up, its origin on the floor under the object's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from art_perception.geometry.kinematics import Chain, chain_of
from art_perception.types import Joint


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface looks.

    Attributes:
        color: linear RGB in [0, 1].
        texture: one of ``texture.KINDS``.
        texture_size_m: side of one repetition of the texture.
        contrast: 0 = uniform colour, 1 = the texture's full range.
        gloss: strength of the highlight in [0, 1].
    """

    color: tuple[float, float, float]
    texture: str = "plain"
    texture_size_m: float = 0.5
    contrast: float = 0.0
    gloss: float = 0.1


def rgb(color: np.ndarray) -> tuple[float, float, float]:
    """A colour (3,) within what surfaces reflect, 1 to 95 %."""
    r, g, b = np.clip(color, 0.01, 0.95)
    return float(r), float(g), float(b)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A coloured triangle soup.

    Attributes:
        vertices: (V, 3) float64 metres.
        faces: (F, 3) int64.
        material: (F,) int64 index into the owner's list of materials.
    """

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """(F,) face areas, square metres."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    def sample(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``count`` surface points (N, 3) and their unit face normals (N, 3), uniformly by area."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        area = np.linalg.norm(normal, axis=1)
        face = rng.choice(len(area), count, p=area / area.sum())
        u, v = rng.random((2, count, 1))
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        points = a[face] + u * (b - a)[face] + v * (c - a)[face]
        return points, normal[face] / np.maximum(area[face, None], 1e-12)


EMPTY_SURFACE = Surface(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros(0, np.int64))


def merge(surfaces: Sequence[Surface]) -> Surface:
    """Concatenate surfaces that share a list of materials."""
    surfaces = [s for s in surfaces if len(s.faces)]
    if not surfaces:
        return EMPTY_SURFACE
    offset = np.cumsum([0, *(len(s.vertices) for s in surfaces[:-1])])
    return Surface(
        np.concatenate([s.vertices for s in surfaces]),
        np.concatenate([s.faces + o for s, o in zip(surfaces, offset, strict=True)]),
        np.concatenate([s.material for s in surfaces]),
    )


def without_duplicates(surface: Surface) -> Surface:
    """Drop faces that repeat another one, either way round: renderers flicker between coincident faces."""
    if not len(surface.faces):
        return surface
    corners = surface.vertices[surface.faces]
    size = float(np.ptp(surface.vertices, axis=0).max()) or 1.0
    cell = np.rint(np.column_stack([corners.mean(1), corners.min(1), corners.max(1)]) / size * 1e5).astype(np.int64)
    key = cell @ np.array([7919, 104729, 1299709, 15485863, 179424673, 32452843, 49979687, 86028121, 67867967])
    first = np.sort(np.unique(key, return_index=True)[1])
    return replace(surface, faces=surface.faces[first], material=surface.material[first])


@dataclass(frozen=True, slots=True, eq=False)
class SimObject:
    """An articulated object with truth.

    Attributes:
        name: file-system and ROS safe name.
        category: what it is, in lower case.
        parts: ``parts[0]`` is ``base``, ``parts[k + 1]`` the child of ``joints[k]``, in the object frame at q = 0.
        joints: movable joints in the object frame, parents before children.
        materials: what the parts' ``material`` points to.
        blockers: pairs (joint, other joint that must stand open for it to move).
    """

    name: str
    category: str
    parts: tuple[Surface, ...]
    joints: tuple[Joint, ...]
    materials: tuple[Material, ...]
    blockers: tuple[tuple[int, int], ...] = ()

    @property
    def chain(self) -> Chain:
        """Kinematic tree in the object frame."""
        return chain_of(self.joints)

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3) lowest and highest corner at q = 0, object frame."""
        points = np.concatenate([p.vertices for p in self.parts])
        return np.stack([points.min(0), points.max(0)])

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the movable joints in URDF order."""
        return tuple(j.name for j in self.joints)


def moved(surface: Surface, shift: np.ndarray) -> Surface:
    """Translate a surface by ``shift`` (3,)."""
    return replace(surface, vertices=surface.vertices + shift)


def grounded(obj: SimObject) -> SimObject:
    """Shift the object frame so that the object stands on z = 0, centred over the origin."""
    low, high = obj.bounds
    shift = np.array([-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]])
    return replace(
        obj,
        parts=tuple(moved(p, shift) for p in obj.parts),
        joints=tuple(replace(j, origin=j.origin + shift) for j in obj.joints),
    )
