"""The shape prior's laws: parts are rigid, latents interpolate, one object can be learnt by heart."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from shape_tools import COARSE, box_sdf, small_bank

from art_perception.data.assembly import TURN, Mover, Y, assemble, at
from art_perception.data.clouds import CloudsConfig, draw_shapes
from art_perception.data.model import Material
from art_perception.data.shape_bank import ShapeBank, ShapeBankConfig, make_shape_bank, shapes_of
from art_perception.data.shapes import box
from art_perception.errors import CheckpointError
from art_perception.geometry.kinematics import placed
from art_perception.geometry.lie import transform
from art_perception.geometry.mesh import is_watertight, sample_surface, signed_volume
from art_perception.geometry.points import chamfer
from art_perception.models.checkpoint import WEIGHTS, load_kinematic_vae, save_network
from art_perception.models.extract import extract_part
from art_perception.models.kinematic_vae import (
    KinematicVae,
    KinematicVaeConfig,
    KinematicVaeLoss,
    box_distance,
    divergence,
    joint_error,
    losses,
)
from art_perception.models.sim2art import Sim2Art, Sim2ArtConfig
from art_perception.train.vae import KNOWN
from art_perception.train.validate_vae import chamfers
from art_perception.types import ShapeBatch

CONFIG = KinematicVaeConfig(latent=8, encoder=32, code=48, width=48, layers=2, bands=4)
CLOUDS = CloudsConfig(points=96, labelled=48, queries=128)


def laptops() -> ShapeBank:
    """Two laptops of different thickness and depth."""
    objects = []
    for depth, base in ((0.3, 0.05), (0.4, 0.1)):
        lid = Mover(box((0, -0.2, base), (depth, 0.2, base + 0.04)), TURN, -Y, at(0, 0, base), 2.0)
        objects.append(assemble("laptop", [box((0, -0.2, 0), (depth, 0.2, base))], [lid], [Material((0.5,) * 3)]))
    config = ShapeBankConfig(points=2000, queries=3000)
    return make_shape_bank(shapes_of([("procedural", obj) for obj in objects], config), config, COARSE)


def model(seed: int = 0) -> KinematicVae:
    torch.manual_seed(seed)
    return KinematicVae(CONFIG, KNOWN)


def batch(index: list[int], seed: int = 0, bank: ShapeBank | None = None) -> ShapeBatch:
    return draw_shapes(bank or small_bank(), np.array(index), CLOUDS, np.random.default_rng(seed), "cpu")


@pytest.fixture(scope="module")
def trained() -> tuple[KinematicVae, ShapeBank]:
    """A network that knows two laptops by heart."""
    bank, network = laptops(), model()
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    loss = KinematicVaeLoss(kl=1e-5)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / 400)
        terms = losses(network, batch([0, 1], step, bank), loss, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network.eval(), bank


@torch.no_grad()
def test_a_part_moves_exactly_by_its_joint():
    """Same Z, other A: the distance at a moved place is the distance at rest, for every part and any latent."""
    network, b = model(), batch([0, 1, 2])
    shape = network.decode(torch.randn(3, CONFIG.latent), b.category)
    f_kg = network.motion_code(torch.zeros(3, CONFIG.latent), b.category, b.q)
    x = b.queries[:, 0]
    rest, _ = network(shape, f_kg, b.twists, torch.zeros_like(b.q), x)
    D = placed(b.twists, b.q)
    for k in range(3):
        moved, _ = network(shape, f_kg, b.twists, b.q, transform(D[:, k], x))
        there = shape.present[:, k]
        torch.testing.assert_close(moved[there, k], rest[there, k], atol=2e-5, rtol=0)
    assert torch.isinf(rest[~shape.present]).all()
    assert torch.isfinite(rest[shape.present]).all()


@torch.no_grad()
def test_the_joint_state_reaches_labels_and_state_only():
    network, b = model(), batch([0, 1, 2])
    z = torch.randn(3, CONFIG.latent)
    shape = network.decode(z, b.category)
    codes = [network.motion_code(z, b.category, q) for q in (b.q, b.q + 0.3)]
    (d0, l0), (d1, l1) = (network(shape, code, b.twists, b.q, b.points) for code in codes)
    torch.testing.assert_close(d0, d1)
    assert not torch.allclose(l0, l1)
    assert not torch.allclose(*map(network.predicted_state, codes))


@torch.no_grad()
def test_what_is_absent_is_out_of_play():
    network, b = model(), batch([0, 1, 2])
    shape = network.decode(torch.randn(3, CONFIG.latent), b.category)
    assert torch.equal(shape.present, b.present)
    assert not shape.joints.twists[~b.present[:, 1:]].any()
    slides = shape.joints.twists[2, 0]
    assert not slides[3:].any()
    torch.testing.assert_close(slides[:3], shape.joints.axis[2, 0])
    _, logits = network(shape, network.motion_code(torch.zeros(3, 8), b.category, b.q), b.twists, b.q, b.points)
    assert (logits.softmax(1)[~b.present] == 0).all()


def test_distances_to_a_box_are_exact_and_an_untrained_part_is_its_box():
    x = 2 * torch.rand(2, 400, 3) - 1
    corners = torch.tensor([[[-0.3, -0.2, 0.1], [0.4, 0.5, 0.2]], [[0.0, 0.0, 0.0], [0.1, 0.6, 0.3]]])
    for points, (low, high), found in zip(x, corners, box_distance(x, corners), strict=True):
        np.testing.assert_allclose(found, box_sdf(points.numpy(), low.numpy(), high.numpy()), atol=1e-6)
    network, b = model(), batch([0])
    shape = network.decode(torch.zeros(1, CONFIG.latent), b.category)
    part = torch.tensor([0, 1])
    found = network.part_distance(shape, part, x)
    assert (found - box_distance(x, shape.boxes[0, part])).abs().max() < 0.1


def test_every_parameter_learns():
    network = model()
    terms = losses(network, batch([0, 1, 2]), KinematicVaeLoss(), torch.Generator().manual_seed(0))
    assert set(terms) == {"sdf", "label", "state", "joint", "box", "kl"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_divergence_and_joint_error_are_zero_where_they_should_be():
    zero = torch.zeros(2, 8)
    prior = torch.full((2, 8), 2 * np.log(0.25), dtype=torch.float32)
    torch.testing.assert_close(divergence(zero, prior, 0.25), torch.zeros(2), atol=1e-5, rtol=0)
    assert (divergence(zero + 0.1, prior, 0.25) > 0.1).all()
    assert (divergence(zero, prior - 1, 0.25) > 0.1).all()
    b, shape = batch([0, 1, 2]), model().decode(torch.randn(3, 8), torch.tensor([0, 1, 4]))
    same = replace(shape.joints, direction=b.axis, origin=b.origin + 0.7 * b.axis, upper=b.upper)
    assert joint_error(same, b).max() < 1e-5, "the origin may slide along the axis"
    flipped = (-b.axis).requires_grad_()
    joint_error(replace(same, direction=flipped), b)[0, 0].backward()
    assert flipped.grad[0, 0].norm() > 0.5, "an axis of the wrong sign is stuck"
    assert joint_error(replace(same, origin=b.origin + 0.1 * b.axis.roll(1, -1)), b)[0, 0] > 0.05


@torch.no_grad()
def test_learnt_by_heart(trained):
    network, bank = trained
    b = batch([0, 1], 999, bank)
    z, _ = network.encode(b.cloud, b.cloud_label, b.q_cloud, b.category)
    shape = network.decode(z, b.category)
    rows = b.present.flatten().nonzero()[:, 0]
    error = (network.part_distance(shape, rows, b.queries.flatten(0, 1)[rows]) - b.sdf.flatten(0, 1)[rows]).abs()
    assert error[b.sdf.flatten(0, 1)[rows].abs() < 0.02].mean() < 0.005
    assert joint_error(shape.joints, b)[:, 0].max() < 0.1
    state = network.predicted_state(network.motion_code(z, b.category, b.q))
    assert (state - b.q)[:, 0].abs().max() < 0.2
    _, logits = network(shape, network.motion_code(z, b.category, b.q), shape.joints.twists, b.q, b.points)
    assert (logits.argmax(1) == b.label).float().mean() > 0.85, "a shut lid touches the base"


@torch.no_grad()
def test_meshes_are_closed_and_near_the_truth(trained):
    network, bank = trained
    gallery = draw_shapes(bank, np.array([0, 1]), CloudsConfig(128, 4000, 1), np.random.default_rng(5), "cpu")
    assert max(chamfers(network, gallery, 48)) < 26, "10 is the spacing of the samples"
    shape = network.decode(
        network.encode(gallery.cloud, gallery.cloud_label, gallery.q_cloud, gallery.category)[0], gallery.category
    )
    for k in range(2):
        mesh = extract_part(network, shape, 0, k, 64)
        assert is_watertight(mesh)
        assert signed_volume(mesh) > 0


@torch.no_grad()
def test_interpolation_is_continuous(trained):
    """Between two objects volume and shape change in small steps, each well below the whole way."""
    network, bank = trained
    b = batch([0, 1], 7, bank)
    z, _ = network.encode(b.cloud, b.cloud_label, b.q_cloud, b.category)
    between = torch.stack([torch.lerp(z[0], z[1], w) for w in torch.linspace(0, 1, 7)])
    shape = network.decode(between, b.category[:1].expand(7))
    meshes = [extract_part(network, shape, i, 0, 40) for i in range(7)]
    volume = np.array([signed_volume(m) for m in meshes])
    steps = np.abs(np.diff(volume))
    assert steps.max() < 0.6 * max(abs(volume[-1] - volume[0]), 0.02)
    clouds = [torch.tensor(sample_surface(m, 3000, np.random.default_rng(0))).float() for m in meshes]
    far = chamfer(clouds[0], clouds[-1])
    hops = torch.stack([chamfer(a, c) for a, c in pairwise(clouds)])
    assert hops.max() < 0.6 * far


def test_checkpoint_round_trip(tmp_path: Path):
    path = tmp_path / "vae.safetensors"
    network = model()
    half = copy.deepcopy(network).half()
    save_network(path, half, {"sources": ["procedural"]})
    again, about = load_kinematic_vae(path)
    assert about == {"sources": ["procedural"]}
    assert (again.config, again.categories) == (CONFIG, KNOWN)
    expected = copy.deepcopy(network)
    expected.load_state_dict(half.state_dict())
    for name, value in again.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected.state_dict()[name]), name


def test_other_networks_are_refused(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_network(path, Sim2Art(Sim2ArtConfig()), {})
    with pytest.raises(CheckpointError, match="not a kinediff3d checkpoint"):
        load_kinematic_vae(path)
    with pytest.raises(CheckpointError, match="train kinediff3d"):
        load_kinematic_vae(tmp_path / "none.safetensors")


def test_shipped_weights_are_light_free_and_decode_closed_parts():
    path = WEIGHTS / "kinediff3d_vae.safetensors"
    prior, about = load_kinematic_vae(path)
    assert path.stat().st_size <= 25e6
    assert prior.config == KinematicVaeConfig(), "training cannot go on from them with the preset"
    assert prior.categories == KNOWN
    assert "partnet" not in about["sources"]
    laptop = torch.tensor([[info.name for info in KNOWN].index("laptop")])
    drawn = draw_shapes(laptops(), np.array([0]), CloudsConfig(points=1024), np.random.default_rng(0), "cpu")
    with torch.no_grad():
        z, _ = prior.encode(drawn.cloud, drawn.cloud_label, drawn.q_cloud, laptop)
        parts = [extract_part(prior, prior.decode(z, laptop), 0, k, 48) for k in range(2)]
    assert all(is_watertight(part) and signed_volume(part) > 0 for part in parts)
