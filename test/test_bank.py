"""The bank of objects: what is sampled, what is kept apart for measuring, and the file it is packed in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from window_tools import bank_of, chest, crate, locker

from art_perception.data import bank as bank_module
from art_perception.data.bank import HELD_OUT, POINTS, Bank, load_bank, make_bank, save_bank, training_objects
from art_perception.data.objects import CATEGORIES
from art_perception.errors import ObjectError
from art_perception.geometry.screw import twist_of_joint
from art_perception.types import JointType

JOINT_FIELDS = ("twists", "origin", "parents", "limits", "blocker", "observable", "size")


@pytest.fixture(scope="module")
def bank() -> Bank:
    return bank_of(chest(), locker(), crate())


def test_points_lie_on_the_surface_of_their_part(bank: Bank):
    for points, part, obj in zip(bank.points, bank.part, (chest(), locker(), crate()), strict=True):
        assert points.shape == (POINTS, 3)
        for k, surface in enumerate(obj.parts):
            corners = surface.vertices.reshape(-1, 8, 3)  # every part here is a sum of axis-aligned boxes
            low, high = corners.min(1)[:, None], corners.max(1)[:, None]
            own = points[part == k]
            outside = np.maximum(low - own, own - high).max(-1)  # 0 on a box's surface, negative inside
            assert len(own)
            assert np.abs(outside).min(0).max() < 1e-6


def test_normals_are_unit_and_of_the_face_the_point_is_on(bank: Bank):
    obj = crate()
    points, normals = bank.points[2].astype(float), bank.normals[2]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    corners = np.concatenate([p.vertices for p in obj.parts]).reshape(-1, 8, 3)
    faces = np.concatenate([corners.min(1), corners.max(1)])  # (2 boxes, 3): the planes that bound them
    axis = np.abs(normals).argmax(1)
    along = np.take_along_axis(points, axis[:, None], 1)
    assert np.abs(along - faces[:, axis].T).min(1).max() < 1e-6


def test_small_parts_keep_enough_points_to_have_a_shape(bank: Bank):
    for part, obj in zip(bank.part, (chest(), locker(), crate()), strict=True):
        area = np.array([p.areas.sum() for p in obj.parts])
        share = np.bincount(part, minlength=len(area)) / POINTS
        smallest = area.argmin()
        assert share[smallest] > area[smallest] / area.sum()


def test_joints_are_those_of_the_object(bank: Bank):
    for joints, obj in zip(bank.joints, (chest(), locker(), crate()), strict=True):
        np.testing.assert_array_equal(joints.twists, [twist_of_joint(j) for j in obj.joints])
        np.testing.assert_array_equal(joints.axis, [j.axis for j in obj.joints])
        np.testing.assert_array_equal(joints.limits, [j.limits for j in obj.joints])
        assert joints.revolute.tolist() == [j.type is JointType.REVOLUTE for j in obj.joints]
    door, tray = bank.joints[1].blocker
    assert (door, tray) == (-1, 0)
    assert bank.joints[0].parents.tolist() == [-1, 0, -1]
    np.testing.assert_allclose(bank.joints[0].size, [0.4, 0.2, 0.3])
    assert bank.joints[0].observable.all()


def test_same_seed_same_bank():
    a, b, c = (make_bank([("procedural", crate())], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.points, b.points)
    assert not np.array_equal(a.points, c.points)


def test_objects_without_joints_are_left_out():
    still = replace(crate(), joints=(), parts=crate().parts[:1], name="still")
    bank = make_bank([("procedural", still), ("partnet", chest())])
    assert bank.names == ("chest",)
    assert bank.sources == ("partnet",)
    with pytest.raises(ObjectError, match="movable joint"):
        make_bank([("procedural", still)])


def test_save_load_round_trip_within_the_stated_quantisation(bank: Bank, tmp_path: Path):
    save_bank(tmp_path / "bank.npz", bank)
    again = load_bank(tmp_path / "bank.npz")
    assert (again.names, again.sources) == (bank.names, bank.sources)
    np.testing.assert_array_equal(again.part, bank.part)
    extent = np.abs(bank.points).max((1, 2))
    error = np.abs(again.points - bank.points).max((1, 2))
    assert (error <= 0.5 * extent / 32767 * 1.01).all()
    assert (error > 0.05 * extent / 32767).all(), "points are not quantised: say so in the docstring"
    assert np.abs(again.normals - bank.normals).max() <= 0.5 / 127 + 1e-6
    for a, b in zip(again.joints, bank.joints, strict=True):
        for name in JOINT_FIELDS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
            assert getattr(a, name).dtype == getattr(b, name).dtype


def test_a_file_that_is_no_bank_is_refused(bank: Bank, tmp_path: Path):
    with pytest.raises(ObjectError, match="does not exist"):
        load_bank(tmp_path / "none.npz")
    path = tmp_path / "bank.npz"
    save_bank(path, bank)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", points=np.zeros(3))
    for content in (whole[: len(whole) // 2], b"", b"not a zip", (tmp_path / "other.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ObjectError, match=r"is not a bank of objects"):
            load_bank(path)


def test_subset_keeps_rows_together(bank: Bank):
    chosen = bank.subset([2, 0])
    assert chosen.names == ("crate", "chest")
    np.testing.assert_array_equal(chosen.points, bank.points[[2, 0]])
    np.testing.assert_array_equal(chosen.part, bank.part[[2, 0]])
    assert chosen.joints[1] is bank.joints[0]


@pytest.fixture
def assets(tmp_path: Path, monkeypatch) -> Path:
    """An asset folder with two objects per collection and split; loading one gives its path as the name."""
    partnet = tmp_path / "partnet_mobility"
    partnet.mkdir()
    entries = [{"id": str(i), "category": "Box", "split": "val" if i % 3 == 0 else "train"} for i in range(100, 106)]
    (partnet / "index.json").write_text(json.dumps(entries))
    for seed in ("1001", "1002"):
        folder = tmp_path / "infinigen" / "objects" / "oven" / seed
        folder.mkdir(parents=True)
        (folder / "oven.urdf").write_text("<robot/>")
    monkeypatch.setattr(bank_module, "load_asset", lambda path: replace(crate(), name=str(path)))
    return tmp_path


def drawn(assets: Path | None, split: str, seeds: int = 2) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for source, obj in training_objects(assets, split, seeds):
        out.setdefault(source, []).append(Path(obj.name).stem)
    return out


def test_no_held_out_object_is_ever_trained_on(assets: Path):
    train, val = drawn(assets, "train"), drawn(assets, "val")
    assert sorted(train["partnet"]) == ["100", "101", "103", "104"]
    assert sorted(val["partnet"]) == ["102", "105"]
    assert "infinigen" not in val
    assert len(train["infinigen"]) == 2
    assert not set(train["procedural"]) & set(val["procedural"])
    for names, low, high in ((train["procedural"], 0, HELD_OUT), (val["procedural"], HELD_OUT, np.inf)):
        assert len(names) == 2 * len(CATEGORIES)
        assert all(low <= int(name.rsplit("_", 1)[1]) < high for name in names)


def test_one_collection_is_enough_and_none_is_an_error(assets: Path, tmp_path: Path):
    (assets / "partnet_mobility").rename(tmp_path / "elsewhere")
    assert set(drawn(assets, "train")) == {"procedural", "infinigen"}
    assert set(drawn(None, "train")) == {"procedural"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ObjectError, match="holds neither") as error:
        training_objects(tmp_path / "empty", "train", 1)  # before any object is made
    assert str(error.value).count("\n") == 0


def test_type_of_a_diagonal_slide():
    joints = bank_of(chest()).joints[0]
    tilted = replace(joints, twists=joints.twists * 0 + np.r_[np.ones(3) / np.sqrt(3), np.zeros(3)])
    assert not tilted.revolute[0]
    np.testing.assert_allclose(tilted.axis, np.ones((3, 3)) / np.sqrt(3))
