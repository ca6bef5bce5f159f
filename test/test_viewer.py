"""The viewer serves a page for any result folder and moves parts the way kinematics says."""

import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser")

import viz_scene

from art_perception.errors import ObjectError
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.io.results import Labels, Result, read_labels, write_labels, write_result
from art_perception.urdf.writer import write_urdf
from art_perception.viz.scene import upright_axis
from art_perception.viz.viewer import Viewer, recording_of

STAMPS = 100.0 + np.linspace(0, 1, 11)
Q = np.stack([np.linspace(0, 1.0, 11), np.linspace(0, 0.2, 11)], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    obj = viz_scene.cabinet()
    write_urdf(obj, tmp_path)
    write_result(tmp_path, Result("world", "clip.mcap", obj.joints, STAMPS, Q, {"total": 1.0}, "abc"))
    points = np.zeros((2, 6, 3))
    part = np.array([[0, 0, 1, 1, 2, 2]] * 2)
    write_labels(tmp_path, Labels(STAMPS[[0, 10]], np.zeros((2, 6, 2), int), points, part))
    return tmp_path


def poses(viewer: Viewer) -> np.ndarray:
    return np.array([node.position for node in viewer._scene._parts])


def test_the_page_is_served(folder: Path) -> None:
    viewer = Viewer(folder, port=18080)
    try:
        with urllib.request.urlopen(viewer.url, timeout=10) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read().lower()
    finally:
        viewer.stop()


def test_seeking_moves_sliders_and_parts(folder: Path) -> None:
    viewer = Viewer(folder, port=18080)
    try:
        viewer.seek(0.5)
        np.testing.assert_allclose(viewer.joint_values(), Q[5], atol=2e-3)
        D = displacements(chain_of(viz_scene.cabinet().joints), Q[5])
        np.testing.assert_allclose(poses(viewer)[1:], D[:, :3, 3], atol=1e-6)
        np.testing.assert_allclose(poses(viewer)[0], 0)
    finally:
        viewer.stop()


def test_play_advances_through_the_recording(folder: Path) -> None:
    viewer = Viewer(folder, port=18080)
    try:
        viewer._playing.value = True
        deadline = time.monotonic() + 20
        while viewer.joint_values()[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert viewer.joint_values()[0] > 0
    finally:
        viewer.stop()


@pytest.mark.parametrize("axis", [0, 1, 2, ~0, ~1, ~2])
def test_the_page_opens_where_the_clip_was_filmed_and_upright(folder: Path, axis: int) -> None:
    up = np.eye(3)[axis] if axis >= 0 else -np.eye(3)[~axis]
    T = np.eye(4)
    T[:3, 1] = -(up + 0.5 * np.roll(up, 1)) / np.hypot(1, 0.5)
    T[:3, 3] = [2.0, -1.0, 0.5]
    labels = read_labels(folder)
    write_labels(folder, replace(labels, T_world_camera=np.stack([T, T])))
    viewer = Viewer(folder, port=18080)
    try:
        np.testing.assert_allclose(viewer._server.initial_camera.position, [2.0, -1.0, 0.5])
        assert upright_axis(-T[:3, 1]) == axis
    finally:
        viewer.stop()


@pytest.mark.parametrize("missing", [("labels.npz",), ("labels.npz", "result.json")])
def test_a_folder_with_less_in_it_still_opens(folder: Path, missing: tuple[str, ...]) -> None:
    for name in missing:
        (folder / name).unlink()
    viewer = Viewer(folder, port=18080)
    try:
        viewer.seek(0.5)
        assert len(viewer.joint_values()) == 2
    finally:
        viewer.stop()


def test_a_folder_without_urdf_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ObjectError):
        Viewer(tmp_path, port=18080)


def test_recorded_values_go_to_the_joint_of_the_same_name() -> None:
    joints = viz_scene.cabinet().joints
    q = Q.copy()
    q[3:5, 0] = np.nan
    extra = replace(joints[0], name="other")
    recording = recording_of(Result("world", "", joints, STAMPS, q), [joints[1], extra, joints[0]])
    np.testing.assert_array_equal(recording.q[:, 0], Q[:, 1])
    np.testing.assert_array_equal(recording.q[:, 1], 0)
    np.testing.assert_array_equal(recording.q[2:6, 2], [Q[2, 0], Q[2, 0], Q[2, 0], Q[5, 0]])
