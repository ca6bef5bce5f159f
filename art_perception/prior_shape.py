"""The shape prior fitted to a window: one shape in the states that were measured, its parts where labels say.

What it knows of parts that cameras have not seen completes the measured surface (estimation/prior_fill.py). The
measured joints take part in the fit: they say where the hinge is, and which part is which.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import permutations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from art_perception.complete import CompletionConfig, hypotheses, with_pooled
from art_perception.estimation.evidence import evidence_of_view
from art_perception.estimation.terms import Decoded, Evidence, Hypotheses, part_distances
from art_perception.fit import Fit, Networks, decoder, fit
from art_perception.geometry.camera import pixels_of, unproject
from art_perception.geometry.lie import exp_so3, inverse, transform
from art_perception.geometry.voxels import grid_around, near_surface, surface
from art_perception.models.expectation import whitening
from art_perception.models.pool import pooled
from art_perception.models.pose_diffusion import nearest_to_origin, sample_states
from art_perception.types import UNLABELLED, JointType, PartMotion, RgbdFrame, Window

FRAMES = 3
"""Frames of the window that are fitted together."""
MOST_JOINTS = 3
"""Joints of the window that a part is completed for, the surest first."""
_POINTS, _FREE = 1024, 2048  # per frame
_TOLERANCE = 0.03  # canonical units within which a point agrees
_KINDS, _TURNS = 4, 12  # average objects, turns about a joint
_OPENED, _SIZES = (0.1, 0.6), (0.7, 0.85, 1.0)  # shares of the joint's range, of the pose diffusion's size
_FAR_M = 100.0
_CELLS = 64  # along the object's diagonal, when its surface is looked at
_GAP_M = 0.004  # between the base and what moves


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The prior's object that explains a window best, J joints of which are the window's ``joints``.

    Attributes:
        guess: (1,) its first frame; decoded: what it stands for; cost: of it.
        joints: indices of joints of the window; joint j of the object is ``joints[j]``.
        near: share in [0, 1] of what was measured that is near its surface.
    """

    guess: Hypotheses
    decoded: Decoded
    cost: float
    joints: tuple[int, ...]
    near: float

    @torch.no_grad()
    def distance(self, part: int, points: np.ndarray) -> np.ndarray:
        """Signed distance (N,) metres to one of its parts of points (N, 3) in the frame of the guess."""
        local = torch.from_numpy(points.astype(np.float32))
        chunks = [part_distances(self.guess, self.decoded, c[None])[0, 0, part] for c in local.split(1 << 15)]
        return float(self.guess.size) * torch.cat(chunks).numpy() if chunks else np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PriorShape:
    """Complete parts in the fixed frame at zero joint values.

    Attributes:
        fitted: one object, or one per joint when the category has a single one; the first explains the window best.
        T_camera_world: (4, 4) into the frame they are stated in.
        score: share in [0, 1] of what was measured that is near the object's surface, times the share of its surface
            that no pixel contradicts.
    """

    fitted: tuple[Fitted, ...]
    T_camera_world: np.ndarray
    score: float

    @property
    def joints(self) -> tuple[int, ...]:
        """Joints of the window that it knows."""
        return tuple(k for fitted in self.fitted for k in fitted.joints)

    def distance(self, part: int, points: np.ndarray) -> np.ndarray:
        """Signed distance (N,) metres, negative inside, of points (N, 3) in the fixed frame to a part of the window.

        Far from everything where the prior does not know the part; the base is what no moving part claims.
        """
        local = transform(self.T_camera_world, points)
        if part:
            return self._mover(part - 1, local)
        movers = [self._mover(k, local) for k in self.joints]
        return np.maximum(self.fitted[0].distance(0, local), _GAP_M - np.min(movers, 0))

    def _mover(self, joint: int, local: np.ndarray) -> np.ndarray:
        for fitted in self.fitted:
            if joint in fitted.joints:
                return fitted.distance(1 + fitted.joints.index(joint), local)
        return np.full(len(local), _FAR_M, np.float32)


def fit_window(
    window: Window, motion: PartMotion, category: str, networks: Networks, config: CompletionConfig
) -> PriorShape | None:
    """Fit the prior of a category to a window.

    Args:
        window: T frames.
        motion: labels, joints and joint values of the same frames.
        category: its name, which the networks know.
        networks: what hypotheses come from.
        config: of the completion.

    Returns:
        None when too few joints of the window are of the category's type, or it shows too little of the object.
    """
    index = [info.name for info in networks.prior.categories].index(category)
    info = networks.prior.categories[index]
    kind = JointType.REVOLUTE if info.revolute else JointType.PRISMATIC
    surest = sorted(range(len(motion.joints)), key=lambda k: -motion.joints[k].confidence)
    usable = [k for k in surest if motion.joints[k].type is kind][:MOST_JOINTS]
    tried = [_fit(window, motion, own, index, networks, config) for own in permutations(usable, info.parts - 1)]
    found = sorted((f for f in tried if f is not None), key=lambda f: f.cost)
    if not found:
        return None
    T = inverse(window.frames[0].T_world_camera)
    shape = PriorShape(tuple(found[:1] if info.parts > 2 else found), T, found[0].near)
    return replace(shape, score=shape.score * (1 - _contradicted(shape, window.frames[0], motion.labels[0])))


def _contradicted(shape: PriorShape, frame: RgbdFrame, label: np.ndarray) -> float:
    """Share of the prior's surface at the first frame where the image shows something else, with nothing before it."""
    own = label != UNLABELLED
    points = transform(frame.T_world_camera, unproject(frame.depth_m, frame.K)[own & (frame.depth_m > 0)])
    size = float(shape.fitted[0].guess.size)
    grid = grid_around(points, size / _CELLS, size / 4)
    near = cv2.dilate(own.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    seen, wrong = 0, 0
    for part in (0, *(1 + k for k in shape.joints)):
        mesh = surface(near_surface(partial(shape.distance, part), grid), grid)
        local = transform(inverse(frame.T_world_camera), mesh.vertices)
        shown, row, column = pixels_of(local, frame.K, near.shape)
        depth = frame.depth_m[row, column]
        uncovered = (depth > 0) & (local[shown, 2] < depth + _TOLERANCE * size)
        seen += len(local)
        wrong += int((uncovered & ~near[row, column]).sum())
    return wrong / max(seen, 1)


def _fit(
    window: Window, motion: PartMotion, joints: tuple[int, ...], category: int, networks: Networks,
    config: CompletionConfig,
) -> Fitted | None:  # fmt: skip
    generator = torch.Generator().manual_seed(config.seed)
    chosen = _telling(motion.q[:, joints])
    seen = [_seen(window, motion, int(t), joints, generator) for t in chosen]
    frames = [frame for frame in seen if frame is not None]
    if seen[0] is None:
        return None
    q = torch.from_numpy(motion.q[[t for t, frame in zip(chosen, seen, strict=True) if frame is not None]][:, joints])
    axis, origin = _measured_joints(window, motion, joints)
    rows = ((frame.points, frame.part, frame.free) for frame in frames)
    points, part, free = (torch.cat(column) for column in zip(*rows, strict=True))
    evidence = Evidence(points, part, free, axis, origin)
    number = torch.tensor([category])
    states, numbers = sample_states(networks.pose, evidence.points[:1], number, config.pose, generator)
    every = hypotheses(with_pooled(states, pooled(states, numbers)[0]), networks.prior.config.latent)
    start = _joined(every, _by_joints(every, evidence.points[0].mean(0), axis[0], origin[0], networks, category))
    unit = torch.ones_like(start.size) if networks.prior.categories[category].revolute else start.size
    decoded = decoder(networks.prior, category, whitening(networks.census, category))(start.u)
    same = torch.einsum("hjc,jc->hj", decoded.axis[:, : len(joints)] @ start.R.mT, axis).sign()
    values = start.q.expand(-1, len(q), -1).clone()
    values[..., : len(joints)] += (same / unit[:, None])[:, None] * q.float()
    found = fit(networks, category, evidence, replace(start, q=values), None, config.latent, config.fit, generator)
    return _best(found, evidence, joints)


def _by_joints(
    states: Hypotheses, center: Tensor, measured: Tensor, onto: Tensor, networks: Networks, category: int
) -> Hypotheses:
    """Hypotheses whose joint is where it was measured: average objects of the census, turned about the joint's line.

    They do not depend on what the pose diffusion has learnt to look at, the front of furniture say.

    Args:
        states: the diffusion's hypotheses, for the size.
        center: (3,) of the cloud, metres.
        measured: (3,) unit axis of a measured joint.
        onto: (3,) a point on it, metres.
        networks: for the census and what it decodes to.
        category: index.
    """
    white = whitening(networks.census, category)
    own = (networks.census.category == category).nonzero()[:, 0]
    kinds = own[networks.census.count[own].argsort(descending=True)[:_KINDS]]
    decoded = decoder(networks.prior, category, white)(white.whitened(networks.census.mean[kinds]))
    turns = torch.arange(_TURNS) * (2 * torch.pi / _TURNS)
    rows = torch.cartesian_prod(
        torch.arange(float(len(kinds))), turns, *(torch.tensor(v) for v in ((1.0, -1.0), _OPENED, _SIZES))
    )
    kind, (turn, sign, opened, scale) = rows[:, 0].long(), rows[:, 1:].unbind(-1)
    axis, origin = decoded.axis[kind, 0], decoded.origin[kind, 0]
    target = sign[:, None] * measured
    R = exp_so3(turn[:, None] * target) @ _aligning(axis, target)
    size = states.size.median() * scale
    if decoded.revolute:
        onto = onto + ((center - onto) @ measured) * measured  # the point of the line next to the cloud
        t = onto - size[:, None] * (R @ nearest_to_origin(axis, origin)[..., None])[..., 0]
    else:
        t = center.expand(len(kind), -1)
    q = (opened[:, None] * decoded.upper[kind])[:, None]
    return Hypotheses(R, t, size, q, white.whitened(networks.census.mean[kinds])[kind])


def _aligning(a: Tensor, b: Tensor) -> Tensor:
    """Rotations (H, 3, 3) that turn unit vectors a (H, 3) to b (H, 3) the short way; any way when they are opposite."""
    cross = torch.linalg.cross(a, b)
    opposite = (a * b).sum(-1) < -0.999
    aside = torch.linalg.cross(a, one_hot(a.abs().argmin(-1), 3).to(a))
    way = torch.where(opposite[:, None], aside, cross)
    angle = torch.atan2(cross.norm(dim=-1), (a * b).sum(-1))
    return exp_so3(normalize(way, dim=-1) * angle[:, None])


def _joined(a: Hypotheses, b: Hypotheses) -> Hypotheses:
    return Hypotheses(*(torch.cat([getattr(a, f.name), getattr(b, f.name)]) for f in fields(a)))


def _best(found: Fit, evidence: Evidence, joints: tuple[int, ...]) -> Fitted:
    """The cheapest hypothesis in the first frame, and how much of the evidence it agrees with."""
    guess = found.guesses.pick(torch.tensor([0]))
    decoded = found.decode(guess.u)
    with torch.no_grad():
        near = part_distances(guess, decoded, evidence.points)
        own = near.abs().gather(2, evidence.part[None, :, None])
    first = replace(guess, q=guess.q[:, :1])
    return Fitted(first, decoded, float(found.cost[0]), joints, float((own < _TOLERANCE).float().mean()))


def _telling(q: np.ndarray) -> np.ndarray:
    """Frames to fit: the first, and those whose joint values (T, J) are furthest from those already chosen."""
    chosen = [0]
    for _ in range(min(FRAMES, len(q)) - 1):
        chosen.append(int(np.abs(q[:, None] - q[chosen]).sum(-1).min(1).argmax()))
    return np.array(chosen)


def _seen(
    window: Window, motion: PartMotion, t: int, joints: tuple[int, ...], generator: torch.Generator
) -> Evidence | None:
    """What frame t says, stated in the frame of the window's first camera; None when that is too little."""
    frame, label = window.frames[t], motion.labels[t]
    T = torch.from_numpy(inverse(window.frames[0].T_world_camera) @ frame.T_world_camera).float()
    cloud = torch.from_numpy(unproject(frame.depth_m, frame.K).astype(np.float32))
    measured = torch.from_numpy(frame.depth_m > 0)
    part = torch.full(label.shape, -1)
    for number, own in enumerate([0, *(k + 1 for k in joints)]):
        part[torch.from_numpy(label == own)] = number
    pixels = ((part >= 0) & measured).nonzero()
    if len(pixels) < _POINTS // 4:
        return None
    pick = pixels[torch.randint(len(pixels), (_POINTS,), generator=generator)].unbind(-1)
    beyond = cloud[torch.from_numpy(label == UNLABELLED) & measured]
    view = evidence_of_view(cloud[pick][None], beyond, generator)
    free = view.free[:, torch.randint(view.free.shape[1], (_FREE,), generator=generator)]
    return Evidence(transform(T, view.points), part[pick][None], transform(T, free))


def _measured_joints(window: Window, motion: PartMotion, joints: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Axes and points (J, 3) of joints in the frame of the window's first camera."""
    T = inverse(window.frames[0].T_world_camera)
    own = [motion.joints[k] for k in joints]
    axis = np.stack([T[:3, :3] @ joint.axis for joint in own])
    origin = transform(T, np.stack([joint.origin for joint in own]))
    return torch.from_numpy(axis).float(), torch.from_numpy(origin).float()
