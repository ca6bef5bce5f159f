"""The tables of the completion benchmark, from stored scores alone.

A number is the mean over the views of a category, then over the categories; ± is the standard deviation over the
repetitions, which see the objects from elsewhere and at other joint values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from art_perception.eval.protocol import Spread
from art_perception.eval.tables import markdown_lines

LEVELS = {"0-40 %": (0.0, 0.4), "40-80 %": (0.4, 0.8), "80-100 %": (0.8, 1.01)}
"""Shares hidden, by the paper's bounds."""


@dataclass(frozen=True, slots=True)
class Published:
    """A category's line in the paper's Tables 1 and 2 (ArtImage).

    Attributes:
        now, novel: CD-w of reconstruction and of novel states; in which unit and frame is not said.
        rotation, axis: degrees.
        translation_m: metres.
        state: with its unit.
    """

    now: float
    novel: float
    rotation: float
    translation_m: float
    state: str
    axis: float


PAPER = {
    "laptop": Published(1.81, 2.36, 3.9, 0.042, "3.2 deg", 0.9),
    "eyeglasses": Published(6.90, 8.71, 4.6, 0.077, "4.9 deg", 1.8),
    "dishwasher": Published(6.31, 6.72, 3.3, 0.052, "2.3 deg", 1.7),
    "scissors": Published(8.68, 10.61, 3.8, 0.022, "2.5 deg", 0.5),
    "drawer": Published(5.42, 6.77, 2.8, 0.072, "0.57 m", 1.7),
}
_GOALS = {"state_deg": "<= 3", "state": "<= 5", "axis": "<= 2", "position": "<= 3"}
_SHAPE = {"w": "CD-w", "s": "CD-s", "m": "CD-m", "w_sq": "CD-w, squared"}
_POSE = {
    "rotation": "rotation deg",
    "rotation_median": "median",
    "rotation_up_to_symmetry": "up to symmetry",
    "symmetric": "symmetric %",
    "turned": "turned %",
    "translation_cm": "translation cm",
    "translation": "translation %",
    "size": "size %",
}
_JOINT = {
    "state_deg": "state deg",
    "state_cm": "state cm",
    "state": "state %",
    "axis": "axis deg",
    "position": "axis position %",
    "axis_camera": "axis deg, camera frame",
    "position_camera": "axis position %, camera frame",
}
_SHORT = {
    "now_w": "CD-w",
    "now_s": "CD-s",
    "now_m": "CD-m",
    "placed_w": "CD-w in place",
    "rotation": "rotation deg",
    "rotation_median": "median",
    "translation": "translation %",
    "state": "state %",
    "axis": "axis deg",
    "position": "axis position %",
}
_ROW_TITLES = {
    "regression": "regression head instead of pose diffusion",
    "true_pose": "true pose and joints, shape drawn",
    "pose_only": "pose and joints estimated, true latent",
    "true_latent": "true pose and joints, true latent",
    "floor": "samples of the truth",
}


_POSE_PAPER = {
    "paper's rotation deg": {name: f"{paper.rotation:.1f}" for name, paper in PAPER.items()},
    "paper's translation cm": {name: f"{100 * paper.translation_m:.1f}" for name, paper in PAPER.items()},
}
_JOINT_PAPER = {
    "paper's state": {name: paper.state for name, paper in PAPER.items()},
    "paper's axis deg": {name: f"{paper.axis:.1f}" for name, paper in PAPER.items()},
}


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Errors of one row on one view.

    Attributes:
        row: its name.
        category, object, source: what was seen.
        seed, view: repetition, and number of the view in it.
        hidden: share of the surface facing the camera that was not seen.
        numbers: the errors.
        error: why there is no result.
    """

    row: str
    category: str
    object: str
    source: str
    seed: int
    view: int
    hidden: float
    numbers: Mapping[str, float]
    error: str | None


def to_json(scored: Scored) -> str:
    """One line that :func:`from_json` reads back."""
    return json.dumps(asdict(scored))


def from_json(line: str) -> Scored:
    """Read a line written by :func:`to_json`."""
    return Scored(**json.loads(line))


def spreads(scores: Sequence[Scored]) -> dict[str, Spread]:
    """Every number over categories and repetitions, with ``rotation_median``, the median over all views."""
    each = [_over_categories([s for s in scores if s.seed == seed]) for seed in sorted({s.seed for s in scores})]
    keys = dict.fromkeys(key for numbers in each for key in numbers)
    values = {key: [numbers[key] for numbers in each if key in numbers] for key in keys}
    return {key: Spread(float(np.mean(v)), float(np.std(v)), len(v)) for key, v in values.items()}


def _over_categories(scores: Sequence[Scored]) -> dict[str, float]:
    categories = sorted({s.category for s in scores})
    each = [_means([s for s in scores if s.category == c]) for c in categories]
    keys = dict.fromkeys(key for numbers in each for key in numbers)
    out = {key: float(np.mean([numbers[key] for numbers in each if key in numbers])) for key in keys}
    turns = [s.numbers["rotation"] for s in scores if "rotation" in s.numbers]
    return out | ({"rotation_median": float(np.median(turns))} if turns else {})


def _means(scores: Sequence[Scored]) -> dict[str, float]:
    keys = dict.fromkeys(key for s in scores for key in s.numbers)
    return {key: float(np.mean([s.numbers[key] for s in scores if key in s.numbers])) for key in keys}


def section(header: str, scores: Sequence[Scored], rounds: Sequence[str], memory: Mapping[str, float]) -> str:
    """Every table of the section.

    Args:
        header: title and what was measured on what.
        scores: of all rows.
        rounds: rows of the completion itself, by rounds of refinement; the last one is the product.
        memory: peak memory in MB of such rows.
    """
    rows = {row: [s for s in scores if s.row == row] for row in dict.fromkeys(s.row for s in scores)}
    done = [row for row in rounds if row in rows]
    ours = rows[done[-1]] if done else []
    floors = rows.get("floor", [])
    tables = {
        "Reconstruction": lambda: _shape_table(ours, floors, "now"),
        "Novel states: the same shape at other joint values": lambda: _shape_table(ours, floors, "novel"),
        "Pose": lambda: by_category(ours, _POSE, _POSE_PAPER),
        "Joints": lambda: by_category(ours, _JOINT, _JOINT_PAPER) + _goal_line(_JOINT, len(_JOINT_PAPER)),
        "By what is hidden": lambda: table("hidden", at_levels(ours), _SHORT),
        "By source of the objects": lambda: table("source", by_source(ours), _SHORT),
        "By round of refinement": lambda: rounds_table({row: rows[row] for row in done}, memory),
    }
    parts = [header, _PROTOCOL]
    parts += [f"### {title}\n\n{make()}" for title, make in tables.items()] if ours else []
    parts.append(f"### Which stage loses what\n{_STAGES}\n{stage_table(rows, done)}")
    if "regression" in rows and done:
        pair = {"diffusion": rows[done[0]], "regression": rows["regression"]}
        parts.append(f"### Diffusion against regression\n\n{table('pose and joints by', pair, _SHORT)}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


_PROTOCOL = """
CD-w, CD-s and CD-m are Chamfer-L1 distances x 1000 of the whole, the static and the moving parts: mean of both
directions' mean distance between 30,000 samples of each surface (parts have their share of them), in diagonals of
the object at rest, in its own frame, so that shape and joint values count and the pose does not. *In place* is the
same in the camera's frame, pose and size included. *Squared* is the sum of both directions' mean squared distance,
which the published code of A-SDF, whose protocol the paper follows, computes; the paper's text says L1. Its unit is
not stated, nor is the frame: at unit diagonal and 30,000 samples, L1 distances below the *floor*, that between two
samples of the true surface, cannot occur, so its numbers are for orientation. A part that comes out empty counts as
a distance of one diagonal.

*Hidden* is the share of the surface facing the camera that it does not see, behind the object itself or an
obstacle. Rotations are compared as they are. Where a half-turn leaves the surface where it is (within 0.5 % of the
diagonal; *symmetric*), as with scissors turned over and laptops whose halves change roles, the geometry cannot tell
which half is the base, only which way up cameras usually see it; the error up to such half-turns stands beside.
*Turned*: wrong by more than 90 deg. Axes are signed, the sign says which way opens. Axis position is measured at the
moving part. A view without result counts 1000 in distances, 180 deg, 100 %, and in nothing else.
"""
_STAGES = """
CD-w per category; *in place* where the pose is not the true one. What the shape prior cannot say at all is in the
line of the true latent; what the latent diffusion adds, in the line of the true pose; what pose and joints add, in
the line of the estimated ones with the true latent.
"""


def by_category(
    scores: Sequence[Scored], columns: Mapping[str, str], beside: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> str:
    """GitHub table with one line per category and their mean.

    Args:
        scores: of one row.
        columns: key of a number -> heading.
        beside: further columns, heading -> category -> cell.
    """
    lines = [["category", "views", "no result", *columns.values(), *beside]]
    for name, own in _categories(scores).items():
        lines.append([name, *_counts(own), *_cells(own, columns), *(cells.get(name, "") for cells in beside.values())])
    return markdown_lines(lines)


def table(first: str, rows: Mapping[str, Sequence[Scored]], columns: Mapping[str, str]) -> str:
    """GitHub table with one line per entry of ``rows``, its name in the first column headed ``first``."""
    lines = [[first, "views", "no result", *columns.values()]]
    return markdown_lines([*lines, *([name, *_counts(own), *_cells(own, columns)] for name, own in rows.items())])


def by_source(scores: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Scores by where the objects come from."""
    return {name: [s for s in scores if s.source == name] for name in sorted({s.source for s in scores})}


def at_levels(scores: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Scores by the share of the object that is hidden."""
    return {name: [s for s in scores if low <= s.hidden < high] for name, (low, high) in LEVELS.items()}


def rounds_table(rows: Mapping[str, Sequence[Scored]], memory: Mapping[str, float]) -> str:
    """GitHub table with one line per round: errors, seconds in all and of the round alone, peak memory."""
    columns = {key: title for key, title in _SHORT.items() if key != "rotation_median"}
    lines = [["round", *columns.values(), "s / view", "s / round", "processor s / view", "peak MB"]]
    before = 0.0
    for k, (row, own) in enumerate(rows.items()):
        seconds, processor = (_mean(own, key) for key in ("seconds", "processor_seconds"))
        alone = f"{seconds - before:.2f}" if k else "-"
        peak = f"{memory[row]:.0f}" if row in memory else "-"
        lines.append(
            [row.removeprefix("round_"), *_cells(own, columns), f"{seconds:.2f}", alone, f"{processor:.2f}", peak]
        )
        before = seconds
    return markdown_lines(lines)


def _mean(scores: Sequence[Scored], key: str) -> float:
    """Mean over the views that have it, NaN for none."""
    values = [s.numbers[key] for s in scores if key in s.numbers]
    return float(np.mean(values)) if values else float("nan")


def stage_table(rows: Mapping[str, Sequence[Scored]], rounds: Sequence[str]) -> str:
    """GitHub table of CD-w with one line per row and one column per category."""
    names = list(dict.fromkeys(s.category for own in rows.values() for s in own))
    lines = [["", *names, "mean"]]
    for row, own in rows.items():
        title = _ROW_TITLES.get(row, f"ours, {row.replace('_', ' ')}")
        lines.append([title, *_across(own, names, "now_w")])
        if row in rounds or row in ("regression", "pose_only"):
            lines.append([f"{title}, in place", *_across(own, names, "placed_w")])
    return markdown_lines(lines)


def _across(scores: Sequence[Scored], categories: Sequence[str], key: str) -> list[str]:
    groups = [[s for s in scores if s.category == name] for name in categories]
    return [_cells(own, {key: key})[0] for own in [*groups, scores]]


def _shape_table(scores: Sequence[Scored], floors: Sequence[Scored], when: Literal["now", "novel"]) -> str:
    """Chamfer distances per category beside the floor and the paper's."""
    columns = {f"{when}_{key}": title for key, title in _SHAPE.items()}
    columns |= {"placed_w": "CD-w in place"} if when == "now" else {}
    least = {name: _cells(own, {f"{when}_w": ""})[0] for name, own in _categories(floors).items()}
    published = {name: f"{paper.now if when == 'now' else paper.novel:.2f}" for name, paper in PAPER.items()}
    return by_category(scores, columns, {"floor of CD-w": least, "paper's CD-w": published})


def _goal_line(columns: Mapping[str, str], beside: int) -> str:
    """Last line of a table: what has to be reached."""
    cells = ["goal", "", "", *(_GOALS.get(key, "") for key in columns), *[""] * beside]
    return "| " + " | ".join(cells) + " |\n"


def _categories(scores: Sequence[Scored]) -> dict[str, Sequence[Scored]]:
    names = dict.fromkeys(s.category for s in scores)
    return {name: [s for s in scores if s.category == name] for name in names} | {"mean": scores}


def _counts(scores: Sequence[Scored]) -> list[str]:
    return [str(len(scores)), str(sum(s.error is not None for s in scores))]


def _cells(scores: Sequence[Scored], columns: Mapping[str, str]) -> list[str]:
    found = spreads(scores)
    return [found[key].text(_digits(key)) if key in found else "-" for key in columns]


def _digits(key: str) -> int:
    if key in ("symmetric", "turned"):
        return 0
    return 3 if key.endswith("_sq") else 2
