"""What depth images say about a part: its points, and a truncated signed distance field in its own frame.

Every frame is integrated through the part's estimated displacement, from the pixels labelled as that part only (Curless
& Levoy 1996; weights fall off behind the surface as in Bylow et al. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from art_perception.estimation.depth_view import DepthView, depth_at, look_up, octant
from art_perception.geometry.camera import rays
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.voxels import Grid, grid_around, keep_large

CONFIRMED = 0.075  # share of the views that must have measured a surface; fewer are wrong labels
SHEET = 0.6  # thickness of a sheet seen from both sides, in truncations


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the depth images say about a part.

    Attributes:
        field: signed distance in truncations over the whole grid, NaN where unmeasured.
        shell: same shape: distance to sheets behind the surface as seen from each side alone, inf where unmeasured.
        surface: same shape, bool: several depth images measured a surface here.
        confirmed: (M,) flat indices of the cells of the surface that hold measured points; sightings: (M,) how many
            depth images measured a surface there.
        positions, colors: (N, 3) cells near the surface and their mean colour.
    """

    field: np.ndarray
    shell: np.ndarray
    surface: np.ndarray
    confirmed: np.ndarray
    sightings: np.ndarray
    positions: np.ndarray
    colors: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Oriented:
    """Places (N, 3) on a surface, metres, and its unit normals (N, 3), outwards."""

    points: np.ndarray
    normals: np.ndarray


def measured_points(label: int, views: list[DepthView], min_share: float, max_per_frame: int = 20_000) -> np.ndarray:
    """Depth pixels of a part (N, 3) in the part's frame at zero joint values, without far outliers."""
    clouds = [np.zeros((0, 3))]
    for view in views:
        pixel = np.flatnonzero(view.label[:-1] == label)
        pixel = pixel[:: max(1, len(pixel) // max_per_frame)]
        local = rays(view.size, view.K).reshape(-1, 3)[pixel] * view.depth_m[pixel, None]
        clouds.append(transform(inverse(view.T_camera_world @ view.D[label]), local))
    return _without_outliers(np.concatenate(clouds), min_share)


def _without_outliers(points: np.ndarray, min_share: float, cells: int = 50) -> np.ndarray:
    """Drop clusters of points (N, 3) far smaller than the largest one, so that they do not stretch the grid."""
    if len(points) < 2:
        return points
    size = max(float(np.ptp(points, axis=0).max()) / cells, 1e-3)
    grid = grid_around(points, size, size)
    cell = grid.flat_index(points)
    count = np.bincount(cell, minlength=int(np.prod(grid.shape))).reshape(grid.shape)
    return points[keep_large(count > 0, count, min_share).ravel()[cell]]


def measure(
    points: np.ndarray, grid: Grid, label: int, views: list[DepthView], truncation_m: float, min_share: float
) -> Measured:
    """What all views say about the cells around a part's measured points.

    Args:
        points: (N, 3) of :func:`measured_points`, maybe none.
        grid: covers them and a margin.
        label: of the part.
        views: prepared frames.
        truncation_m: width of the measured band on either side of the surface, metres.
        min_share: clusters of points smaller than this share of the largest one are left out.
    """
    if not len(points):
        far, none = np.full(grid.shape, np.inf, np.float32), np.zeros((0, 3))
        return Measured(
            np.full(grid.shape, np.nan, np.float32),
            far,
            np.zeros(grid.shape, bool),
            np.zeros(0, int),
            np.zeros(0),
            none,
            none,
        )
    seen, band = _measured_cells(points, grid, truncation_m, min_share)
    return _integrate(grid, seen, band, label, views, truncation_m)


def oriented(measured: Measured, grid: Grid, truncation_m: float) -> Oriented:
    """The measured surface as places with normals."""
    cells = np.flatnonzero(measured.surface)
    gradient = gradients(measured.field, cells)
    length = np.linalg.norm(gradient, axis=-1)
    keep = np.isfinite(length) & (length > 0)
    cells, normals = cells[keep], gradient[keep] / length[keep, None]
    depth = truncation_m * measured.field.ravel()[cells, None]
    return Oriented(grid.positions(cells) - depth * normals, normals)


def _measured_cells(
    points: np.ndarray, grid: Grid, truncation_m: float, min_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the cells that hold measured points, and of all cells within the truncation of one."""
    count = np.bincount(grid.flat_index(points), minlength=np.prod(grid.shape)).reshape(grid.shape)
    near = ndimage.binary_dilation(count > 0, iterations=2)
    near = keep_large(near, count, min_share)
    seen = (count > 0) & near
    width = int(np.ceil(truncation_m / grid.voxel_m - 1e-6))
    band = ndimage.binary_dilation(seen, np.ones((3, 3, 3)), iterations=width)
    return np.flatnonzero(seen), np.flatnonzero(band)


class _Sums:
    """What all views say about the cells near a part's surface, added up view by view."""

    def __init__(self, points: np.ndarray, label: int, truncation_m: float) -> None:
        count = len(points)
        self.points, self.label, self.truncation_m = points, label, truncation_m
        self.axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
        self.total, self.weight = np.zeros((2, 8, count), np.float32)  # by octant of viewing directions
        self.color, self.color_weight = np.zeros((count, 3), np.float32), np.zeros(count, np.float32)
        self.hits, self.near, self.free = np.zeros((3, count), np.int32)

    def add(self, view: DepthView) -> None:
        seen, index = look_up(view, self.label, self.points)
        self.free += view.nearest_m[index] - seen[:, 2] > 2 * self.truncation_m
        own = np.flatnonzero(view.label[index] == self.label)
        seen, index = seen[own], index[own]
        d = (depth_at(view, seen, index) - seen[:, 2]) * view.slant[index] / self.truncation_m
        measured = d > -1
        own, index, z, d = own[measured], index[measured], seen[measured, 2], d[measured]
        w = np.minimum(1 + d, 1) * view.slant[index] / np.maximum(z, 0.1) ** 2
        side = octant(view, self.label, self.points[own], self.axes)
        self.total[side, own] += w * np.minimum(d, 1)
        self.weight[side, own] += w
        self.hits[own] += 1
        close = np.abs(d) < 0.4
        own, index, w = own[close], index[close], w[close]
        self.color[own] += w[:, None] * view.color[index]
        self.color_weight[own] += w
        self.near[own] += 1


def _integrate(
    grid: Grid, seen: np.ndarray, band: np.ndarray, label: int, views: list[DepthView], truncation_m: float
) -> Measured:
    sums = _Sums(grid.positions(band), label, truncation_m)
    for view in views:
        sums.add(view)
    known = (sums.hits >= min(2, len(views))) & (sums.free < 3 * sums.hits)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.total.sum(0) / sums.weight.sum(0)
        sides = sums.total / sums.weight
    usual = sums.weight > 0.1 * sums.weight.sum(0)
    sheets = np.where(usual, np.maximum(sides, -SHEET - sides), np.inf).min(0)

    def spread(values: np.ndarray, default: float) -> np.ndarray:
        out = np.full(int(np.prod(grid.shape)), default, np.float32)
        out[band[known]] = values[known]
        return out.reshape(grid.shape)

    sightings = spread(sums.near, 0)
    surface = sightings >= max(1, CONFIRMED * len(views))
    confirmed = seen[surface.ravel()[seen]]
    colored = known & (sums.near > 0)
    return Measured(
        spread(mean, np.nan),
        spread(sheets, np.inf),
        surface,
        confirmed,
        sightings.ravel()[confirmed],
        sums.points[colored],
        sums.color[colored] / sums.color_weight[colored, None],
    )


def gradients(field: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Differences (N, 3) across ``cells`` (flat indices) of a field that has a margin around them."""
    flat, strides = field.ravel(), np.array(field.strides) // field.itemsize
    return np.stack([flat[cells + s] - flat[cells - s] for s in strides], -1)
