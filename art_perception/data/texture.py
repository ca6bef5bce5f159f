"""Procedural textures, laid onto surfaces by box mapping of part-frame coordinates, so they move with the part."""

from __future__ import annotations

import functools
import zlib

import cv2
import numpy as np

from art_perception.data.model import Material

SIDE = 512
LEVELS = 6
KINDS = ("plain", "noise", "wood", "speckle", "fabric", "tiles", "planks", "marble", "print", "brushed")


def _octaves(rng: np.random.Generator, base: tuple[int, int], count: int) -> np.ndarray:
    """Tileable fractal noise (SIDE, SIDE), zero mean, unit deviation; ``base`` is the coarsest grid (rows, columns)."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for i in range(count):
        rows, columns = (min(n << i, SIDE) for n in base)
        grid = np.pad(rng.normal(size=(rows, columns)).astype(np.float32), 2, mode="wrap")
        fy, fx = SIDE / rows, SIDE / columns
        big = cv2.resize(grid, (round((columns + 4) * fx), round((rows + 4) * fy)), interpolation=cv2.INTER_CUBIC)
        y, x = round(2 * fy), round(2 * fx)
        total += big[y : y + SIDE, x : x + SIDE] * 0.6**i
    return (total - total.mean()) / total.std()


def _stripes(period: int, width: int, axis: int) -> np.ndarray:
    line = (np.arange(SIDE) % period < width).astype(np.float32)
    return np.broadcast_to(line[:, None] if axis == 0 else line[None], (SIDE, SIDE))


def _tiles(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Cells of differing shade with joints between them, as a multiplier around 1."""
    cell = rng.normal(1, 0.12, (rows, columns)).astype(np.float32)
    shade = cv2.resize(cell, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    joints = np.maximum(_stripes(SIDE // rows, 4, 0), _stripes(SIDE // columns, 4, 1))
    return shade * (1 - 0.55 * joints)


def _print(rng: np.random.Generator) -> np.ndarray:
    """Coloured labels, letters and blobs on a uniform ground (SIDE, SIDE, 3)."""
    image = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for _ in range(40):
        center = tuple(int(v) for v in rng.integers(0, SIDE, 2))
        color = tuple(int(v) for v in rng.integers(25, 200, 3))
        if rng.random() < 0.4:
            cv2.ellipse(image, center, tuple(int(v) for v in rng.integers(8, 70, 2)), 0, 0, 360, color, -1)
        elif rng.random() < 0.5:
            corner = tuple(int(c + v) for c, v in zip(center, rng.integers(10, 130, 2), strict=True))
            cv2.rectangle(image, center, corner, color, -1)
        else:
            word = "".join(chr(int(c)) for c in rng.integers(65, 91, 5))
            cv2.putText(image, word, center, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.5, 2)), color, 3)
    return image.astype(np.float32) / 128


def _pattern(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Multiplier of the material's colour, mean about 1: (SIDE, SIDE) or (SIDE, SIDE, 3)."""
    if kind == "noise":
        return 1 + 0.25 * _octaves(rng, (3, 3), 7)
    if kind == "wood":
        return 1 + 0.2 * _octaves(rng, (2, 24), 5) + 0.08 * _octaves(rng, (8, 256), 2)
    if kind == "speckle":
        fine = _octaves(rng, (128, 128), 2)
        return 1 + 0.12 * fine + 0.6 * (fine > 1.8) - 0.4 * (fine < -1.8)
    if kind == "fabric":
        weave = _stripes(8, 4, 0) + _stripes(8, 4, 1)
        return 0.9 + 0.15 * weave + 0.12 * _octaves(rng, (64, 64), 3)
    if kind == "tiles":
        return _tiles(rng, 4, 4) + 0.05 * _octaves(rng, (32, 32), 3)
    if kind == "planks":
        return _tiles(rng, 8, 2) * (1 + 0.15 * _octaves(rng, (64, 3), 4))
    if kind == "marble":
        n = _octaves(rng, (3, 3), 6)
        return 1.1 - 0.7 * np.exp(-((n / 0.12) ** 2)) + 0.08 * n
    if kind == "brushed":
        return 1 + 0.1 * _octaves(rng, (2, 256), 2)
    return _print(rng)


@functools.lru_cache(maxsize=24)
def pyramid(kind: str) -> tuple[np.ndarray, ...]:
    """Mip levels of one texture, float32 (S, S, 3) with S = SIDE, SIDE/2, ..."""
    if kind == "plain":
        return (np.ones((4, 4, 3), np.float32),)
    image = np.clip(_pattern(kind, np.random.default_rng(zlib.crc32(kind.encode()))), 0.1, 2.0).astype(np.float32)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, -1)
    levels = [np.ascontiguousarray(image)]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def _sample(kind: str, uv: np.ndarray, level: int) -> np.ndarray:
    """Bilinear, wrapping lookup of texture coordinates (N, 2) in repetitions -> (N, 3)."""
    image = pyramid(kind)[level]
    side = image.shape[0]
    xy = (uv * side).astype(np.float32)
    xy -= np.floor(xy / side) * side
    width = 4096
    pad = -len(xy) % width
    xy = np.pad(xy, ((0, pad), (0, 0))).reshape(-1, width, 2)
    out = cv2.remap(image, xy[..., 0], xy[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return out.reshape(-1, 3)[: uv.shape[0]]


def albedo(
    materials: tuple[Material, ...],
    material: np.ndarray,
    points: np.ndarray,
    plane: np.ndarray,
    footprint_m: np.ndarray,
) -> np.ndarray:
    """Linear colour of surface points.

    Args:
        materials: what ``material`` points to.
        material: (N,) int.
        points: (N, 3) metres, in the frame the texture sticks to.
        plane: (N,) 0, 1 or 2: the dominant axis of the face normal, whose plane the texture lies in.
        footprint_m: (N,) size of a pixel on the surface, which picks the mip level.

    Returns:
        (N, 3) float32.
    """
    out = np.array([m.color for m in materials], np.float32)[material]
    uv = np.where((plane == 0)[:, None], points[:, 1:], np.where((plane == 1)[:, None], points[:, ::2], points[:, :2]))
    looks = [(m.texture, m.texture_size_m, m.contrast) for m in materials]
    slots = list(dict.fromkeys(looks))
    slot = np.array([slots.index(look) for look in looks])[material]
    for i, (kind, size_m, contrast) in enumerate(slots):
        chosen = np.flatnonzero(slot == i) if kind != "plain" and contrast > 0 else ()
        if not len(chosen):
            continue
        texels = np.maximum(footprint_m[chosen], 1e-6) * (SIDE / size_m)
        wanted = np.clip(np.rint(np.log2(texels)), 0, LEVELS - 1).astype(np.int8)
        for level in range(LEVELS):
            pixels = chosen[wanted == level]
            if not len(pixels):
                continue
            out[pixels] *= 1 + contrast * (_sample(kind, uv[pixels] / size_m, int(level)) - 1)
    return out
