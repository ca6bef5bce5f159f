"""Coarse simulated clips whose parts and true joints are known, for tests of the estimator's stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from art_perception.data.model import SimObject
from art_perception.data.simulate import SimulateConfig, simulate
from art_perception.estimation.dense import DenseWindow, densify
from art_perception.estimation.explain import ExplainConfig, Surface, explain, surface_of
from art_perception.estimation.joint_fit import Motion
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.types import Window
from art_perception.urdf.reader import load_urdf

NOISE_M = 0.002


@dataclass(frozen=True)
class Clip:
    """A coarse clip: its parts' pixels, their true joints, and what does not stand still.

    Attributes:
        labels: (T, h, w) 0 the base, k + 1 moved by joint k.
        truths: of every joint, in the fixed frame; the parts hang on the base.
        still: (T, h, w) bool, what stands still as far as depth tells, in every second frame.
    """

    window: Window
    dense: DenseWindow
    labels: np.ndarray
    truths: list[Motion]
    changed: Surface
    still: np.ndarray

    @property
    def part(self) -> np.ndarray:
        """(T, h, w) bool, the pixels of the part that moves most."""
        return (self.labels == self._most + 1) & self.dense.usable

    @property
    def truth(self) -> Motion:
        """Its joint."""
        return self.truths[self._most]

    @property
    def _most(self) -> int:
        return int(np.argmax([np.ptp(motion.q) for motion in self.truths]))


def clip_of(obj: SimObject, seed: int, moving: int = 1) -> Clip:
    """Simulate 24 frames in which ``moving`` joints move."""
    config = SimulateConfig(frames=24, width=320, height=240, shutter=0.0, moving_count=moving)
    sim = simulate(obj, config, seed)
    samples = list(sim)
    window = Window(tuple(s.frame for s in samples))
    dense = densify(window, 320).coarser(2)
    joints = load_urdf(sim.robot_description, load_meshes=False).joints
    q = np.stack([s.q for s in samples])
    chain = chain_of(joints)
    first = displacements(chain, q)[0]
    truths = []
    for k, joint in enumerate(joints):
        pose = first[chain.parents[k]] if chain.parents[k] >= 0 else np.eye(4)
        axis, origin = pose[:3, :3] @ joint.axis, pose[:3, :3] @ joint.origin + pose[:3, 3]
        truths.append(Motion(joint.type, axis, origin, q[:, k] - q[0, k]))
    ids = np.stack([s.part_ids for s in samples])[:, :: dense.step, :: dense.step]
    surface = surface_of(dense, NOISE_M, np.arange(0, len(q), 2))
    moved = explain(dense, surface, np.broadcast_to(np.eye(4), (len(q), 4, 4)), ExplainConfig()).refuted > (
        ExplainConfig().max_refuted
    )
    still = np.zeros(dense.depth_m.shape, bool)
    still.reshape(len(q), -1)[surface.frame, surface.pixel] = ~moved
    labels = np.maximum(ids.astype(int) - 1, 0)
    return Clip(window, dense, labels, truths, surface.subset(np.flatnonzero(moved)[::4]), still)
