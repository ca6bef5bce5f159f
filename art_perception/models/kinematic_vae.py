"""KA-VAE, the kinematic-aware shape prior of KineDiff3D (section 3.1): a latent per object, a signed field per part.

Read from top to bottom: encoder (Phi, Theta_enc), latent, kinematic code (Psi), decoder (Theta_dec), articulation
decoder (Omega), loss (Eq. 2).

What is encoded jointly is the cloud, its part labels and its joint state, as section 3.1 says; from points alone the
side of a hinge took more than four times as many steps to learn.

Ours, not the paper's: one network for all categories, told which by an embedding. The SDF is evaluated in the rest
frame of every part, where the exact motion of its joint puts the query, and depends on Z alone, so a part stays rigid
whatever A is; the whole object is the minimum over its parts. Joint axes, origins and limits are decoded from Z too,
so that a latent is a complete articulated object. Part labels and joint state read F_kg = Theta_dec(Z, alpha).

Of every part the box around it is decoded as well, and its field is stated about that box: the network says how the
distance differs from the box's own, told where the faces are. Furniture is made of boards along the faces of boxes:
stated in the object's frame alone, distances are learnt many times more slowly (docs/training.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, normalize, one_hot, relu

from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import inverse, transform
from art_perception.models.sim2art import mlp
from art_perception.types import ShapeBatch

PARTS = 3
_ENCODER_BANDS = 2
_BOX_BANDS = 3
_FACES = (0.01, 0.03, 0.1)  # how thick boards along the faces of a box are, units


@dataclass(frozen=True, slots=True)
class CategoryInfo:
    """What the network knows of a category.

    Attributes:
        name: of the category.
        parts: number of parts, the base included.
        revolute: whether its joints turn; else they slide.
    """

    name: str
    parts: int
    revolute: bool


@dataclass(frozen=True, slots=True)
class KinematicVaeConfig:
    """Size of the network."""

    latent: int = 64
    """Channels of Z (Dz)."""
    encoder: int = 128
    """Channels of the point features."""
    code: int = 256
    """Channels of the decoded features F_kg."""
    width: int = 192
    """Channels of the SDF network."""
    layers: int = 5
    """Residual layers of the SDF network."""
    bands: int = 5
    """Frequencies of the position code."""


@dataclass(frozen=True, slots=True)
class KinematicVaeLoss:
    """Weights of Eq. 2; the paper's are 1, 0.1, 0.1 and 1e-3 with an unclamped SDF term."""

    sdf: float = 30.0
    """Lambda 1."""
    label: float = 0.1
    """Lambda 2."""
    state: float = 0.1
    """Lambda 3."""
    joint: float = 0.5
    """Weight of axes, origins and limits, which the paper leaves to the pose network."""
    box: float = 2.0
    """Weight of the parts' boxes."""
    kl: float = 2e-5
    """Beta, of the divergence summed over channels."""
    clamp: float = 0.03
    """Distances beyond this are all the same, units; at 0.1 thin boards vanish."""
    prior: float = 0.25
    """Standard deviation of the latent prior."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedJoints:
    """Joints of B decoded objects in the canonical frame at rest.

    Attributes:
        axis: (B, J, 3) unit.
        direction: (B, J, 3) the axis before it is made unit.
        origin: (B, J, 3) a point on a revolute axis.
        upper: (B, J) upper limits, rad or units; the lower ones are zero.
        twists: (B, J, 6) unit twists, zero where there is no joint.
    """

    axis: Tensor
    direction: Tensor
    origin: Tensor
    upper: Tensor
    twists: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """B decoded objects: what Omega needs to answer queries.

    Attributes:
        present: (B, K) bool.
        layers: (B, K, L, 2 W) scale and shift of every SDF layer of every part.
        boxes: (B, K, 2, 3) lowest and highest corner of every part at rest.
        joints: how the parts hang together.
    """

    present: Tensor
    layers: Tensor
    boxes: Tensor
    joints: DecodedJoints


class KinematicVae(nn.Module):
    """The shape prior."""

    parts: Tensor
    revolute: Tensor

    def __init__(self, config: KinematicVaeConfig, categories: tuple[CategoryInfo, ...]) -> None:
        super().__init__()
        self.config, self.categories = config, categories
        e, c, w = config.encoder, config.code, config.width
        lifted = 3 * (1 + 2 * config.bands) + 6 * (1 + len(_FACES)) + 3 * (1 + 2 * _BOX_BANDS)
        seen = 3 + 6 * _ENCODER_BANDS + PARTS + 2 * (PARTS - 1)
        self.register_buffer("parts", torch.tensor([info.parts for info in categories]), persistent=False)
        self.register_buffer("revolute", torch.tensor([info.revolute for info in categories]), persistent=False)
        self.category = nn.Embedding(len(categories), 32)
        self.points, self.context = mlp(seen, e // 2, e), mlp(2 * e, e, 2 * e)  # Phi
        self.norms = nn.ModuleList([nn.LayerNorm(e), nn.LayerNorm(2 * e)])
        self.posterior = mlp(2 * e + 32, 2 * e, 2 * config.latent)  # Theta_enc
        self.psi = mlp(2 * (PARTS - 1), 64, config.latent)
        self.decode_shape = mlp(config.latent + 32, c, c)  # Theta_dec, the half that A cannot reach
        self.decode_motion = mlp(2 * config.latent + 32, c, c)  # and the half that sees concat(Z, alpha)
        self.modulate = nn.Linear(c, PARTS * config.layers * 2 * w)
        self.joint = mlp(c, c, (PARTS - 1) * 7)
        self.state = mlp(c, 64, PARTS - 1)
        self.box = mlp(c, c, PARTS * 6)
        self.lift = nn.Linear(lifted, w)
        self.field = nn.ModuleList(nn.Linear(w, w, bias=False) for _ in range(config.layers))
        self.distance, self.membership = nn.Linear(w, 1), nn.Linear(w, c)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """First weights: with torch's own, objects differ by a thousandth of the noise in Z and it is never used."""
        for layer in (*self.points, *self.context, *self.posterior, *self.decode_shape, *self.decode_motion):
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.posterior.get_parameter("2.bias")[self.config.latent :] = -6.0
        self.distance.bias.zero_()
        self.distance.weight.mul_(0.1)  # to begin with, parts are their boxes

    def encode(self, cloud: Tensor, label: Tensor, q: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of Z (Eq. 1): mean and log variance (B, Dz) each.

        Args:
            cloud: (B, N, 3) surface points in the canonical frame, at joint values ``q``.
            label: (B, N) int64 part of each point.
            q: (B, J) joint values.
            category: (B,) int64.
        """
        state = torch.cat([q.sin(), q.cos()], -1)[:, None].expand(-1, cloud.shape[1], -1)
        own = torch.cat([fourier(cloud, _ENCODER_BANDS), one_hot(label, PARTS), state], -1)
        own = self.norms[0](self.points(own))
        common = own.amax(1, keepdim=True).expand_as(own)
        feature = self.norms[1](self.context(torch.cat([own, common], -1))).amax(1)  # F_g
        mean, spread = self.posterior(torch.cat([feature, self.category(category)], -1)).chunk(2, -1)
        return mean.float(), spread.float().clamp(-12, 4)

    def decode(self, z: Tensor, category: Tensor) -> Shape:
        """Decode latents (B, Dz) of categories (B,) into complete articulated objects."""
        present = torch.arange(PARTS, device=z.device) < self.parts[category][:, None]
        f = self.decode_shape(torch.cat([z, self.category(category)], -1))
        layers = self.modulate(gelu(f)).unflatten(-1, (PARTS, self.config.layers, -1))
        direction, origin, upper = self.joint(f).float().unflatten(-1, (PARTS - 1, 7)).split((3, 3, 1), -1)
        middle, log_half = self.box(f).float().unflatten(-1, (PARTS, 6)).chunk(2, -1)
        half = 0.2 * log_half.exp()
        boxes = torch.stack([middle - half, middle + half], -2)
        axis, upper = normalize(direction, dim=-1), upper[..., 0]
        turns = self.revolute[category][:, None, None]
        turn = torch.cat([torch.linalg.cross(origin, axis), axis], -1)
        twists = torch.where(turns, turn, torch.cat([axis, torch.zeros_like(axis)], -1)) * present[:, 1:, None]
        return Shape(present, layers, boxes, DecodedJoints(axis, direction, origin, upper, twists))

    def motion_code(self, z: Tensor, category: Tensor, q: Tensor) -> Tensor:
        """F_kg (B, C) of latents (B, Dz) at joint values q (B, J), with alpha = Psi(A) (Eq. 1)."""
        alpha = self.psi(torch.cat([q.sin(), q.cos()], -1))
        return self.decode_motion(torch.cat([z, alpha, self.category(category)], -1))

    def predicted_state(self, f_kg: Tensor) -> Tensor:
        """Joint values (B, J) that F_kg stands for."""
        return self.state(f_kg).float()

    def features(self, shape: Shape, part: Tensor, queries: Tensor) -> Tensor:
        """Features (R, Q, W) of queries (R, Q, 3) in part rest frames; ``part`` (R,) indexes the B x K parts, flat."""
        with torch.autocast(queries.device.type, enabled=False):  # half precision would blur positions
            h = self.lift(position_code(queries, shape.boxes.flatten(0, 1)[part], self.config.bands))
        code = shape.layers.flatten(0, 1)[part]
        for i, layer in enumerate(self.field):
            scale, shift = code[:, None, i].chunk(2, -1)
            out = relu(torch.addcmul(shift, layer(h), 1 + scale))
            h = h + out if i else out
        return h

    def part_distance(self, shape: Shape, part: Tensor, queries: Tensor) -> Tensor:
        """Signed distances (R, Q) of queries (R, Q, 3) to the parts ``part`` (R,), all in the parts' rest frames."""
        return self._distance(shape, part, queries, self.features(shape, part, queries))

    def _distance(self, shape: Shape, part: Tensor, queries: Tensor, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return self.distance(features.float())[..., 0] + box_distance(queries, shape.boxes.flatten(0, 1)[part])

    def forward(self, shape: Shape, f_kg: Tensor, twists: Tensor, q: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Omega: distances and part logits of queries in the canonical frame, the parts moved by their joints.

        Args:
            shape: decoded objects.
            f_kg: (B, C) their motion code at ``q``.
            twists: (B, J, 6) joints that move the parts, the decoded ones or true ones.
            q: (B, J) joint values.
            queries: (B, Q, 3).

        Returns:
            Signed distance to every part (B, K, Q), infinite for absent ones (the object's is the minimum over K), and
            logits (B, K, Q) of the part each query belongs to.
        """
        at_rest = transform(inverse(placed(twists, q)), queries[:, None].expand(-1, PARTS, -1, -1))
        rows = shape.present.flatten().nonzero()[:, 0]
        at_rest = at_rest.flatten(0, 1)[rows]
        h = self.features(shape, rows, at_rest)
        found = self._distance(shape, rows, at_rest, h)
        claim = (self.membership(h).float() @ f_kg.float()[rows // PARTS, :, None])[..., 0] / f_kg.shape[-1] ** 0.5
        size = (len(q) * PARTS, queries.shape[1])
        distance = found.new_full(size, torch.inf).index_copy(0, rows, found).unflatten(0, (-1, PARTS))
        logits = found.new_full(size, -1e4).index_copy(0, rows, claim - 20 * found).unflatten(0, (-1, PARTS))
        return distance, logits


def position_code(x: Tensor, box: Tensor, bands: int) -> Tensor:
    """What a field is told of positions (R, Q, 3), (R, Q, C): where they are in space and in boxes (R, 2, 3).

    In the box: on how many times a board's thickness from each face they are, and where between opposite faces.
    """
    low, high = box[:, None].unbind(-2)
    gap = torch.cat([x - low, high - x], -1)
    near = [(gap / thickness).tanh() for thickness in _FACES]
    return torch.cat([fourier(x, bands), gap, *near, fourier((2 * x - low - high) / (high - low), _BOX_BANDS)], -1)


def box_distance(x: Tensor, box: Tensor) -> Tensor:
    """Signed distances (R, Q) of positions (R, Q, 3) to boxes (R, 2, 3)."""
    beyond = torch.maximum(box[:, None, 0] - x, x - box[:, None, 1])
    return beyond.clamp(min=0).norm(dim=-1) + beyond.amax(-1).clamp(max=0)


def fourier(x: Tensor, bands: int) -> Tensor:
    """Positions (..., 3) and sines and cosines of their multiples (..., 3 + 6 bands)."""
    angle = (x[..., None] * (torch.pi * 2.0 ** torch.arange(bands, device=x.device))).flatten(-2)
    return torch.cat([x, angle.sin(), angle.cos()], -1)


def sampled(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Z by the reparameterization trick."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def losses(
    model: KinematicVae, batch: ShapeBatch, config: KinematicVaeLoss, generator: torch.Generator
) -> dict[str, Tensor]:
    """Weighted terms of Eq. 2: the cloud is at one joint state, everything is asked at another."""
    mean, log_variance = model.encode(batch.cloud, batch.cloud_label, batch.q_cloud, batch.category)
    z = sampled(mean, log_variance, generator)
    shape = model.decode(z, batch.category)
    f_kg = model.motion_code(z, batch.category, batch.q)
    rows = batch.present.flatten().nonzero()[:, 0]
    distance = model.part_distance(shape, rows, batch.queries.flatten(0, 1)[rows])
    true = batch.sdf.flatten(0, 1)[rows]
    reach = config.clamp
    _, logits = model(shape, f_kg, batch.twists, batch.q, batch.points)
    moving = batch.present[:, 1:]
    return {
        "sdf": config.sdf * (distance.clamp(-reach, reach) - true.clamp(-reach, reach)).abs().mean(),
        "label": config.label * cross_entropy(logits, batch.label),
        "state": config.state * (model.predicted_state(f_kg) - batch.q).abs()[moving].mean(),
        "joint": config.joint * joint_error(shape.joints, batch)[moving].mean(),
        "box": config.box * (shape.boxes - batch.boxes).abs()[batch.present].mean(),
        "kl": config.kl * divergence(mean, log_variance, config.prior).mean(),
    }


def joint_error(joints: DecodedJoints, batch: ShapeBatch) -> Tensor:
    """Distance (B, J) of decoded joints from true ones: axes, the decoded origin from the true line, upper limits.

    Axes are compared before they are made unit: on the sphere an axis of the wrong sign feels no pull at all.
    """
    axis = (joints.direction - batch.axis).abs().sum(-1)
    gap = joints.origin - batch.origin
    off = torch.linalg.cross(gap, batch.axis).norm(dim=-1) * batch.revolute[:, None]
    return axis + off + 0.3 * (joints.upper - batch.upper).abs()


def divergence(mean: Tensor, log_variance: Tensor, prior: float) -> Tensor:
    """KL (B,) of N(mean, variance) from N(0, prior^2), summed over channels (last term of Eq. 2)."""
    ratio = (log_variance.exp() + mean**2) / prior**2
    return 0.5 * (ratio - 1 - log_variance + 2 * torch.tensor(prior).log()).sum(-1)
