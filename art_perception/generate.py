"""A new articulated object of a category, out of nothing but the shape prior (KineDiff3D's generation).

A latent is drawn where the latents of the category's training objects lie (models/census.py), decoded into parts and
joints, and refused when a part falls to pieces. Nothing is measured, so nothing of it is an estimate of anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from art_perception.errors import ObjectError
from art_perception.geometry.clearance import with_room
from art_perception.geometry.convex import convex_pieces
from art_perception.geometry.lie import transform
from art_perception.geometry.mesh import largest_piece, simplified, transformed
from art_perception.geometry.screw import closest_on_line
from art_perception.models.census import Census, draw_latent
from art_perception.models.extract import extract_parts
from art_perception.models.kinematic_vae import CategoryInfo, KinematicVae, Shape
from art_perception.types import ArticulatedObject, Joint, JointType, Mesh, Part

_LOOK_VOXELS = 64  # enough to see whether a draw is whole
_WHOLE = 0.9  # share of a part's area that its largest piece must have
_LEAST_PART = 0.25  # diagonal of a part, units; what is smaller is a shard of one
_LEAST_RANGE = 0.02  # of a joint, rad or units


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """How a new object is drawn."""

    seed: int = 0
    """Of the draw: the same seed gives the same object."""
    spread: float = field(default=1.0, metadata={"bounds": (0.0, 4.0)})
    """How far from usual objects it may be, in their standard deviations."""
    attempts: int = field(default=30, metadata={"bounds": (1, 1000)})
    """Draws of which the first one with whole parts is taken."""
    voxels: int = field(default=128, metadata={"bounds": (16, 512)})
    """Samples along the longest side of a part's mesh."""
    max_faces: int = field(default=20_000, metadata={"bounds": (100, 1_000_000)})
    """Faces of a visual mesh."""
    max_pieces: int = field(default=8, metadata={"bounds": (1, 64)})
    """Convex collision pieces of a part."""


@torch.no_grad()
def generate(
    category: int, size_m: float | None, prior: KinematicVae, census: Census, config: GenerateConfig
) -> ArticulatedObject:
    """Draw a new object: shut, standing on the plane z = 0 of its frame, with its front towards +x.

    Args:
        category: index of its category among those of the prior.
        size_m: diagonal of its bounding box when shut, metres; None = drawn too.
        prior: what the latents stand for.
        census: where the latents of training objects lie.
        config: settings.

    Raises:
        ObjectError: no draw was whole, or a part is thinner than what ``config.voxels`` shows.
    """
    info, number = prior.categories[category], torch.tensor([category])
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(config.attempts):
        z, drawn_m = draw_latent(census, category, config.spread, generator)
        shape = prior.decode(z, number)
        if _is_whole(prior, shape, info):
            return _object(prior, shape, info, size_m or drawn_m, config)
    raise ObjectError(
        f"none of {config.attempts} draws of the category {info.name} was whole: give another --seed, or less --spread"
    )


def _is_whole(prior: KinematicVae, shape: Shape, info: CategoryInfo) -> bool:
    """Whether every part is one piece of some size and every joint has a range."""
    if float(shape.joints.upper[0, : info.parts - 1].min()) < _LEAST_RANGE:
        return False
    pieces = [largest_piece(mesh) for mesh in extract_parts(prior, shape, 0, _LOOK_VOXELS)]
    return all(share > _WHOLE and np.linalg.norm(np.ptp(p.vertices, axis=0)) > _LEAST_PART for p, share in pieces)


def _object(
    prior: KinematicVae, shape: Shape, info: CategoryInfo, size_m: float, config: GenerateConfig
) -> ArticulatedObject:
    voxel_m = size_m / config.voxels
    rest = [largest_piece(mesh)[0] for mesh in extract_parts(prior, shape, 0, config.voxels)]
    if not all(len(mesh.vertices) for mesh in rest):
        raise ObjectError(f"a part of the new {info.name} is thinner than a voxel: give more --voxels")
    T = np.diag([size_m, size_m, size_m, 1.0])
    T[2, 3] = -size_m * min(mesh.vertices[:, 2].min() for mesh in rest)
    light = [simplified(transformed(mesh, T), 0.05 * voxel_m, config.max_faces) for mesh in rest]
    meshes = [largest_piece(mesh)[0] for mesh in light]  # fewer faces may pinch off a tip
    joints = [_joint(shape, info, k, T, meshes[k + 1]) for k in range(info.parts - 1)]
    names = ["base", *(joint.child for joint in joints)]
    parts = [
        Part(name, mesh, convex_pieces(mesh, config.max_pieces, 0.75 * voxel_m), 0.0)
        for name, mesh in zip(names, meshes, strict=True)
    ]
    frame = np.eye(4)
    frame[:3, 3] = T[:3, 3]
    return ArticulatedObject(info.name, "world", with_room(parts, joints), tuple(joints), frame)


def _joint(shape: Shape, info: CategoryInfo, k: int, T: np.ndarray, mesh: Mesh) -> Joint:
    """The k-th decoded joint, zero when shut, in the frame that T (4, 4) scales and moves the canonical one to."""
    kind = JointType.REVOLUTE if info.revolute else JointType.PRISMATIC
    axis = shape.joints.axis[0, k].double().numpy()
    origin = transform(T, shape.joints.origin[0, k].double().numpy()[None])[0]
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    upper = float(shape.joints.upper[0, k]) * (1.0 if info.revolute else float(T[0, 0]))
    joint = Joint(f"joint_{k + 1}", "base", f"part_{k + 1}", kind, axis, middle, (0.0, upper), proposed_by="prior")
    return replace(joint, origin=closest_on_line(middle, origin, axis)) if info.revolute else joint
