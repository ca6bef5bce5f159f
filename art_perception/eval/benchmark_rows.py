"""Rows to hold the pipeline against: parts of it left out or given the truth, and the FeatClust baseline.

All see the same window as the pipeline. Top layer, like ``eval.benchmark``: they use the estimator's stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from art_perception.errors import CheckpointError, MotionError
from art_perception.estimation.chain import displacements, parents_of
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.flow import Flows, Tracks, optical_flow, track_points
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.label import label_parts
from art_perception.estimation.mask import keep_object
from art_perception.estimation.parts import Found, Hint, PartSearch, require_motion
from art_perception.estimation.sample import sample_window
from art_perception.estimation.segment import Judge, find_joints, in_frame_of
from art_perception.estimation.select import joint_of, joints_of, refine_all
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
from art_perception.models.decode import decode
from art_perception.pipeline import Config
from art_perception.propose import features_for, network, over_all_frames, propose, showing, spans
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
    dense, _, tracks = _measured(window, config)
    small = _reduced(ids, dense)
    motions, labels, part = _true_parts(dense, tracks, small, truth, config)
    choices = refine_all(dense, labels, motions, tracks, part, config.joint)
    stamps_s = np.array([f.stamp_s for f in window.frames])
    q = _values([c.motion for c in choices], len(stamps_s))
    joints = tuple(joints_of(choices, dense, labels))
    return Prediction(joints, stamps_s, q, float(stamps_s[0])), _samples(dense, labels, small, stamps_s)


def baseline(window: Window, ids: np.ndarray, truth: Truth, config: Config, seed: int) -> tuple[Prediction, Samples]:
    """Run FeatClust on the pipeline's own tracks, given the true number of parts; arguments as in :func:`oracle`.

    Raises:
        MotionError: too few points could be tracked.
    """
    dense, _, tracks = _measured(window, config)
    found = featclust(tracks.points.astype(float), tracks.visible, 1 + len(moving_joints(truth)), seed)
    t, row, column = _cells(tracks, dense)
    true_id = np.where(tracks.visible, _reduced(ids, dense)[t, row, column], 0)
    stamps_s = np.array([f.stamp_s for f in window.frames])
    part = np.where(tracks.visible, found.part, HIDDEN)
    samples = Samples(stamps_s, tracks.points.transpose(1, 0, 2).astype(float), part.T, true_id.T)
    return Prediction(found.joints, stamps_s, found.q, float(stamps_s[0])), samples


def network_only(window: Window, ids: np.ndarray, config: Config) -> tuple[Prediction, Samples]:
    """Run the network once over the whole clip, as the paper does, and take parts and joints as it gives them.

    Args:
        window: frames in time order.
        ids: (T, H, W) true part ids.
        config: of the pipeline; names the network.

    Raises:
        CheckpointError: there are no weights, or they are no checkpoint.
        MotionError: no two frames show the object.
    """
    model = network(config.network.weights)
    if model is None:
        raise CheckpointError("the network alone needs weights: set network.weights to a name or a file, not none")
    dense, flows, tracks = _measured(window, config)
    frames = next(spans(showing(dense.usable), model.config.frames, 0), None)
    if frames is None:
        raise MotionError("fewer than two frames show the object: check depth and mask")
    points, features = model.config.points, features_for(model, config.network)
    sampled = sample_window(dense, flows, frames, dense.usable, points, tracks.noise_m, config.flow, features)
    with torch.no_grad():
        share, proposals = decode(model(sampled.points), sampled.points)
    part = share.argmax(-1)
    motions = [over_all_frames(p, sampled, len(dense.depth_m)) for p in proposals]
    joints = tuple(joint_of(k, m, p.certainty) for k, (m, p) in enumerate(zip(motions, proposals, strict=True)))
    stamps_s = np.array([f.stamp_s for f in window.frames])
    rows = frames[:, None]
    point = dense.world_points().reshape(len(stamps_s), -1, 3)[rows, sampled.pixels]
    true_id = _reduced(ids, dense).reshape(len(stamps_s), -1)[rows, sampled.pixels]
    samples = Samples(stamps_s[frames], point.astype(float), part.numpy(), true_id)
    return Prediction(joints, stamps_s, _values(motions, len(stamps_s)), float(stamps_s[frames[0]])), samples


def unrefined(window: Window, ids: np.ndarray, config: Config) -> tuple[Prediction, Samples]:
    """Our proposals as they were made, of those that the search kept; arguments as in :func:`network_only`.

    A part of the pipeline is what a joint's motion explains, so leaving out the refinement leaves the proposals
    themselves, most of them the network's, and what they explain.

    Raises:
        MotionError: nothing moved, or too little.
    """
    dense, flows, tracks = _measured(window, config)
    search = _Search(dense, tracks, config.segment, config.joint, config.label, config.explain)
    usable = dense.object_pixels(search.rest.points)
    hints, belief = propose(dense, flows, tracks, usable, config.network, config.flow)
    require_motion(search.run(hints).motions, tracks, config.segment)
    motions = search.kept
    D = displacements(motions, len(dense.depth_m))
    labels = label_parts(dense, D, tracks.noise_m, config.label, config.explain, parents_of(motions), belief)
    labels = keep_object(dense, labels, config.mask)
    stamps_s = np.array([f.stamp_s for f in window.frames])
    joints = tuple(joint_of(k, motion, 0.0) for k, motion in enumerate(motions))
    prediction = Prediction(joints, stamps_s, _values(motions, len(stamps_s)), float(stamps_s[0]))
    return prediction, _samples(dense, labels, _reduced(ids, dense), stamps_s)


class _Search(PartSearch):
    """Remembers the proposals it kept as they were before they were refined."""

    kept: list[Motion]

    def run(self, hints: Sequence[Hint] = ()) -> Found:
        self.kept = []
        return super().run(hints)

    def _accept(self, motion: Motion, supporters: np.ndarray) -> bool:
        accepted = super()._accept(motion, supporters)
        self.kept += [motion] if accepted else []
        return accepted


def _measured(window: Window, config: Config) -> tuple[DenseWindow, Flows, Tracks]:
    dense = densify(window, config.flow.width)
    flows = optical_flow(dense, config.flow.model)
    return dense, flows, track_points(dense, flows, config.flow)


def _values(motions: list[Motion], frames: int) -> np.ndarray:
    """Joint values (T, J)."""
    return np.stack([m.q for m in motions], -1) if motions else np.zeros((frames, 0))


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
