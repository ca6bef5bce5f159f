"""Which static surface belongs to the object when no mask is given: what the moving parts are attached to.

The room's own planes (floor, walls, table: planes with next to nothing behind them) are removed, as thickly as the
depth of that plane scatters and no more, since small objects lie flat; of what remains, the pieces that the moving
parts touch are the object's static body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy import ndimage

from art_perception.bounds import bounded
from art_perception.estimation.dense import DenseWindow, project_rounded
from art_perception.geometry.cells import occupied_cells
from art_perception.geometry.lie import inverse
from art_perception.types import UNLABELLED

_CELL_PX = 4.0  # edge of the cells in which pieces hang together, pixels at the parts' depth
_LEAST_CELL_M = 0.004
_NEXT_TO, _AWAY = 1.5, 2.5  # times its usual scatter a plane is thick, next to the moving part and away from it
_FINE = 0.2  # of what the moving parts sweep: cells of the room are no larger
_WITNESSES = 15  # frames that are asked what a place on the table looks like
_AS_BRIGHT = 0.15  # of the usual brightness: deviation that noise and exposure explain
_SURE = 0.9  # share of a part's pixels that are not off by far
_LEVEL = 0.97  # cosine of the slope of a table
_TABLE = 1.0  # its area at least, in squares of the diagonal of what the moving parts sweep
_CLOSE = 3.0  # cells between a part and what it is attached to
_LASTING = 0.15  # share of the frames that must see a cell: noise above a table joins what stands on it
_THIN = 0.1  # share of a part's pixels that are off its outline in one that is not
_TOUCH = 0.5  # share of the frames, relative to the piece that is touched most, that a piece must be touched in
_WITHIN = 0.8  # share of a piece within the body's box that makes it the body's inside
_SPECK = 0.03  # share of the body that a piece apart must have
_BOX = np.ones((3, 3, 3), bool)
_NOW_AND_THEN = 0.1  # and one that is larger than all such pieces


@dataclass(frozen=True, slots=True)
class MaskConfig:
    """Finding the object without a mask."""

    voxel_m: float = bounded(0.02, 1e-3, 1.0)
    """Edge of the cells in which the room is analysed, metres; finer ones if the object is small."""
    reach: float = bounded(2.5, 0.0, 100.0)
    """How far the static body may extend from the moving parts, in units of their swept diagonal."""
    max_planes: int = bounded(4, 0, 100)
    """Room planes removed at most."""
    plane_share: float = bounded(0.08, 0.0, 1.0)
    """Share of the nearby static surface a room plane must hold."""
    plane_band: float = bounded(0.01, 0.0, 1.0)
    """Height of what is removed with a room plane at most, as a share of the distance, besides one cell."""
    behind_share: float = bounded(0.02, 0.0, 1.0)
    """Share of the nearby surface that may lie behind a room plane."""


def keep_object(dense: DenseWindow, labels: np.ndarray, config: MaskConfig) -> np.ndarray:
    """Set pixels that are not the object's to ``UNLABELLED``.

    Args:
        dense: reduced window.
        labels: (T, h, w) with every static surface labelled 0.
        config: thresholds.
    """
    part = (labels > 0) & (labels != UNLABELLED)
    if dense.masked or not part.any():
        return labels
    world = dense.world_points()
    solid = part & dense.normals.any(-1)  # less what lies between a part's outline and the wall behind
    solid = solid if solid.any() else part
    sample = world[solid][::7]
    centre = np.median(sample, 0)
    diagonal = 2 * float(np.quantile(np.linalg.norm(sample - centre, axis=-1), _SURE))
    pixel_m = float(np.median(dense.depth_m[part])) / dense.K[0, 0]
    reached = np.linalg.norm(world - centre, axis=-1) < config.reach * diagonal + 0.1
    near = (labels == 0) & reached
    room = _on_room(dense, world, near, solid & reached, diagonal, config)
    out = np.where((labels > 0) & reached, labels, UNLABELLED).astype(np.uint8)
    out[_unchanged(dense, world, part & room, config.voxel_m)] = UNLABELLED
    part &= out != UNLABELLED
    cell = float(np.clip(_CELL_PX * pixel_m, _LEAST_CELL_M, max(config.voxel_m, _LEAST_CELL_M)))
    out[_attached(world, _neighboured(near & ~room, 3), _inner(part & solid), cell)] = 0
    return out


def _on_room(
    dense: DenseWindow, world: np.ndarray, near: np.ndarray, part: np.ndarray, diagonal: float, config: MaskConfig
) -> np.ndarray:
    """Pixels (T, h, w) on or behind a plane of the room, as found in the static surface ``near`` a moving ``part``."""
    room = np.zeros(near.shape, bool)
    if not near.any():
        return room
    camera = dense.T_world_camera[:, :3, 3].mean(0)
    moving = world[part][::7]
    thickest = config.voxel_m + config.plane_band * float(np.linalg.norm(moving.mean(0) - camera))
    sample = world[::3][near[::3]]
    fine = replace(config, voxel_m=float(np.clip(_FINE * diagonal, _LEAST_CELL_M, config.voxel_m)))
    for n, d in room_planes(_cell_means(sample, fine.voxel_m), camera, moving, diagonal, fine):
        away = np.quantile(moving @ n - d, 0.05) > 0.5 * diagonal
        room |= world @ n.astype(np.float32) - d < _scatter(sample @ n - d, thickest, _AWAY if away else _NEXT_TO)
    return room


def _scatter(height: np.ndarray, thickest: float, factor: float) -> float:
    """How far points at ``height`` (N,) over a plane with nothing behind it may be off and still belong to it.

    That is ``factor`` times what nearly all are off. Below it there is nothing but noise and error of the camera's
    pose, which are as large above it.
    """
    below = -height[(height < 0) & (height > -thickest)]
    return float(min(factor * np.quantile(below, 0.98), thickest)) if len(below) > 20 else thickest


def _cell_means(points: np.ndarray, size: float) -> np.ndarray:
    """Mean (M, 3) of the points in every occupied cell of edge ``size``."""
    index = occupied_cells(points, size)[1]
    return np.stack([np.bincount(index, points[:, i]) for i in range(3)], -1) / np.bincount(index)[:, None]


def _fit_plane(points: np.ndarray, tolerance: float, rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """RANSAC plane n.x = d over points (N, 3); returns n, d and the inliers (N,)."""
    triples = points[rng.integers(0, len(points), (300, 3))]
    n = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    length = np.linalg.norm(n, axis=-1)
    n = n[length > 1e-9] / length[length > 1e-9, None]
    d = (n * triples[length > 1e-9, 0]).sum(-1)
    votes = (np.abs(points @ n.T - d) < tolerance).sum(0)
    best = int(votes.argmax())
    normal, offset, inliers = n[best], d[best], np.abs(points @ n[best] - d[best]) < tolerance
    for share in (1.0, 0.5, 0.3):  # what lies on the plane is within the tolerance too and lifts it
        centre = points[inliers].mean(0)
        normal = np.linalg.svd(points[inliers] - centre, full_matrices=False)[2][2]
        offset = float(normal @ centre)
        close = np.abs(points @ normal - offset) < share * tolerance
        if close.sum() < 10:
            break
        inliers = close
    return normal, offset, np.abs(points @ normal - offset) < tolerance


def room_planes(
    points: np.ndarray, inside: np.ndarray, moving: np.ndarray, diagonal: float, config: MaskConfig
) -> list[tuple[np.ndarray, float]]:
    """Planes (normal, offset) with next to nothing behind them, and what everything stands on.

    Args:
        points: (N, 3) of the static surface, evenly spread.
        inside: (3,) is in front of them.
        moving: (M, 3) of the moving parts.
        diagonal: of the volume that they sweep.
        config: thresholds.
    """
    rng = np.random.default_rng(0)
    planes: list[tuple[np.ndarray, float]] = []
    carrier = False
    rest, tolerance = points, config.voxel_m
    for _ in range(3 * config.max_planes):
        if len(rest) < 50 or len(planes) >= config.max_planes:
            break
        n, d, inliers = _fit_plane(rest, tolerance, rng)
        if inliers.sum() < config.plane_share * len(points):
            break
        if n @ inside < d:
            n, d = -n, -d
        carries = not carrier and _carries(n, d, rest[inliers], moving, diagonal, config)
        carrier |= carries
        if carries or (points @ n < d - 2 * tolerance).mean() < config.behind_share:
            planes.append((n, d))
        rest = rest[~inliers]
    return planes


def _carries(
    n: np.ndarray, d: float, plane: np.ndarray, moving: np.ndarray, diagonal: float, config: MaskConfig
) -> bool:
    """Whether a plane (normal, offset) with points (N, 3) is a table or floor under the ``moving`` (M, 3).

    What is seen past a table's edge lies below it. The base of a laptop is level too, but no larger than its lid.
    """
    level = n[2] > _LEVEL  # z is up in the fixed frame (REP 103)
    area = len(occupied_cells(plane[:, :2], config.voxel_m)[0]) * config.voxel_m**2
    above = np.quantile(moving @ n - d, 0.05) > -config.voxel_m
    return bool(level and above and area > _TABLE * diagonal**2)


def _unchanged(dense: DenseWindow, world: np.ndarray, where: np.ndarray, near_m: float) -> np.ndarray:
    """Pixels (T, h, w) of ``where`` as bright as most frames see their place, which is what a table looks like.

    A table around scissors turns into itself as they do, and goes with them where they cover it otherwise.
    """
    t, v, u = np.nonzero(where)
    gray = np.full((_WITNESSES, len(t)), np.nan, np.float32)
    frames = np.unique(np.linspace(0, len(where) - 1, _WITNESSES).round().astype(int))
    for row, s in zip(gray, frames, strict=False):
        back = inverse(dense.T_world_camera[s]).astype(np.float32)
        camera = world[t, v, u] @ back[:3, :3].T + back[:3, 3]
        y, x, inside = project_rounded(camera, dense.K, where.shape[1:])
        seen = inside & (np.abs(dense.depth_m[s, y, x] - camera[:, 2]) < near_m + dense.slack_m[s, y, x])
        row[seen] = dense.gray[s, y, x][seen]
    gray[0, np.isnan(gray).all(0)] = np.inf
    usual = np.nanmedian(gray, 0)
    out = np.zeros(where.shape, bool)
    out[t, v, u] = np.abs(dense.gray[t, v, u] - usual) < _AS_BRIGHT * usual
    return out


def _neighboured(where: np.ndarray, least: int) -> np.ndarray:
    """Pixels of the images (T, h, w) that are ``least`` of the nine around them, themselves included."""
    return where & (ndimage.uniform_filter(where.astype(np.float32), (0, 3, 3)) > (least - 0.5) / 9)


def _inner(part: np.ndarray) -> np.ndarray:
    """Pixels (T, h, w) of a part off its outline, where depth lies between it and what is behind, unless it is thin."""
    inner = _neighboured(part, 9)
    return inner if inner.sum() > _THIN * part.sum() else part


def _attached(world: np.ndarray, static: np.ndarray, part: np.ndarray, cell: float) -> np.ndarray:
    """Pixels (T, h, w) of ``static`` in the connected pieces that belong to the moving pixels ``part``.

    They touch a piece that carries them most of the time. What is touched only now and then is the inside of what
    they shut when it is no smaller, and something that stands in the way when it is.
    """
    if not static.any() or not part.any():
        return np.zeros(static.shape, bool)
    cells = np.floor(world / cell).astype(np.int32)
    both = static | part
    low = cells[both].min(0) - 3
    shape = cells[both].max(0) - low + 4
    cells -= low
    grid = _lasting(cells, static, shape)
    piece = ndimage.label(ndimage.binary_dilation(grid, _BOX), _BOX)[0]
    close = _within_reach(piece)
    touched = np.zeros(int(piece.max()) + 1)
    for here, own in zip(cells, part, strict=True):
        touched[np.unique(close[tuple(here[own].T)])] += 1
    touched[0] = 0
    size = np.bincount(piece.reshape(-1))
    keep = (touched > 0) & (touched >= _TOUCH * touched.max())
    if keep.any():
        keep |= (touched >= _NOW_AND_THEN * touched.max()) & (size >= size[keep].max())
    keep |= _enclosed(piece, grid, keep)
    body = ndimage.binary_dilation(_without_specks(grid & keep[piece]), _BOX)
    out = np.zeros(static.shape, bool)
    out[static] = body[tuple(cells[static].T)]
    return out


def _enclosed(piece: np.ndarray, grid: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Which pieces lie within the upright box around those to ``keep``, as the inside of a safe behind its frame."""
    where, number = np.argwhere(grid).astype(np.float32), piece[grid]
    body = where[keep[number]]
    if not len(body):
        return np.zeros(len(keep), bool)
    centre, size, angle = cv2.minAreaRect(np.ascontiguousarray(body[:, :2]))
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    across = np.abs((where[:, :2] - centre) @ np.array([[c, -s], [s, c]])) < np.array(size) / 2 + 1
    inside = across.all(-1) & (where[:, 2] >= body[:, 2].min()) & (where[:, 2] <= body[:, 2].max())
    return np.bincount(number, inside, len(keep)) > _WITHIN * np.bincount(number, minlength=len(keep))


def _within_reach(piece: np.ndarray) -> np.ndarray:
    """Number of the nearest piece in every cell of a grid, 0 where none is close."""
    distance, nearest = ndimage.distance_transform_edt(piece == 0, return_indices=True)
    return np.where(distance <= _CLOSE, piece[tuple(nearest)], 0)


def _lasting(cells: np.ndarray, static: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Grid of the cells that enough frames see a static surface in."""
    seen = np.zeros(shape, np.uint16)
    for here, own in zip(cells, static, strict=True):
        seen[tuple(np.unique(here[own], axis=0).T)] += 1
    return seen >= max(1, round(_LASTING * len(static)))


def _without_specks(body: np.ndarray) -> np.ndarray:
    """A grid without what is small and apart, as bumps of a table are that noise lifts over it."""
    number = ndimage.label(body, _BOX)[0]
    size = np.bincount(number.reshape(-1))
    size[0] = 0
    return (size >= _SPECK * size.sum())[number] & body
