"""What other frames testify about a place, for planes whose answer can be derived by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from art_perception.geometry import witness
from art_perception.geometry.lie import exp_se3
from art_perception.geometry.witness import FREE, SURFACE, UNKNOWN, DepthGrid

SIDE, FOCAL = 21, 40.0
TOLERANCE = torch.tensor([0.005])
BEFORE_SEEN, BEFORE_THROUGH, AFTER_SEEN, AFTER_THROUGH = range(4)


def rays() -> Tensor:
    """(H, W, 3) with z = 1; the middle cell looks straight ahead."""
    along = (torch.arange(SIDE) - SIDE // 2) / FOCAL
    x, y = torch.meshgrid(along, along, indexing="xy")
    return torch.stack([x, y, torch.ones_like(x)], -1)


def plane_grid(depths: list[float], normal: tuple[float, ...] = (0.0, 0.0, -1.0), state: int = SURFACE) -> DepthGrid:
    """A camera that stands still before an endless plane that crosses its axis at the given depths."""
    n = torch.tensor(normal)
    distance = torch.tensor(depths)[:, None, None] * n[2] / (rays() @ n)
    points = (rays() * distance[..., None])[None]
    corner = torch.full((1, len(depths), 2), -(SIDE // 2) / FOCAL)
    return DepthGrid(
        points=points,
        normals=n.expand_as(points).contiguous(),
        state=torch.full(points.shape[:-1], state),
        focal=torch.full((1, len(depths), 2), FOCAL),
        corner=corner,
        T_camera_world=torch.eye(4).expand(1, len(depths), 4, 4).contiguous(),
    )


def ahead(depths: list[float]) -> Tensor:
    """One point (1, T, 1, 3) per frame on the optical axis."""
    return torch.tensor([[0.0, 0.0, z] for z in depths])[None, :, None]


def ask(grid: DepthGrid, points: Tensor) -> Tensor:
    return witness.testimony(grid, points, TOLERANCE)[0, :, 0]


def test_a_plane_that_moves_away():
    depths = [1.0, 1.2, 1.4, 1.6]
    # earlier frames had the plane before the place: nothing to say; later frames see through it
    expected = torch.zeros(4, 4)
    expected[:3, AFTER_THROUGH] = 1
    torch.testing.assert_close(ask(plane_grid(depths), ahead(depths)), expected)


def test_a_plane_that_comes_nearer():
    depths = [1.6, 1.4, 1.2, 1.0]
    expected = torch.zeros(4, 4)
    expected[1:, BEFORE_THROUGH] = 1
    torch.testing.assert_close(ask(plane_grid(depths), ahead(depths)), expected)


def test_what_stands_still_is_seen_by_all():
    expected = torch.zeros(4, 4)
    expected[1:, BEFORE_SEEN] = 1
    expected[:-1, AFTER_SEEN] = 1
    torch.testing.assert_close(ask(plane_grid([1.0] * 4), ahead([1.0] * 4)), expected)


def test_shares_are_of_the_frames_asked():
    depths = [1.0, 1.0, 1.3, 1.0, 1.3]
    # frame 3: of frames 0, 1, 2 two saw the plane there and one saw through; of frame 4 only, through
    torch.testing.assert_close(ask(plane_grid(depths), ahead(depths))[3], torch.tensor([2 / 3, 1 / 3, 0, 1]))


@pytest.mark.parametrize(("off", "seen"), [(0.0, 1.0), (0.9, 1.0), (1.1, 0.0)])
@pytest.mark.parametrize("side", [-1, 1])
def test_slack_is_the_tolerance_and_half_a_cell(off: float, seen: float, side: int):
    slack = float(TOLERANCE) + 0.5 * 1.0 / FOCAL
    answer = ask(plane_grid([1.0, 1.0]), ahead([1.0 + side * off * slack, 1.0]))[0]
    assert answer[AFTER_SEEN] == seen
    assert answer[AFTER_THROUGH] == (1 - seen) * (side < 0)


def test_on_a_slanted_plane_distance_counts_not_depth():
    normal = (0.8, 0.0, -0.6)
    grid = plane_grid([1.0, 1.0], normal)
    beside = rays()[10, 13] * 1.0 / (1 - 0.8 / 0.6 * 3 / FOCAL)  # on the plane, off the axis
    torch.testing.assert_close(ask(grid, beside.expand(1, 2, 1, 3))[0], torch.tensor([0.0, 0, 1, 0]))
    above = beside + 0.05 * torch.tensor(normal)
    assert ask(grid, above.expand(1, 2, 1, 3))[0, AFTER_THROUGH] == 1


def test_nothing_is_said_where_nothing_was_measured_or_looked():
    static = ahead([1.0, 1.0])
    assert not ask(plane_grid([1.0, 1.0], state=UNKNOWN), static).any()
    for place in ([2.0, 0.0, 1.0], [0.0, -2.0, 1.0], [0.0, 0.0, -1.0]):  # beside the image, above it, behind the camera
        assert not ask(plane_grid([1.0, 1.0]), torch.tensor(place).expand(1, 2, 1, 3)).any()


def test_free_cells_are_seen_through():
    torch.testing.assert_close(
        ask(plane_grid([1.0, 1.0], state=FREE), ahead([1.0, 1.0])), torch.tensor([[0.0, 0, 0, 1], [0, 1, 0, 0]])
    )


def test_the_frame_of_the_world_does_not_matter():
    depths = [1.6, 1.4, 1.0]
    grid, points = plane_grid(depths), ahead(depths)
    T = torch.tensor(exp_se3(torch.tensor([0.3, -1, 2, 0.5, 0.2, -0.4], dtype=torch.float64).numpy())).float()
    moved = DepthGrid(
        grid.points, grid.normals, grid.state, grid.focal, grid.corner, grid.T_camera_world @ torch.linalg.inv(T)
    )
    torch.testing.assert_close(ask(moved, points @ T[:3, :3].T + T[:3, 3]), ask(grid, points))


def test_each_window_is_judged_by_its_own_frames():
    away, nearer = [1.0, 1.2, 1.4], [1.4, 1.2, 1.0]
    grids = [plane_grid(away), plane_grid(nearer)]
    both = DepthGrid(*(torch.cat([getattr(g, name) for g in grids]) for name in DepthGrid.__slots__))
    points = torch.cat([ahead(away), ahead(nearer)])
    answer = witness.testimony(both, points, TOLERANCE.expand(2))[:, :, 0]
    torch.testing.assert_close(answer, torch.stack([ask(grids[0], points[:1]), ask(grids[1], points[1:])]))
