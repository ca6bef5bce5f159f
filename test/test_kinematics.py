"""Product-of-exponentials kinematics against yourdfpy, torch against NumPy, gradients against differences."""

import numpy as np
import pytest
import torch

from art_perception.geometry.kinematics import chain_of, displacements, with_base
from art_perception.geometry.lie import transform
from art_perception.types import Joint, JointType
from art_perception.urdf.reader import load_urdf


def joint(name, parent, child, kind, axis, origin):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    return Joint(name, parent, child, kind, axis, np.asarray(origin, float), (-3.0, 3.0))


TREE = (
    joint("j1", "base", "a", JointType.REVOLUTE, [0, 0, -1], [0.3, -0.2, 0.1]),
    joint("j2", "a", "b", JointType.PRISMATIC, [-1, 2, 0.5], [0.1, 0, 0]),
    joint("j3", "b", "c", JointType.REVOLUTE, [1, 1, -1], [-0.4, 0.2, 0.9]),
    joint("j4", "base", "d", JointType.PRISMATIC, [0, -1, 0], [0, 0, 0]),
)

URDF = """<robot name="r"><link name="root"/><link name="a"/><link name="b"/><link name="c"/><link name="d"/>
<joint name="j1" type="revolute"><parent link="root"/><child link="a"/>
  <origin xyz="0.1 -0.3 0.7" rpy="0.4 -1.1 2.5"/><axis xyz="0 -1 0"/>
  <limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<joint name="j2" type="prismatic"><parent link="a"/><child link="b"/>
  <origin xyz="0.5 0.2 -0.1" rpy="-0.7 0.2 0.9"/><axis xyz="0.6 0 -0.8"/>
  <limit lower="-1" upper="1" effort="1" velocity="1"/></joint>
<joint name="j3" type="continuous"><parent link="b"/><child link="c"/>
  <origin xyz="0 0 0.4" rpy="1.5707963 0 0"/><axis xyz="0 0 1"/></joint>
<joint name="j4" type="revolute"><parent link="root"/><child link="d"/>
  <origin xyz="-0.2 0 0" rpy="0 3.1 0"/><axis xyz="1 0 0"/>
  <limit lower="-2" upper="2" effort="1" velocity="1"/></joint></robot>"""


def test_displacements_agree_with_yourdfpy(tmp_path):
    yourdfpy = pytest.importorskip("yourdfpy")
    path = tmp_path / "r.urdf"
    path.write_text(URDF)
    reference = yourdfpy.URDF.load(str(path))
    obj = load_urdf(path)
    zero = {part.name: reference.get_transform(part.name, "root") for part in obj.parts}
    rng = np.random.default_rng(0)
    for q in rng.uniform(-1, 1, (20, 4)):
        reference.update_cfg(dict(zip([j.name for j in obj.joints], q, strict=True)))
        D = displacements(chain_of(obj.joints), q)
        for part, D_part in zip(obj.parts[1:], D, strict=True):
            assert np.allclose(D_part @ zero[part.name], reference.get_transform(part.name, "root"), atol=1e-9)


def test_zero_values_displace_nothing_and_batches_keep_their_shape():
    chain = chain_of(TREE)
    assert np.allclose(displacements(chain, np.zeros(4)), np.eye(4))
    q = np.random.default_rng(1).normal(size=(5, 2, 4))
    D = displacements(chain, q)
    assert D.shape == (5, 2, 4, 4, 4)
    assert np.allclose(D[3, 1], displacements(chain, q[3, 1]))


def test_a_child_rides_on_its_parent():
    chain = chain_of(TREE)
    D = displacements(chain, np.array([0.5, 0, 0, 0.2]))
    assert np.allclose(D[1], D[0])
    assert np.allclose(D[2], D[0])
    assert np.allclose(D[3][:3, 3], [0, -0.2, 0])


def test_flipping_axis_and_value_changes_nothing():
    flipped = tuple(joint(j.name, j.parent, j.child, j.type, -j.axis, j.origin + 2 * j.axis) for j in TREE)
    q = np.array([0.3, -0.2, 0.9, 0.1])
    assert np.allclose(displacements(chain_of(flipped), -q), displacements(chain_of(TREE), q))


def test_base_is_prepended_unmoved():
    D = displacements(chain_of(TREE), np.ones((3, 4)))
    both = with_base(D)
    assert both.shape == (3, 5, 4, 4)
    assert np.allclose(both[:, 0], np.eye(4))
    assert np.allclose(both[:, 1:], D)


def test_object_without_joints():
    D = displacements(chain_of(()), np.zeros((7, 0)))
    assert D.shape == (7, 0, 4, 4)
    assert np.allclose(with_base(D), np.eye(4))
    assert with_base(D).shape == (7, 1, 4, 4)
    assert with_base(torch.zeros(7, 0, 4, 4)).shape == (7, 1, 4, 4)


def test_parents_must_come_first():
    with pytest.raises(ValueError, match="parents first"):
        chain_of(TREE[::-1])


def torch_chain(chain):
    return type(chain)(torch.tensor(chain.twists), chain.parents)


def test_torch_agrees_and_its_gradient_matches_finite_differences():
    chain = chain_of(TREE)
    p = np.array([[0.3, 0.4, 0.5]])
    q = np.array([0.3, -0.2, 1e-7, 0.1])
    D = with_base(displacements(torch_chain(chain), torch.tensor(q)))
    assert np.allclose(D.numpy(), with_base(displacements(chain, q)))

    def moved(q):
        return transform(displacements(torch_chain(chain), q), torch.tensor(p))

    J = torch.autograd.functional.jacobian(moved, torch.tensor(q)).reshape(-1, 4).numpy()
    step = 1e-6
    columns = []
    for e in np.eye(4):
        ahead, behind = (transform(displacements(chain, q + s * e), p) for s in (step, -step))
        columns.append(((ahead - behind) / (2 * step)).ravel())
    assert np.allclose(J, np.stack(columns, -1), atol=1e-8)
