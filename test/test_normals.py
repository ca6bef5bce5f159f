"""Normals of depth images: exact on planes, honest at edges, and steady under noise."""

import numpy as np
import pytest

from art_perception.geometry import camera
from art_perception.geometry.normals import disparity_noise, surface_normals

K = np.array([[250.0, 0, 80.3], [0, 255.0, 59.1], [0, 0, 1]])
SHAPE = (120, 160)


def plane(normal, offset_m: float) -> np.ndarray:
    """Depth of the plane ``normal . p = offset_m``."""
    return (offset_m / (camera.rays(SHAPE, K).astype(float) @ normal)).astype(np.float32)


def noisy(depth: np.ndarray, noise: float) -> np.ndarray:
    """Stereo noise: even in inverse depth."""
    return (1 / (1 / depth + np.random.default_rng(0).normal(0, noise, depth.shape))).astype(np.float32)


def angles_deg(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((found * true).sum(-1), -1, 1)))


TILTED = np.array([0.3, -0.4, np.sqrt(0.75)])


def test_normals_of_a_plane_are_exact_and_face_the_camera():
    found = surface_normals(plane(TILTED, 2.0), K, 0.0)
    assert angles_deg(found[2:-2, 2:-2], -TILTED).max() < 0.5
    np.testing.assert_allclose(np.linalg.norm(found[2:-2, 2:-2], axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("noise", [1e-4, 5e-4, 2e-3])
def test_noise_is_measured_whatever_the_surface(noise):
    assert disparity_noise(noisy(plane(TILTED, 2.0), noise)) == pytest.approx(noise, rel=0.05)


def test_noise_of_millimetres_bends_normals_by_few_degrees():
    """Differences of neighbours, 8 mm apart, would be off by 30 deg."""
    depth = noisy(plane(TILTED, 1.7), 2e-3)
    found = surface_normals(depth, K, disparity_noise(depth))
    assert np.median(angles_deg(found[5:-5, 5:-5], -TILTED)) < 3


def test_no_normal_across_a_depth_step_or_in_a_hole():
    depth = np.full(SHAPE, 1.0, np.float32)
    depth[:, 80:] = 2.0
    depth[30, 30] = 0
    found = surface_normals(depth, K, 1e-4)
    assert not found[:, 79:81].any()
    assert not found[30, 30].any()
    flat = found[50, 40:120]
    known = np.abs(flat).sum(-1) > 0
    assert known.mean() > 0.95
    np.testing.assert_allclose(flat[known], np.broadcast_to([0, 0, -1], flat[known].shape), atol=1e-3)


def test_an_edge_between_two_walls_is_not_rounded_far():
    """Three pixels off the corner of a right angle both walls have their own normals."""
    a, b = np.array([np.sqrt(0.5), 0, np.sqrt(0.5)]), np.array([-np.sqrt(0.5), 0, np.sqrt(0.5)])
    depth = noisy(np.minimum(plane(a, 1.0), plane(b, 1.0)), 1e-4)
    found = surface_normals(depth, K, 1e-4)
    corner = int(np.rint(K[0, 2]))
    assert np.quantile(angles_deg(found[10:-10, 10 : corner - 3], -b), 0.9) < 8
    assert np.quantile(angles_deg(found[10:-10, corner + 4 : -10], -a), 0.9) < 8


def test_a_ball_keeps_its_curvature():
    """Normals of a ball of 8 cm at 1 m point away from its middle."""
    rays = camera.rays(SHAPE, K).astype(float)
    middle, radius = np.array([0, 0, 1.0]), 0.08
    length = (rays * rays).sum(-1)
    half = rays @ middle / length
    inside = half**2 - (middle @ middle - radius**2) / length
    depth = np.where(inside > 0, half - np.sqrt(np.maximum(inside, 0)), 0).astype(np.float32)
    found = surface_normals(depth, K, 2e-4)
    true = (camera.unproject(depth, K) - middle) / radius
    known = (np.abs(found).sum(-1) > 0) & (true[..., 2] < -0.5)
    assert known.sum() > 800
    assert np.median(angles_deg(found[known], true[known])) < 3


def test_an_image_without_depth_has_no_normals_and_no_noise():
    empty = np.zeros(SHAPE, np.float32)
    assert disparity_noise(empty) == 0
    assert not surface_normals(empty, K, 0.0).any()
