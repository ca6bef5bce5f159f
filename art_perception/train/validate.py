"""Score the network alone on rendered windows: parts, types, axes and motion, missed parts counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from art_perception.eval import metrics
from art_perception.models.decode import Proposal, decode
from art_perception.models.sim2art import Sim2Art
from art_perception.types import JointType, PointWindow, WindowTruth

Batch = tuple[PointWindow, WindowTruth]
_TYPES = (JointType.REVOLUTE, JointType.PRISMATIC)
_COLUMNS = ("found", "type", "axis", "position", "motion", "success", "revolute")


@torch.no_grad()
def validate(model: Sim2Art, batches: Sequence[Batch]) -> dict[str, float]:
    """Mean scores over windows and their true moving parts.

    Returns:
        mIoU of parts; over true parts: found %, type accuracy %, axis angle deg (mean, median; 90 when missed), axis
        position cm (mean, median), motion error (deg for revolute, cm for prismatic), success % (type, 5 deg, 5 cm).
    """
    model.eval()
    iou: list[float] = []
    rows: list[dict[str, float]] = []
    for window, truth in batches:
        output = model(window)
        for b in range(len(window.scale)):
            share, proposals = decode(output, window, b)
            part = share.argmax(-1)
            score, joints = _score(part.cpu().numpy(), proposals, window, truth, b)
            iou.append(score)
            rows += joints
    model.train()
    return {"miou": float(np.mean(iou)), **_summary(rows)}


def _score(
    part: np.ndarray, proposals: list[Proposal], window: PointWindow, truth: WindowTruth, b: int
) -> tuple[float, list[dict[str, float]]]:
    true = truth.part[b].cpu().numpy()
    ids = [0, *(k + 1 for k in range(truth.type.shape[1]) if truth.type[b, k] >= 0)]
    judged = true >= 0
    iou = metrics.iou_matrix(part[judged], true[judged], np.arange(len(proposals) + 1), np.array(ids))
    pairs = {ids[g + 1]: p for p, g in metrics.match(iou[1:, 1:])}
    present = np.isin(np.arange(len(proposals) + 1), part[judged])
    return metrics.mean_iou(iou[present]), [
        _joint(proposals[pairs[k]] if k in pairs else None, window, truth, b, k - 1) for k in ids[1:]
    ]


def _joint(proposal: Proposal | None, window: PointWindow, truth: WindowTruth, b: int, k: int) -> dict[str, float]:
    kind = _TYPES[int(truth.type[b, k])]
    scale, center = float(window.scale[b]), window.center[b].cpu().numpy()
    unit = 1.0 if kind is JointType.REVOLUTE else scale
    q = truth.amount[b, :, k].cpu().numpy() * unit
    if proposal is None or proposal.type is not kind:
        still = metrics.state_error(np.zeros_like(q), q, kind)
        row = {"found": float(proposal is not None), "type": 0.0, "axis": 90.0, "position": 100.0, "motion": still}
        return row | {"success": 0.0, "revolute": float(kind is JointType.REVOLUTE)}
    axis = metrics.axis_angle_deg(proposal.axis.cpu().numpy(), truth.axis[b, k].cpu().numpy())
    pivot = truth.pivot[b, k].cpu().numpy() * scale + center
    own = (truth.part[b] == k + 1).cpu().numpy()
    middle = window.points[b].cpu().numpy()[own].mean(0) * scale + center
    position = metrics.axis_position_cm(
        proposal.axis.cpu().numpy(), proposal.origin.cpu().numpy(), truth.axis[b, k].cpu().numpy(), pivot, middle
    )
    good = axis < 5 and (kind is JointType.PRISMATIC or position < 5)
    motion = metrics.state_error(proposal.q.cpu().numpy(), q, kind)
    row = {"found": 1.0, "type": 1.0, "axis": axis, "position": position, "motion": motion}
    return row | {"success": float(good), "revolute": float(kind is JointType.REVOLUTE)}


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    column = {name: np.array([row[name] for row in rows]) for name in _COLUMNS}
    revolute = column["revolute"] > 0
    return {
        "found": 100 * _average(np.mean, column["found"]),
        "type": 100 * _average(np.mean, column["type"]),
        "axis_mean": _average(np.mean, column["axis"]),
        "axis_median": _average(np.median, column["axis"]),
        "position_mean": _average(np.mean, column["position"][revolute]),
        "position_median": _average(np.median, column["position"][revolute]),
        "turn_deg": _average(np.mean, column["motion"][revolute]),
        "slide_cm": _average(np.mean, column["motion"][~revolute]),
        "success": 100 * _average(np.mean, column["success"]),
    }


def _average(kind: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float:
    """Mean or median; NaN for nothing to average."""
    return float(kind(values)) if len(values) else float("nan")
