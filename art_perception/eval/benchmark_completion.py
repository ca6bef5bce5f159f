"""What the completion benchmark looks at, and ways to complete it; the command is ``benchmarks/bench_completion.py``.

Besides :func:`art_perception.complete.complete` itself: the regression head in place of the pose diffusion, and stages
given the truth, so that one sees which stage loses what.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from art_perception.complete import Completion, CompletionConfig, Networks, complete
from art_perception.data.categories import NAMES
from art_perception.data.clouds import CloudsConfig, draw_shapes
from art_perception.data.partial import ViewsConfig, draw_views
from art_perception.data.shape_bank import QUANTUM, ShapeBank
from art_perception.errors import ArtPerceptionError
from art_perception.eval.completion import FAILED, Estimate, TrueObject, floor, score
from art_perception.eval.completion_tables import Scored
from art_perception.geometry.lie import transform
from art_perception.geometry.mesh import transformed
from art_perception.models.extract import extract_parts
from art_perception.models.latent_diffusion import sample_latents
from art_perception.models.pose_diffusion import ObjectState, regress_states, unit_twists
from art_perception.types import Mesh

ROUNDS = ("round_0", "round_1", "round_2", "round_3", "round_4")
"""Rows of :func:`complete`, by rounds of refinement."""
ROWS = (*ROUNDS, "regression", "true_pose", "pose_only", "true_latent", "floor")
"""Every row by the name its scores are stored under."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenObject:
    """A view of a held-out object.

    Attributes:
        category: its name; object: name of the sample; source: where it comes from.
        points: (N, 3) measured, metres, camera frame.
        beyond: (M, 3) points that the camera sees past the object, metres, camera frame.
        hidden: share of the surface facing the camera that is not seen.
        z: (1, Dz) its true latent.
        true: everything else about it.
    """

    category: str
    object: str
    source: str
    points: np.ndarray
    beyond: np.ndarray
    hidden: float
    z: Tensor
    true: TrueObject


def settings_of(row: str, config: CompletionConfig) -> CompletionConfig:
    """Settings of :func:`complete` for one of ``ROUNDS``."""
    return replace(config, fit=replace(config.fit, rounds=ROUNDS.index(row)))


def see_object(bank: ShapeBank, index: int, networks: Networks, views: ViewsConfig, seed: int, view: int) -> SeenObject:
    """Look at a sample of the bank; seed, name of the object and number of the view decide what is seen."""
    name = str(bank.names[index])
    rng = np.random.default_rng([seed, view, *name.encode()])
    one = np.array([index])
    shapes = draw_shapes(bank, one, CloudsConfig(labelled=1, queries=1), rng, "cpu")
    seen = draw_views(bank, one, shapes.q_cloud, views, rng)
    with torch.no_grad():
        z, _ = networks.prior.encode(shapes.cloud, shapes.cloud_label, shapes.q_cloud, shapes.category)
    J = int(bank.parts[index]) - 1
    true = TrueObject(
        points=bank.points[index] * QUANTUM,
        label=bank.part[index].astype(int),
        twists=bank.twists[index, :J].astype(float),
        axis=bank.axis[index, :J].astype(float),
        origin=bank.origin[index, :J].astype(float),
        revolute=bool(bank.revolute[index]),
        upper=bank.limits[index, :J, 1].astype(float),
        q=shapes.q_cloud[0, :J].double().numpy(),
        novel=shapes.q[0, :J].double().numpy(),
        T_camera_base=seen.T[0].double().numpy(),
        size_m=float(bank.size_m[index]),
    )
    points, hidden = seen.points[0].numpy(), 1 - float(seen.visible[0])
    past = _beyond(true, rng)
    return SeenObject(NAMES[bank.category[index]], name, str(bank.sources[index]), points, past, hidden, z, true)


def _beyond(true: TrueObject, rng: np.random.Generator, count: int = 2048) -> np.ndarray:
    """Points (M, 3) of a wall three times as far as the object, where nothing of the object is before it."""
    surface = transform(true.T_camera_base, true.size_m * true.surface(true.q))
    ray = surface[:, :2] / surface[:, 2:]
    low, high = ray.min(0), ray.max(0)
    wall = rng.uniform(low - 0.4 * (high - low), high + 0.4 * (high - low), (3 * count, 2))
    apart = cKDTree(ray).query(wall)[0]
    wall = wall[apart > 0.015 * (high - low).max()][:count]
    return 3 * surface[:, 2].max() * np.column_stack([wall, np.ones(len(wall))])


def measure(
    seen: SeenObject,
    networks: Networks,
    config: CompletionConfig,
    rows: Sequence[str],
    samples: int,
    seed: int,
    view: int,
) -> list[Scored]:
    """Scores of some rows on one view; what goes wrong is a score too.

    Args:
        seen: the view.
        networks: the three networks.
        config: of the completion.
        rows: some of ``ROWS``.
        samples: surface points per object of the Chamfer distances.
        seed: number of the repetition.
        view: number of the view in it.
    """
    trial = _Trial(seen, networks, config)
    out = []
    for row in (row for row in ROWS if row in rows):  # in this order, because the first one is timed
        numbers, error = _numbers(row, trial, samples, np.random.default_rng([seed, view]))
        out.append(Scored(row, seen.category, seen.object, seen.source, seed, view, seen.hidden, numbers, error))
    return out


def _numbers(row: str, trial: _Trial, samples: int, rng: np.random.Generator) -> tuple[Mapping[str, float], str | None]:
    """Errors and seconds of a row, and why there are none."""
    if row == "floor":
        return floor(trial.seen.true, rng), None
    try:
        start, start_processor = time.perf_counter(), time.process_time()
        found = trial.estimate(row)
        times = {
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - start_processor,
        }
    except ArtPerceptionError as error:
        return FAILED, str(error)
    except Exception as bug:  # costs this view's row, and is told there
        return FAILED, f"{type(bug).__name__}: {bug}"
    return score(found, trial.seen.true, samples, rng) | times, None


class _Trial:
    """One view; what several rows need is made once."""

    def __init__(self, seen: SeenObject, networks: Networks, config: CompletionConfig) -> None:
        self.seen, self.networks, self.config = seen, networks, config
        self.number = torch.tensor([NAMES.index(seen.category)])
        rng = np.random.default_rng(config.seed)
        self.cloud = torch.from_numpy(seen.points[rng.permutation(len(seen.points))[: config.points]])[None]

    def estimate(self, row: str) -> Estimate:
        """What a row makes of the view."""
        if row in ROUNDS:
            return self.first if row == ROUNDS[0] else self._completed(row)
        if row == "regression":
            state = regress_states(self.networks.pose, self.cloud, self.number)
            return self._placed(state, self._sampled(state))
        if row == "pose_only":
            return replace(self.first, parts=_sized(self.true_parts, self.first.size_m))
        given = true_estimate(self.seen.true)
        parts = self.true_parts if row == "true_latent" else self._parts(self._sampled(_state(given)))
        return replace(given, parts=_sized(parts, given.size_m))

    @cached_property
    def first(self) -> Estimate:
        """What comes out without refinement."""
        return self._completed(ROUNDS[0])

    @cached_property
    def true_parts(self) -> tuple[Mesh, ...]:
        """Meshes of the true latent, canonical frame."""
        return self._parts(self.seen.z)

    def _completed(self, row: str) -> Estimate:
        seen, settings = self.seen, settings_of(row, self.config)
        return estimate_of(complete(seen.points, seen.category, self.networks, settings, seen.beyond))

    def _sampled(self, state: ObjectState) -> Tensor:
        """A latent for the cloud as a state (1,) brings it into the canonical frame."""
        canonical = (self.cloud - state.t[:, None]) @ state.R / state.size[:, None, None]
        generator = torch.Generator().manual_seed(self.config.seed)
        return sample_latents(self.networks.latent, canonical, self.number, self.config.latent, generator)

    def _parts(self, z: Tensor) -> tuple[Mesh, ...]:
        """Meshes of a latent (1, Dz), canonical frame."""
        with torch.no_grad():
            shape = self.networks.prior.decode(z, self.number)
        return extract_parts(self.networks.prior, shape, 0, self.config.voxels)

    def _placed(self, state: ObjectState, z: Tensor) -> Estimate:
        """A state (1,) and a latent (1, Dz) as they would come out."""
        info, size = self.networks.prior.categories[int(self.number)], float(state.size)
        J, turns = info.parts - 1, info.revolute
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = state.R[0].double().numpy(), state.t[0].double().numpy()
        twists = unit_twists(state, torch.tensor([turns]))[0, :J].double().numpy()
        return Estimate(
            T_camera_base=T,
            size_m=size,
            q=(1.0 if turns else size) * state.amount[0, :J].double().numpy(),
            twists=_in_metres(twists, turns, size),
            axis=state.direction[0, :J].double().numpy(),
            origin=size * state.location[0, :J].double().numpy(),
            parts=_sized(self._parts(z), size),
        )


def estimate_of(found: Completion) -> Estimate:
    """What of a completion is scored."""
    return Estimate(found.T_camera_base, found.size_m, found.q, found.twists, found.axis, found.origin, found.parts)


def true_estimate(true: TrueObject) -> Estimate:
    """Pose and joints as they are, without any shape."""
    size, turns = true.size_m, true.revolute
    return Estimate(
        T_camera_base=true.T_camera_base,
        size_m=size,
        q=true.q if turns else size * true.q,
        twists=_in_metres(true.twists, turns, size),
        axis=true.axis,
        origin=size * true.origin,
        parts=(),
    )


def _state(found: Estimate) -> ObjectState:
    """The pose (1,) as the pose network would say it; joints are not needed to bring a cloud into the base's frame."""
    T = torch.from_numpy(found.T_camera_base).float()[None]
    none = torch.zeros(1, len(found.q), 3)
    return ObjectState(T[:, :3, :3], T[:, :3, 3], torch.tensor([found.size_m]), none, none, none[..., 0])


def _in_metres(twists: np.ndarray, revolute: bool, size_m: float) -> np.ndarray:
    """Canonical unit twists (J, 6) in metres: what slides moves a metre per metre in either."""
    return twists * ([size_m, size_m, size_m, 1, 1, 1] if revolute else 1.0)


def _sized(parts: Sequence[Mesh], size_m: float) -> tuple[Mesh, ...]:
    return tuple(transformed(mesh, np.diag([size_m, size_m, size_m, 1.0])) for mesh in parts)
