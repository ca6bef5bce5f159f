"""Reading any URDF: CAD exports, PartNet style, ours; broken ones give one clear sentence."""

import logging

import numpy as np
import pytest
from object_tools import box_mesh

from art_perception.errors import ObjectError
from art_perception.geometry.mesh import signed_volume
from art_perception.types import JointType
from art_perception.urdf.reader import load_urdf
from art_perception.urdf.writer import write_obj


def robot(*elements):
    return f'<?xml version="1.0"?>\n<robot name="r">{"".join(elements)}</robot>'


def link(name, inside=""):
    return f'<link name="{name}">{inside}</link>'


def joint(name, kind, parent, child, inside=""):
    return f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>{inside}</joint>'


def visual(geometry, origin=""):
    return f"<visual>{origin}<geometry>{geometry}</geometry></visual>"


LIMIT = '<limit lower="-0.5" upper="1.5" effort="1" velocity="1"/>'
BOX = visual('<box size="1 2 3"/>')


def test_fixed_links_merge_into_the_part_they_ride_on():
    obj = load_urdf(
        robot(
            link("world"),
            link("body", BOX),
            link("door", BOX),
            link("handle", BOX),
            joint("mount", "fixed", "world", "body", '<origin xyz="1 0 0" rpy="0 0 1.5707963267948966"/>'),
            joint("hinge", "revolute", "body", "door", f'<origin xyz="0 1 0"/><axis xyz="0 0 -2"/>{LIMIT}'),
            joint("glue", "fixed", "door", "handle", '<origin xyz="0 0 10"/>'),
        )
    )
    assert obj.fixed_frame == "world"
    assert [p.name for p in obj.parts] == ["body", "door"]
    assert np.allclose(obj.T_world_base[:3, 3], [1, 0, 0])
    hinge = obj.joints[0]
    assert (hinge.parent, hinge.child, hinge.type) == ("body", "door", JointType.REVOLUTE)
    assert np.allclose(hinge.axis, [0, 0, -1])
    assert np.allclose(hinge.origin, [0, 0, 0])  # (0, 1, 0) turned by 90 degrees, plus (1, 0, 0)
    assert hinge.limits == (-0.5, 1.5)
    assert len(obj.parts[1].visual.faces) == 24
    assert np.isclose(obj.parts[1].visual.vertices[:, 2].max(), 11.5)


def test_continuous_joints_get_a_full_turn_and_default_axis():
    obj = load_urdf(robot(link("a"), link("b"), joint("spin", "continuous", "a", "b")))
    assert obj.joints[0].type is JointType.REVOLUTE
    assert obj.joints[0].limits == (-np.pi, np.pi)
    assert np.allclose(obj.joints[0].axis, [1, 0, 0])


def test_partnet_style_helper_link_and_missing_limit_values():
    text = robot(
        link("base"),
        link("cap", BOX),
        link("helper"),
        link("body", BOX),
        joint("j0", "fixed", "base", "body", '<origin rpy="1.5707963 0 -1.5707963" xyz="0 0 0"/>'),
        joint("j1", "continuous", "body", "helper", '<axis xyz="0 1 0"/>'),
        joint("j2", "prismatic", "helper", "cap", '<axis xyz="0 1 0"/><limit upper="0.2"/>'),
    )
    obj = load_urdf(text)
    assert [p.name for p in obj.parts] == ["body", "helper", "cap"]
    assert len(obj.parts[1].visual.faces) == 0
    assert obj.joints[1].limits == (0.0, 0.2)
    assert np.allclose(obj.joints[1].axis, [0, 0, 1], atol=1e-6)


def test_joints_come_in_file_order_but_parents_first():
    text = robot(
        *(link(n) for n in "abcd"),
        joint("late", "revolute", "b", "c", LIMIT),
        joint("other", "prismatic", "a", "d", LIMIT),
        joint("early", "revolute", "a", "b", LIMIT),
    )
    assert [j.name for j in load_urdf(text).joints] == ["other", "early", "late"]


def test_mimic_is_ignored_with_a_log(caplog):
    text = robot(link("a"), link("b"), joint("j", "revolute", "a", "b", f'{LIMIT}<mimic joint="k"/>'))
    with caplog.at_level(logging.WARNING):
        assert len(load_urdf(text).joints) == 1
    assert "'j' mimics" in caplog.text


def test_primitive_shapes_have_their_size():
    shapes = BOX + visual('<cylinder radius="0.5" length="2"/>') + visual('<sphere radius="0.5"/>')
    obj = load_urdf(robot(link("a", shapes)))
    assert signed_volume(obj.parts[0].visual) == pytest.approx(6 + np.pi / 2 + np.pi / 6, rel=0.02)


def test_meshes_are_found_scaled_and_keep_their_outside(tmp_path):
    (tmp_path / "pkg" / "m").mkdir(parents=True)
    write_obj(box_mesh([0, 0, 0], [1, 1, 1], (10, 20, 30)), tmp_path / "pkg" / "m" / "box.obj")
    for name in ("m/box.obj", "package://pkg/m/box.obj", f"file://{tmp_path}/pkg/m/box.obj"):
        text = robot(link("a", visual(f'<mesh filename="{name}" scale="-2 1 1"/>')))
        path = tmp_path / "pkg" / "a.urdf"
        path.write_text(text)
        mesh = load_urdf(path).parts[0].visual
        assert signed_volume(mesh) == pytest.approx(2)
        assert mesh.colors[0].tolist() == [10, 20, 30]
        assert load_urdf(text, mesh_root=tmp_path / "pkg").parts[0].visual.faces.shape == (12, 3)


def test_collision_stands_in_for_a_missing_visual():
    collision = '<collision><geometry><box size="1 1 1"/></geometry></collision>'
    part = load_urdf(robot(link("a", collision))).parts[0]
    assert len(part.collision) == 1
    assert len(part.visual.faces) == 12


def test_ground_truth_needs_no_meshes():
    mesh = visual('<mesh filename="nowhere.obj"/>')
    text = robot(link("a", mesh), link("b"), joint("j", "prismatic", "a", "b", LIMIT))
    obj = load_urdf(text, load_meshes=False)
    assert [j.name for j in obj.joints] == ["j"]
    with pytest.raises(ObjectError, match=r"needs the mesh 'nowhere\.obj'"):
        load_urdf(text)


TWO = link("a") + link("b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<robot name='r'><link", "not valid XML"),
        ("<sdf/>", "expected <robot>"),
        (robot(), "no <link>"),
        (robot(TWO), "2 root links"),
        (robot(TWO, joint("j", "revolute", "a", "b")), "'j' has no <limit>"),
        (robot(TWO, joint("j", "revolute", "a", "b", '<limit lower="2" upper="1"/>')), "above upper limit"),
        (robot(TWO, joint("j", "revolute", "a", "b", '<limit lower="x" upper="1"/>')), "is 'x', expected 1 finite"),
        (robot(TWO, joint("j", "revolute", "a", "b", f'{LIMIT}<axis xyz="0 0 0"/>')), "axis of joint 'j' is zero"),
        (robot(TWO, joint("j", "revolute", "a", "b", f'{LIMIT}<axis xyz="0 1"/>')), "expected 3 finite numbers"),
        (robot(TWO, joint("j", "floating", "a", "b")), "of type 'floating'"),
        (robot(TWO, joint("j", "fixed", "a", "c")), "names the child link 'c'"),
        (robot(TWO, joint("j", "fixed", "a", "b"), joint("k", "fixed", "a", "b")), "two parent joints"),
        (
            robot(link("r"), TWO, joint("j", "fixed", "a", "b"), joint("k", "fixed", "b", "a")),
            "form a loop",
        ),
        (robot(link("a", visual("<capsule/>"))), "geometry 'capsule'"),
        (robot(link("a", "<visual/>")), "geometry ''"),
    ],
)
def test_broken_urdfs_give_one_clear_sentence(text, message):
    with pytest.raises(ObjectError, match=message) as caught:
        load_urdf(text)
    assert "\n" not in str(caught.value)


def test_missing_file_and_unreadable_mesh(tmp_path):
    with pytest.raises(ObjectError, match="cannot read the URDF"):
        load_urdf(tmp_path / "none.urdf")
    (tmp_path / "bad.obj").write_text("this is no mesh")
    (tmp_path / "a.urdf").write_text(robot(link("a", visual('<mesh filename="bad.obj"/>'))))
    with pytest.raises(ObjectError, match=r"bad\.obj"):
        load_urdf(tmp_path / "a.urdf")


def test_a_path_given_as_text_is_a_path(tmp_path):
    path = tmp_path / "a.urdf"
    path.write_text(robot(link("a", BOX)))
    assert load_urdf(str(path)).name == "r"
