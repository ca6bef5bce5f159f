"""Cells by table are the cells by sorting."""

import numpy as np
import pytest

from art_perception.geometry import cells


@pytest.mark.parametrize("table", [0, 1 << 25])
def test_cells_are_those_that_sorting_finds(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_TABLE", table)
    points = np.random.default_rng(0).normal(size=(3000, 3)) * [1.0, 0.2, 30.0]
    used, index = cells.occupied_cells(points, 0.25)
    expected, inverse = np.unique(np.floor(points / 0.25).astype(int), axis=0, return_inverse=True)
    assert np.array_equal(used, expected)
    assert np.array_equal(index, inverse.reshape(-1))


def test_no_points_hold_no_cells() -> None:
    used, index = cells.occupied_cells(np.zeros((0, 3)), 0.1)
    assert used.shape == (0, 3)
    assert index.shape == (0,)
