"""Solid primitives as triangle surfaces, metres."""

from __future__ import annotations

import numpy as np

from art_perception.data.model import Surface, merge

_BOX_FACES = np.array(
    [[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4], [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6],
     [1, 3, 5], [3, 7, 5]]
)  # fmt: skip


def box(low: tuple[float, ...], high: tuple[float, ...], material: int = 0) -> Surface:
    """Axis-aligned box from corner ``low`` (3,) to corner ``high`` (3,)."""
    corners = np.array([low, high], float)
    pick = np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)])
    return Surface(corners[pick, [0, 1, 2]], _BOX_FACES, np.full(12, material))


def lathe(profile: np.ndarray, material: int = 0, segments: int = 32) -> Surface:
    """Surface of revolution about z of ``profile`` (N, 2) = (radius, z), from bottom to top outside."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    points = np.concatenate([np.column_stack([r * ring, np.full(segments, z)]) for r, z in np.asarray(profile, float)])
    i = np.arange(segments)
    j = (i + 1) % segments
    faces = []
    for k in range(len(profile) - 1):
        a, b = k * segments, (k + 1) * segments
        faces += [np.stack([a + i, a + j, b + j], -1), np.stack([a + i, b + j, b + i], -1)]
    stacked = np.concatenate(faces)
    return Surface(points, stacked, np.full(len(stacked), material))


def cylinder(radius: float, height: float, material: int = 0, segments: int = 24) -> Surface:
    """Closed cylinder about z from z = 0 to ``height``."""
    return lathe(np.array([[0, 0], [radius, 0], [radius, height], [0, height]]), material, segments)


def capsule(radius_low: float, radius_high: float, length: float, material: int = 0, segments: int = 20) -> Surface:
    """Tapered capsule about z; its axis runs from z = 0 (``radius_low``) to z = ``length`` (``radius_high``)."""
    a = np.linspace(-np.pi / 2, 0, 6)
    low = np.stack([radius_low * np.cos(a), radius_low * np.sin(a)], -1)
    high = np.stack([radius_high * np.cos(a[::-1]), length - radius_high * np.sin(a[::-1])], -1)
    return lathe(np.concatenate([low, high]), material, segments)


def ellipsoid(radii: tuple[float, float, float], material: int = 0, segments: int = 20) -> Surface:
    """Ellipsoid centred on the origin with half-axes ``radii``."""
    a = np.linspace(-np.pi / 2, np.pi / 2, 12)
    ball = lathe(np.stack([np.cos(a), np.sin(a)], -1), material, segments)
    return Surface(ball.vertices * radii, ball.faces, ball.material)


def placed(surface: Surface, R: np.ndarray, t: np.ndarray) -> Surface:
    """Rotate by ``R`` (3, 3), then translate by ``t`` (3,)."""
    return Surface(surface.vertices @ np.asarray(R).T + t, surface.faces, surface.material)


def torus(radius: float, tube: float, material: int = 0, segments: int = 28) -> Surface:
    """Ring about z in the plane z = 0; ``tube`` is the radius of its cross-section."""
    a = np.linspace(0, 2 * np.pi, 11)
    return lathe(np.stack([radius + tube * np.cos(a), tube * np.sin(a)], -1), material, segments)


def prism(outline: np.ndarray, low: float, high: float, material: int = 0) -> Surface:
    """Convex polygon ``outline`` (N, 2), counter-clockwise, extruded from z = ``low`` to ``high``."""
    outline = np.asarray(outline, float)
    n = len(outline)
    points = np.concatenate([np.column_stack([outline, np.full(n, z)]) for z in (low, high)])
    i = np.arange(n)
    j = (i + 1) % n
    fan = np.stack([np.zeros(n - 2, int), i[1:-1], i[2:]], -1)
    faces = np.concatenate([fan[:, ::-1], fan + n, np.stack([i, j, j + n], -1), np.stack([i, j + n, i + n], -1)])
    return Surface(points, faces, np.full(len(faces), material))


def frame(low: tuple[float, ...], high: tuple[float, ...], border: float, material: int = 0) -> Surface:
    """Rectangular frame in the y-z plane: the box from ``low`` to ``high`` without its middle."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    return merge([
        box((x0, y0, z0), (x1, y1, z0 + border), material),
        box((x0, y0, z1 - border), (x1, y1, z1), material),
        box((x0, y0, z0 + border), (x1, y0 + border, z1 - border), material),
        box((x0, y1 - border, z0 + border), (x1, y1, z1 - border), material),
    ])  # fmt: skip
