"""The learning curve: a CSV that grows as training goes, and its picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from art_perception.eval.chart import Chart

Panel = tuple[str, str, float | None]
"""Column, caption, upper end of the axis or None to fit it."""

SIM2ART_PANELS: tuple[Panel, ...] = (
    ("loss", "loss", None),
    ("miou", "parts, mean IoU", 1.0),
    ("type", "type right, %", 100.0),
    ("axis_median", "axis, median deg", None),
    ("position_median", "axis position, median cm", None),
    ("success", "type, 5 deg and 5 cm right, %", 100.0),
)
VAE_PANELS: tuple[Panel, ...] = (
    ("loss", "loss", None),
    ("sdf", "SDF error x 1000", None),
    ("miou", "parts, mean IoU", 1.0),
    ("state", "joint state, % of range", None),
    ("axis", "axis, mean deg", None),
    ("chamfer", "Chamfer x 1000", None),
)
POSE_PANELS: tuple[Panel, ...] = (
    ("loss_score", "loss of the score", None),
    ("rotation", "rotation, mean deg", None),
    ("translation", "translation, % of diagonal", None),
    ("state", "joint state, % of range", None),
    ("axis", "axis, mean deg", None),
    ("position", "axis position, % of diagonal", None),
)
LATENT_PANELS: tuple[Panel, ...] = (
    ("loss", "loss", None),
    ("chamfer", "Chamfer x 1000", None),
    ("chamfer_own", "Chamfer x 1000 to the prior's own", None),
)
_BLUE = (180, 90, 20)


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to the CSV; the first row fixes the columns, and what others a later one has is left out."""
    new = not path.exists()
    columns = list(row) if new else path.read_text(encoding="utf-8").partition("\n")[0].split(",")
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({name: value if isinstance(value, int) else f"{value:.6g}" for name, value in row.items()})


def read_rows(path: Path) -> list[dict[str, float]]:
    """Rows of the CSV."""
    with path.open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def drop_rows_after(path: Path, step: int) -> None:
    """Forget what a killed run wrote after its last saved state, half a line included."""
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    kept = [row for row in rows if row.endswith("\n") and int(row.partition(",")[0]) <= step]
    if not kept:
        path.unlink()
        return
    staging = path.with_suffix(".partial")
    staging.write_text(header + "".join(kept), encoding="utf-8")
    staging.replace(path)


def draw_curve(rows: Sequence[Mapping[str, float]], path: Path, seen: str, panels: Sequence[Panel]) -> None:
    """Draw columns of the curve over the samples ``seen`` (a column, and what they are called) as a PNG."""
    images = [_panel(rows, seen, *panel) for panel in panels]
    grid = np.concatenate([np.concatenate(images[i : i + 3], 1) for i in range(0, len(images), 3)])
    cv2.imwrite(str(path), grid)


def _panel(rows: Sequence[Mapping[str, float]], seen: str, name: str, caption: str, top: float | None) -> np.ndarray:
    x = np.array([row[seen] for row in rows])
    y = np.array([row[name] for row in rows])
    shown = np.isfinite(y)  # a validation without a revolute part has no pivot to score
    span = max(float(x.max()), 1.0)
    high = _round_up(float(y[shown].max(initial=0))) if top is None else top
    chart = Chart(f"{caption}: {y[-1]:.3g}", (0, span), (0, high), f"{span / 1000:.3g}k {seen}")
    if shown.any():
        chart.line(x[shown], y[shown], _BLUE, 2)
        chart.dot(x[shown][-1], y[shown][-1], _BLUE)
    return chart.image


def _round_up(value: float) -> float:
    """Upper end of an axis whose four steps are round numbers."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return power * next(m for m in (1, 2, 4, 8, 10) if m * power >= value)
