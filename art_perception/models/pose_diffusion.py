"""Pose and joints of an articulated object from one partial cloud (KineDiff3D, section 3.2): a conditional diffusion.

Read from top to bottom: state, standardisation, network, loss (Eq. 3-4), sampling. The state of an object is the
rotation (6D), translation and size of its base in the camera frame, and of every joint its location, direction (both
in the canonical frame) and amount. Poses of the children follow from it by the exponential of their joints
(geometry/kinematics.py), never from numbers of their own.

Ours, not the paper's: the size, because the canonical frame has unit diagonal; one network for all categories; the
cloud is normalised by its centroid and spread and the state stated relative to them, so that the estimate moves and
scales exactly with the cloud; every number is standardised by its category, and numbers without a meaning (a second
joint that is not there, the location of a sliding joint) are held at zero, where nothing else can see them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, silu

from art_perception.bounds import bounded
from art_perception.geometry.rotations import rotation_angle, rotation_from_6d, six_of_rotation
from art_perception.models.kinematic_vae import PARTS, CategoryInfo
from art_perception.models.point_encoder import PointEncoder, PointEncoderConfig, lively
from art_perception.models.probability_flow import probability_flow
from art_perception.models.sim2art import mlp

BASE, JOINT = 10, 7
"""Numbers of the base (6D rotation, translation, log size) and of a joint (location, direction, amount)."""
STATE = BASE + (PARTS - 1) * JOINT
_FLOOR = 0.05  # standard deviation below which a number is not blown up


@dataclass(frozen=True, slots=True)
class PoseNetworkConfig:
    """Size of the network and its noise."""

    encoder: PointEncoderConfig = field(default_factory=PointEncoderConfig)
    width: int = 384
    """Channels of the denoiser."""
    layers: int = 4
    """Residual layers of the denoiser."""
    sigma_min: float = 0.01
    """Least noise, standard deviations of the state."""
    sigma_max: float = 5.0
    """Most noise; GenPose uses 50 for states that are not standardised."""


@dataclass(frozen=True, slots=True)
class PoseLoss:
    """Weights and draws."""

    draws: int = 8
    """Noise levels per cloud and step; the cloud is encoded once."""
    regression: float = 1.0
    """Weight of the regression head, which shares the encoder."""


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """Sampling of hypotheses."""

    hypotheses: int = bounded(50, 1, 10_000)
    """Draws of the state per cloud."""
    tolerance: float = bounded(1e-3, 1e-7, 1.0)
    """Relative and absolute tolerance of RK45; GenPose's 1e-5 takes twice the evaluations for the same accuracy."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectState:
    """Pose and joints of objects; any leading shape (...).

    Attributes:
        R: (..., 3, 3) rotation of the base in the camera frame.
        t: (..., 3) metres, where the canonical origin is in the camera frame.
        size: (...) metres per canonical unit.
        location: (..., J, 3) point of a revolute axis nearest to the canonical origin; else zero.
        direction: (..., J, 3) unit, canonical frame; zero where there is no joint.
        amount: (..., J) rad, or canonical units of a sliding joint; zero where there is no joint.
    """

    R: Tensor
    t: Tensor
    size: Tensor
    location: Tensor
    direction: Tensor
    amount: Tensor


def nearest_to_origin(axis: Tensor, origin: Tensor) -> Tensor:
    """Points (..., 3), nearest to the canonical origin, of lines through ``origin`` (..., 3) along unit ``axis``."""
    return origin - (origin * axis).sum(-1, keepdim=True) * axis


def normalised(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Clouds (B, N, 3) about their centroid (B, 3) in units of their spread (B,), the RMS distance from it."""
    center = points.mean(1)
    offset = points - center[:, None]
    spread = offset.square().sum(-1).mean(1).sqrt().clamp(min=1e-9)
    return offset / spread[:, None, None], center, spread


def to_vector(state: ObjectState, center: Tensor, spread: Tensor) -> Tensor:
    """Numbers (..., STATE) of states relative to a normalised cloud."""
    base = [six_of_rotation(state.R), (state.t - center) / spread[..., None], (state.size / spread).log()[..., None]]
    joints = torch.cat([state.location, state.direction, state.amount[..., None]], -1)
    return torch.cat([*base, joints.flatten(-2)], -1)


def from_vector(x: Tensor, center: Tensor, spread: Tensor) -> ObjectState:
    """Undo :func:`to_vector`; what is no rotation or no unit vector becomes the nearest one."""
    location, direction, amount = x[..., BASE:].unflatten(-1, (PARTS - 1, JOINT)).split((3, 3, 1), -1)
    return ObjectState(
        R=rotation_from_6d(x[..., :6]),
        t=center + spread[..., None] * x[..., 6:9],
        size=spread * x[..., 9].exp(),
        location=location,
        direction=normalize(direction, dim=-1),
        amount=amount[..., 0],
    )


def meaningful(categories: tuple[CategoryInfo, ...]) -> Tensor:
    """Which numbers of the state (C, STATE) a category has."""
    mask = torch.zeros(len(categories), STATE)
    mask[:, :BASE] = 1
    joints = mask[:, BASE:].view(-1, PARTS - 1, JOINT)
    for own, info in zip(joints, categories, strict=True):
        own[: info.parts - 1, 0 if info.revolute else 3 :] = 1
    return mask


class PoseNetwork(nn.Module):
    """Denoiser of the state and, as an ablation, a regression head, on one encoder."""

    mask: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: PoseNetworkConfig, categories: tuple[CategoryInfo, ...]) -> None:
        super().__init__()
        self.config, self.categories = config, categories
        w, feature = config.width, 2 * config.encoder.width
        self.register_buffer("mask", meaningful(categories), persistent=False)
        self.register_buffer("mean", torch.zeros(len(categories), STATE))
        self.register_buffer("std", torch.ones(len(categories), STATE))
        self.encoder = PointEncoder(config.encoder)
        self.category = nn.Embedding(len(categories), 32)
        self.condition = nn.Sequential(mlp(feature + 32, w, w), nn.LayerNorm(w))
        self.noise = mlp(32, w, w)
        self.lift = nn.Linear(STATE, w)
        self.film = nn.ModuleList(nn.Linear(w, 2 * w) for _ in range(config.layers))
        self.block = nn.ModuleList(mlp(w, w, w) for _ in range(config.layers))
        self.norm = nn.ModuleList(nn.LayerNorm(w, elementwise_affine=False) for _ in range(config.layers))
        self.out = nn.Linear(w, STATE)
        self.regression = mlp(w, w, STATE)
        lively(self.condition)
        lively(self.noise)

    def standardise(self, x: Tensor, category: Tensor) -> None:
        """Take mean and spread of every category from states x (N, STATE) of categories (N,), each there twice."""
        for c in category.unique():
            self.mean[c], self.std[c] = x[category == c].mean(0), x[category == c].std(0).clamp(min=_FLOOR)

    def standardised(self, x: Tensor, category: Tensor) -> Tensor:
        """States x (B, ..., STATE) in standard deviations of their category (B,), zero where they mean nothing."""
        mean, std, mask = (_over(v[category], x) for v in (self.mean, self.std, self.mask))
        return (x - mean) / std * mask

    def restored(self, y: Tensor, category: Tensor) -> Tensor:
        """Undo :meth:`standardised`."""
        mean, std, mask = (_over(v[category], y) for v in (self.mean, self.std, self.mask))
        return (y * std + mean) * mask

    def encode(self, cloud: Tensor, category: Tensor) -> Tensor:
        """Condition (B, W) that normalised clouds (B, N, 3) of categories (B,) put on everything else."""
        return self.condition(torch.cat([self.encoder(cloud)[2], self.category(category)], -1))

    def regressed(self, condition: Tensor, category: Tensor) -> Tensor:
        """The ablation: standardised states (B, STATE) in one step."""
        return self.regression(silu(condition)).float() * self.mask[category]

    def denoised(self, y: Tensor, sigma: Tensor, condition: Tensor, category: Tensor) -> Tensor:
        """Expected state given a noisy one; the score of Eq. 4 is (denoised - y) / sigma^2.

        Args:
            y: (B, H, STATE) standardised states, H of each cloud, with noise.
            sigma: (B, H) its standard deviation.
            condition: (B, W) of the clouds.
            category: (B,) of the clouds.

        Returns:
            (B, H, STATE). Preconditioned as in Karras et al., "Elucidating the design space of diffusion-based
            generative models", 2022, Table 1, with unit variance of the data.
        """
        s, mask = sigma[..., None], self.mask[category][:, None]
        context = silu(condition[:, None] + self.noise(_sines(sigma.log() / 4)))
        h = self.lift(y * mask * (s**2 + 1).rsqrt())
        for film, block, norm in zip(self.film, self.block, self.norm, strict=True):
            scale, shift = film(context).chunk(2, -1)
            h = h + block(norm(h) * (1 + scale) + shift)
        return mask * (y / (s**2 + 1) + self.out(h).float() * s * (s**2 + 1).rsqrt())


def _over(values: Tensor, x: Tensor) -> Tensor:
    """Values (B, D) with as many dimensions as x (B, ..., D)."""
    return values.view(len(values), *(1,) * (x.dim() - 2), -1)


def _sines(x: Tensor) -> Tensor:
    """Numbers (...) as 16 sines and cosines (..., 32)."""
    angle = x[..., None] * torch.logspace(-1, 1.5, 16, device=x.device)
    return torch.cat([angle.sin(), angle.cos()], -1)


def losses(
    model: PoseNetwork,
    points: Tensor,
    category: Tensor,
    true: ObjectState,
    config: PoseLoss,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Denoising score matching (Eq. 4) and the regression's L1 and geodesic errors, of clouds (B, N, 3) in metres."""
    cloud, center, spread = normalised(points)
    condition = model.encode(cloud, category)
    x = to_vector(true, center, spread)
    clean = model.standardised(x, category)
    mask = model.mask[category]
    shape = (len(x), config.draws)
    # sigma(t) of Eq. 3 is geometric in t, which is uniform
    share = torch.rand(shape, generator=generator, device=x.device)
    sigma = model.config.sigma_min * (model.config.sigma_max / model.config.sigma_min) ** share
    noise = torch.randn((*shape, STATE), generator=generator, device=x.device)
    noisy = clean[:, None] + sigma[..., None] * noise
    gap = model.denoised(noisy, sigma, condition, category) - clean[:, None]
    weight = (sigma**2 + 1) / sigma**2  # lambda(t): every noise level asks for the same effort (Karras, section 5)
    guess = model.regressed(condition, category)
    R = rotation_from_6d(model.restored(guess, category)[..., :6])
    return {
        "score": (weight[..., None] * gap**2).sum() / (config.draws * mask.sum()),
        "state": config.regression * ((guess - clean).abs() * mask).sum() / mask.sum(),
        "rotation": config.regression * rotation_angle(R, true.R).mean(),
    }


@torch.no_grad()
def sample_states(
    model: PoseNetwork, points: Tensor, category: Tensor, config: SamplerConfig, generator: torch.Generator
) -> tuple[ObjectState, Tensor]:
    """Draw states from p(state | cloud) by the probability-flow ODE.

    Args:
        model: the network.
        points: (B, N, 3) metres, camera frame.
        category: (B,).
        config: how many, how exactly.
        generator: of the noise they start from.

    Returns:
        States of leading shape (B, H), and the same standardised (B, H, STATE).
    """
    cloud, center, spread = normalised(points)
    condition = model.encode(cloud, category).float()
    shape = (len(points), config.hypotheses, STATE)
    low, high = model.config.sigma_min, model.config.sigma_max
    start = high * torch.randn(shape, generator=generator, device=points.device) * model.mask[category][:, None]

    def denoiser(y: Tensor, sigma: float) -> Tensor:
        return model.denoised(y, y.new_full(y.shape[:2], sigma), condition, category)

    y = denoiser(probability_flow(denoiser, start, high, low, config.tolerance), low)  # the last of the noise
    return from_vector(model.restored(y, category), center[:, None], spread[:, None]), y


@torch.no_grad()
def regress_states(model: PoseNetwork, points: Tensor, category: Tensor) -> ObjectState:
    """States (B,) of clouds (B, N, 3) by the regression head."""
    cloud, center, spread = normalised(points)
    y = model.regressed(model.encode(cloud, category), category)
    return from_vector(model.restored(y, category), center, spread)


def unit_twists(state: ObjectState, revolute: Tensor) -> Tensor:
    """Twists (..., J, 6) of the joints in the canonical frame; ``revolute`` (...) bool, whether they turn.

    A child's pose is the base's times the exponential of its twist and amount, which contains Rodrigues' formula.
    """
    turn = torch.cat([torch.linalg.cross(state.location, state.direction), state.direction], -1)
    slide = torch.cat([state.direction, torch.zeros_like(state.direction)], -1)
    return torch.where(revolute[..., None, None], turn, slide)
