"""Fit of the shape prior to what was measured: the diffusion's hypotheses, refined in rounds (KineDiff3D, section 3.4).

Every round draws the latents anew from the cloud as the current poses canonicalise it, keeps those that cost less,
descends (estimation/refine.py), and lets the cheapest hypotheses go on, with more points. Hypotheses that look alike do
not go on together, so that two readings of a view (a door hinged left or right, a box turned by a quarter) compete to
the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from art_perception.bounds import bounded
from art_perception.errors import UsageError
from art_perception.estimation.refine import Decode, ExpectedSize, cheaper, cost, refine
from art_perception.estimation.terms import Decoded, Evidence, Hypotheses, TermWeights, part_distances, surface
from art_perception.geometry.rotations import rotation_angle
from art_perception.models.census import Census
from art_perception.models.expectation import Whitening, whitening
from art_perception.models.extract import HALF
from art_perception.models.kinematic_vae import PARTS, KinematicVae
from art_perception.models.latent_diffusion import FastSamplerConfig, LatentNetwork, sample_latents
from art_perception.models.pose_diffusion import PoseNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The three networks, which know the same categories, and the census of the objects they learnt from."""

    prior: KinematicVae
    pose: PoseNetwork
    latent: LatentNetwork
    census: Census


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Rounds of refinement."""

    rounds: int = bounded(4, 0, 16)
    """How many; 0 = the diffusion's answer as it is."""
    points: tuple[int, ...] = bounded((96, 192, 384, 512), 8, 100_000)
    """Points in every round, of all frames together, surface and free space each; the last one counts for later
    rounds too."""
    steps: tuple[int, ...] = bounded((12, 20, 30, 60), 1, 10_000)
    """Gradient steps in every round."""
    keep: tuple[int, ...] = bounded((8, 4, 2, 2), 1, 1000)
    """Hypotheses that go on after every round."""
    most: int = bounded(32, 1, 10_000)
    """Hypotheses the first round descends with; of more, the cheapest."""
    rigid: int = bounded(1, 0, 16)
    """Rounds, the first ones, in which the shape stays as the diffusion drew it."""
    rate: float = bounded(0.03, 1e-6, 10.0)
    """Peak learning rate."""
    least_size_std: float = bounded(0.1, 1e-6, 10.0)
    """Least standard deviation of the logarithm of the size that the hypotheses are believed."""
    rarity: float = bounded(0.001, 0.0, 100.0)
    """Cost of a rotation that the diffusion draws e times more rarely."""
    weights: TermWeights = field(default_factory=TermWeights)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Hypotheses that went through all rounds, none like another, the cheapest first.

    Attributes:
        guesses: H of them; cost: (H,) what they cost; z: (H, Dz) their latents.
        decode: what makes objects of whitened latents; decoded: those they stand for.
        residual: (H,) mean distance of the measured points from their surfaces, canonical units.
    """

    guesses: Hypotheses
    cost: Tensor
    z: Tensor
    decode: Decode
    decoded: Decoded
    residual: Tensor


_KERNEL_RAD = 0.5  # about what a diffusion trained for an hour is off by
_ALIKE_RAD, _ALIKE_VALUE = 0.35, 0.3  # hypotheses closer than this in rotation and joint values are one


def fit(
    networks: Networks, category: int, evidence: Evidence, start: Hypotheses, drawn: Tensor | None,
    latent: FastSamplerConfig, config: FitConfig, generator: torch.Generator,
) -> Fit:  # fmt: skip
    """Find poses, joint values and latents that explain the evidence.

    Args:
        networks: what latents are drawn and decoded with.
        category: index of the category.
        evidence: what was measured.
        start: hypotheses in the frame of the evidence, of zero latent where there is none yet; the differences between
            joint values of frames stay as they are.
        drawn: (D, 3, 3) rotations of the pose diffusion, when they are to say which are rare.
        latent: how latents are drawn.
        config: rounds, at least one.
        generator: of all draws.

    Raises:
        UsageError: the settings do not say points, steps and hypotheses of the same rounds.
    """
    if not len(config.points) == len(config.steps) == len(config.keep) > 0:
        raise UsageError(
            f"fit.points, fit.steps and fit.keep have {len(config.points)}, {len(config.steps)} and {len(config.keep)} "
            "numbers: give one per round to each"
        )
    white = whitening(networks.census, category)
    decode = decoder(networks.prior, category, white)
    log_size = start.size.log()
    expected = ExpectedSize(float(log_size.median()), max(float(log_size.std()), config.least_size_std))
    frames = len(evidence.points)
    guess = _likely(start, decode, evidence.thinned(-(-config.points[0] // frames), generator), expected, config)
    each = guess.size
    for r in range(config.rounds):
        last = min(r, len(config.points) - 1)
        thin = evidence.thinned(-(-config.points[last] // frames), generator)
        redrawn = _redrawn(guess, networks.latent, category, white, evidence.points[:1], latent, generator)
        with torch.no_grad():
            old, new = (cost(g, decode, thin, expected, config.weights) for g in (guess, redrawn))
        shapeless = (guess.u == 0).all(-1)  # the category's mean is what every wrong pose suits best
        guess, _ = cheaper(redrawn, new, guess, old.masked_fill(shapeless, torch.inf))
        bend = r >= config.rigid
        guess, each = refine(guess, decode, thin, expected, config.weights, config.steps[last], config.rate, bend)
        if drawn is not None:
            each = each + config.rarity * _rarity(guess.R, drawn)
        kept = _distinct(guess, each, config.keep[last])
        guess, each = guess.pick(kept), each[kept]
    with torch.no_grad():
        decoded = decode(guess.u)
        residual = surface(part_distances(guess, decoded, evidence.points), evidence.part, config.weights.reach)
    return Fit(guess, each, white.latent(guess.u), decode, decoded, residual)


@torch.no_grad()
def _likely(start: Hypotheses, decode: Decode, thin: Evidence, expected: ExpectedSize, config: FitConfig) -> Hypotheses:
    """The hypotheses worth a descent: the cheapest as they are, when there are many."""
    if len(start.size) <= config.most:
        return start
    rows = torch.arange(len(start.size)).split(config.most)
    each = torch.cat([cost(start.pick(own), decode, thin, expected, config.weights) for own in rows])
    return start.pick(each.argsort()[: config.most])


def decoder(prior: KinematicVae, category: int, white: Whitening) -> Decode:
    """What the shape prior makes of whitened latents of a category."""

    def decode(u: Tensor) -> Decoded:
        shape = prior.decode(white.latent(u), torch.full((len(u),), category))
        rows = shape.present.flatten().nonzero()[:, 0]

        def distance(points: Tensor) -> Tensor:
            own = points.flatten(0, 1)[rows]
            known = own.clamp(-HALF, HALF)  # no network knows what it says out there
            found = prior.part_distance(shape, rows, known) + (own - known).norm(dim=-1)
            size = (len(u) * PARTS, points.shape[2])
            return found.new_full(size, torch.inf).index_copy(0, rows, found).unflatten(0, (-1, PARTS))

        joints = shape.joints
        upper = joints.upper * shape.present[:, 1:]
        return Decoded(joints.axis, joints.origin, prior.categories[category].revolute, joints.twists, upper, distance)

    return decode


def _redrawn(
    guess: Hypotheses, latent: LatentNetwork, category: int, white: Whitening, points: Tensor,
    sampler: FastSamplerConfig, generator: torch.Generator,
) -> Hypotheses:  # fmt: skip
    """The guesses with latents that the diffusion draws for the cloud as each of them canonicalises it."""
    clouds = guess.canonical(points)[:, 0]
    z = sample_latents(latent, clouds, torch.full((len(clouds),), category), sampler, generator)
    return Hypotheses(guess.R, guess.t, guess.size, guess.q, white.whitened(z))


def _rarity(R: Tensor, drawn: Tensor) -> Tensor:
    """Minus the logarithm (H,) of the density of drawn rotations (D, 3, 3) at rotations (H, 3, 3)."""
    near = (-(rotation_angle(R[:, None], drawn[None]) / _KERNEL_RAD).square()).exp()
    return -near.mean(1).clamp(min=1 / len(drawn)).log()


def _distinct(guess: Hypotheses, cost: Tensor, keep: int) -> Tensor:
    """Indices of at most ``keep`` hypotheses, cheapest first, none like a cheaper one."""
    alike = rotation_angle(guess.R[:, None], guess.R[None]) < _ALIKE_RAD
    alike = alike & ((guess.q[:, None] - guess.q[None]).abs().amax((-1, -2)) < _ALIKE_VALUE)
    chosen: list[int] = []
    for h in cost.argsort().tolist():
        if len(chosen) < keep and not alike[h, chosen].any():
            chosen.append(h)
    return torch.tensor(chosen)
