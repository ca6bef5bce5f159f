"""Written URDFs: accepted by every consumer, and the same object after a round trip."""

import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from object_tools import chain_object, make_joint

from art_perception.errors import ObjectError, OutputError
from art_perception.geometry.kinematics import chain_of, displacements
from art_perception.geometry.lie import exp_so3, transform
from art_perception.geometry.mesh import empty_mesh
from art_perception.types import JointType, Part
from art_perception.urdf.check import check_urdf
from art_perception.urdf.reader import load_urdf, matrix_from_rpy
from art_perception.urdf.writer import rpy_from_matrix, write_urdf

AXES = [(0, 0, 1), (0, 0, -1), (1, 0, 0), (-1, 0, 0), (0, -1, 0), (1, -2, 0.5), (-0.3, -0.4, -0.5)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_urdf(chain_object(), tmp_path_factory.mktemp("urdf"))


def test_layout_follows_the_contract(written):
    robot = ET.parse(written).getroot()
    assert written.name == "object.urdf"
    assert [link.get("name") for link in robot.findall("link")] == ["world", "base", "part_1", "part_2"]
    assert [j.get("type") for j in robot.findall("joint")] == ["fixed", "revolute", "prismatic"]
    assert robot.find("joint/parent").get("link") == "world"
    assert robot.find("joint/child").get("link") == "base"
    for mesh in robot.iter("mesh"):
        assert mesh.get("filename").startswith("meshes/")
        assert (written.parent / mesh.get("filename")).is_file()
    assert (written.parent / "meshes" / "part_1_collision_0.obj").is_file()


def test_our_own_check_is_content(written):
    assert check_urdf(written) == []


@pytest.mark.skipif(shutil.which("check_urdf") is None, reason="liburdfdom-tools is not installed")
def test_liburdfdom_accepts_it(written):
    done = subprocess.run(["check_urdf", str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "child(1):  part_2" in done.stdout


def test_pybullet_accepts_it(written):
    pybullet = pytest.importorskip("pybullet")
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(written), physicsClientId=client)
        info = [pybullet.getJointInfo(body, i, physicsClientId=client) for i in range(3)]
        assert [i[2] for i in info] == [pybullet.JOINT_FIXED, pybullet.JOINT_REVOLUTE, pybullet.JOINT_PRISMATIC]
        assert [i[8:10] for i in info[1:]] == [(-0.5, 1.0)] * 2
        assert pybullet.getDynamicsInfo(body, 1, physicsClientId=client)[0] == pytest.approx(500 * 0.024)
    finally:
        pybullet.disconnect(client)


def test_mujoco_accepts_it_and_agrees_on_kinematics(written):
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_path(str(written))
    data = mujoco.MjData(model)
    data.qpos[:] = [0.4, -0.3]
    mujoco.mj_forward(model, data)
    obj = chain_object()
    D = displacements(chain_of(obj.joints), data.qpos)
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "part_2")
    assert np.allclose(data.xpos[body], transform(D[1], obj.joints[1].origin[None])[0], atol=1e-6)
    assert model.body_mass[body] == pytest.approx(500 * 0.0012, rel=1e-3)


@pytest.mark.parametrize("axis_1", AXES)
def test_axes_of_every_sign_survive_forward_kinematics(tmp_path, axis_1):
    yourdfpy = pytest.importorskip("yourdfpy")
    obj = chain_object(axis_1, AXES[AXES.index(axis_1) - 3])
    robot = yourdfpy.URDF.load(str(write_urdf(obj, tmp_path)), load_meshes=False)
    assert robot.validate()
    q = np.array([0.7, -0.2])
    robot.update_cfg({"joint_1": q[0], "joint_2": q[1]})
    for part, joint, D in zip(obj.parts[1:], obj.joints, displacements(chain_of(obj.joints), q), strict=True):
        T = robot.get_transform(part.name, "world")
        expected = D.copy()
        expected[:3, :3] = D[:3, :3] @ obj.T_world_base[:3, :3]
        expected[:3, 3] = transform(D, joint.origin[None])[0]
        assert np.allclose(T, expected, atol=1e-8)


@pytest.mark.parametrize("axis_1", AXES)
def test_reading_back_gives_the_same_object(tmp_path, axis_1):
    obj = chain_object(axis_1)
    back = load_urdf(write_urdf(obj, tmp_path))
    assert back.fixed_frame == "world"
    assert np.allclose(back.T_world_base, obj.T_world_base, atol=1e-8)
    for a, b in zip(obj.joints, back.joints, strict=True):
        assert (a.name, a.parent, a.child, a.type, a.limits) == (b.name, b.parent, b.child, b.type, b.limits)
        assert np.allclose(a.axis, b.axis, atol=1e-8)
        assert np.allclose(a.origin, b.origin, atol=1e-7)
    for a, b in zip(obj.parts, back.parts, strict=True):
        assert a.name == b.name
        assert np.allclose(a.visual.vertices, b.visual.vertices, atol=2e-6)
        assert np.array_equal(a.visual.colors, b.visual.colors)
        assert len(b.collision) == 1


def test_meshes_are_watertight_for_others(written):
    trimesh = pytest.importorskip("trimesh")
    for path in (written.parent / "meshes").glob("*.obj"):
        assert trimesh.load(path, force="mesh").is_watertight


def test_mass_and_inertia_of_a_box(tmp_path):
    obj = chain_object(T_world_base=np.eye(4))
    inertial = ET.parse(write_urdf(obj, tmp_path)).getroot().find("link[@name='base']/inertial")
    mass = 500 * 0.5 * 0.6 * 1.0
    assert float(inertial.find("mass").get("value")) == pytest.approx(mass)
    assert float(inertial.find("inertia").get("izz")) == pytest.approx(mass * (0.5**2 + 0.6**2) / 12)
    assert np.allclose([float(v) for v in inertial.find("origin").get("xyz").split()], [0, 0, 0.5])


def test_an_unseen_part_becomes_a_link_with_only_an_inertial(tmp_path):
    obj = chain_object()
    unseen = Part("part_2", empty_mesh(), (), 0.0)
    path = write_urdf(replace(obj, parts=(*obj.parts[:2], unseen)), tmp_path)
    link = ET.parse(path).getroot().find("link[@name='part_2']")
    assert [child.tag for child in link] == ["inertial"]
    assert check_urdf(path) == []


def test_awkward_names_are_made_safe_and_stay_unique(tmp_path):
    obj = chain_object(fixed_frame="base")
    parts = [replace(p, name=n) for p, n in zip(obj.parts, ("base", "left door/<1>", "left door/>1<"), strict=True)]
    joints = [
        replace(obj.joints[0], name="joint 1", child=parts[1].name),
        replace(obj.joints[1], name="joint_1", parent=parts[1].name, child=parts[2].name),
    ]
    path = write_urdf(replace(obj, name="../a b", parts=tuple(parts), joints=tuple(joints)), tmp_path)
    assert check_urdf(path) == []
    back = load_urdf(path)
    assert back.fixed_frame == "base"
    assert len({p.name for p in back.parts} | {"base"}) == 4
    assert len({j.name for j in back.joints}) == 2


def test_many_children_of_the_base(tmp_path):
    obj = chain_object()
    joints = (obj.joints[0], replace(obj.joints[1], parent="base"))
    back = load_urdf(write_urdf(replace(obj, joints=joints), tmp_path))
    assert [j.parent for j in back.joints] == ["base", "base"]


def test_observed_range_of_a_joint_that_did_not_move_still_loads(tmp_path):
    mujoco = pytest.importorskip("mujoco")
    obj = chain_object()
    still = replace(obj.joints[1], limits=(0.0, 0.0))
    path = write_urdf(replace(obj, joints=(obj.joints[0], still)), tmp_path)
    assert mujoco.MjModel.from_xml_path(str(path)).njnt == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axis": np.array([0, 0, 2.0])}, "axis of length 2"),
        ({"axis": np.array([np.nan, 0, 1.0])}, "not a finite number"),
        ({"limits": (1.0, -1.0)}, "lower one first"),
        ({"parent": "part_2"}, "no earlier part"),
    ],
)
def test_impossible_joints_are_refused(tmp_path, change, message):
    obj = chain_object()
    with pytest.raises(ObjectError, match=message):
        write_urdf(replace(obj, joints=(replace(obj.joints[0], **change), obj.joints[1])), tmp_path)


def test_unwritable_folder_is_one_clear_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError, match="cannot write the URDF"):
        write_urdf(chain_object(), blocker / "out")


def test_fixed_joint_is_written_without_limits(tmp_path):
    obj = chain_object()
    fixed = make_joint("joint_2", "part_1", "part_2", JointType.FIXED, [0, 0, 1], [0, 0, 0])
    path = write_urdf(replace(obj, joints=(obj.joints[0], fixed)), tmp_path)
    back = load_urdf(path)
    assert [j.name for j in back.joints] == ["joint_1"]
    assert len(back.parts[1].visual.faces) == 24


def test_roll_pitch_yaw_round_trip_including_gimbal_lock():
    rng = np.random.default_rng(0)
    rotations = [exp_so3(w) for w in rng.normal(size=(100, 3)) * 2]
    rotations += [matrix_from_rpy(np.array([r, p, 0.3])) for r in (0, 1.0) for p in (np.pi / 2, -np.pi / 2)]
    for R in rotations:
        assert np.allclose(matrix_from_rpy(rpy_from_matrix(R)), R, atol=1e-7)


def test_part_order_follows_the_joints(tmp_path):
    obj = chain_object()
    with pytest.raises(ObjectError):
        write_urdf(replace(obj, joints=obj.joints[::-1], parts=(obj.parts[0], *obj.parts[:0:-1])), tmp_path)
