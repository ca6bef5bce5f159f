"""From depth images and part motion to one closed mesh per part.

Every frame is integrated into a truncated signed distance field in the part's own frame, through the part's estimated
displacement, from the pixels labelled as that part only (Curless & Levoy 1996; weights fall off behind the surface as
in Bylow et al. 2013). What no ray has measured is filled: solid inside the bounding box (of boxes) or the convex hull
of the measured points, unless rays to any later surface have passed through it. So a door seen from one side becomes a
thin slab, and a body seen from the front is closed without growing beyond what was measured. With a shape prior its
completed part takes the place of box and hull, and may reach beyond the measured points (``estimation/prior_fill.py``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree

from art_perception.estimation.depth_view import DepthView, depth_at, depth_views, look_up, octant
from art_perception.estimation.prior_fill import MeasuredSurface, Prior, PriorFillConfig, bent_field, extent
from art_perception.geometry.camera import rays
from art_perception.geometry.convex import convex_pieces, flat_directions
from art_perception.geometry.lie import inverse, transform
from art_perception.geometry.mesh import empty_mesh, sample_surface, simplified, smoothed
from art_perception.geometry.voxels import Distance, Grid, grid_around, keep_large, refine, surface, tidy
from art_perception.types import Mesh, Part, PartMotion, Window

log = logging.getLogger(__name__)

BOX_FLAT = 0.85  # share of a box's surface that faces along one of three directions,
BOX_SIDE = 0.05  # and along the second most common of them
CONFIRMED = 0.075  # share of the views that must have measured a surface; fewer are wrong labels
FREE_FACTOR = 3  # free space is found on a grid coarser by this
SHEET = 0.6  # thickness of a sheet seen from both sides, in truncations


@dataclass(frozen=True, slots=True)
class FuseConfig:
    """How finely and how carefully parts are fused."""

    cells_per_side: int = 100
    """Voxels along the longest side of a part."""
    min_voxel_m: float = 0.002
    """Smallest voxel, metres."""
    max_voxel_m: float = 0.008
    """Largest voxel, metres (more only when the part would need more than ``max_cells``)."""
    max_cells: int = 1_200_000
    """Largest number of voxels per part."""
    truncation_voxels: float = 2.5
    """Width of the measured band on either side of a surface; also the thickness of a slab seen from one side."""
    max_frames: int = 40
    """Frames integrated, spread evenly over the window."""
    min_pixels: int = 200
    """A part with fewer labelled pixels in all frames together gets no mesh."""
    free_votes: int = 3
    """Rays that must pass through unmeasured space before it counts as empty."""
    min_share: float = 0.01
    """Components smaller than this share of the largest one are dropped as noise."""
    max_faces: int = 20_000
    """Faces of a visual mesh."""
    max_pieces: int = 8
    """Convex collision pieces of a part."""
    prior: PriorFillConfig = field(default_factory=PriorFillConfig)
    """How a shape prior, where there is one, fills what was not measured."""


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """What the depth images say about a part.

    Attributes:
        field: signed distance in truncations over the whole grid, NaN where unmeasured.
        shell: same shape: distance to sheets behind the surface as seen from each side alone, inf where unmeasured.
        surface: same shape, bool: several depth images measured a surface here.
        positions, colors: (N, 3) cells near the surface and their mean colour.
    """

    field: np.ndarray
    shell: np.ndarray
    surface: np.ndarray
    positions: np.ndarray
    colors: np.ndarray


def fuse_parts(
    window: Window, motion: PartMotion, config: FuseConfig | None = None, prior: Prior | None = None
) -> tuple[Part, ...]:
    """Fuse the depth of every part over the window and close it.

    Args:
        window: T frames.
        motion: labels, joints and joint values of the same T frames.
        config: None means the defaults.
        prior: complete parts that fill what was not measured; None fills with boxes and convex hulls.

    Returns:
        The base, then the child of every joint, geometry in the fixed frame at zero joint values. A part that was
        hardly seen comes from the prior alone, or has an empty mesh without one; its ``observed`` is 0.
    """
    config = config or FuseConfig()
    views = depth_views(window, motion, config.max_frames)
    names = ["base", *(joint.child for joint in motion.joints)]
    points = [_measured_points(k, views, config.min_share) for k in range(len(names))]
    known = np.concatenate(points)
    parts = []
    for k, name in enumerate(names):
        own = points[k] if len(points[k]) >= config.min_pixels else points[k][:0]
        if prior is not None and len(known):
            parts.append(_completed_part(name, k, own, known, views, partial(prior, k), config))
        elif len(own):
            parts.append(_measured_part(name, k, own, views, config))
        else:
            log.warning("part '%s' has %d measured points, too few for a mesh", name, len(points[k]))
            parts.append(Part(name, empty_mesh(), (), 0.0))
    return tuple(parts)


def _measured_part(name: str, label: int, points: np.ndarray, views: list[DepthView], config: FuseConfig) -> Part:
    """A part of points (N, 3), closed by a box or convex hull."""
    grid = _grid(points, config)
    seen, measured = _measure(points, grid, label, views, config)
    confirmed = seen[measured.surface.ravel()[seen]]
    planes = _outline(grid.positions(confirmed), _cell_normals(measured.field, confirmed))
    fill = _box_fill(grid, planes, _free_space(grid, views, label, config), config)
    return _part(name, grid, measured, fill, measured.surface, seen, config)


def _completed_part(
    name: str,
    label: int,
    points: np.ndarray,
    object_points: np.ndarray,
    views: list[DepthView],
    distance: Distance,
    config: FuseConfig,
) -> Part:
    """A part of points (N, 3), maybe none, filled by a prior; ``object_points`` say how large the object is."""
    around = np.concatenate([points, extent(distance, object_points, config.prior)])
    if not len(around):
        log.warning("part '%s' has too few measured points for a mesh, and the shape prior knows nothing of it", name)
        return Part(name, empty_mesh(), (), 0.0)
    grid = _grid(around, config)
    seen, measured = _measure(points, grid, label, views, config)
    size_m = float(np.linalg.norm(np.ptp(object_points, axis=0)))
    fill = _prior_fill(grid, measured, distance, _free_space(grid, views, label, config), size_m, config)
    weight = measured.surface if measured.surface.any() else np.abs(fill) < 1
    return _part(name, grid, measured, fill, weight, seen, config)


def _part(
    name: str,
    grid: Grid,
    measured: _Measured,
    fill: np.ndarray,
    weight: np.ndarray,
    seen: np.ndarray,
    config: FuseConfig,
) -> Part:
    """Mesh and collision pieces of measured and filled space; pieces of little ``weight`` are crumbs."""
    field = _with_sheets(_closed(measured.field, fill), measured.shell)
    mesh = smoothed(surface(tidy(field, weight, config.min_share), grid), 6)
    mesh = simplified(mesh, 0.1 * grid.voxel_m, config.max_faces)
    mesh = replace(mesh, colors=_vertex_colors(mesh, measured))
    pieces = convex_pieces(mesh, config.max_pieces, 0.75 * grid.voxel_m)
    return Part(name, mesh, pieces, _observed_share(mesh, grid.positions(seen), grid.voxel_m))


def _measured_points(label: int, views: list[DepthView], min_share: float, max_per_frame: int = 20_000) -> np.ndarray:
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


def _grid(points: np.ndarray, config: FuseConfig) -> Grid:
    extent = np.ptp(points, axis=0)
    voxel = float(np.clip(extent.max() / config.cells_per_side, config.min_voxel_m, config.max_voxel_m))
    cells = np.prod(extent / voxel + 2 * config.truncation_voxels + 4)
    voxel *= max(1.0, (cells / config.max_cells) ** (1 / 3))
    return grid_around(points, voxel, (config.truncation_voxels + 2) * voxel)


def _measure(
    points: np.ndarray, grid: Grid, label: int, views: list[DepthView], config: FuseConfig
) -> tuple[np.ndarray, _Measured]:
    """Flat indices of the cells that hold measured points, and what all views say about those around them."""
    if not len(points):
        nothing, nowhere = np.full(grid.shape, np.nan, np.float32), np.zeros((0, 3), np.float32)
        far, no = np.full(grid.shape, np.inf, np.float32), np.zeros(grid.shape, bool)
        return np.zeros(0, int), _Measured(nothing, far, no, nowhere, nowhere)
    seen, band = _measured_cells(points, grid, config)
    return seen, _integrate(grid, band, label, views, config)


def _measured_surface(measured: _Measured, grid: Grid, truncation_m: float) -> MeasuredSurface:
    """Places on the measured surface, and its normals."""
    cells = np.flatnonzero(measured.surface)
    gradient = _gradients(measured.field, cells)
    length = np.linalg.norm(gradient, axis=-1)
    keep = np.isfinite(length) & (length > 0)
    cells, normals = cells[keep], gradient[keep] / length[keep, None]
    return MeasuredSurface(
        grid.positions(cells) - truncation_m * measured.field.ravel()[cells, None] * normals, normals
    )


def _measured_cells(points: np.ndarray, grid: Grid, config: FuseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the cells that hold measured points, and of all cells within the truncation of one."""
    count = np.bincount(grid.flat_index(points), minlength=np.prod(grid.shape)).reshape(grid.shape)
    near = ndimage.binary_dilation(count > 0, iterations=2)
    near = keep_large(near, count, config.min_share)
    seen = (count > 0) & near
    band = ndimage.binary_dilation(seen, np.ones((3, 3, 3)), iterations=int(np.ceil(config.truncation_voxels)))
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


def _integrate(grid: Grid, band: np.ndarray, label: int, views: list[DepthView], config: FuseConfig) -> _Measured:
    sums = _Sums(grid.positions(band), label, config.truncation_voxels * grid.voxel_m)
    for view in views:
        sums.add(view)
    known = (sums.hits >= min(2, len(views))) & (sums.free < 3 * sums.hits)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.total.sum(0) / sums.weight.sum(0)
        sides = sums.total / sums.weight
    usual = sums.weight > 0.1 * sums.weight.sum(0)
    sheets = np.where(usual, np.maximum(sides, -SHEET - sides), np.inf).min(0)
    measured = sums.near >= max(1, CONFIRMED * len(views))

    def spread(values: np.ndarray, default: float) -> np.ndarray:
        out = np.full(int(np.prod(grid.shape)), default, np.float32)
        out[band[known]] = values[known]
        return out.reshape(grid.shape)

    colored = known & (sums.near > 0)
    return _Measured(
        spread(mean, np.nan),
        spread(sheets, np.inf),
        spread(measured, 0) > 0,
        sums.points[colored],
        sums.color[colored] / sums.color_weight[colored, None],
    )


def _box_fill(grid: Grid, planes: np.ndarray, free: np.ndarray, config: FuseConfig) -> np.ndarray:
    """Field of the unmeasured space: solid inside the outline of the measured cells where no ray has passed."""
    coarse = grid.coarser(FREE_FACTOR)
    points = coarse.positions(np.arange(np.prod(coarse.shape)))
    outside = _distance_outside(planes, points).reshape(coarse.shape) / (config.truncation_voxels * grid.voxel_m)
    return np.clip(refine(np.maximum(outside, free), FREE_FACTOR, grid.shape), -1, 1)


def _prior_fill(
    grid: Grid, measured: _Measured, distance: Distance, free: np.ndarray, size_m: float, config: FuseConfig
) -> np.ndarray:
    """Field of the unmeasured space: the prior, bent to meet the measured surface, where no ray has passed."""
    truncation = config.truncation_voxels * grid.voxel_m
    bent = bent_field(distance, grid, _measured_surface(measured, grid, truncation), size_m, config.prior)
    return np.clip(np.maximum(bent / truncation, refine(free, FREE_FACTOR, grid.shape)), -1, 1)


def _free_space(grid: Grid, views: list[DepthView], label: int, config: FuseConfig) -> np.ndarray:
    """On ``grid.coarser(FREE_FACTOR)``: 1 where rays went on for at least a truncation, -1 where not, blurred."""
    coarse = grid.coarser(FREE_FACTOR)
    points = coarse.positions(np.arange(np.prod(coarse.shape)))
    votes = np.zeros(len(points), np.int32)
    for view in views:
        seen, index = look_up(view, label, points)
        votes += view.nearest_m[index] - seen[:, 2] > config.truncation_voxels * grid.voxel_m
    free = np.where(votes >= min(config.free_votes, len(views)), np.float32(1), np.float32(-1))
    return ndimage.gaussian_filter(free.reshape(coarse.shape), 0.7)


def _closed(field: np.ndarray, fill: np.ndarray, thickness: float = 0.5) -> np.ndarray:
    """Join measured and filled space: a measured surface is ``thickness`` truncations thick, or more where filled.

    Measured space stays as it is; its border and everything beyond is smoothed.
    """
    unknown = np.isnan(field)
    depth = np.where(unknown, np.float32(-1), field)
    sharp = np.maximum(depth, np.minimum(-thickness - depth, fill))
    border = ndimage.binary_dilation(unknown, np.ones((3, 3, 3)))
    return np.where(border, ndimage.gaussian_filter(sharp, 0.5), sharp)


def _with_sheets(field: np.ndarray, shell: np.ndarray) -> np.ndarray:
    """Give back what is too thin for a signed distance: sheets and rods seen from both sides, which cancel out."""
    return np.minimum(field, ndimage.gaussian_filter(np.minimum(shell, 1), 0.7))


def _cell_normals(field: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Normals (N, 3) of the surface at those ``cells`` (flat indices) whose neighbours are measured."""
    gradient = _gradients(field, cells)
    gradient = gradient[np.isfinite(gradient).all(-1)]
    return gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-9)


def _gradients(field: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Differences (N, 3) across ``cells`` (flat indices) of a field that has a margin around them."""
    flat, strides = field.ravel(), np.array(field.strides) // field.itemsize
    return np.stack([flat[cells + s] - flat[cells - s] for s in strides], -1)


def _outline(measured: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Planes (P, 4) around measured points: the bounding box of what looks like a box, else the convex hull."""
    if len(normals) > 50:
        sample = normals[:: max(1, len(normals) // 2000)]
        axes = flat_directions(sample, np.ones(len(sample)))
        along = np.abs(sample @ axes.T) > 0.9
        if along.any(-1).mean() > BOX_FLAT and np.sort(along.mean(0))[1] > BOX_SIDE:
            low, high = np.percentile(measured @ axes.T, [0.2, 99.8], axis=0)
            return np.block([[axes, -high[:, None]], [-axes, low[:, None]]]).astype(np.float32)
    try:
        planes = ConvexHull(measured).equations.astype(np.float32)
    except QhullError:
        return np.zeros((0, 4), np.float32)
    return np.unique(planes.round(3), axis=0)


def _distance_outside(planes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Largest signed distance (N,) of points to any of the planes: negative inside; inf without planes."""
    out = np.full(len(points), -np.inf if len(planes) else np.inf, np.float32)
    for block in np.array_split(planes, max(1, len(planes) // 16)):
        if len(block):
            np.maximum(out, (points @ block[:, :3].T + block[:, 3]).max(-1), out=out)
    return out


def _vertex_colors(mesh: Mesh, measured: _Measured) -> np.ndarray | None:
    """Colour of the measured cell nearest to each vertex, (V, 3) uint8."""
    if not len(measured.positions) or not len(mesh.vertices):
        return None
    _, nearest = cKDTree(measured.positions).query(mesh.vertices)
    return measured.colors[nearest].round().astype(np.uint8)


def _observed_share(mesh: Mesh, measured: np.ndarray, voxel_m: float, samples: int = 4000) -> float:
    """Share of the surface within 1.5 voxels of a measured point."""
    points = sample_surface(mesh, samples, np.random.default_rng(0))
    if not len(points):
        return 0.0
    distance, _ = cKDTree(measured).query(points, distance_upper_bound=1.5 * voxel_m)
    return float(np.isfinite(distance).mean())
