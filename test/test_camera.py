"""Pinhole camera: projection and back, resizing."""

import numpy as np

from art_perception.geometry import camera

K = np.array([[500.0, 0, 320.3], [0, 510.0, 239.1], [0, 0, 1]])


def test_project_inverts_unproject_at_pixel_centres():
    depth = np.random.default_rng(0).uniform(0.5, 4, (48, 64)).astype(np.float32)
    pixels = camera.project(camera.unproject(depth, K).astype(float), K)
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    assert np.allclose(pixels, np.stack([u, v], -1), atol=1e-3)


def test_no_depth_gives_the_origin_and_projection_survives_it():
    points = camera.unproject(np.zeros((4, 5), np.float32), K)
    assert not points.any()
    assert np.isfinite(camera.project(points, K)).all()


def test_resized_camera_sees_the_same_rays():
    half = camera.scaled(K, 0.5)
    point = np.array([0.2, -0.1, 1.5])
    full_pixel, half_pixel = camera.project(point, K), camera.project(point, half)
    assert np.allclose(half_pixel, (full_pixel + 0.5) / 2 - 0.5)  # area-preserving resize
    assert np.allclose(camera.scaled(half, 2), K)
