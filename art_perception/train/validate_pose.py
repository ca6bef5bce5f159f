"""Score pose and joints of held-out views: the pooled hypotheses, and the regression head beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from art_perception.geometry.rotations import rotation_angle
from art_perception.models.pool import pooled
from art_perception.models.pose_diffusion import (
    ObjectState,
    PoseNetwork,
    SamplerConfig,
    regress_states,
    sample_states,
)
from art_perception.types import ShapeBatch, ViewBatch

Example = tuple[ObjectState, ShapeBatch, ViewBatch]


def validate_pose(model: PoseNetwork, examples: Sequence[Example], sampler: SamplerConfig) -> dict[str, float]:
    """Mean scores of the pooled hypotheses; of the regression head with ``regression_`` before their names.

    Returns:
        Rotation in degrees (mean and median), translation in % of the diagonal, size in %, joint state in degrees
        (revolute) and in % of its range (all), axis in degrees, axis position in % of the diagonal: the distance of
        the estimated location from the true line.
    """
    generator = torch.Generator(device=examples[0][2].points.device).manual_seed(0)
    diffused, regressed = [], []
    for true, shapes, views in examples:
        drawn, numbers = sample_states(model, views.points, shapes.category, sampler, generator)
        diffused.append(errors(pooled(drawn, numbers)[0], true, shapes))
        regressed.append(errors(regress_states(model, views.points, shapes.category), true, shapes))
    ablation = {f"regression_{name}": value for name, value in summary(regressed).items()}
    return summary(diffused) | ablation


def errors(state: ObjectState, true: ObjectState, shapes: ShapeBatch) -> dict[str, Tensor]:
    """Errors of states (B,): one row per object, or per joint that is there."""
    there = shapes.present[:, 1:]
    turns = there & shapes.revolute[:, None]
    cosine = (state.direction * shapes.axis).sum(-1)
    sine = torch.linalg.cross(state.direction, shapes.axis).norm(dim=-1)
    off = torch.linalg.cross(state.location - shapes.origin, shapes.axis).norm(dim=-1)
    amount = (state.amount - true.amount).abs()
    return {
        "rotation": torch.rad2deg(rotation_angle(state.R, true.R)),
        "translation": 100 * (state.t - true.t).norm(dim=-1) / true.size,
        "size": 100 * (state.size / true.size - 1).abs(),
        "state_deg": torch.rad2deg(amount[turns]),
        "state": 100 * (amount / shapes.upper.clamp(min=1e-3))[there],
        "axis": torch.rad2deg(torch.atan2(sine, cosine))[there],
        "position": 100 * off[turns],
    }


def summary(rows: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Means of all errors, and the median rotation."""
    merged = {name: torch.cat([row[name] for row in rows]).cpu().numpy() for name in rows[0]}
    means = {name: float(np.mean(values)) for name, values in merged.items()}
    return means | {"rotation_median": float(np.median(merged["rotation"]))}
