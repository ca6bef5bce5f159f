"""Meshes of fields: closed, and of nothing but vertices that faces use."""

from __future__ import annotations

import numpy as np

from art_perception.geometry.mesh import is_watertight, smoothed
from art_perception.geometry.voxels import Grid, surface


def test_samples_that_are_exactly_zero_leave_no_loose_vertices():
    """Marching cubes drops faces without area there, and keeps their vertices, on which smoothing fails."""
    field = np.ones((12, 12, 12), np.float32)
    field[3:8, 3:8, 3:8] = -1
    field[8, 4:7, 4:7] = 0
    field[5, 5, 9] = field[9, 9, 9] = 0
    mesh = surface(field, Grid(np.zeros(3), 0.01, field.shape))
    assert np.array_equal(np.unique(mesh.faces), np.arange(len(mesh.vertices)))
    assert is_watertight(mesh)
    assert np.isfinite(smoothed(mesh, 6).vertices).all()
