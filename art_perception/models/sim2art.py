"""sim2art (Artykov et al., arXiv 2512.07698v2): parts and joints from a window of moving surface points.

Read from top to bottom: keypoints and their neighbourhoods (Eq. 1), time code (Eq. 2) and video-level attention,
propagation to the points (Eq. 3), part assignment, part and motion features (Eqs. 4, 5), heads.

Ours, not the paper's: normals and the witness channel as inputs; max and mean instead of a sum in Eq. 1; query 0 is the
static body, the others start from places that move and look at the window before they claim points; screw statistics of
the assigned flow are the base that the heads correct; every point votes for the axis it moves about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from art_perception.geometry.points import farthest_points, gather
from art_perception.geometry.twist_fit import Screws, Twists, fit_screws, fit_twists, inliers
from art_perception.types import PointWindow

_INPUTS = 11  # flow 3, flow valid, normal 3, witnesses 4
_STATISTICS = 27


@dataclass(frozen=True, slots=True)
class Sim2ArtConfig:
    """Size of the network; the defaults are ``small``."""

    width: int = 96
    """Feature channels."""
    layers: int = 3
    """Self-attention layers over the keypoints of all frames."""
    query_layers: int = 2
    """Layers in which the part queries look at the keypoints and at each other."""
    heads: int = 4
    """Attention heads."""
    frames: int = 16
    """Frames per window."""
    points: int = 256
    """Surface points per frame in training."""
    keypoints: int = 24
    """Keypoints per frame (Nk)."""
    neighbours: int = 12
    """Points per keypoint and frame."""
    radius: float = 0.4
    """Spatial reach of a keypoint (rs), units of the window's scale."""
    reach: int = 1
    """Temporal reach of a keypoint (rt), frames."""
    queries: int = 12
    """Part queries (M), the static body included."""
    spread_to: int = 3
    """Keypoints a point's feature is interpolated from (Eq. 3)."""
    time_bands: int = 7
    """Frequencies of the time code gamma(t), L + 1; 0 = none."""
    clock: float = 1.0
    """Weight of the input t / T; 0 = none."""
    appearance: int = 0
    """Channels of image features per point (DINOv3: 1024); 0 = none."""


BASE = Sim2ArtConfig(
    width=512, layers=5, heads=8, frames=32, points=2048, keypoints=64, neighbours=32, radius=0.3, queries=20
)
"""The paper's scale, for a GPU."""


@dataclass(frozen=True, slots=True, eq=False)
class Sim2ArtOutput:
    """Predictions for B windows and M queries, in the units of the window; query 0 is the static body.

    Attributes:
        assignment: (B, T, N, M) logits of the part each point belongs to.
        type: (B, M, 3) logits: revolute, prismatic, static.
        turn_axis, slide_axis: (B, M, 3) unit vectors in the direction of net motion.
        pivot: (B, M, 3) a point on the revolute axis.
        turn, slide: (B, T, M) motion since the first frame, rad and units of scale.
        vote_axis: (B, T, N, 3) unit, vote_point: (B, T, N, 3): the axis each point moves about.
    """

    assignment: Tensor
    type: Tensor
    turn_axis: Tensor
    slide_axis: Tensor
    pivot: Tensor
    turn: Tensor
    slide: Tensor
    vote_axis: Tensor
    vote_point: Tensor


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Attention(nn.Module):
    """Pre-norm attention of ``x`` to itself and ``memory`` and a feed-forward layer (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out, self.feed = nn.Linear(width, width), mlp(width, 2 * width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Features (B, L, C), what else to look at (B, S, C) or None -> (B, L, C)."""
        here = self.norm(x)
        there = here if memory is None else torch.cat([here, self.norm(memory)], 1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(here), *self.key_value(there).chunk(2, -1))
        )
        x = x + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.feed(self.norm_out(x))

    @torch.no_grad()
    def pass_through(self) -> None:
        """Make the layer the identity, from which it can learn (De and Smith, "SkipInit", 2020)."""
        for parameter in (*self.out.parameters(), *self.feed[-1].parameters()):
            parameter.zero_()


class Sim2Art(nn.Module):
    """The window network."""

    def __init__(self, config: Sim2ArtConfig) -> None:
        super().__init__()
        self.config = config
        c, look = config.width, 3 if config.appearance else 0
        self.appearance = mlp(config.appearance, 64, 3) if config.appearance else None
        self.neighbour = mlp(4 + _INPUTS + look, 64, c)
        self.keypoint = mlp(2 * c + 3 + 1 + 2 * config.time_bands + 1, c, c)
        self.video = nn.ModuleList(Attention(c, config.heads) for _ in range(config.layers))
        self.point = mlp(c + 3 + 3 + _INPUTS + look + 2, c, c)
        self.queries = nn.Parameter(torch.randn(2, c) * c**-0.5)  # the static body; what all moving parts share
        self.look = nn.ModuleList(Attention(c, config.heads) for _ in range(config.query_layers))
        self.claim = nn.Linear(c, c)
        self.vote = mlp(c, c, 7)
        self.part = mlp(2 * c + _STATISTICS, c, c)
        self.head = nn.Linear(c, 3 + 3 + 3 + 3)
        self.motion = mlp(2 * c + 4, c // 2, 2)
        with torch.no_grad():  # the heads begin as corrections of nothing
            for parameter in (*self.head.parameters(), *self.motion[-1].parameters(), *self.vote[-1].parameters()):
                parameter.mul_(0.1)

    def forward(self, window: PointWindow) -> Sim2ArtOutput:
        """Predict parts and joints."""
        inputs = self._inputs(window)
        index = keypoint_index(window.points, self.config.keypoints)
        keys = _per_frame(gather, window.points, index)
        tokens = self._encode(window.points, inputs, keys, window.flow_scale)
        points = self._propagate(window, inputs, keys, tokens)
        flat = tokens.flatten(1, 2)
        seeds = gather(flat, self._seeds(window, keys))
        still, moving = self.queries.expand(len(seeds), -1, -1).split(1, 1)
        queries = torch.cat([still, moving + seeds], 1)
        for layer in self.look:
            queries = layer(queries, flat)
        assignment = torch.einsum("btnc,bmc->btnm", points, self.claim(queries)) * self.config.width**-0.5
        with torch.autocast(points.device.type, enabled=False):  # 3x3 systems need full precision
            return self._heads(window, points.float(), queries.float(), assignment.float())

    def _inputs(self, window: PointWindow) -> Tensor:
        """Per-point input channels (B, T, N, C)."""
        channels = [window.flow, window.flow_valid[..., None], window.normals, window.seen]
        if self.appearance is not None:
            channels.append(self.appearance(window.appearance))
        return torch.cat(channels, -1)

    def _encode(self, points: Tensor, inputs: Tensor, keys: Tensor, flow_scale: Tensor) -> Tensor:
        """Keypoint features (B, T, Nk, C): neighbourhoods (Eq. 1), time code (Eq. 2), attention over the video."""
        T = points.shape[1]
        context = self._neighbourhood(points, inputs, keys)
        t = torch.linspace(0, 1, T, device=points.device)[:, None]
        bands = torch.pi * 2.0 ** torch.arange(self.config.time_bands, device=points.device)
        code = torch.cat([self.config.clock * t, (t * bands).sin(), (t * bands).cos()], -1)
        code = code[None, :, None].expand(*keys.shape[:3], -1)
        speed = flow_scale.clamp(min=1e-4).log()[:, None, None, None].expand(*keys.shape[:3], 1) / 4
        tokens = self.keypoint(torch.cat([context, keys, code, speed], -1))
        flat = tokens.flatten(1, 2)
        for layer in self.video:
            flat = layer(flat)
        return flat.view_as(tokens)

    def _neighbourhood(self, points: Tensor, inputs: Tensor, keys: Tensor) -> Tensor:
        """Eq. 1: features of the points around each keypoint in its own and the neighbouring frames (B, T, Nk, 2C)."""
        config, T = self.config, points.shape[1]
        peaks, sums, counts = [], [], []
        for dt in range(-config.reach, config.reach + 1):
            frame = (torch.arange(T, device=points.device) + dt).clamp(0, T - 1)
            there, values = points[:, frame], inputs[:, frame]
            index = _per_frame(_nearest, keys, there, config.neighbours)
            offset = (_per_frame(gather, there, index) - keys[:, :, :, None]) / config.radius
            near = (offset.square().sum(-1, keepdim=True) < 1).to(points.dtype)
            ahead = torch.full_like(offset[..., :1], dt)
            feature = self.neighbour(torch.cat([offset.clamp(-2, 2), ahead, _per_frame(gather, values, index)], -1))
            peaks.append((feature - 10 * (1 - near)).amax(3))
            sums.append((near.mT @ feature)[..., 0, :])
            counts.append(near.sum(3))
        mean = torch.stack(sums).sum(0) / torch.stack(counts).sum(0).clamp(min=1)
        return torch.cat([torch.stack(peaks).amax(0), mean], -1)

    @torch.no_grad()
    def _seeds(self, window: PointWindow, keys: Tensor) -> Tensor:
        """Keypoints (B, M - 1) the moving parts' queries start from: where most moves, far apart in place and flow.

        Moving queries differ by where they start alone (Schult et al., "Mask3D", 2023, section 3): with an embedding
        each, the first to move claimed everything and the others were never trained.
        """
        index = _per_frame(_nearest, keys, window.points, self.config.neighbours)
        flow = _per_frame(gather, window.flow, index).mean(3).flatten(1, 2)
        through = _per_frame(gather, window.seen, index)[..., [1, 3]].mean((3, 4)).flatten(1)
        moving = flow.norm(dim=-1) + 2 * through + 0.05
        where = torch.cat([keys.flatten(1, 2), flow], -1)
        chosen = [moving.argmax(1)]
        nearest = torch.full_like(moving, torch.inf)
        for _ in range(self.config.queries - 2):
            last = where.gather(1, chosen[-1][:, None, None].expand(-1, -1, 6))
            nearest = torch.minimum(nearest, (where - last).norm(dim=-1))
            chosen.append((moving * nearest).argmax(1))
        return torch.stack(chosen, 1)

    def _propagate(self, window: PointWindow, inputs: Tensor, keys: Tensor, tokens: Tensor) -> Tensor:
        """Eq. 3: point features (B, T, N, C) from the nearest keypoints, with what the point itself measured."""
        weight = _interpolation(window.points.flatten(0, 1), keys.flatten(0, 1), self.config.spread_to)
        spread, center = ((weight @ x.flatten(0, 1)).unflatten(0, window.points.shape[:2]) for x in (tokens, keys))
        center = center - window.points
        T = window.points.shape[1]
        t = torch.linspace(0, 1, T, device=spread.device)[None, :, None, None].expand(*spread.shape[:3], 1)
        speed = window.flow_scale.clamp(min=1e-4).log()[:, None, None, None].expand_as(t) / 4
        own = torch.cat([window.points, center, inputs, self.config.clock * t, speed], -1)
        return spread + self.point(torch.cat([spread, own], -1))

    def _heads(self, window: PointWindow, points: Tensor, queries: Tensor, assignment: Tensor) -> Sim2ArtOutput:
        share = assignment.softmax(-1)
        mass = share.sum((1, 2)).clamp(min=1e-3)
        gathered = share.mT @ points
        part_feature = gathered.sum(1) / mass[..., None]  # Eq. 4
        motion_feature = gathered / share.sum(2).clamp(min=1e-3)[..., None]  # Eq. 5
        vote_axis, vote_point, trust = self.vote(points).split((3, 3, 1), -1)
        trust = trust.sigmoid() * window.flow_valid[..., None]
        flow = window.flow * window.flow_scale[:, None, None, None]
        weights = share * trust
        twists = fit_twists(window.points, flow, weights * inliers(window.points, flow, weights))
        screws = fit_screws(twists)
        vote_point = window.points + vote_point
        voted = (share.mT @ torch.cat([vote_axis, vote_point], -1)).sum(1) / mass[..., None]
        statistics = _statistics(window, twists, screws, voted, mass)
        part = self.part(torch.cat([part_feature, queries, statistics], -1))
        kind, turn, slide, pivot = self.head(part).split(3, -1)
        base = torch.stack([screws.turn, screws.slide, twists.mass.log1p() / 5, twists.misfit], -1)
        frame = torch.cat([motion_feature, part[:, None].expand_as(motion_feature), base], -1)
        amount = base[..., :2] + self.motion(frame)
        amount = amount - amount[:, :1]
        return Sim2ArtOutput(
            assignment=assignment,
            type=kind,
            turn_axis=normalize(screws.turn_axis + turn + voted[..., :3], dim=-1),
            slide_axis=normalize(screws.slide_axis + slide, dim=-1),
            pivot=screws.pivot + pivot,
            turn=amount[..., 0],
            slide=amount[..., 1],
            vote_axis=normalize(vote_axis, dim=-1),
            vote_point=vote_point,
        )


def _statistics(window: PointWindow, twists: Twists, screws: Screws, voted: Tensor, mass: Tensor) -> Tensor:
    """What the assigned flow says about each part (B, M, 27), compressed to the order of 1."""
    T, N = window.points.shape[1:3]
    middle = (twists.mass[..., None] * twists.middle).sum(1) / twists.mass.sum(1).clamp(min=1e-3)[..., None]
    rotation, shift = (x.norm(dim=-1).amax(1) for x in (twists.rotation, twists.shift))
    numbers = [
        screws.turn[:, -1],
        screws.slide[:, -1],
        screws.turn.abs().amax(1),
        screws.slide.abs().amax(1),
        rotation,
        shift,
        (twists.mass * twists.misfit).sum(1) / twists.mass.sum(1).clamp(min=1e-3),
        mass / (T * N),
        twists.mass.sum(1) / (T * N),
    ]
    tiny = torch.stack([x.abs().clamp(min=1e-4).log() / 5 for x in numbers[2:6]], -1)
    vectors = [screws.turn_axis, screws.slide_axis, screws.pivot - middle, middle]
    turned = (screws.turn_axis * voted[..., :3]).sum(-1, keepdim=True)
    direction = (screws.turn_axis * screws.slide_axis).sum(-1, keepdim=True)
    return torch.cat([*vectors, torch.stack(numbers, -1).clamp(-4, 4), tiny, turned, direction], -1)


def keypoint_index(points: Tensor, count: int) -> Tensor:
    """Keypoints (B, T, Nk) of every frame by farthest-point sampling; rotating or scaling a window keeps them."""
    return farthest_points(points.detach().flatten(0, 1), count).view(*points.shape[:2], count)


def _interpolation(points: Tensor, keys: Tensor, k: int) -> Tensor:
    """Weights (B, N, Nk) of the k nearest keypoints by inverse square distance, zero for the others."""
    with torch.no_grad():
        distance, index = torch.cdist(points, keys).topk(k, -1, largest=False, sorted=False)
        weight = 1 / distance.square().clamp(min=1e-4)
        weight = weight / weight.sum(-1, keepdim=True)
        return weight.new_zeros(*points.shape[:2], keys.shape[1]).scatter_(2, index, weight)


def _nearest(query: Tensor, points: Tensor, k: int) -> Tensor:
    """Indices (B, N, k) of the nearest points."""
    with torch.no_grad():
        return torch.cdist(query, points).topk(k, -1, largest=False, sorted=False).indices


def _per_frame(function: Callable[..., Tensor], a: Tensor, b: Tensor, *rest: int) -> Tensor:
    """Apply a batched function with batch and time folded together."""
    return function(a.flatten(0, 1), b.flatten(0, 1), *rest).unflatten(0, a.shape[:2])
