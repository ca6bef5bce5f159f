"""The learning curve: a file that survives a kill at any moment, and its picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from art_perception.train.curve import SIM2ART_PANELS, _round_up, append_row, draw_curve, drop_rows_after, read_rows


def example(step: int, loss: float = 3.0) -> dict[str, float]:
    return {
        "step": step,
        "windows": step * 12,
        "loss": loss,
        "miou": 0.5,
        "type": 60.0,
        "axis_median": 20.0,
        "position_median": float("nan"),
        "success": 30.0,
    }


def test_curve_file_round_trip(tmp_path: Path):
    path = tmp_path / "curve.csv"
    rows = [example(250), example(1_234_567, 2.0)]
    for row in rows:
        append_row(path, row)
    again = read_rows(path)
    assert [row["step"] for row in again] == [250, 1_234_567]
    assert again[1]["windows"] == 1_234_567 * 12
    assert np.isnan(again[0]["position_median"])


def test_the_first_row_fixes_the_columns(tmp_path: Path):
    """A run begun by an earlier version goes on with the columns it has."""
    path = tmp_path / "curve.csv"
    for row in (example(250), {"step": 500, "new": 1.0, **example(500)}):
        append_row(path, row)
    assert [list(row) for row in read_rows(path)] == [list(example(0))] * 2
    assert read_rows(path)[1]["windows"] == 500 * 12


@pytest.mark.parametrize("rest", ["", "3", "30,360", "30,360,2.9,"])
def test_rows_after_the_saved_state_are_forgotten(rest: str, tmp_path: Path):
    path = tmp_path / "curve.csv"
    for step in (10, 20, 30):
        append_row(path, example(step))
    path.write_text(path.read_text() + rest)
    drop_rows_after(path, 20)
    assert [row["step"] for row in read_rows(path)] == [10, 20]
    append_row(path, example(30))
    assert [row["step"] for row in read_rows(path)] == [10, 20, 30]
    drop_rows_after(path, 5)
    assert not path.exists()
    drop_rows_after(path, 5)


@pytest.mark.parametrize("header", ["", "step,win", "step,windows,loss\n"])
def test_a_curve_without_a_whole_row_is_none(header: str, tmp_path: Path):
    path = tmp_path / "curve.csv"
    path.write_text(header)
    drop_rows_after(path, 20)
    assert not path.exists()


def ink(image: np.ndarray) -> int:
    """Pixels of the curve's colour."""
    return int((np.abs(image.astype(int) - [180, 90, 20]).max(-1) < 40).sum())


def test_the_picture_shows_the_curve(tmp_path: Path):
    path = tmp_path / "curve.png"
    draw_curve([example(10)], path, "windows", SIM2ART_PANELS)
    one = cv2.imread(str(path))
    assert ink(one) > 50, "a first point is not shown"
    draw_curve([example(step, 3.0 / step) for step in range(1, 40)], path, "windows", SIM2ART_PANELS)
    many = cv2.imread(str(path))
    assert many.shape == one.shape
    assert ink(many) > 5 * ink(one)


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.3, 1.0, 1.01, 7.99, 10.0, 53.0, 99.9999, 1000.0000001])
def test_axes_end_at_round_numbers_just_above_the_curve(value: float):
    top = _round_up(value)
    assert value <= top <= max(2.5 * value, 1e-6)
    assert float(f"{top / 4:.2g}") == pytest.approx(top / 4)
