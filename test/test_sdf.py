"""Inside and outside of surfaces that are closed, overlapping, open or paper-thin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shape_tools import box_sdf, corners, in_boxes

from art_perception.data.categories import samples_of
from art_perception.data.model import EMPTY_SURFACE, Surface, merge
from art_perception.data.objects import make_object
from art_perception.data.sdf import SdfConfig, Solid, solid_of
from art_perception.data.shapes import box
from art_perception.errors import ObjectError

LOW, HIGH = np.array([-0.4, -0.2, -0.05]), np.array([0.4, 0.2, 0.05])


def queries(solid: Solid, sigma: float, seed: int = 0) -> np.ndarray:
    """Places around a body and, one in four, anywhere."""
    rng = np.random.default_rng(seed)
    near = solid.points[rng.integers(0, len(solid.points), 3000)] + rng.normal(0, sigma, (3000, 3))
    return np.concatenate([near, rng.uniform(-0.7, 0.7, (1000, 3))]).astype(np.float32)


def solid(surface: Surface, config: SdfConfig | None = None) -> Solid:
    return solid_of(surface, 2000, config or SdfConfig(), np.random.default_rng(0))


def test_distance_to_a_box_is_exact():
    body = solid(box(tuple(LOW), tuple(HIGH)))
    points = queries(body, 0.02)
    np.testing.assert_allclose(body.signed_distance(points), box_sdf(points, LOW, HIGH), atol=1e-6)


def test_sign_of_objects_of_many_boxes():
    """At least 99 % of the places a thousandth of the diagonal away from the surface are on the right side."""
    agree = []
    for category, seed in (("laptop", 0), ("box", 0), ("drawer_table", 1), ("fridge", 1), ("cabinet", 1)):
        for part in samples_of(make_object(category, seed), "procedural")[0].parts:
            low, high = corners(part)
            if len(low):  # round handles are not boxes
                body = solid(part)
                points = queries(body, 0.01)
                distance = body.signed_distance(points)
                judged = np.abs(distance) > 0.001
                right = (distance[judged] < 0) == in_boxes(points[judged], low, high)
                agree.append(right.mean())
    assert len(agree) >= 6
    assert min(agree) > 0.99


def test_faces_may_look_either_way():
    shape = box(tuple(LOW), tuple(HIGH))
    flipped = shape.faces.copy()
    flipped[::2] = flipped[::2, ::-1]
    body = solid(replace(shape, faces=flipped))
    points = queries(body, 0.02)
    np.testing.assert_allclose(body.signed_distance(points), box_sdf(points, LOW, HIGH), atol=1e-6)
    outwards = body.points + 1e-3 * body.normals
    assert (box_sdf(outwards, LOW, HIGH) > 0).all()


def test_a_sheet_becomes_a_plate():
    square = np.array([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0.3, 0.3, 0], [-0.3, 0.3, 0]])
    sheet = Surface(square, np.array([[0, 1, 2], [0, 2, 3]]), np.zeros(2, np.int64))
    half = SdfConfig().half_sheet
    body = solid(sheet)
    points = np.array([[0.1, 0.05, z] for z in (-0.05, -1.5 * half, -0.5 * half, 0.0, 0.5 * half, 0.05)], np.float32)
    np.testing.assert_allclose(body.signed_distance(points), np.abs(points[:, 2]) - half, atol=1e-6)
    np.testing.assert_allclose(np.abs(body.points[:, 2]), half, atol=1e-9)
    assert 0.3 < (body.normals[:, 2] > 0).mean() < 0.7


def test_a_tub_with_a_hole_in_its_side_is_hollow_and_a_sealed_one_is_solid():
    walls = [
        box((-0.3, -0.3, -0.3), (0.3, 0.3, -0.26)), box((-0.3, -0.3, 0.26), (0.3, 0.3, 0.3)),
        box((-0.3, -0.3, -0.26), (-0.26, 0.3, 0.26)), box((0.26, -0.3, -0.26), (0.3, 0.3, 0.26)),
        box((-0.26, -0.3, -0.26), (0.26, -0.26, 0.26)), box((-0.26, 0.26, -0.26), (0.26, 0.3, 0.26)),
    ]  # fmt: skip

    def middle(pieces: list[Surface]) -> float:
        return float(solid(merge(pieces)).signed_distance(np.zeros((1, 3), np.float32))[0])

    assert middle(walls[:-1]) == pytest.approx(0.26, abs=1e-3)
    assert middle(walls) == pytest.approx(-0.3, abs=1e-3), "a cavity no air reaches is filled, its walls forgotten"


def test_a_part_without_surface_is_refused():
    with pytest.raises(ObjectError, match="no surface"):
        solid(EMPTY_SURFACE)
