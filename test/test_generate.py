"""Generation: the census finds kinds again, and new objects are whole, obey their category and load in simulators."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from object_tools import make_joint
from physics_tools import deepest_m, mujoco_ranges
from shape_tools import small_bank

from art_perception.cli.generate import checked_state
from art_perception.cli.main import BAD_INPUT, main
from art_perception.data.categories import CATEGORIES, NAMES
from art_perception.data.shape_bank import ShapeBank
from art_perception.errors import CheckpointError, ObjectError, UsageError
from art_perception.generate import GenerateConfig, generate
from art_perception.geometry.mesh import is_watertight, largest_piece
from art_perception.io.results import read_result
from art_perception.models.census import Census, draw_latent
from art_perception.models.checkpoint import (
    WEIGHTS,
    fingerprint,
    load_census,
    load_kinematic_vae,
    save_census,
    save_network,
)
from art_perception.models.kinematic_vae import KinematicVae, KinematicVaeConfig
from art_perception.train.census import CensusConfig, count_kinds, take_census
from art_perception.train.vae import KNOWN
from art_perception.types import ArticulatedObject, JointType
from art_perception.urdf.check import check_urdf
from art_perception.urdf.reader import load_urdf
from art_perception.urdf.writer import write_urdf

QUICK = GenerateConfig(voxels=48, max_faces=4000)


@pytest.fixture(scope="module")
def shipped() -> tuple[KinematicVae, Census]:
    prior = load_kinematic_vae(WEIGHTS / "kinediff3d_vae.safetensors")[0]
    census, about = load_census(WEIGHTS / "kinediff3d_census.safetensors")
    assert census.prior == fingerprint(prior), "made again with `train kinediff3d --stage census`"
    assert set(about["sources"]) <= {"procedural", "infinigen"}
    return prior, census


def two_kinds(count: int) -> tuple[np.ndarray, ShapeBank]:
    """Latents of small and of large objects, along one direction each."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(count, 1)) * [0.3, 0.1, 0, 0]
    large = np.arange(count) % 4 == 0
    z = np.where(large[:, None], [3.0, 0, 0, 1], [-3.0, 0, 0, 0]) + noise
    sizes = np.where(large, 2.0, 0.5) * np.exp(0.1 * rng.normal(size=count))
    bank = small_bank().subset([0] * count)
    return z.astype(np.float32), replace(bank, size_m=sizes.astype(np.float32))


def test_a_census_finds_kinds_again():
    z, bank = two_kinds(400)
    census = count_kinds(z, bank, CensusConfig(per_kind=200, directions=3), prior=7)
    assert sorted(census.count.tolist()) == [100, 300]
    large = int(census.count.argmin())
    np.testing.assert_allclose(census.mean[large], [3, 0, 0, 1], atol=0.1)
    covariance = census.root[large].T @ census.root[large]
    np.testing.assert_allclose(covariance[:2, :2], [[0.09, 0.03], [0.03, 0.01]], rtol=0.3)
    assert float(covariance[2:].abs().max()) < 1e-6
    assert census.log_size[large, 0].exp() == pytest.approx(2.0, rel=0.05)


def test_draws_have_the_distribution_of_the_census():
    z, bank = two_kinds(400)
    census = count_kinds(z, bank, CensusConfig(per_kind=200, directions=3), prior=7)
    generator, category = torch.Generator().manual_seed(0), int(bank.category[0])
    draws = [draw_latent(census, category, 1.0, generator) for _ in range(2000)]
    drawn, sizes = torch.cat([z for z, _ in draws]).numpy(), np.array([size for _, size in draws])
    large = drawn[:, 0] > 0
    assert large.mean() == pytest.approx(0.25, abs=0.04), "kinds as often as among the objects"
    assert (np.abs(drawn[:, 0]) > 1).all(), "nothing between two kinds"
    assert drawn[large, 0].std() == pytest.approx(0.3, rel=0.15)
    assert np.median(sizes[large]) == pytest.approx(2.0, rel=0.1)
    still = draw_latent(census, category, 0.0, generator)[0]
    assert any(torch.allclose(still[0], mean) for mean in census.mean)


def test_a_census_is_taken_and_belongs_to_its_prior(tmp_path: Path, capsys):
    model = KinematicVae(KinematicVaeConfig(latent=4, encoder=16, code=16, width=16, layers=2, bands=2), KNOWN)
    vae = tmp_path / "kinediff3d_vae.safetensors"
    save_network(vae, model, {})
    path = take_census(model, small_bank(), CensusConfig(), tmp_path)
    census, about = load_census(path)
    assert about["objects"] == len(small_bank().names)
    assert census.category.tolist() == np.unique(small_bank().category).tolist()
    assert census.prior == fingerprint(model)
    save_census(tmp_path / "kinediff3d_census.safetensors", replace(census, prior=census.prior + 1), KNOWN, {})
    command = ["generate", "--category", "laptop", "--out", str(tmp_path / "o"), "--weights", str(tmp_path)]
    assert main(command) == BAD_INPUT
    assert "another shape prior" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="census"):
        load_census(vae)


@pytest.mark.parametrize("category", NAMES)
def test_new_objects_are_whole_and_move(category: str, shipped: tuple[KinematicVae, Census], tmp_path: Path):
    obj = generate(NAMES.index(category), None, *shipped, QUICK)
    assert len(obj.joints) == CATEGORIES[category].movers
    assert all(joint.type is CATEGORIES[category].type for joint in obj.joints)
    assert all(joint.limits[0] == 0 < joint.limits[1] for joint in obj.joints), "zero is shut"
    for part in obj.parts:
        assert is_watertight(part.visual)
        assert largest_piece(part.visual)[1] == 1, "no floating islands"
        assert part.collision
    assert min(part.visual.vertices[:, 2].min() for part in obj.parts) == pytest.approx(0, abs=0.01)
    path = write_urdf(obj, tmp_path)
    assert check_urdf(path) == []
    assert mujoco_ranges(path) == pytest.approx(np.array([joint.limits for joint in obj.joints]), abs=1e-5)
    assert deepest_m(path) < 0.005


def test_a_seed_decides_and_size_scales(shipped: tuple[KinematicVae, Census]):
    def laptop(size_m: float, seed: int) -> ArticulatedObject:
        return generate(NAMES.index("laptop"), size_m, *shipped, replace(QUICK, seed=seed, max_faces=10**6))

    one, two, other = laptop(0.3, 4), laptop(0.6, 4), laptop(0.3, 5)
    for a, b in zip(one.parts, two.parts, strict=True):
        assert np.ptp(b.visual.vertices, axis=0) == pytest.approx(2 * np.ptp(a.visual.vertices, axis=0), rel=0.02)
    assert two.joints[0].limits == pytest.approx(one.joints[0].limits), "an angle has no size"
    shut = np.concatenate([part.visual.vertices for part in one.parts])
    assert np.linalg.norm(np.ptp(shut, axis=0)) == pytest.approx(0.3, rel=0.15)
    assert other.joints[0].limits != one.joints[0].limits


def test_draws_that_fall_to_pieces_are_refused(shipped: tuple[KinematicVae, Census]):
    with pytest.raises(ObjectError, match="none of 2 draws"):
        generate(NAMES.index("box"), None, *shipped, replace(QUICK, spread=30.0, attempts=2))


def test_the_command_writes_a_result_folder(tmp_path: Path, capsys):
    out = tmp_path / "laptop"
    command = ["generate", "--category", "laptop", "--state", "1.2", "--out", str(out), "--seed", "2"]
    assert main([*command, "--size-m", "0.4", "--voxels", "48"]) == 0
    assert "now at 1.20" in capsys.readouterr().out
    result = read_result(out)
    assert result.q.tolist() == [[1.2]]
    assert (result.prior.category, result.prior.used) == ("laptop", "all")
    assert json.loads((out / "result.json").read_text())["joints"][0]["proposed_by"] == "prior"
    assert [joint.name for joint in load_urdf(out / "object.urdf").joints] == ["joint_1"]
    picture = cv2.imread(str(out / "states.png"))
    assert picture.shape == (300, 6 * 300, 3), "five states from shut to open, and the one asked for"
    shut, opened = picture[:260, :300], picture[:260, -300:]
    assert np.abs(shut.astype(int) - opened).mean() > 5
    assert main(["check", str(out)]) == 0


def test_one_state_counts_for_all_joints_and_each_is_checked():
    legs = [
        make_joint(f"joint_{k}", "base", f"part_{k}", JointType.REVOLUTE, [0, 0, 1], np.zeros(3), (0, k))
        for k in (1, 2)
    ]
    assert checked_state((0.5,), legs).tolist() == [0.5, 0.5]
    assert checked_state((0.5, 1.5), legs).tolist() == [0.5, 1.5]
    with pytest.raises(UsageError, match="joint_1: give"):
        checked_state((1.5,), legs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--category", "lamp"], ("'lamp' is unknown", "laptop, eyeglasses")),
        (["--state", "9"], ("outside the limits of joint_1", "give 0.00 to", "rad")),
        (["--state", "-0.1"], ("outside the limits of joint_1",)),
        (["--state", "0.1", "0.2"], ("2 values", "1 joint")),
        (["--size-m", "400"], ("400", "metres")),
        (["--spread", "-2"], ("spread is -2: give 0 to 4",)),
        (["--voxels", "3"], ("voxels is 3: give 16 to 512",)),
        (["--voxels", "16"], ("thinner than a voxel", "--voxels")),
        (["--weights", "nowhere"], ("nowhere", "kinediff3d_vae")),
    ],
)
def test_bad_input_is_one_sentence(change: list[str], words: tuple[str, ...], tmp_path: Path, capsys):
    out = tmp_path / "object"
    assert main(["generate", "--category", "laptop", "--voxels", "64", "--out", str(out), *change]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert all(word in printed.err for word in words), printed.err
    assert not out.exists()
