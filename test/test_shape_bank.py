"""The bank of shapes: what is sampled of every object, its subsets, and the file it is packed in."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shape_tools import COARSE, box_sdf, slabs, small_bank

from art_perception.data.categories import NAMES, samples_of
from art_perception.data.model import EMPTY_SURFACE
from art_perception.data.objects import make_object
from art_perception.data.shape_bank import (
    QUANTUM,
    ShapeBank,
    ShapeBankConfig,
    load_shape_bank,
    make_shape_bank,
    save_shape_bank,
    shapes_of,
)
from art_perception.errors import ObjectError
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import transform


def check_equal(a: ShapeBank, b: ShapeBank) -> None:
    for f in fields(ShapeBank):
        np.testing.assert_array_equal(getattr(a, f.name), getattr(b, f.name), f.name)


def test_points_and_distances_are_those_of_each_part():
    bank = small_bank()
    (sample,) = samples_of(slabs(), "procedural")
    assert bank.names[0] == sample.name
    for k, part in enumerate(sample.parts):
        low, high = part.vertices.min(0), part.vertices.max(0)
        points = bank.points[0][bank.part[0] == k] * QUANTUM
        assert len(points) > 500
        assert np.abs(box_sdf(points, low, high)).max() < 2 * QUANTUM
        assert (box_sdf(points + bank.normals[0][bank.part[0] == k] / 127 * 0.01, low, high) > 0.005).all()
        places = bank.queries[bank.first[0] + k] * QUANTUM
        error = np.abs(bank.sdf[bank.first[0] + k] - box_sdf(places, low, high))
        assert error.max() < 1e-3
        assert error[np.abs(box_sdf(places, low, high)) < 0.02].max() < 3e-5


def test_joints_are_kept_and_absent_ones_are_zero():
    bank = small_bank()
    assert [NAMES[c] for c in bank.category] == ["laptop", "eyeglasses", "drawer"]
    assert bank.parts.tolist() == [2, 3, 2]
    assert bank.revolute.tolist() == [True, True, False]
    for i, obj in enumerate((slabs(), make_object("eyeglasses", 1))):
        (sample,) = samples_of(obj, "procedural")
        np.testing.assert_allclose(bank.twists[i, : len(sample.axis)], sample.twists, atol=1e-6)
    assert not bank.twists[0, 1].any()
    np.testing.assert_allclose(bank.twists[2, 0], [1, 0, 0, 0, 0, 0], atol=1e-6)


def test_subset_and_sources():
    bank = small_bank()
    part = bank.subset([2, 1])
    assert part.names.tolist() == [bank.names[2], bank.names[1]]
    assert part.first.tolist() == [0, 2, 5]
    np.testing.assert_array_equal(part.queries[2:], bank.queries[bank.first[1] : bank.first[2]])
    assert bank.from_sources(["infinigen"]).names.tolist() == [bank.names[1]]
    with pytest.raises(ObjectError, match="no object of partnet"):
        bank.from_sources(["partnet"])


def test_mirror_images_are_the_bank_of_mirrored_objects():
    """Distances, joints and points of an image are those of the original at the mirrored place and the same state."""
    bank, image = small_bank(), small_bank().mirrored()
    check_equal(image.mirrored(), replace(bank, names=np.char.add(bank.names, "_mirrored_mirrored")))
    flip = np.array([1, -1, 1])
    other = [[0, 1, 2], [0, 2, 1], [0, 1, 2]]
    for i in range(len(bank.names)):
        for k in range(bank.parts[i]):
            row, mine = bank.first[i] + k, image.first[i] + other[i][k]
            np.testing.assert_array_equal(image.queries[mine], bank.queries[row] * flip)
            np.testing.assert_array_equal(image.sdf[mine], bank.sdf[row])
        q = np.array([0.3, 0.2], np.float32)
        D = placed(torch.tensor(bank.twists[i]), torch.tensor(q)).numpy()
        E = placed(torch.tensor(image.twists[i]), torch.tensor(q[[0, 1] if i != 1 else [1, 0]])).numpy()
        for k in range(bank.parts[i]):
            x = transform(D[k], bank.points[i][bank.part[i] == k] * QUANTUM)
            y = transform(E[other[i][k]], image.points[i][image.part[i] == other[i][k]] * QUANTUM)
            np.testing.assert_allclose(y, x * flip, atol=1e-5)
    assert (np.diff(image.origin[1, :, 1]) > 0).all(), "legs from right to left"


def test_handed_samples_get_a_mirror_image():
    objects = [("procedural", slabs()), ("infinigen", make_object("scissors", 0))]
    config = ShapeBankConfig(points=200, queries=100)
    bank = make_shape_bank(shapes_of(objects, config), config, COARSE)
    both = bank.with_mirror_images()
    assert both.names.tolist() == [*bank.names, f"{bank.names[0]}_mirrored"]
    check_equal(both.subset([0, 1]), bank)
    check_equal(both.subset([2]), bank.subset([0]).mirrored())
    check_equal(bank.subset([1]).with_mirror_images(), bank.subset([1]))


def test_round_trip_and_bad_files(tmp_path: Path):
    path = tmp_path / "bank.npz"
    save_shape_bank(path, small_bank())
    check_equal(load_shape_bank(path), small_bank())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ObjectError, match="delete it"):
        load_shape_bank(path)
    with pytest.raises(ObjectError, match="does not exist"):
        load_shape_bank(tmp_path / "none.npz")


def test_an_object_is_sampled_the_same_way_in_any_company():
    config = ShapeBankConfig(points=200, queries=100)
    named = [(source, obj) for source, obj in (("procedural", slabs()), ("infinigen", make_object("scissors", 0)))]
    both = make_shape_bank(shapes_of(named, config), config, COARSE)
    alone = make_shape_bank(shapes_of(named[1:], config), config, COARSE)
    check_equal(both.subset([1]), alone)


def test_at_most_so_many_joints_of_an_object():
    cabinet = make_object("cabinet", 11)
    for most in (1, 2):
        found = list(shapes_of([("procedural", cabinet)], ShapeBankConfig(per_object=most)))
        categories = [s.category for _, s in found]
        assert max(map(categories.count, categories)) == most


def test_broken_parts_are_left_out(caplog):
    config = ShapeBankConfig(points=100, queries=50)
    (good,) = samples_of(slabs(), "procedural")
    bad = replace(good, name="bad", parts=(good.parts[0], EMPTY_SURFACE))
    bank = make_shape_bank([("procedural", bad), ("procedural", good)], config, COARSE)
    assert bank.names.tolist() == [good.name]
    assert "bad is left out" in caplog.text
    with pytest.raises(ObjectError, match="none of the objects"):
        make_shape_bank([], config, COARSE)
