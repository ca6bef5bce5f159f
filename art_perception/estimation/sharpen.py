"""Sharpens a proposed joint on the pixels that its proposer calls the part, before anything judges it.

A network sees where a part is far better than where its axis runs. Depth registration of those pixels alone, in the
few frames it looked at, takes an axis from tens of degrees off to a fraction of one; a search along the joint then
says where the part is in all the other frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from art_perception.estimation.align import JointConfig, gather, refine
from art_perception.estimation.dense import DenseWindow
from art_perception.estimation.explain import Surface, undo
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.planes import plane_joints
from art_perception.estimation.threads import threads
from art_perception.estimation.values import joint_values, values_of
from art_perception.geometry.lie import inverse

_STRIDES = (1, 2, 4, 8)  # a proposer's frames are few
_ITERATIONS = 24  # and its axis is rough
_POINTS = 60
_FEWEST = 60  # pixels of a part in all frames that still say something
_CLOUD = 60  # points taken of each frame
_PLANES = 2  # joints that planes suggest of a thin part


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Pixels taken for a part: frames (F,) in time order, and a mask (F, h, w) in each of them."""

    frames: np.ndarray
    mask: np.ndarray


def sharpen(
    dense: DenseWindow,
    still: np.ndarray,
    changed: Surface,
    region: Region,
    motion: Motion,
    D_parent: np.ndarray,
    noise_m: float,
    config: JointConfig,
) -> Motion | None:
    """``motion`` with axis and values, in all frames, that suit the depth of ``region``; None when it is too small.

    Args:
        dense: the window whose pixels the region is made of.
        still: (T, h, w) bool, surface that stands still as far as depth tells.
        changed: surface that no motion explains yet, fixed frame.
        region: what the proposer calls the part.
        motion: the proposal, in the parent's frame.
        D_parent: (T, 4, 4) displacement of the parent.
        noise_m: depth noise at the median depth, metres.
        config: of the registration.
    """
    if region.mask.sum() < _FEWEST or len(region.frames) < 2 or len(changed.frame) == 0:
        return None
    few = dense.at(region.frames)
    start = replace(motion, q=motion.q[region.frames] - motion.q[region.frames[0]])
    labels = region.mask.astype(np.uint8)
    nobody = np.zeros((0, len(region.frames)))
    config = replace(config, strides=_STRIDES, iterations=_ITERATIONS, points_per_pair=_POINTS)
    evidence = gather(few, labels, 1, D_parent[region.frames], nobody[..., None] * np.zeros(3), nobody, noise_m, config)
    fitted = refine(few, labels, 1, evidence, start, config).motion
    T_parent_camera = inverse(D_parent) @ dense.T_world_camera
    cloud = _at_zero(few, region, fitted, T_parent_camera[region.frames])
    local = replace(changed, points=undo(changed, D_parent))
    q = joint_values(dense, still, local, cloud, fitted, T_parent_camera, noise_m)
    return replace(fitted, q=q, covariance=None)


def turning(own: Surface, D_parent: np.ndarray, noise_m: float, rng: np.random.Generator) -> list[Motion]:
    """Joints of a part too thin to be registered, from the planes that its surface ``own`` lies in.

    The bail of a bucket lies in a plane that turns about its hinge. Planes are lost on the way; with the axis known, a
    search says where the part is in every frame, and its points are looked up there.
    """
    points, count = undo(own, D_parent), len(D_parent)
    clouds = [points[own.frame == t].astype(float) for t in range(count)]
    frames = np.unique(own.frame)
    found = []
    for joint in plane_joints(points, own.frame, count, rng, keep=_PLANES):
        start = replace(joint, q=values_of(points, own.frame, joint, count), source="network")
        fitted = threads(clouds, start, noise_m)[0]
        q = np.interp(np.arange(count), frames, fitted.q[frames])
        found.append(replace(fitted, q=q - q[0], covariance=None))
    return found


def _at_zero(few: DenseWindow, region: Region, motion: Motion, T_parent_camera: np.ndarray) -> np.ndarray:
    """Some of the region's points (n, 3) of every frame, moved to where the joint is at zero."""
    back = inverse(motion.displacement(motion.q)) @ T_parent_camera
    clouds = []
    for points, mask, T in zip(few.points, region.mask, back, strict=True):
        own = points[mask]
        own = own[:: max(1, len(own) // _CLOUD)]
        clouds.append(own @ T[:3, :3].T + T[:3, 3])
    return np.concatenate(clouds)
