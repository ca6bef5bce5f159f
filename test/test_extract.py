"""Meshes of signed fields: closed, exact to a fraction of a voxel, thin plates kept, crumbs gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shape_tools import box_sdf

from art_perception.data.categories import NAMES
from art_perception.geometry.mesh import is_watertight, signed_volume, to_manifold
from art_perception.models.census import draw_latent
from art_perception.models.checkpoint import WEIGHTS, load_census, load_kinematic_vae
from art_perception.models.extract import extract_part, extract_parts, mesh_of_field

LOW, HIGH = np.array([-0.4, -0.28, -0.006]), np.array([0.4, 0.28, 0.006])


def plate(points: np.ndarray) -> np.ndarray:
    return box_sdf(points, LOW, HIGH)


def test_a_thin_plate_is_found_whole():
    mesh = mesh_of_field(plate, 128)
    assert is_watertight(mesh)
    np.testing.assert_allclose([mesh.vertices.min(0), mesh.vertices.max(0)], [LOW, HIGH], atol=4e-3)
    assert signed_volume(mesh) == pytest.approx(np.prod(HIGH - LOW), rel=0.05)
    assert np.abs(plate(mesh.vertices)).max() < 4e-3


def test_only_places_near_the_surface_are_asked():
    asked = []

    def counted(points: np.ndarray) -> np.ndarray:
        asked.append(len(points))
        return np.linalg.norm(points, axis=1) - 0.3

    mesh = mesh_of_field(counted, 128)
    assert sum(asked) < 0.3 * 128**3
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.3, atol=2e-4)
    assert is_watertight(mesh)


def test_crumbs_go_and_second_pieces_stay():
    def two(points: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(points - [0.3, 0.3, 0.3], axis=1) - 0.03
        return np.minimum(np.minimum(box_sdf(points, LOW - 0.05, LOW + 0.2), away), plate(points - [0, 0, 0.4]))

    mesh = mesh_of_field(two, 96)
    assert is_watertight(mesh)
    height = mesh.vertices[:, 2]
    assert (height > 0.35).any(), "a second piece of some size belongs to the part"
    assert not ((height > 0.25) & (height < 0.34)).any(), "the crumb is still there"


def test_nothing_inside_is_an_empty_mesh():
    mesh = mesh_of_field(lambda points: np.full(len(points), 0.5), 64)
    assert not len(mesh.faces)


def test_a_point_belongs_to_one_part():
    """Fields of a trained prior overlap; its meshes do not."""
    prior = load_kinematic_vae(WEIGHTS / "kinediff3d_vae.safetensors")[0]
    census = load_census(WEIGHTS / "kinediff3d_census.safetensors")[0]
    for name, seed in (("drawer", 1), ("cabinet", 0)):
        category = NAMES.index(name)
        z, _ = draw_latent(census, category, 0.0, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            shape = prior.decode(z, torch.tensor([category]))
        apart = [to_manifold(mesh) for mesh in extract_parts(prior, shape, 0, 48)]
        together = [to_manifold(extract_part(prior, shape, 0, k, 48)) for k in range(2)]
        assert (together[0] ^ together[1]).volume() > 0.3 * together[1].volume()
        assert (apart[0] ^ apart[1]).volume() < 1e-3 * apart[1].volume()
        assert apart[1].volume() == pytest.approx(together[1].volume()), "what moves keeps everything"
        assert apart[0].volume() > 0.8 * together[0].volume()
