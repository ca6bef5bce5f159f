"""Lie groups: group axioms with a third of the samples near 0 and a third near pi, NumPy and torch alike."""

import numpy as np
import pytest
import torch

from art_perception.geometry import lie

NEAR_ZERO = [0.0, 1e-12, 1e-8, 1e-5, 9.9e-5, 1.1e-4, 1e-3]
NEAR_PI = [np.pi, np.pi - 1e-12, np.pi - 1e-8, np.pi - 1e-5, np.pi - 1e-3]


def rotation_vectors(count=300, seed=0):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=(count, 3))
    axis[: count // 10] = np.eye(3)[rng.integers(0, 3, count // 10)] * rng.choice([-1, 1], (count // 10, 1))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.uniform(0, np.pi, count)
    angle[::3] = rng.choice(NEAR_ZERO, len(angle[::3]))
    angle[1::3] = rng.choice(NEAR_PI, len(angle[1::3]))
    return axis * angle[:, None]


def twists(count=300, seed=0):
    v = np.random.default_rng(seed + 1).normal(size=(count, 3))
    return np.concatenate([v, rotation_vectors(count, seed)], 1)


def test_rotations_are_orthonormal_with_determinant_one():
    R = lie.exp_so3(rotation_vectors())
    assert np.allclose(R @ R.swapaxes(-1, -2), np.eye(3), atol=1e-14)
    assert np.allclose(np.linalg.det(R), 1)


def test_log_inverts_exp_of_rotations():
    w = rotation_vectors()
    back = lie.log_so3(lie.exp_so3(w))
    assert (np.linalg.norm(back, axis=1) <= np.pi + 1e-12).all()
    assert np.allclose(lie.exp_so3(back), lie.exp_so3(w), atol=1e-13)
    inside = np.linalg.norm(w, axis=1) < np.pi - 1e-4  # at pi both signs are right
    assert np.allclose(back[inside], w[inside], atol=1e-11)


def test_log_inverts_exp_of_transforms():
    xi = twists()
    T = lie.exp_se3(xi)
    assert np.allclose(lie.exp_se3(lie.log_se3(T)), T, atol=1e-11)
    inside = np.linalg.norm(xi[:, 3:], axis=1) < np.pi - 1e-4
    assert np.allclose(lie.log_se3(T)[inside], xi[inside], atol=1e-9)


def test_exp_is_the_matrix_exponential():
    from scipy.linalg import expm

    for xi in twists(30):
        generator = np.zeros((4, 4))
        generator[:3, :3], generator[:3, 3] = lie.hat(xi[3:]), xi[:3]
        assert np.allclose(lie.exp_se3(xi), expm(generator), atol=1e-12)


def test_group_axioms():
    A, B, C = (lie.exp_se3(twists(100, seed)) for seed in range(3))
    assert np.allclose(lie.inverse(A) @ A, np.eye(4), atol=1e-12)
    assert np.allclose(A @ (B @ C), (A @ B) @ C, atol=1e-12)
    assert np.allclose(lie.inverse(A @ B), lie.inverse(B) @ lie.inverse(A), atol=1e-12)


def test_one_parameter_subgroups_add():
    xi = twists(100)
    assert np.allclose(lie.exp_se3(0.3 * xi) @ lie.exp_se3(0.7 * xi), lie.exp_se3(xi), atol=1e-12)


def test_adjoint_moves_twists_between_frames():
    T, xi = lie.exp_se3(twists(100, 1)), twists(100, 2)
    moved = (lie.adjoint(T) @ xi[..., None])[..., 0]
    assert np.allclose(lie.exp_se3(moved), T @ lie.exp_se3(xi) @ lie.inverse(T), atol=1e-11)


def test_transform_agrees_with_homogeneous_product():
    T, p = lie.exp_se3(twists(50)), np.random.default_rng(0).normal(size=(50, 7, 3))
    homogeneous = np.concatenate([p, np.ones((50, 7, 1))], -1)
    assert np.allclose(lie.transform(T, p), (homogeneous @ T.swapaxes(-1, -2))[..., :3])


def test_quaternions_round_trip_and_agree_with_scipy():
    from scipy.spatial.transform import Rotation

    R = lie.exp_so3(rotation_vectors())
    q = lie.quaternion_from_matrix(R)
    assert (q[:, 0] >= 0).all()
    assert np.allclose(lie.matrix_from_quaternion(q), R, atol=1e-14)
    assert np.allclose(lie.matrix_from_quaternion(-3 * q), R, atol=1e-14)
    reference = Rotation.from_matrix(R).as_quat(scalar_first=True)
    assert np.allclose(np.abs((q * reference).sum(1)), 1)


def test_interpolation_hits_both_ends_and_moves_at_constant_speed():
    A, B = lie.exp_se3(twists(20, 3)), lie.exp_se3(0.5 * twists(20, 4))
    assert np.allclose(lie.interpolate(A, B, 0.0), A, atol=1e-12)
    assert np.allclose(lie.interpolate(A, B, 1.0), B, atol=1e-10)
    middle = lie.interpolate(A, B, 0.5)
    assert np.allclose(lie.inverse(A) @ middle, lie.inverse(middle) @ B, atol=1e-10)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (lie.exp_so3, rotation_vectors(60)),
        (lie.exp_se3, twists(60)),
        (lie.log_so3, lie.exp_so3(rotation_vectors(60))),
        (lie.log_se3, lie.exp_se3(twists(60))),
        (lie.inverse, lie.exp_se3(twists(60))),
        (lie.adjoint, lie.exp_se3(twists(60))),
        (lie.quaternion_from_matrix, lie.exp_so3(rotation_vectors(60))),
        (lie.matrix_from_quaternion, lie.quaternion_from_matrix(lie.exp_so3(rotation_vectors(60)))),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_torch_and_numpy_agree(function, argument):
    result = function(torch.tensor(argument))
    assert isinstance(result, torch.Tensor)
    assert np.allclose(result.numpy(), function(argument), atol=1e-12)


def test_torch_and_numpy_transform_and_interpolate_agree():
    T, U, p = lie.exp_se3(twists(9)), lie.exp_se3(twists(9, 5)), np.random.default_rng(0).normal(size=(9, 4, 3))
    assert np.allclose(lie.transform(torch.tensor(T), torch.tensor(p)).numpy(), lie.transform(T, p))
    assert np.allclose(lie.interpolate(torch.tensor(T), torch.tensor(U), 0.3).numpy(), lie.interpolate(T, U, 0.3))


def finite_difference(function, x, step=1e-6):
    columns = [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(x.size)]
    return np.stack([c.ravel() for c in columns], -1)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 0.5, 2.0, np.pi - 1e-3])
def test_gradient_of_exp_matches_finite_differences(angle):
    xi = np.array([0.3, -0.2, 0.5, *(angle * np.array([0.6, 0.0, -0.8]))])
    exact = torch.autograd.functional.jacobian(lie.exp_se3, torch.tensor(xi)).reshape(16, 6).numpy()
    assert np.allclose(exact, finite_difference(lie.exp_se3, xi), atol=1e-8)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 0.5, 2.0, np.pi - 1e-2])
def test_gradient_of_log_after_exp_is_the_identity(angle):
    xi = torch.tensor([0.3, -0.2, 0.5, *(angle * np.array([0.6, 0.0, -0.8]))])
    J = torch.autograd.functional.jacobian(lambda x: lie.log_se3(lie.exp_se3(x)), xi)
    assert np.allclose(J.numpy(), np.eye(6), atol=1e-6)
