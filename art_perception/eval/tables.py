"""Many clip scores as summary numbers, tables and rows for a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from art_perception.eval.scoring import ClipScore, JointScore

Summary = dict[str, float]

COLUMNS = {
    "clips": "clips",
    "crashed": "no result",
    "success": "success %",
    "clip_success": "all joints %",
    "type": "type %",
    "count": "count %",
    "miou": "mIoU",
    "axis_deg": "axis deg",
    "position_cm": "axis cm",
    "state_deg": "state deg",
    "state_cm": "state cm",
    "seconds": "s / clip",
    "memory_mb": "peak MB",
}
"""Table columns: key of the number in a summary -> heading."""


def summarise(scores: Sequence[ClipScore]) -> Summary:
    """Reduce clip scores to numbers, failures included.

    Returns:
        ``clips``, ``crashed``, ``joints``; percentages ``success`` and ``type`` over expected joints, ``clip_success``
        and ``count`` over clips, ``valid`` (joints called valid) and ``valid_success`` (how many of those are right);
        ``spurious`` joints per clip; mean, ``_std`` and ``_median`` of ``miou``, ``axis_deg``, ``position_cm``,
        ``line_cm``, ``state_deg``, ``state_cm`` and ``seconds``; ``seconds.<stage>`` means; ``memory_mb`` maximum.
        Quantities without a single value are left out.
    """
    joints = [j for s in scores for j in s.joints]
    valid = [j.success for j in joints if j.valid]
    out = {
        "clips": float(len(scores)),
        "crashed": float(sum(s.error is not None for s in scores)),
        "joints": float(len(joints)),
        **_percent("success", [j.success for j in joints]),
        **_percent("type", [j.type_correct for j in joints]),
        **_percent("clip_success", [s.success for s in scores]),
        **_percent("count", [s.count_correct for s in scores]),
        **_percent("valid", [j.valid for j in joints]),
        **_percent("valid_success", valid),
    }
    for name, values in _spread_quantities(scores, joints).items():
        out.update(_spread(name, values))
    if scores:
        out["spurious"] = float(np.mean([s.spurious for s in scores]))
        out["memory_mb"] = max(s.peak_memory_mb for s in scores)
    return out | _stage_seconds(scores)


def by_category(scores: Sequence[ClipScore]) -> dict[str, Summary]:
    """One summary per category, in alphabetical order."""
    return {c: summarise([s for s in scores if s.category == c]) for c in sorted({s.category for s in scores})}


def flat_rows(scores: Iterable[ClipScore]) -> list[dict[str, Any]]:
    """One flat dictionary per expected joint, for a CSV file; a clip in which nothing was expected gives one row."""
    rows: list[dict[str, Any]] = []
    for score in scores:
        clip = {"clip": score.clip, "category": score.category, "miou": score.miou}
        clip |= {"predicted_joints": score.predicted_joints, "expected_joints": len(score.joints)}
        clip |= {"seconds": score.seconds.get("total"), "peak_memory_mb": score.peak_memory_mb, "error": score.error}
        rows += [clip | asdict(j) | {"success": j.success} for j in score.joints] or [clip]
    return rows


def markdown_table(rows: Mapping[str, Summary], first: str = "", columns: Mapping[str, str] = COLUMNS) -> str:
    """GitHub table with one line per summary, its name in the first column headed ``first``."""
    lines = [[name, *(_cell(summary, key) for key in columns)] for name, summary in rows.items()]
    return markdown_lines([[first, *columns.values()], *lines])


def markdown_lines(lines: Sequence[Sequence[str]]) -> str:
    """GitHub table of cells, the first line being its head."""
    head, *body = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body]) + "\n"


def terminal_table(rows: Mapping[str, Summary], first: str = "", columns: Mapping[str, str] = COLUMNS) -> str:
    """Aligned plain-text table with one line per summary."""
    lines = [[first, *columns.values()]]
    lines += [[name, *(_cell(summary, key) for key in columns)] for name, summary in rows.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]]) + "\n"


def clip_lines(scores: Iterable[ClipScore]) -> str:
    """One line per joint for a terminal: what was true, what was found, how far off."""
    return "".join(_joint_line(s, j) for s in scores for j in s.joints)


def _joint_line(score: ClipScore, joint: JointScore) -> str:
    unit = "deg" if joint.type == "revolute" else "cm"
    mark = "ok  " if joint.success else "MISS"
    if not joint.found:
        return f"{mark} {score.clip}: {joint.name} ({joint.type}, moved {joint.motion:.1f} {unit}) was not found\n"
    position = "" if joint.position_cm is None else f", position {joint.position_cm:.2f} cm"
    kind = joint.type if joint.type_correct else f"not recognised as {joint.type}"
    return (
        f"{mark} {score.clip}: {joint.name} {kind}, axis {joint.axis_deg:.2f} deg{position}, "
        f"state {joint.state:.2f} {unit} of {joint.motion:.1f} {unit}\n"
    )


def _percent(name: str, flags: Sequence[bool]) -> Summary:
    return {name: 100.0 * float(np.mean(flags))} if flags else {}


def _spread(name: str, values: Sequence[float]) -> Summary:
    if not values:
        return {}
    mean, std, median = (float(f(values)) for f in (np.mean, np.std, np.median))
    return {name: mean, f"{name}_std": std, f"{name}_median": median}


def _spread_quantities(scores: Sequence[ClipScore], joints: Sequence[JointScore]) -> dict[str, list[float]]:
    return {
        "miou": [s.miou for s in scores],
        "axis_deg": [j.axis_deg for j in joints],
        "position_cm": [j.position_cm for j in joints if j.position_cm is not None],
        "line_cm": [j.line_cm for j in joints if j.line_cm is not None],
        "state_deg": [j.state for j in joints if j.type == "revolute"],
        "state_cm": [j.state for j in joints if j.type == "prismatic"],
        "seconds": [s.seconds["total"] for s in scores if "total" in s.seconds],
    }


def _stage_seconds(scores: Sequence[ClipScore]) -> Summary:
    stages = dict.fromkeys(stage for s in scores for stage in s.seconds if stage != "total")
    return {f"seconds.{k}": float(np.mean([s.seconds[k] for s in scores if k in s.seconds])) for k in stages}


def _cell(summary: Summary, key: str) -> str:
    if key not in summary:
        return "-"
    if f"{key}_std" not in summary:
        return f"{summary[key]:.0f}"
    digits = 1 if key == "seconds" else 2
    mean, std, median = (f"{summary[k]:.{digits}f}" for k in (key, f"{key}_std", f"{key}_median"))
    return f"{mean} ± {std} ({median})"
