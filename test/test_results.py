import json
import math
from dataclasses import replace

import numpy as np
import pytest

from art_perception.errors import ObjectError
from art_perception.io.results import Labels, Result, code_version, read_labels, read_result, write_labels, write_result
from art_perception.types import Joint, JointType, PoseCorrection, PriorUse

AXIS = np.array([1.0, 2.0, -2.0]) / 3
DOOR = Joint(
    "joint_1",
    "base",
    "part_1",
    JointType.REVOLUTE,
    AXIS,
    np.array([0.1, 1 / 3, -2.0]),
    (-0.1, 1.2),
    True,
    0.93,
    0.01,
    0.002,
)
DRAWER = Joint("joint_2", "part_1", "part_2", JointType.PRISMATIC, -AXIS, np.zeros(3), (0.0, 0.31), False, 0.2)
RESULT = Result(
    fixed_frame="map",
    source="clip.mcap",
    joints=(DOOR, DRAWER),
    stamps_s=np.array([1700000000.1, 1700000000.2, 1700000000.3]),
    q=np.array([[0.0, 0.0], [1 / 3, 0.1], [np.nan, 0.2]]),
    seconds={"flow": 1.5, "total": 4.25},
    commit="abc",
)


def test_the_file_is_as_in_the_contract(tmp_path):
    document = json.loads(write_result(tmp_path, RESULT).read_text())
    known = {"version", "fixed_frame", "source", "commit", "seconds", "joints", "states", "prior", "camera_correction"}
    assert set(document) == known
    assert document["version"] == 1
    assert document["seconds"] == {"flow": 1.5, "total": 4.25}
    door = document["joints"][0]
    assert {k: door[k] for k in ("name", "child", "parent", "type", "valid", "confidence", "origin_std_m")} == {
        "name": "joint_1",
        "child": "part_1",
        "parent": "base",
        "type": "revolute",
        "valid": True,
        "confidence": 0.93,
        "origin_std_m": 0.002,
    }
    assert door["axis"] == AXIS.tolist()
    assert door["limits"] == [-0.1, 1.2]
    assert door["axis_std_deg"] == pytest.approx(math.degrees(0.01))
    assert document["states"]["stamp"] == RESULT.stamps_s.tolist()
    assert document["states"]["joint_1"] == [0.0, 1 / 3, None]  # NaN is no JSON
    assert document["states"]["joint_2"] == [0.0, 0.1, 0.2]
    assert document["prior"] == {
        "category": "none",
        "used": "none",
        "score": None,
        "reason": "no category was given",
    }


def test_how_far_poses_were_corrected_survives_and_older_files_say_nothing(tmp_path):
    path = write_result(tmp_path, replace(RESULT, correction=PoseCorrection(0.012, 0.8)))
    assert read_result(tmp_path).correction == PoseCorrection(0.012, 0.8)
    document = json.loads(path.read_text())
    del document["camera_correction"]
    path.write_text(json.dumps(document))
    assert read_result(tmp_path).correction == PoseCorrection()


def test_what_the_prior_did_survives_and_older_files_have_none(tmp_path):
    use = PriorUse("laptop", "all", 0.75, "1 usable frame(s) show no motion")
    path = write_result(tmp_path, replace(RESULT, prior=use))
    assert read_result(tmp_path).prior == use
    document = json.loads(path.read_text())
    del document["prior"]
    path.write_text(json.dumps(document))
    assert read_result(tmp_path).prior == PriorUse()


def test_result_round_trip_is_exact(tmp_path):
    write_result(tmp_path, RESULT)
    back = read_result(tmp_path)
    np.testing.assert_array_equal(back.q, RESULT.q)
    np.testing.assert_array_equal(back.stamps_s, RESULT.stamps_s)
    assert (back.fixed_frame, back.source, back.commit, back.seconds) == ("map", "clip.mcap", "abc", RESULT.seconds)
    for a, b in zip(RESULT.joints, back.joints, strict=True):
        for name in ("name", "parent", "child", "type", "limits", "valid", "confidence", "origin_std_m"):
            assert getattr(a, name) == getattr(b, name)
        np.testing.assert_array_equal(a.axis, b.axis)
        np.testing.assert_array_equal(a.origin, b.origin)
        assert b.axis_std_rad == pytest.approx(a.axis_std_rad, rel=1e-15)


def test_unknown_uncertainty_round_trip(tmp_path):
    joint = Joint("j", "base", "p", JointType.PRISMATIC, AXIS, np.zeros(3), (0.0, 1.0), axis_std_rad=np.inf)
    write_result(tmp_path, Result("world", "", (joint,), np.zeros(0), np.zeros((0, 1))))
    back = read_result(tmp_path)
    assert back.joints[0].axis_std_rad == math.inf
    assert back.q.shape == (0, 1)
    assert back.commit == code_version()
    assert len(code_version()) >= 5


def test_labels_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    labels = Labels(
        stamp=rng.random(3),
        pixel=rng.integers(0, 640, (3, 50, 2)),
        point=rng.normal(size=(3, 50, 3)),
        part=rng.integers(0, 3, (3, 50)),
        T_world_camera=rng.normal(size=(3, 4, 4)),
    )
    write_labels(tmp_path, labels)
    back = read_labels(tmp_path)
    for name in ("stamp", "pixel", "point", "part", "T_world_camera"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(back, name))
        assert getattr(labels, name).dtype == getattr(back, name).dtype


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "no valid JSON"),
        ("[]", "no JSON object"),
        ('{"version": 7}', "version 7, expected 1"),
        ('{"version": 1, "joints": []}', "'states'"),
    ],
)
def test_unreadable_results(tmp_path, text, words):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(ObjectError, match="art-perception run") as error:
        read_result(tmp_path)
    assert words in str(error.value)


def test_unreadable_labels(tmp_path):
    with pytest.raises(ObjectError, match="cannot be read"):
        read_labels(tmp_path)
    write_labels(tmp_path, Labels(*[np.zeros((9, 9))] * 4))
    whole = (tmp_path / "labels.npz").read_bytes()
    (tmp_path / "labels.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ObjectError, match="cannot be read"):
        read_labels(tmp_path)
