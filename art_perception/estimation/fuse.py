"""From depth images and part motion to one closed mesh per part.

The depth of every frame is integrated into a signed distance field in the part's own frame (``measured.py``). What no
ray has measured is filled inside the outline of the measured points (``outline_fill.py``), unless rays to any later
surface have passed through it, or another part is or was there: what moves needs room. So a door seen from one side
becomes a thin slab, and the body behind it is closed without growing beyond what was measured, or into the door. With a
shape prior its completed part takes the place of the outline, and may reach beyond the measured points
(``prior_fill.py``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from art_perception.bounds import bounded
from art_perception.estimation.depth_view import DepthView, depth_views
from art_perception.estimation.free_space import THICKNESS, Solid, seen_through, solid_of, taken
from art_perception.estimation.measured import Measured, Oriented, measure, measured_points, oriented
from art_perception.estimation.outline_fill import outline_fill
from art_perception.estimation.prior_fill import Prior, PriorFillConfig, bent_field, extent
from art_perception.geometry.convex import convex_pieces
from art_perception.geometry.mesh import empty_mesh, sample_oriented, simplified, smoothed, without_crumbs
from art_perception.geometry.voxels import Distance, Grid, grid_around, refine, surface, tidy
from art_perception.types import Mesh, Part, PartMotion, Window

log = logging.getLogger(__name__)

PRIOR_WEIGHT = 0.05  # of a prior's surface against a measured one, when islands are looked for
FREE_FACTOR = 3  # free space is found on a grid coarser by this


@dataclass(frozen=True, slots=True)
class FuseConfig:
    """How finely and how carefully parts are fused."""

    cells_per_side: int = bounded(100, 8, 1000)
    """Voxels along the longest side of a part."""
    min_voxel_m: float = bounded(0.002, 1e-4, 1.0)
    """Smallest voxel, metres."""
    max_voxel_m: float = bounded(0.008, 1e-4, 1.0)
    """Largest voxel, metres (more only when the part would need more than ``max_cells``)."""
    max_cells: int = bounded(1_200_000, 1000, 1_000_000_000)
    """Largest number of voxels per part."""
    truncation_voxels: float = bounded(2.5, 1.0, 100.0)
    """Width of the measured band on either side of a surface; also the thickness of a slab seen from one side."""
    max_frames: int = bounded(40, 1, 100_000)
    """Frames integrated, spread evenly over the window."""
    min_pixels: int = bounded(200, 1, 10_000_000)
    """A part with fewer labelled pixels in all frames together gets no mesh."""
    free_votes: int = bounded(3, 1, 1000)
    """Rays that must pass through unmeasured space before it counts as empty."""
    min_share: float = bounded(0.01, 0.0, 1.0)
    """Components smaller than this share of the largest one are dropped as noise."""
    max_faces: int = bounded(20_000, 100, 1_000_000)
    """Faces of a visual mesh."""
    max_pieces: int = bounded(16, 1, 64)
    """Convex collision pieces of a part."""
    fill_outline: bool = True
    """Without a prior, guess what was not measured; if not, meshes are thin sheets of what was."""
    prior: PriorFillConfig = field(default_factory=PriorFillConfig)
    """How a shape prior, where there is one, fills what was not measured."""


@dataclass(frozen=True, slots=True, eq=False)
class _Completion:
    """A prior's part: signed distance to it, metres, places (N, 3) on and in it, and the object's diagonal."""

    distance: Distance
    places: np.ndarray
    size_m: float


def fuse_parts(
    window: Window, motion: PartMotion, config: FuseConfig | None = None, prior: Prior | None = None
) -> tuple[Part, ...]:
    """Fuse the depth of every part over the window and close it.

    Args:
        window: T frames.
        motion: labels, joints and joint values of the same T frames.
        config: None means the defaults.
        prior: complete parts that fill what was not measured; None fills the outline of what was.

    Returns:
        The base, then the child of every joint, geometry in the fixed frame at zero joint values. A part that was
        hardly seen comes from the prior alone, or has an empty mesh without one; its ``observed`` is 0.
    """
    config = config or FuseConfig()
    views = depth_views(window, motion, config.max_frames)
    names = ["base", *(joint.child for joint in motion.joints)]
    points = [measured_points(k, views, config.min_share) for k in range(len(names))]
    completions = [_completion(k, prior, np.concatenate(points), config) for k in range(len(names))]
    parts: list[Part] = []
    solids: list[Solid] = []
    for k in reversed(range(len(names))):  # what moves comes before what it moves in
        part, solid = _fuse_part(names[k], k, points[k], completions[k], views, solids, config)
        parts.insert(0, part)
        solids += [solid] if solid else []
    return tuple(parts)


def _completion(label: int, prior: Prior | None, object_points: np.ndarray, config: FuseConfig) -> _Completion | None:
    """What the prior knows of a part; None when that is nothing."""
    if prior is None or not len(object_points):
        return None
    distance = partial(prior, label)
    places = extent(distance, object_points, config.prior)
    size_m = float(np.linalg.norm(np.ptp(object_points, axis=0)))
    return _Completion(distance, places, size_m) if len(places) else None


def _fuse_part(
    name: str,
    label: int,
    points: np.ndarray,
    completion: _Completion | None,
    views: list[DepthView],
    others: list[Solid],
    config: FuseConfig,
) -> tuple[Part, Solid | None]:
    """A part of measured points (N, 3), filled by its completion, or by what ``others`` leave of its outline."""
    if len(points) < config.min_pixels:
        source = (
            "too few for a mesh" if completion is None else "too few to be used: its mesh comes from the shape prior"
        )
        log.warning("part '%s' has %d measured points, %s", name, len(points), source)
        points = points[:0]
    around = points if completion is None else np.concatenate([points, completion.places])
    if not len(around):
        return Part(name, empty_mesh(), (), 0.0), None
    grid = _grid(around, config)
    truncation_m = config.truncation_voxels * grid.voxel_m
    measured = measure(points, grid, label, views, truncation_m, config.min_share)
    met = oriented(measured, grid, truncation_m)
    coarse = grid.coarser(FREE_FACTOR)
    free = seen_through(coarse, views, label, truncation_m, config.free_votes)
    fill = None if completion is None else _prior_fill(name, grid, met, completion, free, truncation_m, config.prior)
    weight = measured.surface if fill is None else measured.surface + PRIOR_WEIGHT * (np.abs(fill) < 0.5)
    if fill is None:
        barred = np.maximum(free, taken(coarse, views, label, others, truncation_m))
        fill = (
            outline_fill(grid, measured, label > 0, barred, FREE_FACTOR, truncation_m)
            if config.fill_outline
            else np.ones(grid.shape, np.float32)
        )
    field = tidy(_with_sheets(_closed(measured.field, fill), measured.shell), weight, config.min_share)
    mesh = surface(field, grid)
    if not len(mesh.faces):
        log.warning("part '%s' has %d measured points that leave it no room: it has no mesh", name, len(points))
        return Part(name, mesh, (), 0.0), None
    mesh = without_crumbs(smoothed(mesh, 6), config.min_share)
    mesh = simplified(mesh, 0.1 * grid.voxel_m, config.max_faces)
    mesh = replace(mesh, colors=_vertex_colors(mesh, measured))
    pieces = convex_pieces(mesh, config.max_pieces, 0.75 * grid.voxel_m)
    part = Part(name, mesh, pieces, _observed_share(mesh, met, grid.voxel_m))
    return part, solid_of(label, grid, field < 0) if len(mesh.faces) else None


def _grid(points: np.ndarray, config: FuseConfig) -> Grid:
    extent = np.ptp(points, axis=0)
    voxel = float(np.clip(extent.max() / config.cells_per_side, config.min_voxel_m, config.max_voxel_m))
    cells = np.prod(extent / voxel + 2 * config.truncation_voxels + 4)
    voxel *= max(1.0, (cells / config.max_cells) ** (1 / 3))
    return grid_around(points, voxel, (config.truncation_voxels + 2) * voxel)


def _prior_fill(
    name: str,
    grid: Grid,
    met: Oriented,
    completion: _Completion,
    free: np.ndarray,
    truncation_m: float,
    config: PriorFillConfig,
) -> np.ndarray | None:
    """Field of the unmeasured space: the prior, bent to meet the measured surface, where no ray has passed.

    None when the prior disagrees with what was measured.
    """
    bent = bent_field(completion.distance, grid, met, completion.size_m, config)
    if bent.agreement < config.min_agreement:
        agreement, needed = (100 * share for share in (bent.agreement, config.min_agreement))
        log.warning("part '%s' is not completed: the prior fits %.0f %% of it (need %.0f)", name, agreement, needed)
        return None
    return np.clip(np.maximum(bent.field / truncation_m, refine(free, FREE_FACTOR, grid.shape)), -1, 1)


def _closed(field: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Join measured and filled space: a measured surface is ``THICKNESS`` truncations thick, or more where filled.

    Measured space stays as it is; its border and everything beyond is smoothed.
    """
    unknown = np.isnan(field)
    depth = np.where(unknown, np.float32(-1), field)
    sharp = np.maximum(depth, np.minimum(-THICKNESS - depth, fill))
    border = ndimage.binary_dilation(unknown, np.ones((3, 3, 3)))
    return np.where(border, ndimage.gaussian_filter(sharp, 0.5), sharp)


def _with_sheets(field: np.ndarray, shell: np.ndarray) -> np.ndarray:
    """Give back what is too thin for a signed distance: sheets and rods seen from both sides, which cancel out."""
    return np.minimum(field, ndimage.gaussian_filter(np.minimum(shell, 1), 0.7))


def _vertex_colors(mesh: Mesh, measured: Measured) -> np.ndarray | None:
    """Colour of the measured cell nearest to each vertex, (V, 3) uint8."""
    if not len(measured.positions) or not len(mesh.vertices):
        return None
    _, nearest = cKDTree(measured.positions).query(mesh.vertices)
    return measured.colors[nearest].round().astype(np.uint8)


def _observed_share(mesh: Mesh, measured: Oriented, voxel_m: float, samples: int = 4000) -> float:
    """Share of the surface within 1.5 voxels of a measured one that faces the same way.

    A normal that differs by 1 counts like a voxel, so that the back of a thin sheet is not taken for its front.
    """
    points, normals = sample_oriented(mesh, samples, np.random.default_rng(0))
    if not len(points) or not len(measured.points):
        return 0.0
    tree = cKDTree(np.hstack([measured.points, voxel_m * measured.normals]))
    distance, _ = tree.query(np.hstack([points, voxel_m * normals]), distance_upper_bound=1.5 * voxel_m)
    return float(np.isfinite(distance).mean())
