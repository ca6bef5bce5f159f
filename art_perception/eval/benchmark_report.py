"""The accuracy section of docs/benchmarks.md, from stored scores alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from art_perception.eval.calibration import calibration_table, reliability, sure_line
from art_perception.eval.protocol import ROWS, Seeds, by_title, category_table, score_table, target_table
from art_perception.eval.scoring import ClipScore
from art_perception.eval.tables import summarise

CALIBRATION_PLOT = "images/calibration.png"
"""Where the picture lies, seen from the document."""
_PROTOCOL = (
    "Numbers are means over categories, medians are over all joints, ± is the standard deviation over the repetitions. "
    "A joint that was not found counts 90 deg, 100 cm and as one that never moves; so does one of the wrong type in "
    "position and motion; a clip without result is in every number. Success: type right, axis < 5 deg, position < 5 cm."
)


def accuracy_section(header: str, rows: Mapping[str, Seeds], skipped: Sequence[str]) -> str:
    """Every table of the section.

    Args:
        header: title and what was measured on what.
        rows: scores by the name of their row.
        skipped: why clips could not be measured at all.
    """
    parts = [
        header,
        _PROTOCOL,
        f"### Against the targets\n\n{target_table(rows)}",
        f"### All methods\n\n{score_table(by_title(ROWS, rows), 'clips')}",
        *([_skipped_line(skipped)] if skipped else []),
    ]
    for name in ("mask", "network"):
        if name in rows:
            parts.append(f"### Per category: {ROWS[name].title}\n\n{category_table(rows[name])}")
    ours = {name: rows[name] for name in rows if ROWS[name].method == "ours"}
    parts += ["\n".join(f"- {ROWS[name].title}: {ours_line(flat(seeds))}." for name, seeds in ours.items())]
    everything = together(ours)
    if everything:
        parts += [
            "### Calibration",
            f"Joints reported by ours in all clips, with and without mask. {sure_line(everything)}",
            calibration_table(reliability(everything)),
            f"![Share of right joints over their confidence]({CALIBRATION_PLOT})",
        ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def flat(seeds: Seeds) -> list[ClipScore]:
    """Scores of all repetitions."""
    return [score for scores in seeds.values() for score in scores]


def together(rows: Mapping[str, Seeds]) -> list[ClipScore]:
    """Scores of several rows together."""
    return [score for seeds in rows.values() for score in flat(seeds)]


def ours_line(scores: Sequence[ClipScore]) -> str:
    """What the estimator knows about itself, who proposed its joints, and what they cost."""
    summary = summarise(scores)
    joints = [j for s in scores for j in s.joints]
    rate = 100 * float(np.mean([j.success for j in joints]))
    text = [f"{rate:.0f} % of {len(joints)} joints right, {summary['valid']:.0f} % called valid"]
    if "valid_success" in summary:
        text.append(f"{summary['valid_success']:.0f} % of those right")
    text.append(f"{summary['spurious']:.2f} joints per clip too many")
    sources = Counter(j.proposed_by for j in joints if j.found and j.proposed_by)
    if sources:
        shares = (f"{name} {100 * n / sources.total():.0f} %" for name, n in sources.most_common())
        text.append(f"proposed by {', '.join(shares)}")
    stages = ", ".join(f"{k.split('.')[1]} {v:.1f}" for k, v in summary.items() if k.startswith("seconds."))
    if stages:
        text.append(f"seconds per stage (mean): {stages}")
    return "; ".join([*text, f"peak memory {summary['memory_mb']:.0f} MB"])


def _skipped_line(skipped: Sequence[str]) -> str:
    why = Counter(text.split(" has ")[-1] for text in skipped)
    return f"{len(skipped)} clips were not measured: {'; '.join(f'{n} x {text}' for text, n in why.items())}."
