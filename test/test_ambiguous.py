"""What either reading explains goes with what it continues, across edges but not across creases."""

from __future__ import annotations

import numpy as np

from art_perception.estimation.ambiguous import _harmonic, continued

SIZE = 0.01


def sheet(low: tuple[float, float], high: tuple[float, float], axes: tuple[int, int], at: np.ndarray) -> np.ndarray:
    """Points of a rectangle, five to a cell."""
    rng = np.random.default_rng(0)
    count = int(5 * (high[0] - low[0]) * (high[1] - low[1]) / SIZE**2)
    points = np.tile(at, (count, 1)).astype(float)
    points[:, list(axes)] = rng.uniform(low, high, (count, 2))
    return points


def facing(points: np.ndarray, normal: tuple[float, float, float]) -> np.ndarray:
    return np.tile(normal, (len(points), 1))


def test_a_plain_inside_goes_with_its_moving_rim():
    points = sheet((0, 0), (0.3, 0.2), (0, 1), np.zeros(3))
    rim = (np.abs(points[:, 0] - 0.15) > 0.12) | (np.abs(points[:, 1] - 0.1) > 0.07)
    none = np.zeros(len(points), bool)
    normals = facing(points, (0, 0, 1))
    np.testing.assert_array_equal(continued(points, normals, rim, none, ~rim, SIZE), ~rim)
    np.testing.assert_array_equal(continued(points, normals, none, rim, ~rim, SIZE), none)


def test_between_both_the_nearer_wins():
    points = sheet((0, 0), (0.3, 0.05), (0, 1), np.zeros(3))
    moves, stands = points[:, 0] < 0.05, points[:, 0] > 0.25
    found = continued(points, facing(points, (0, 0, 1)), moves, stands, ~moves & ~stands, SIZE)
    assert not (found & (moves | stands)).any()
    middle = points[found | moves, 0].max()
    assert abs(middle - 0.15) < 0.02


def test_a_knob_keeps_its_side_and_the_panel_its_face():
    """A box on a board: its top surely moves, the board's far end surely stands, side and board are open."""
    top = sheet((0, 0), (0.06, 0.06), (0, 1), np.array([0, 0, 0.06]))
    side = sheet((0, 0), (0.06, 0.06), (1, 2), np.array([0.06, 0, 0]))
    board = sheet((0.06, 0), (0.26, 0.06), (0, 1), np.zeros(3))
    points = np.concatenate([top, side, board])
    normals = np.concatenate([facing(top, (0, 0, 1)), facing(side, (1, 0, 0)), facing(board, (0, 0, 1))])
    of = np.repeat([0, 1, 2], [len(top), len(side), len(board)])
    stands = (of == 2) & (points[:, 0] > 0.24)
    found = continued(points, normals, of == 0, stands, (of > 0) & ~stands, SIZE)
    assert found[of == 1].mean() > 0.9
    assert found[of == 2].mean() < 0.15


def test_the_harmonic_function_is_the_mean_of_its_neighbours():
    rng = np.random.default_rng(1)
    pairs = np.unique(np.sort(rng.integers(0, 30, (90, 2)), 1), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    weight = rng.uniform(0.1, 1, len(pairs))
    known = np.full(30, np.nan)
    known[:5], known[5:10] = 1, 0
    value = _harmonic(known, pairs, weight)
    W = np.zeros((30, 30))
    W[pairs[:, 0], pairs[:, 1]] = weight
    W += W.T
    linked = (W.sum(1) > 0) & np.isnan(known)
    mean = W[linked] @ value / W[linked].sum(1)
    np.testing.assert_allclose(value[linked], mean, atol=5e-3)
    assert value.min() >= 0
    assert value.max() <= 1
