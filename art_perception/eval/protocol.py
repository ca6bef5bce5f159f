"""The protocol of the accuracy benchmark: its rows, how scores become one number, and what has to be reached.

A number is the mean over categories, a median is over all joints; what follows the ± is the spread over repetitions
with other motions, cameras and noise. Failures are in every number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from art_perception.eval.scoring import ClipScore
from art_perception.eval.tables import Summary, by_category, markdown_lines, summarise

Seeds = Mapping[int, Sequence[ClipScore]]
"""Clip scores of every repetition."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured: which method, on which clips.

    Attributes:
        method: ``ours``, ``norefine`` (our proposals without refinement), ``network`` (the network alone),
            ``segmentation`` (ours without the network), ``oracle`` (true part masks) or ``featclust``.
        title: for the tables.
        moving: joints that move, 2 means two or three.
        masked: whether the object mask is given.
    """

    method: str
    title: str
    moving: int = 1
    masked: bool = True


ROWS = {
    "mask": Row("ours", "ours"),
    "norefine": Row("norefine", "ours without refinement"),
    "network": Row("network", "network only, one window"),
    "segmentation": Row("segmentation", "motion segmentation only"),
    "featclust": Row("featclust", "FeatClust, true part count"),
    "oracle": Row("oracle", "true part masks"),
    "multi": Row("ours", "ours, 2-3 joints", moving=2),
    "multi_network": Row("network", "network only, 2-3 joints", moving=2),
    "multi_segmentation": Row("segmentation", "motion segmentation only, 2-3 joints", moving=2),
    "multi_oracle": Row("oracle", "true part masks, 2-3 joints", moving=2),
    "nomask": Row("ours", "ours, no mask", masked=False),
}
"""Every row of the benchmark by the name its scores are stored under; one joint and a mask unless said."""

COLUMNS = {
    "miou": "mIoU",
    "axis_deg": "axis deg, mean",
    "axis_deg_median": "median",
    "position_cm": "axis cm, mean",
    "position_cm_median": "median",
    "state_deg": "part rotation deg",
    "state_cm": "part translation cm",
    "type": "type %",
    "success": "success %",
}
"""Quantities of a summary -> heading."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of a quantity over ``count`` repetitions."""

    mean: float
    std: float
    count: int

    def text(self, digits: int) -> str:
        """As in a table."""
        spread = f" ± {self.std:.{digits}f}" if self.count > 1 else ""
        return f"{self.mean:.{digits}f}{spread}"


def over_categories(scores: Sequence[ClipScore]) -> Summary:
    """Mean of every quantity over the categories that have it; medians are those over all joints."""
    each = by_category(scores).values()
    keys = dict.fromkeys(key for summary in each for key in summary)
    means = {key: float(np.mean([summary[key] for summary in each if key in summary])) for key in keys}
    return means | {key: value for key, value in summarise(scores).items() if key.endswith("_median")}


def over_seeds(seeds: Seeds) -> dict[str, Spread]:
    """Every quantity over the repetitions that have it."""
    each = [over_categories(scores) for scores in seeds.values() if scores]
    keys = dict.fromkeys(key for summary in each for key in summary)
    values = {key: [summary[key] for summary in each if key in summary] for key in keys}
    return {key: Spread(float(np.mean(v)), float(np.std(v)), len(v)) for key, v in values.items()}


def score_table(rows: Mapping[str, Seeds], first: str) -> str:
    """GitHub table with one line per entry of ``rows``, its name in the first column headed ``first``."""
    lines = [[first, "clips", "no result", *COLUMNS.values()]]
    return markdown_lines([*lines, *([name, *_counts(seeds), *_cells(seeds)] for name, seeds in rows.items())])


def category_table(seeds: Seeds) -> str:
    """GitHub table with one line per category and their mean."""
    names = sorted({s.category for scores in seeds.values() for s in scores})
    rows: dict[str, Seeds] = {
        name: {b: [s for s in scores if s.category == name] for b, scores in seeds.items()} for name in names
    }
    return score_table(rows | {"mean": seeds}, "category")


def _counts(seeds: Seeds) -> list[str]:
    scores = [s for own in seeds.values() for s in own]
    return [str(len(scores)), str(sum(s.error is not None for s in scores))]


def _cells(seeds: Seeds) -> list[str]:
    spreads = over_seeds(seeds)
    return [_cell(spreads, key) for key in COLUMNS]


def _cell(spreads: Mapping[str, Spread], key: str) -> str:
    digits = 0 if key in ("type", "success") else 2
    return spreads[key].text(digits) if key in spreads else "-"


@dataclass(frozen=True, slots=True)
class Target:
    """A line of the table of targets.

    Attributes:
        name: what is measured.
        key: of the quantity.
        network, ours: rows that answer it, without and with refinement.
        network_goal, ours_goal: what has to be reached, empty for nothing.
    """

    name: str
    key: str
    network_goal: str
    ours_goal: str
    network: str = "network"
    ours: str = "mask"


TARGETS = (
    Target("mIoU", "miou", ">= 0.80", ">= 0.89"),
    Target("axis angle, mean deg", "axis_deg", "6", "<= 2.5"),
    Target("axis angle, median deg", "axis_deg_median", "", "<= 0.8"),
    Target("axis position, mean cm", "position_cm", "7", "<= 3"),
    Target("axis position, median cm", "position_cm_median", "", "<= 1"),
    Target("part rotation deg", "state_deg", "5", "<= 2"),
    Target("part translation cm", "state_cm", "4", "<= 1"),
    Target("type accuracy %", "type", ">= 95", ">= 98"),
    Target("success, one joint %", "success", "", ">= 90"),
    Target("success, 2-3 joints %", "success", "", ">= 75", "multi_network", "multi"),
    Target("success, one joint, no mask %", "success", "", ">= 80", "", "nomask"),
)


def target_table(rows: Mapping[str, Seeds]) -> str:
    """GitHub table of what was measured beside what has to be reached."""
    spreads = {name: over_seeds(seeds) for name, seeds in rows.items()}
    lines = [["", "network only", "target", "with refinement", "target"]]
    for t in TARGETS:
        network, ours = (_cell(spreads.get(row, {}), t.key) for row in (t.network, t.ours))
        lines.append([t.name, network, t.network_goal, ours, t.ours_goal])
    return markdown_lines(lines)


def by_title(names: Iterable[str], measured: Mapping[str, Seeds]) -> dict[str, Seeds]:
    """The rows ``names`` that were measured, by title."""
    return {ROWS[name].title: measured[name] for name in names if name in measured}
