"""One view and a category: the shape prior's object, placed in the fixed frame, where no motion was measured.

Zero of its joints is the state that the view shows; their limits are the prior's, told from there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.spatial import cKDTree

from art_perception.bounds import bounded
from art_perception.complete import Completion, CompletionConfig, complete, load_networks
from art_perception.errors import FrameError, UsageError
from art_perception.fit import Networks
from art_perception.geometry.camera import pixels_of, unproject
from art_perception.geometry.clearance import with_room
from art_perception.geometry.convex import convex_pieces
from art_perception.geometry.lie import transform
from art_perception.geometry.mesh import sample_surface, simplified, transformed
from art_perception.geometry.screw import closest_on_line
from art_perception.models.checkpoint import kinediff3d_file
from art_perception.models.expectation import size_deviations
from art_perception.prior_shape import PriorShape, fit_window
from art_perception.types import (
    UNLABELLED,
    Joint,
    JointType,
    Mesh,
    Part,
    PartMotion,
    PriorUse,
    RgbdFrame,
    Window,
)

NONE = "none"
_SAMPLES = 20_000  # of the surface of a part
_USUAL = 2.0  # standard deviations of size that cost no confidence
_SURE_AXIS_RAD, _SURE_ORIGIN_M = float(np.deg2rad(5)), 0.05  # what a joint's confidence is about


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """The shape prior of a category, which stands in where nothing moved."""

    category: str = NONE
    """What the object is (laptop, eyeglasses, dishwasher, scissors, drawer, box, microwave, refrigerator, cabinet);
    none = no prior."""
    weights: str = "shipped"
    """Folder with kinediff3d_vae, kinediff3d_pose and kinediff3d_latent.safetensors; shipped = the package's own."""
    min_score: float = bounded(0.65, 0.0, 1.0)
    """The prior's object is refused when it agrees with less than this share of what was measured."""
    tolerance: float = bounded(0.04, 1e-3, 1.0)
    """Distance within which a measured point agrees with it, object diagonals."""
    min_fill_score: float = bounded(0.985, 0.0, 1.0)
    """Where parts were measured, the prior fills what was not seen when it agrees with this share of them."""
    max_faces: int = bounded(20_000, 100, 1_000_000)
    """Faces of a visual mesh."""
    max_pieces: int = bounded(8, 1, 64)
    """Convex collision pieces of a part."""
    completion: CompletionConfig = field(default_factory=CompletionConfig)


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What the prior makes of one view: everything that a reconstruction measures, and how far it is to be trusted."""

    parts: tuple[Part, ...]
    motion: PartMotion
    window: Window
    use: PriorUse


@functools.lru_cache(maxsize=2)
def networks(weights: str) -> Networks:
    """Load the networks of the folder ``weights`` names, once.

    Raises:
        CheckpointError: one is missing or does not fit.
    """
    prior, pose, latent, census = (kinediff3d_file(weights, stage) for stage in ("vae", "pose", "latent", "census"))
    return load_networks(prior, pose, latent, census)


def require_prior(config: PriorConfig) -> None:
    """Load what ``config`` names, so that a wrong name is said before any work is done.

    Raises:
        UsageError: the category is unknown.
        CheckpointError: a network is missing or does not fit.
    """
    if config.category == NONE:
        return
    known = [info.name for info in networks(config.weights).prior.categories]
    if config.category not in known:
        raise UsageError(f"category {config.category!r} is unknown: give one of {', '.join(known)}, or none")


def completed(window: Window, motion: PartMotion, config: PriorConfig) -> tuple[PriorShape | None, PriorUse]:
    """The prior's object that completes a measured one, or none when it does not agree; and what is said of it.

    Args:
        window: T frames.
        motion: what was measured in them.
        config: which category, which networks.
    """
    category = config.category
    shape = fit_window(window, motion, category, networks(config.weights), config.completion)
    if shape is None:
        why = f"no measured joint is one of a {category}, or too little of it is seen: measured surface only"
        return None, PriorUse(category, "none", None, why)
    score = round(shape.score, 3)
    if score < config.min_fill_score:
        why = (
            f"the {category} of the prior agrees with {score:.0%} of what was measured "
            f"(need {config.min_fill_score:.0%}): measured surface only"
        )
        return None, PriorUse(category, "none", score, why)
    return shape, PriorUse(category, "fill", score, "parts and joints were measured, the prior fills what was not seen")


def guess(window: Window, config: PriorConfig, why: str) -> Guess:
    """Complete the object from the frame that shows most of it.

    Args:
        window: frames with an object mask, between which nothing moved.
        config: which category, which networks.
        why: sentence that says why nothing was measured.

    Raises:
        FrameError: the object's pixels are unknown or too few, or the prior's object does not agree with them.
    """
    frame, pixels = _best_view(window)
    points = unproject(frame.depth_m, frame.K)
    beyond = points[~pixels & (frame.depth_m > 0)]
    known = networks(config.weights)
    found = complete(points[_inside(pixels)], config.category, known, config.completion, beyond)
    surfaces = [sample_surface(mesh, _SAMPLES, np.random.default_rng(0)) for mesh in found.posed()]
    score = agreement(surfaces, frame, points[pixels], config.tolerance * found.size_m)
    if score < config.min_score or not all(len(surface) for surface in surfaces):
        raise FrameError(
            f"the {config.category} of the prior agrees with {score:.0%} of what was measured (need "
            f"{config.min_score:.0%}): give the right category, show more of the object, or move its part; {why}"
        )
    labels = np.full(frame.depth_m.shape, UNLABELLED, np.uint8)
    labels[pixels] = nearest_part(points[pixels], surfaces)
    unusual = size_deviations(known.census, known.prior.categories.index(found.category), found.size_m) - _USUAL
    if unusual > 0:
        why = f"{why}; {found.size_m:.2f} m is an unusual size of a {config.category}: is the category right?"
    joints = _joints(found, frame.T_world_camera, score * float(np.exp(-max(unusual, 0.0))))
    parts = _parts(found, joints, frame, points, labels, config)
    return Guess(
        parts,
        PartMotion(labels[None], joints, np.zeros((1, len(joints)))),
        Window((frame,), window.fixed_frame),
        PriorUse(config.category, "all", round(score, 3), why),
    )


def _best_view(window: Window) -> tuple[RgbdFrame, np.ndarray]:
    """The frame that shows most of the object, and the pixels (H, W) of the object that have a depth.

    Raises:
        FrameError: no frame has a mask.
    """
    views = [(frame, frame.mask & (frame.depth_m > 0)) for frame in window.frames if frame.mask is not None]
    if not views:
        raise FrameError(
            "a single view without an object mask does not tell the object from the room: publish /object/mask with "
            "the object non-zero, or record a few seconds while the part moves"
        )
    return max(views, key=lambda view: int(view[1].sum()))


def _inside(pixels: np.ndarray) -> np.ndarray:
    """The pixels without their rim, where depth mixes object and background."""
    return cv2.erode(pixels.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def agreement(surfaces: Sequence[np.ndarray], frame: RgbdFrame, points: np.ndarray, tolerance_m: float) -> float:
    """Share in [0, 1] of measured points near the object, times the share of the object that nothing contradicts.

    Args:
        surfaces: (S, 3) samples of every part, camera frame.
        frame: what was measured; its depth contradicts what it sees through.
        points: (N, 3) those of the object, camera frame.
        tolerance_m: what is near.
    """
    samples = np.concatenate(surfaces)
    if not len(samples) or not len(points):
        return 0.0
    near = cKDTree(samples).query(points, distance_upper_bound=tolerance_m)[0] < np.inf
    shown, row, column = pixels_of(samples, frame.K, frame.depth_m.shape)
    depth = frame.depth_m[row, column]
    through = (depth > 0) & (samples[shown, 2] < depth - tolerance_m)
    return float(near.mean() * (1 - through.sum() / len(samples)))


def nearest_part(points: np.ndarray, surfaces: Sequence[np.ndarray]) -> np.ndarray:
    """Part (N,) uint8 whose surface, given by samples (S, 3), is nearest to each point (N, 3)."""
    owner = np.repeat(np.arange(len(surfaces), dtype=np.uint8), [len(surface) for surface in surfaces])
    return owner[cKDTree(np.concatenate(surfaces)).query(points)[1]]


def _joints(found: Completion, T_world_camera: np.ndarray, surest: float) -> tuple[Joint, ...]:
    """The joints in the fixed frame, zero in the state of the view; surer the closer the hypotheses are together."""
    T = T_world_camera @ found.T_camera_base
    kind = JointType.REVOLUTE if found.category.revolute else JointType.PRISMATIC
    out = []
    for k, mesh in enumerate(transformed(mesh, T_world_camera) for mesh in found.posed()[1:]):
        axis_std, origin_std = float(found.axis_std_rad[k]), float(found.origin_std_m[k])
        axis, middle = T[:3, :3] @ found.axis[k], (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
        line = transform(T, found.origin[k][None])[0]
        confidence = surest * np.exp(-((axis_std / _SURE_AXIS_RAD) ** 2))
        if found.category.revolute:
            confidence *= np.exp(-((origin_std / _SURE_ORIGIN_M) ** 2))
        out.append(
            Joint(
                name=f"joint_{k + 1}",
                parent="base",
                child=f"part_{k + 1}",
                type=kind,
                axis=axis / np.linalg.norm(axis),
                origin=closest_on_line(middle, line, axis) if found.category.revolute else middle,
                limits=(float(found.limits[k, 0] - found.q[k]), float(found.limits[k, 1] - found.q[k])),
                valid=bool(confidence >= 0.5),
                confidence=round(float(confidence), 4),
                axis_std_rad=axis_std,
                origin_std_m=origin_std if found.category.revolute else 0.0,
                proposed_by="prior",
            )
        )
    return tuple(out)


def _parts(
    found: Completion, joints: Sequence[Joint], frame: RgbdFrame, points: np.ndarray, labels: np.ndarray,
    config: PriorConfig,
) -> tuple[Part, ...]:  # fmt: skip
    """The parts in the fixed frame with their collision pieces, in the colours that the view shows."""
    voxel_m = found.size_m / config.completion.voxels
    meshes = [
        _painted(simplified(mesh, 0.05 * voxel_m, config.max_faces), points[labels == k], frame.color[labels == k])
        for k, mesh in enumerate(found.posed())
    ]
    shares = [
        _observed_share(mesh, points[labels == k], config.tolerance * found.size_m) for k, mesh in enumerate(meshes)
    ]
    meshes = [transformed(mesh, frame.T_world_camera) for mesh in meshes]
    pieces = [convex_pieces(mesh, config.max_pieces, 0.75 * voxel_m) for mesh in meshes]
    names = ["base", *(joint.child for joint in joints)]
    return with_room([Part(*row) for row in zip(names, meshes, pieces, shares, strict=True)], joints)


def _painted(mesh: Mesh, points: np.ndarray, colors: np.ndarray) -> Mesh:
    """The mesh in the colours (N, 3) of the nearest of its points (N, 3); as it is when none was seen."""
    if not len(points):
        return mesh
    return Mesh(mesh.vertices, mesh.faces, colors[cKDTree(points).query(mesh.vertices)[1]])


def _observed_share(mesh: Mesh, points: np.ndarray, tolerance_m: float) -> float:
    """Share of a part's surface that is near one of its measured points (N, 3)."""
    if not len(points):
        return 0.0
    samples = sample_surface(mesh, 4000, np.random.default_rng(0))
    return float((cKDTree(points).query(samples, distance_upper_bound=tolerance_m)[0] < np.inf).mean())
