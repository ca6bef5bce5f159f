"""A complete articulated object from one partial cloud and its category: pose, joints, shape (KineDiff3D, Figure 2).

No optimisation against the measurement happens here; what comes out is the prior's answer, with its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from art_perception.errors import CheckpointError, FrameError, UsageError
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import from_rotation_translation
from art_perception.geometry.mesh import transformed
from art_perception.models.checkpoint import (
    fingerprint,
    load_kinematic_vae,
    load_latent_network,
    load_pose_network,
)
from art_perception.models.extract import extract_part
from art_perception.models.kinematic_vae import CategoryInfo, KinematicVae
from art_perception.models.latent_diffusion import FastSamplerConfig, LatentNetwork, sample_latents
from art_perception.models.pool import Spread, hypotheses, of_joints, pooled
from art_perception.models.pose_diffusion import (
    ObjectState,
    PoseNetwork,
    SamplerConfig,
    sample_states,
    unit_twists,
)
from art_perception.types import Mesh

FEWEST_POINTS = 200
_WIDEST_M = 50.0


@dataclass(frozen=True, slots=True)
class CompletionConfig:
    """Completion of a single view."""

    points: int = 1024
    """Points the networks see; more are thinned out at random."""
    pose: SamplerConfig = field(default_factory=SamplerConfig)
    latent: FastSamplerConfig = field(default_factory=FastSamplerConfig)
    voxels: int = 128
    """Samples along the longest side of a part's mesh."""
    seed: int = 0
    """Of all draws."""


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The three networks, which know the same categories."""

    prior: KinematicVae
    pose: PoseNetwork
    latent: LatentNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """What one view and the prior say of an object with J joints.

    Attributes:
        category: what the network was told, and whether the joints turn.
        T_camera_base: (4, 4) rotation of the canonical frame and where its origin is, metres.
        size_m: metres per canonical unit, the diagonal of the bounding box at rest.
        q: (J,) joint values, rad or metres; axis, origin: (J, 3) of the joints, in the base's frame, metres.
        limits: (J, 2) of the joint values, widened where ``q`` lies outside.
        twists: (J, 6) unit twists ``[v, w]`` in the base's frame, metres.
        spread: of the hypotheses, in the units of :class:`Spread`.
        hypotheses: (H, 4, 4) poses, the likeliest first.
        z: (Dz,) latent of the shape.
        parts: closed meshes in the base's frame at rest, metres; part k + 1 is moved by joint k.
    """

    category: CategoryInfo
    T_camera_base: np.ndarray
    size_m: float
    q: np.ndarray
    axis: np.ndarray
    origin: np.ndarray
    limits: np.ndarray
    twists: np.ndarray
    spread: Spread
    hypotheses: np.ndarray
    z: np.ndarray
    parts: tuple[Mesh, ...]

    def posed(self) -> tuple[Mesh, ...]:
        """The parts where the camera sees them: camera frame, metres (kinematic chaining, by the product of exp)."""
        T = self.T_camera_base @ placed(self.twists, self.q)
        return tuple(transformed(mesh, own) for mesh, own in zip(self.parts, T, strict=True))


def load_networks(prior: Path, pose: Path, latent: Path) -> Networks:
    """Read the three networks.

    Raises:
        CheckpointError: one is missing or none of its kind, or they were not trained for each other.
    """
    networks = Networks(load_kinematic_vae(prior)[0], load_pose_network(pose)[0], load_latent_network(latent)[0])
    if networks.latent.prior != fingerprint(networks.prior):
        raise CheckpointError(
            f"{latent} was trained for another shape prior than {prior}: train it again with --vae {prior}"
        )
    if not networks.prior.categories == networks.pose.categories == networks.latent.categories:
        raise CheckpointError(f"{pose} knows other categories than {prior}: train it again")
    return networks


@torch.no_grad()
def complete(points: np.ndarray, category: str, networks: Networks, config: CompletionConfig) -> Completion:
    """Estimate pose, joints and shape of the object that a depth camera sees.

    Args:
        points: (N, 3) metres, camera frame (optical), of the object alone.
        category: its name.
        networks: what :func:`load_networks` gives.
        config: settings.

    Raises:
        UsageError: the category is not one the networks know.
        FrameError: the cloud has too few points, numbers that are not finite, or is not in metres.
    """
    index = _index_of(category, networks.prior.categories)
    checked = _checked(points)
    generator = torch.Generator().manual_seed(config.seed)
    pick = torch.randint(len(checked), (config.points,), generator=generator)
    if len(checked) >= config.points:
        pick = torch.randperm(len(checked), generator=generator)[: config.points]
    cloud, number = torch.from_numpy(checked)[pick][None], torch.tensor([index])
    states, numbers = sample_states(networks.pose, cloud, number, config.pose, generator)
    state, spread, ranking = pooled(hypotheses(states, 0), numbers[0])
    canonical = (cloud - state.t) @ state.R / state.size
    z = sample_latents(networks.latent, canonical, number, config.latent, generator)
    T = from_rotation_translation(states.R[0, ranking], states.t[0, ranking])
    return _completion(networks.prior, index, state, spread, T, z, config.voxels)


def _completion(
    prior: KinematicVae, index: int, state: ObjectState, spread: Spread, T: Tensor, z: Tensor, voxels: int
) -> Completion:
    """Everything in metres, with the meshes of the latent z (1, Dz)."""
    info = prior.categories[index]
    shape = prior.decode(z, torch.tensor([index]))
    size, J = float(state.size), info.parts - 1
    reach = 1.0 if info.revolute else size  # metres or rad per unit of a joint value
    q = reach * _array(state.amount[:J])
    upper = reach * _array(shape.joints.upper[0, :J])
    twists = _array(unit_twists(state, torch.tensor(info.revolute))[:J])
    if info.revolute:
        twists[:, :3] *= size
    resized = np.diag([size, size, size, 1.0])
    return Completion(
        category=info,
        T_camera_base=_array(from_rotation_translation(state.R, state.t)),
        size_m=size,
        q=q,
        axis=_array(state.direction[:J]),
        origin=size * _array(state.location[:J]),
        limits=np.stack([np.minimum(q, 0), np.maximum(q, upper)], -1),
        twists=twists,
        spread=of_joints(spread, J),
        hypotheses=_array(T),
        z=_array(z[0]),
        parts=tuple(transformed(extract_part(prior, shape, 0, k, voxels), resized) for k in range(info.parts)),
    )


def _array(x: Tensor) -> np.ndarray:
    return x.double().numpy()


def _index_of(category: str, known: tuple[CategoryInfo, ...]) -> int:
    names = [info.name for info in known]
    if category not in names:
        raise UsageError(f"category {category!r} is unknown: give one of {', '.join(names)}")
    return names.index(category)


def _checked(points: np.ndarray) -> np.ndarray:
    """The cloud as float32, or the reason why it cannot be one."""
    points = np.asarray(points, np.float32)
    if points.ndim != 2 or points.shape[1] != 3:
        raise FrameError(f"a cloud has the shape (N, 3), this one {points.shape}: give x, y, z per point")
    if len(points) < FEWEST_POINTS:
        raise FrameError(f"the cloud has {len(points)} points (need {FEWEST_POINTS}): go closer, or widen the mask")
    bad = int((~np.isfinite(points)).any(1).sum())
    if bad:
        raise FrameError(f"{bad} of {len(points)} points are not finite: leave out pixels without depth")
    extent = float(np.ptp(points, axis=0).max())
    if extent > _WIDEST_M:
        raise FrameError(f"the cloud spans {extent:.0f} m (at most {_WIDEST_M:.0f}): give metres, not millimetres")
    return points
