"""A complete articulated object from one partial cloud and its category: pose, joints, shape (KineDiff3D, Figure 2).

The pose diffusion's hypotheses are refined together with shape and joints against the measured points (fit.py); what
comes out is the reading of the view that explains it best, with its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from art_perception.bounds import bounded
from art_perception.errors import CheckpointError, FrameError, UsageError
from art_perception.estimation.evidence import evidence_of_view
from art_perception.estimation.terms import Hypotheses
from art_perception.fit import Fit, FitConfig, Networks, fit
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import from_rotation_translation
from art_perception.geometry.mesh import transformed
from art_perception.geometry.rotations import rotation_angle
from art_perception.models.checkpoint import (
    fingerprint,
    load_census,
    load_kinematic_vae,
    load_latent_network,
    load_pose_network,
)
from art_perception.models.extract import extract_parts
from art_perception.models.kinematic_vae import CategoryInfo, KinematicVae
from art_perception.models.latent_diffusion import FastSamplerConfig, sample_latents
from art_perception.models.pool import Spread, pooled
from art_perception.models.pose_diffusion import (
    ObjectState,
    SamplerConfig,
    nearest_to_origin,
    sample_states,
    unit_twists,
)
from art_perception.types import Mesh

FEWEST_POINTS = 200
_WIDEST_M = 50.0
_COST_SPREAD = 0.06  # a hypothesis that costs this share more is e times less likely (docs/training.md)


@dataclass(frozen=True, slots=True)
class CompletionConfig:
    """Completion of a single view."""

    points: int = bounded(1024, 200, 100_000)
    """Points the networks see; more are thinned out at random."""
    pose: SamplerConfig = field(default_factory=SamplerConfig)
    latent: FastSamplerConfig = field(default_factory=FastSamplerConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    voxels: int = bounded(128, 16, 512)
    """Samples along the longest side of a part's mesh."""
    seed: int = bounded(0, 0, 2_147_483_647)
    """Of all draws."""


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
        rotation_std_rad, translation_std_m, size_std_m: spread of the hypotheses.
        q_std, axis_std_rad, origin_std_m: (J,) that of the joints as lines in the camera frame; where two readings of
            a view share a hinge, the hinge is sure.
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
    rotation_std_rad: float
    translation_std_m: float
    size_std_m: float
    q_std: np.ndarray
    axis_std_rad: np.ndarray
    origin_std_m: np.ndarray
    hypotheses: np.ndarray
    z: np.ndarray
    parts: tuple[Mesh, ...]

    def posed(self) -> tuple[Mesh, ...]:
        """The parts where the camera sees them: camera frame, metres (kinematic chaining, by the product of exp)."""
        T = self.T_camera_base @ placed(self.twists, self.q)
        return tuple(transformed(mesh, own) for mesh, own in zip(self.parts, T, strict=True))


def load_networks(prior: Path, pose: Path, latent: Path, census: Path) -> Networks:
    """Read the three networks and the census of the objects they learnt from.

    Raises:
        CheckpointError: one is missing or none of its kind, or they were not trained for each other.
    """
    networks = Networks(
        load_kinematic_vae(prior)[0], load_pose_network(pose)[0], load_latent_network(latent)[0], load_census(census)[0]
    )
    own = fingerprint(networks.prior)
    for path, known in ((latent, networks.latent.prior), (census, networks.census.prior)):
        if known != own:
            raise CheckpointError(f"{path} was made for another shape prior than {prior}: make it with --vae {prior}")
    if not networks.prior.categories == networks.pose.categories == networks.latent.categories:
        raise CheckpointError(f"{pose} knows other categories than {prior}: train it again")
    return networks


def complete(
    points: np.ndarray, category: str, networks: Networks, config: CompletionConfig, beyond: np.ndarray | None = None
) -> Completion:
    """Estimate pose, joints and shape of the object that a depth camera sees.

    Args:
        points: (N, 3) metres, camera frame (optical), of the object alone.
        category: its name.
        networks: what :func:`load_networks` gives.
        config: settings.
        beyond: (M, 3) metres, camera frame: points of other things that the camera has seen past the object; what lies
            between them and the camera is free.

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
    state, spread, ranking = pooled(states, numbers)
    if not config.fit.rounds:
        canonical = (cloud - state.t[:, None]) @ state.R / state.size[:, None, None]
        z = sample_latents(networks.latent, canonical, number, config.latent, generator)
        T = from_rotation_translation(states.R[0, ranking[0]], states.t[0, ranking[0]])
        direction = (spread.direction.square() + spread.R.square()[:, None]).sqrt()
        location = (spread.location.square() + (spread.t / state.size).square()[:, None]).sqrt()
        spread = replace(spread, direction=direction, location=location)
        return _completion(networks.prior, number, state, spread, T, z, config.voxels)
    evidence = evidence_of_view(cloud, None if beyond is None else _beyond(beyond), generator)
    start = hypotheses(with_pooled(states, state), networks.prior.config.latent)
    found = fit(networks, index, evidence, start, states.R[0], config.latent, config.fit, generator)
    state, spread = _state(found), _spread(found)
    T = from_rotation_translation(found.guesses.R, found.guesses.t)
    return _completion(networks.prior, number, state, spread, T, found.z[:1], config.voxels)


def with_pooled(states: ObjectState, pooled_state: ObjectState) -> ObjectState:
    """The hypotheses (1, H) and their mean (1,) as one list (H + 1,)."""
    rows = {f.name: torch.cat([getattr(pooled_state, f.name), getattr(states, f.name)[0]]) for f in fields(states)}
    return ObjectState(**rows)


def hypotheses(states: ObjectState, latent: int) -> Hypotheses:
    """States (H,) as hypotheses of one frame with the average latent."""
    u = torch.zeros(len(states.size), latent)
    return Hypotheses(states.R, states.t, states.size, states.amount[:, None], u)


def _state(found: Fit) -> ObjectState:
    """The cheapest hypothesis of a fit, leading shape (1,)."""
    best, joints = found.guesses.pick(torch.tensor([0])), found.decoded
    location = nearest_to_origin(joints.axis[:1], joints.origin[:1]) * float(joints.revolute)
    return ObjectState(best.R, best.t, best.size, location, joints.axis[:1], best.q[:, 0])


def _spread(found: Fit) -> Spread:
    """How far the other hypotheses are from the cheapest, each as likely as its cost says.

    To that comes what the residual allows: a board half a diagonal long that is off by r at its end is turned by 2 r.
    """
    cost, r = found.cost, found.residual[:1]
    share = torch.softmax(-(cost - cost[0]) / (_COST_SPREAD * cost[0]), 0)
    guess, joints = found.guesses, found.decoded

    def rms(gap: Tensor, least: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (gap.dim() - 1))
        return (weight * gap.square()).sum(0, keepdim=True).sqrt() + least.view(-1, *[1] * (gap.dim() - 1))

    axis = joints.axis @ guess.R.mT
    place = guess.t[:, None] + guess.size[:, None, None] * (joints.origin @ guess.R.mT)
    apart = torch.linalg.cross(place - place[:1], axis).norm(dim=-1) / guess.size[0]
    return Spread(
        R=rms(rotation_angle(guess.R, guess.R[:1]), 2 * r),
        t=rms((guess.t - guess.t[:1]).norm(dim=-1), r * guess.size[:1]),
        size=rms(guess.size - guess.size[0], r * guess.size[:1]),
        location=rms(apart, r),
        direction=rms((axis * axis[:1]).sum(-1).abs().clamp(max=1).acos(), 2 * r),
        amount=rms((guess.q - guess.q[:1])[:, 0], 2 * r if joints.revolute else r),
    )


@torch.no_grad()
def _completion(
    prior: KinematicVae, number: Tensor, state: ObjectState, spread: Spread, T: Tensor, z: Tensor, voxels: int
) -> Completion:
    """What was found of one object, leading shape (1,), in metres, with the meshes of its latent."""
    info = prior.categories[int(number)]
    shape = prior.decode(z, number)
    size, J = float(state.size), info.parts - 1
    reach = 1.0 if info.revolute else size  # metres or rad per unit of a joint value
    q, upper = reach * _array(state.amount[0, :J]), reach * _array(shape.joints.upper[0, :J])
    rescaled = np.array([size, size, size, 1, 1, 1]) if info.revolute else 1.0
    resized = np.diag([size, size, size, 1.0])
    return Completion(
        category=info,
        T_camera_base=_array(from_rotation_translation(state.R, state.t)[0]),
        size_m=size,
        q=q,
        axis=_array(state.direction[0, :J]),
        origin=size * _array(state.location[0, :J]),
        limits=np.stack([np.minimum(q, 0), np.maximum(q, upper)], -1),
        twists=rescaled * _array(unit_twists(state, prior.revolute[number])[0, :J]),
        rotation_std_rad=float(spread.R),
        translation_std_m=float(spread.t),
        size_std_m=float(spread.size),
        q_std=reach * _array(spread.amount[0, :J]),
        axis_std_rad=_array(spread.direction[0, :J]),
        origin_std_m=size * _array(spread.location[0, :J]),
        hypotheses=_array(T),
        z=_array(z[0]),
        parts=tuple(transformed(part, resized) for part in extract_parts(prior, shape, 0, voxels)),
    )


def _array(x: Tensor) -> np.ndarray:
    return x.double().numpy()


def _index_of(category: str, known: tuple[CategoryInfo, ...]) -> int:
    names = [info.name for info in known]
    if category not in names:
        raise UsageError(f"category {category!r} is unknown: give one of {', '.join(names)}")
    return names.index(category)


def _beyond(points: np.ndarray) -> Tensor:
    """Points past the object as float32, without those that are not finite."""
    points = np.asarray(points, np.float32).reshape(-1, 3)
    return torch.from_numpy(points[np.isfinite(points).all(1)])


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
