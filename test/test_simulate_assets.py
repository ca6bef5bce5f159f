"""Asset folders: a tiny one written here, with everything that makes real ones awkward."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from art_perception.data.config import SimulateConfig
from art_perception.data.model import merge, without_duplicates
from art_perception.data.partnet import load_asset, read_obj
from art_perception.data.shapes import box
from art_perception.data.simulate import simulate
from art_perception.errors import ObjectError
from art_perception.types import JointType


def link(name: str, mesh: str, xyz: str = "0 0 0") -> str:
    geometry = f'<geometry><mesh filename="textured_objs/{mesh}.obj"/></geometry>'
    return f'<link name="{name}"><visual><origin xyz="{xyz}"/>{geometry}</visual></link>'


def joint(name: str, kind: str, parent: str, child: str, rest: str) -> str:
    return f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{rest}</joint>'


URDF = "\n".join([
    '<robot name="partnet_test"><link name="base"/><link name="helper"/>',
    link("body", "body"),
    joint("turn", "fixed", "base", "body", '<origin rpy="1.5707963 0 0"/>'),
    link("door", "door", "-0.5 0 0"),
    joint("my door", "revolute", "body", "door",
          '<origin xyz="0.5 0 0.5"/><axis xyz="0 -2 0"/><limit lower="0" upper="1.5"/>'),
    link("knob", "knob", "-1 0 0"),
    joint("glue", "fixed", "door", "knob", '<origin xyz="0.5 0 0"/>'),
    link("flap", "flap", "-0.5 -0.2 0"),
    joint("my_door", "continuous", "door", "flap", '<origin xyz="0 0.2 0"/><axis xyz="1 0 0"/>'),
    link("stuck", "flap"),
    joint("stuck", "prismatic", "body", "stuck", '<axis xyz="1 0 0"/><limit lower="0" upper="0"/>'),
    joint("lift", "prismatic", "body", "helper", '<axis xyz="0 1 0"/><limit lower="0" upper="0.3"/>'),
    link("cap", "cap"),
    joint("screw", "continuous", "helper", "cap", '<axis xyz="0 1 0"/>'),
    "</robot>",
])  # fmt: skip
LOOP = (
    '<robot><link name="a"/><link name="b"/>'
    + joint("j", "fixed", "a", "b", "")
    + joint("k", "fixed", "b", "a", "")
    + "</robot>"
)


def write_box(path: Path, low: tuple[float, ...], high: tuple[float, ...]) -> None:
    shape = box(low, high)
    lines = [f"mtllib {path.stem}.mtl", *(f"v {x} {y} {z}" for x, y, z in shape.vertices), "usemtl paint"]
    lines += [f"f {a + 1}/1/1 {b + 1}//2 {c + 1}" for a, b, c in shape.faces]
    path.write_text("\n".join(lines))
    path.with_suffix(".mtl").write_text("newmtl paint\nKd 1 0.5 0\n")


@pytest.fixture
def asset(tmp_path: Path) -> Path:
    folder = tmp_path / "4711"
    meshes = folder / "textured_objs"
    meshes.mkdir(parents=True)
    (folder / "mobility.urdf").write_text(URDF)
    (folder / "meta.json").write_text(json.dumps({"model_cat": "Safe"}))
    write_box(meshes / "body.obj", (-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    write_box(meshes / "door.obj", (-0.5, -0.5, 0), (0.5, 0.5, 0.05))
    write_box(meshes / "knob.obj", (0.4, -0.1, 0.05), (0.45, 0.1, 0.1))
    write_box(meshes / "flap.obj", (-0.2, 0.2, 0.05), (0.2, 0.4, 0.08))
    write_box(meshes / "cap.obj", (-0.2, 0.5, -0.2), (0.2, 0.6, 0.2))
    return folder


def test_tree_is_reduced_to_what_moves(asset: Path):
    obj = load_asset(asset)
    assert obj.category == "safe"
    assert obj.joint_names == ("my_door", "lift", "my_door_2")
    assert [j.type for j in obj.joints] == [JointType.REVOLUTE, JointType.PRISMATIC, JointType.REVOLUTE]
    assert [j.parent for j in obj.joints] == ["base", "base", "part_1"]
    assert [len(p.faces) for p in obj.parts] == [24, 24, 12, 12]
    assert obj.joints[2].limits == (-np.pi, np.pi)


def test_size_and_frame_come_from_the_kinematics(asset: Path):
    obj = load_asset(asset)
    size = np.ptp(obj.bounds, axis=0)
    assert 0.45 * 0.85 <= size.max() <= 0.45 * 1.15 + 1e-9
    scale = size[2] / 1.1  # y-up mesh space: the cap on top makes it 1.1 high
    np.testing.assert_allclose(obj.joints[0].axis, [0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(obj.joints[1].axis, [0, 0, 1], atol=1e-6)
    assert obj.joints[1].limits[1] == pytest.approx(0.3 * scale)
    assert obj.joints[0].limits[1] == pytest.approx(1.5)
    front = -obj.bounds[0, 1]
    assert obj.joints[0].origin[0] == pytest.approx(0.5 * scale)
    assert obj.joints[0].origin[1] < -0.4 * scale + front
    assert obj.materials[0].color == pytest.approx((1, 0.5**2.2, 0))


def test_clip_of_an_asset(asset: Path):
    clip = simulate(load_asset(asset), SimulateConfig(frames=4, width=96, height=72, moving=(0,)), 1)
    ids = clip.exact(0).part_ids
    assert {1, 2} <= set(np.unique(ids))
    assert clip.q.shape == (4, 3)
    assert 'name="my_door_2"' in clip.robot_description


def test_a_base_without_surface_takes_the_largest_part(asset: Path):
    text = (asset / "mobility.urdf").read_text().replace('"turn" type="fixed"', '"turn" type="continuous"')
    (asset / "mobility.urdf").write_text(text)
    obj = load_asset(asset)
    assert obj.joint_names == ("my_door", "lift", "my_door_2")
    assert len(obj.parts[0].faces)


def test_metric_urdf_keeps_its_size_if_plausible(asset: Path):
    renamed = (asset / "mobility.urdf").rename(asset / "cabinet.urdf")
    assert np.ptp(load_asset(asset).bounds, axis=0)[2] == pytest.approx(1.1)
    renamed.rename(asset / "toaster.urdf")
    assert np.ptp(load_asset(asset).bounds, axis=0).max() == pytest.approx(1.2 * 0.32)


def test_polygons_and_negative_indices(tmp_path: Path):
    (tmp_path / "q.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf -4 -3 -2 -1\nf 1 2 3\n")
    materials: list = []
    surface = read_obj(tmp_path / "q.obj", materials)
    np.testing.assert_array_equal(surface.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    assert len(materials) == 1
    assert len(without_duplicates(surface).faces) == 2


def test_duplicates_go_whichever_way_round():
    cube = box((0, 0, 0), (1, 1, 1))
    inside_out = replace(cube, faces=cube.faces[:, ::-1])
    assert len(without_duplicates(merge([cube, inside_out])).faces) == 12


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: (a / "mobility.urdf").unlink(), "holds no .urdf"),
        (lambda a: (a / "mobility.urdf").write_text("<robot><link"), "is not XML"),
        (lambda a: (a / "textured_objs/door.obj").unlink(), "cannot be read"),
        (lambda a: (a / "textured_objs/door.obj").write_text("v 0 0\nv 1 a 2\nf 1 2 3"), "malformed"),
        (lambda a: (a / "textured_objs/door.obj").write_text("v 0 0 0\nf 1 2 3"), "malformed"),
        (lambda a: (a / "mobility.urdf").write_text("<robot><link name='a'/></robot>"), "no visible geometry"),
        (lambda a: (a / "mobility.urdf").write_text(LOOP), "loop"),
    ],
)
def test_unusable_assets_are_named(asset: Path, spoil, message: str):
    spoil(asset)
    with pytest.raises(ObjectError, match=message):
        load_asset(asset)
