"""The whole reconstruction on one screen: window in, articulated object out. The only place where all stages meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from art_perception.errors import MotionError
from art_perception.estimation.align import JointConfig
from art_perception.estimation.camera_poses import PoseConfig, corrected
from art_perception.estimation.chain import displacements, parents_of
from art_perception.estimation.crop import closeup
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.explain import ExplainConfig
from art_perception.estimation.flow import FlowConfig, Tracks, optical_flow, track_points
from art_perception.estimation.fuse import FuseConfig, fuse_parts
from art_perception.estimation.joint_fit import Motion
from art_perception.estimation.label import LabelConfig, label_parts, label_window, upsample_labels
from art_perception.estimation.mask import MaskConfig, keep_object
from art_perception.estimation.parts import Found, PartSearch, require_motion
from art_perception.estimation.redundant import needed
from art_perception.estimation.segment import SegmentConfig
from art_perception.estimation.select import Choice, joints_of, refine_all, trusted
from art_perception.estimation.spin import find_spins, joined
from art_perception.estimation.tracking import TrackingConfig
from art_perception.estimation.unite import united
from art_perception.estimation.window import WindowConfig
from art_perception.geometry.clearance import with_room
from art_perception.prior import NONE, PriorConfig, completed, guess, require_prior
from art_perception.prior_shape import PriorShape
from art_perception.propose import NetworkConfig, propose, require_network
from art_perception.types import ArticulatedObject, Part, PartMotion, PriorUse, Window

_ROUNDS = 4  # of refinement of all joints, each on what the joints of the one before explain
_SAME = np.deg2rad(1)  # axes that differ by less label alike

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of every stage; the single source of command-line flags and ROS parameters."""

    window: WindowConfig = field(default_factory=WindowConfig)
    poses: PoseConfig = field(default_factory=PoseConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    fuse: FuseConfig = field(default_factory=FuseConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """The object, the motion it was derived from, the window both refer to, seconds per stage, what the prior did."""

    object: ArticulatedObject
    motion: PartMotion
    window: Window
    seconds: dict[str, float]
    prior: PriorUse = field(default_factory=PriorUse)

    @property
    def guessed(self) -> bool:
        """Whether parts and joints are the shape prior's, nothing having moved."""
        return self.prior.used == "all"


class Clock:
    """Times stages and reports progress."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str, fraction: float) -> Iterator[None]:
        """Time the enclosed block as ``name``; ``fraction`` of the work is done when it starts."""
        if self._progress:
            self._progress(name, fraction)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def estimate_motion(window: Window, config: Config, clock: Clock) -> PartMotion:
    """Find the parts and joints of a window.

    Raises:
        MotionError: nothing moved, or too little.
        CheckpointError: a network's file is missing or does not fit.
    """
    require_network(config.network)
    count = len(window.frames)
    with clock.stage("flow", 0.0):
        view = closeup(window, config.flow.width)
        dense = densify(view.window, view.width)
        flows = optical_flow(dense, config.flow.model)
        tracks = track_points(dense, flows, config.flow)
    with clock.stage("network", 0.15):
        search = PartSearch(dense, tracks, config.segment, config.joint, config.label, config.explain)
        usable = dense.object_pixels(search.rest.points)
        hints, belief = propose(dense, flows, tracks, usable, config.network, config.flow)
    with clock.stage("segmentation", 0.2):
        found = search.run(hints)
    with clock.stage("joints", 0.4):
        choices = settle(dense, tracks, found, config) if found.motions else []
        sure = [choices[k] for k in trusted(choices, config.joint.min_confidence)]
        spins = find_spins(dense, search.changed, sure, tracks.noise_m, config.explain, config.segment)
        measured = sure if spins else choices
        choices, follows = joined(measured, spins)
        require_motion(choices, tracks, config.segment)
        motions = [c.motion for c in choices]
    with clock.stage("labels", 0.6):
        D = displacements(motions[: len(measured)], count)
        turning = np.zeros(dense.depth_m.shape, np.uint8)
        for spin, k in zip(spins, follows, strict=True):
            turning[spin.own] = k + 1
        known = np.where(turning <= len(measured), turning, 0)
        labels = label_parts(
            dense, D, tracks.noise_m, config.label, config.explain, parents_of(motions[: len(measured)]), belief, known
        )
        labels = np.where((labels == 0) & (turning > len(measured)), turning, labels)
        labels = keep_object(dense, labels, config.mask)
        joints = joints_of(choices, dense, labels)
        full = view.whole(upsample_labels(view.window, dense, labels))
    return PartMotion(full, tuple(joints), np.stack([m.q for m in motions], -1))


def settle(dense: DenseWindow, tracks: Tracks, found: Found, config: Config) -> list[Choice]:
    """Refine all joints together until none turns any more; unite or drop what is redundant, drop what is uncertain."""
    coarse = dense.coarser(2)
    rounds = 1
    while True:
        D = displacements(found.motions, len(coarse.depth_m))
        rough = label_window(coarse, D, tracks.noise_m, config.label, config.explain, parents_of(found.motions))
        labels = rough.repeat(2, 1).repeat(2, 2)[:, : dense.depth_m.shape[1], : dense.depth_m.shape[2]]
        choices = refine_all(dense, labels, found.motions, tracks, found.part_of_track, config.joint)
        motions = [c.motion for c in choices]
        useful = needed(coarse, rough, motions, tracks.noise_m, config.explain)
        keep = [k for k in trusted(choices, config.joint.min_confidence) if k in useful] or [0]
        if len(keep) < len(choices):
            found = found.only(keep, motions)
            continue
        settled = replace(found, motions=motions)
        one = united(coarse, rough, settled, tracks, config.joint, config.explain)
        if one is None and (rounds >= _ROUNDS or not any(map(_turned, found.motions, motions))):
            return choices
        found, rounds = one or settled, rounds + 1


def _turned(before: Motion, after: Motion) -> bool:
    """Whether refinement turned a joint so far that what it was refined on, labelled with the joint before, is off."""
    return before.type is not after.type or abs(before.axis @ after.axis) < np.cos(_SAME)


def reconstruct(
    window: Window, config: Config | None = None, name: str = "object", progress: Progress | None = None
) -> Reconstruction:
    """Turn a window of RGB-D frames into an articulated object.

    Args:
        window: frames in time order with camera poses in one fixed frame.
        config: settings of all stages.
        name: name of the object in the URDF.
        progress: called with (stage, fraction done) as stages start.

    Raises:
        MotionError: nothing moved, or too little, to say where a joint is, and no category was given.
        FrameError: nothing moved, and what the prior of the category says does not agree with what is seen.
        CheckpointError: a network's file is missing or does not fit.
        UsageError: the category is unknown.
    """
    config = config or Config()
    require_prior(config.prior)
    clock = Clock(progress)
    count = len(window.frames)
    with clock.stage("poses", 0.0):
        window = corrected(window, config.poses)
    if config.prior.category == NONE:
        motion = estimate_motion(window, config, clock)
        return _fused(window, motion, None, PriorUse(), config, name, clock)
    if count < config.window.min_frames:
        return from_prior(
            window, config, name, clock, f"motion needs {config.window.min_frames} usable frames, there is {count}"
        )
    try:
        motion = estimate_motion(window, config, clock)
    except MotionError as error:
        return from_prior(window, config, name, clock, str(error))
    with clock.stage("prior", 0.65):
        shape, use = completed(window, motion, config.prior)
    return _fused(window, motion, shape, use, config, name, clock)


def _fused(
    window: Window, motion: PartMotion, shape: PriorShape | None, use: PriorUse, config: Config, name: str, clock: Clock
) -> Reconstruction:
    """Meshes of what was measured, completed by ``shape`` when there is one."""
    with clock.stage("meshes", 0.7):
        parts = fuse_parts(window, motion, config.fuse, shape.distance if shape else None)
        parts = with_room(parts, motion.joints)
    obj = ArticulatedObject(name, window.fixed_frame, parts, motion.joints, base_frame(parts[0]))
    return Reconstruction(obj, motion, window, clock.seconds, use)


def from_prior(window: Window, config: Config, name: str, clock: Clock, why: str) -> Reconstruction:
    """Take parts and joints from the shape prior of the category and the frame that shows most of the object.

    Args:
        window: frames in which nothing moved; one is enough.
        config: settings of all stages.
        name: name of the object in the URDF.
        clock: of the run.
        why: sentence that says why nothing was measured.

    Raises:
        FrameError: the object's pixels are unknown or too few, or the prior's object does not agree with them.
    """
    with clock.stage("prior", 0.7):
        made = guess(window, config.prior, why)
    obj = ArticulatedObject(name, window.fixed_frame, made.parts, made.motion.joints, base_frame(made.parts[0]))
    return Reconstruction(obj, made.motion, made.window, clock.seconds, made.use)


def collected(config: Config) -> WindowConfig:
    """How many frames to collect from a recording; with a category, one is enough."""
    return config.window if config.prior.category == NONE else replace(config.window, min_frames=1)


def base_frame(base: Part) -> np.ndarray:
    """Pose (4, 4) of the base link: axes of the fixed frame, origin at the middle of the static body."""
    T = np.eye(4)
    if len(base.visual.vertices):
        T[:3, 3] = (base.visual.vertices.min(0) + base.visual.vertices.max(0)) / 2
    return T
