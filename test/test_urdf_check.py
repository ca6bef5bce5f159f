"""The checker names every fault of a damaged URDF."""

import shutil

import pytest
from object_tools import chain_object

from art_perception.errors import ObjectError
from art_perception.urdf import check
from art_perception.urdf.check import check_urdf
from art_perception.urdf.writer import write_urdf


@pytest.fixture
def urdf(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)  # liburdfdom's view is tested apart
    return write_urdf(chain_object(), tmp_path)


def damage(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))
    return " | ".join(str(p) for p in check_urdf(path))


def test_a_good_one_has_no_problems(urdf):
    assert check_urdf(urdf) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('<mass value="150" />', '<mass value="-1" />', "link 'base': has mass -1"),
        ('<mass value="150" />', "", "link 'base': has mass nan"),
        ("ixx=", "nonsense=", "missing or unreadable"),
        ('ixx="', 'ixx="-', "positive definite"),
        ('ixx="', 'ixx="9', "which no body has"),
        (' effort="100"', "", "joint 'joint_1': has a <limit> without effort"),
        ("meshes/part_1.obj", "/somewhere/part_1.obj", "absolute path"),
        ("meshes/part_1.obj", "meshes/gone.obj", "meshes/gone.obj"),
        ('name="joint_2"', 'name="joint_1"', "joint 'joint_1': is defined 2 times"),
        ('<axis xyz="', '<axis xyz="1', "has an axis of length"),
        ('<parent link="part_1" />', '<parent link="lost" />', "structure: joint 'joint_2' names the parent link"),
        ("</robot>", "", "structure: the URDF is not valid XML"),
    ],
)
def test_each_fault_is_named(urdf, old, new, message):
    assert message in damage(urdf, old, new)


def test_a_link_with_geometry_needs_an_inertial(urdf):
    text = urdf.read_text()
    begin, end = text.index("<inertial>"), text.index("</inertial>") + len("</inertial>")
    urdf.write_text(text[:begin] + text[end:])
    assert any("no <inertial>" in p.what for p in check_urdf(urdf))


def test_collision_must_be_convex(urdf):
    meshes = urdf.parent / "meshes"
    two_boxes = (meshes / "base.obj").read_text()
    shifted = "\n".join(
        f"v {float(x) + 5} {y} {z}"
        for x, y, z in (line.split()[1:4] for line in two_boxes.splitlines() if line.startswith("v "))
    )
    faces = "\n".join(
        "f " + " ".join(str(int(i) + 8) for i in line.split()[1:])
        for line in two_boxes.splitlines()
        if line.startswith("f ")
    )
    (meshes / "base_collision_0.obj").write_text(f"{two_boxes}{shifted}\n{faces}\n")
    assert [p.what for p in check_urdf(urdf)] == [
        "has the collision mesh meshes/base_collision_0.obj, which is not convex"
    ]


def test_all_faults_are_reported_at_once(urdf):
    damage(urdf, '<mass value="150" />', '<mass value="0" />')
    assert damage(urdf, "meshes/part_1.obj", "meshes/gone.obj").count("link '") >= 2


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(ObjectError, match="there is no URDF at"):
        check_urdf(tmp_path / "none.urdf")


@pytest.mark.skipif(shutil.which("check_urdf") is None, reason="liburdfdom-tools is not installed")
def test_liburdfdom_has_the_last_word(tmp_path):
    path = write_urdf(chain_object(), tmp_path)
    path.write_text(path.read_text().replace(' effort="100"', "", 1))
    assert any(p.where == "liburdfdom check_urdf" for p in check_urdf(path))
    assert check.shutil.which("check_urdf")
