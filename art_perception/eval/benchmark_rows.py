"""Two rows to hold the pipeline against: the joint estimator given true part masks, and the FeatClust baseline.

Both see the same window as the pipeline. Top layer, like ``eval.benchmark``: they use the estimator's stages.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.flow import Tracks, track_points
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.parts import PartSearch, displacements
from art_perception.estimation.segment import Judge, find_joints, in_frame_of
from art_perception.estimation.select import joints_of, refine_all
from art_perception.eval.baselines import HIDDEN, featclust
from art_perception.eval.scoring import (
    STATIC_ID,
    Prediction,
    Samples,
    Truth,
    moving_joints,
    parents_first,
    rigid_groups,
)
from art_perception.geometry.lie import inverse
from art_perception.pipeline import Config
from art_perception.types import UNLABELLED, Window

_SAMPLES_PER_FRAME = 2000


def oracle(window: Window, ids: np.ndarray, truth: Truth, config: Config) -> tuple[Prediction, Samples]:
    """Estimate joints from true part masks instead of motion segmentation.

    Args:
        window: frames in time order.
        ids: (T, H, W) true part ids.
        truth: tells which parts move, and on which part.
        config: of the pipeline.
    """
    dense = densify(window, config.flow.width)
    tracks = track_points(dense, config.flow)
    small = _reduced(ids, dense)
    motions, labels, part = _true_parts(dense, tracks, small, truth, config)
    choices = refine_all(dense, labels, motions, tracks, part, config.joint)
    stamps_s = np.array([f.stamp_s for f in window.frames])
    q = np.stack([c.motion.q for c in choices], -1) if choices else np.zeros((len(stamps_s), 0))
    joints = tuple(joints_of(choices, dense, labels))
    return Prediction(joints, stamps_s, q, float(stamps_s[0])), _samples(dense, labels, small, stamps_s)


def baseline(window: Window, ids: np.ndarray, truth: Truth, config: Config, seed: int) -> tuple[Prediction, Samples]:
    """Run FeatClust on the pipeline's own tracks, given the true number of parts; arguments as in :func:`oracle`.

    Raises:
        MotionError: too few points could be tracked.
    """
    dense = densify(window, config.flow.width)
    tracks = track_points(dense, config.flow)
    found = featclust(tracks.points.astype(float), tracks.visible, 1 + len(moving_joints(truth)), seed)
    t, row, column = _cells(tracks, dense)
    true_id = np.where(tracks.visible, _reduced(ids, dense)[t, row, column], 0)
    stamps_s = np.array([f.stamp_s for f in window.frames])
    part = np.where(tracks.visible, found.part, HIDDEN)
    samples = Samples(stamps_s, tracks.points.transpose(1, 0, 2).astype(float), part.T, true_id.T)
    return Prediction(found.joints, stamps_s, found.q, float(stamps_s[0])), samples


def _reduced(ids: np.ndarray, dense: DenseWindow) -> np.ndarray:
    """Part ids (T, h, w) at the pixels of the reduced window."""
    height, width = dense.depth_m.shape[1:]
    start = dense.step // 2
    return ids[:, start :: dense.step, start :: dense.step][:, :height, :width]


def _cells(tracks: Tracks, dense: DenseWindow) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame, row and column (N, T) of every observation of every track."""
    limit = np.array(dense.depth_m.shape[:0:-1]) - 1
    pixel = np.clip(np.rint(tracks.pixels).astype(int), 0, limit)
    return np.broadcast_to(np.arange(pixel.shape[1]), pixel.shape[:2]), pixel[..., 1], pixel[..., 0]


def _true_parts(
    dense: DenseWindow, tracks: Tracks, ids: np.ndarray, truth: Truth, config: Config
) -> tuple[list[Motion], np.ndarray, np.ndarray]:
    """First motion, labels (T, h, w) and part of each track (N,) for the true parts whose motion can be found."""
    groups = rigid_groups(truth, moving_joints(truth))
    table = np.zeros(256, int)
    table[list(groups)] = list(groups.values())
    group = table[ids]
    cells = _cells(tracks, dense)
    labels = np.where(dense.usable & (group > 0), 0, UNLABELLED).astype(np.uint8)
    part = np.full(len(tracks.points), -1)
    motions: list[Motion] = []
    motion_of_group: dict[int, int] = {STATIC_ID: -1}
    for joint in (j for j in parents_first(truth.joints) if j in moving_joints(truth)):
        inside = (group == truth.part_ids[joint]) & dense.usable
        own = (inside[cells] & tracks.visible).sum(1) > 0.5 * tracks.visible.sum(1)
        parent = motion_of_group.get(_parent_group(truth, joint, groups), -1)
        motion = _first_motion(dense, tracks, inside, own, motions, parent, config)
        if motion is not None:
            part[own] = motion_of_group[int(truth.part_ids[joint])] = len(motions)
            labels[inside] = len(motions) + 1
            motions.append(motion)
    return motions, labels, part


def _parent_group(truth: Truth, joint: int, groups: dict[int, int]) -> int:
    """Rigid group that a joint's parent link belongs to."""
    of_link = {j.child: i for i, j in enumerate(truth.joints)}
    parent = of_link.get(truth.joints[joint].parent)
    return STATIC_ID if parent is None else groups.get(int(truth.part_ids[parent]), STATIC_ID)


def _first_motion(
    dense: DenseWindow,
    tracks: Tracks,
    inside: np.ndarray,
    own: np.ndarray,
    motions: list[Motion],
    parent: int,
    config: Config,
) -> Motion | None:
    """Search as the pipeline does, shown one part only (pixels ``inside``, tracks ``own``), in its parent's frame."""
    D = displacements(motions, len(dense.depth_m))[parent + 1]
    view = replace(dense, usable=inside, T_world_camera=inverse(D) @ dense.T_world_camera)
    local = in_frame_of(tracks, motions, parent)
    local = replace(
        local,
        points=local.points[own],
        visible=local.visible[own],
        pixels=local.pixels[own],
        sigma=local.sigma[own],
    )
    segment, joint = replace(config.segment, max_parts=1, min_pixels=0), replace(config.joint, min_confidence=0.0)
    found = PartSearch(view, local, segment, joint, config.label, config.explain).run()
    if found.motions:
        return replace(found.motions[0], parent=parent)
    everything, rng = np.ones(len(local.points), bool), np.random.default_rng(segment.seed)
    supported = find_joints(Judge(local, segment), everything, rng)  # a part too small to be believed without its mask
    return replace(supported[0].motion, parent=parent) if supported else None


def _samples(dense: DenseWindow, labels: np.ndarray, ids: np.ndarray, stamps_s: np.ndarray) -> Samples:
    """Random labelled pixels of every frame."""
    rng = np.random.default_rng(0)
    world = dense.world_points().reshape(len(labels), -1, 3)
    flat, true = labels.reshape(len(labels), -1), ids.reshape(len(labels), -1)
    seen = [np.flatnonzero(f != UNLABELLED) for f in flat]
    keep = [t for t, cells in enumerate(seen) if len(cells)]
    pick = np.stack([rng.choice(seen[t], _SAMPLES_PER_FRAME) for t in keep])
    rows = np.array(keep)[:, None]
    return Samples(stamps_s[keep], world[rows, pick].astype(float), flat[rows, pick].astype(int), true[rows, pick])
