"""The pose and latent stages: the same curve whether killed or not, from Python and from the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shape_tools import small_bank
from test_cli_errors import refuse
from train_tools import curve, killed_after

from art_perception.cli import train_kinediff3d
from art_perception.cli.main import main
from art_perception.data.clouds import CloudsConfig
from art_perception.data.partial import ViewsConfig
from art_perception.data.shape_bank import save_shape_bank
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import (
    fingerprint,
    load_kinematic_vae,
    load_latent_network,
    load_pose_network,
    save_network,
)
from art_perception.models.kinematic_vae import KinematicVae, KinematicVaeConfig
from art_perception.models.latent_diffusion import FastSamplerConfig, LatentNetwork, LatentNetworkConfig
from art_perception.models.point_encoder import PointEncoderConfig
from art_perception.models.pose_diffusion import PoseNetwork, PoseNetworkConfig, SamplerConfig
from art_perception.train import latent, pose
from art_perception.train.latent import LatentRecipe, LatentTrainConfig, latent_stage, start_latent
from art_perception.train.pose import PoseRecipe, PoseTrainConfig, pose_stage, start_pose
from art_perception.train.stage import train_stage
from art_perception.train.vae import KNOWN

ENCODER = PointEncoderConfig((16, 4), (6, 3), width=16)
VIEWS = ViewsConfig(points=64)
TIMES = {"steps": 4, "batch": 3, "warmup": 2, "validate_every": 2, "seed": 3}
POSE = PoseRecipe(
    PoseNetworkConfig(ENCODER, width=32, layers=1),
    VIEWS,
    sampler=SamplerConfig(3, 1e-2),
    train=PoseTrainConfig(**TIMES, validation_views=6),
)
LATENT = LatentRecipe(
    LatentNetworkConfig(ENCODER, tokens=2, width=16, layers=1, heads=2, steps=50),
    VIEWS,
    CloudsConfig(32, 1, 1),
    sampler=FastSamplerConfig(5),
    train=LatentTrainConfig(**TIMES),
)
VAE = KinematicVaeConfig(latent=4, encoder=16, code=16, width=16, layers=2, bands=2)
Train = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture(autouse=True, scope="module")
def small_census():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose, "_CENSUS", 6)
        patch.setattr(latent, "_CENSUS", 20)
        patch.setattr(latent, "_GALLERY_POINTS", 200)
        patch.setattr(latent, "_GALLERY_VOXELS", 12)
        yield


def vae_at(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_network(path, KinematicVae(VAE, KNOWN), {})
    return path


def run_pose(out: Path, start: Path | None = None, **changes) -> dict[str, torch.Tensor]:
    recipe = replace(POSE, train=replace(POSE.train, **changes))
    begin = start_pose(start, recipe) if start else None
    path = train_stage(pose_stage(recipe, small_bank(), small_bank(), "cpu", begin), out, "cpu")
    return load_pose_network(path)[0].state_dict()


def run_latent(out: Path, start: Path | None = None, seed: int = 0, **changes) -> dict[str, torch.Tensor]:
    recipe = replace(LATENT, train=replace(LATENT.train, **changes))
    prior = load_kinematic_vae(vae_at(out.parent / f"prior_{seed}.safetensors", seed))[0]
    begin = start_latent(start, recipe, prior) if start else None
    path = train_stage(latent_stage(recipe, prior, small_bank(), small_bank(), "cpu", begin), out, "cpu")
    return load_latent_network(path)[0].state_dict()


@pytest.mark.parametrize("train", [run_pose, run_latent])
def test_a_run_in_pieces_and_a_killed_one_are_the_same_run(train: Train, tmp_path: Path):
    whole = train(tmp_path / "whole")
    name = train.__name__.removeprefix("run_")
    files = {f"{name}.safetensors", "state.pt", "curve.csv", "curve.png"}
    assert {p.name for p in (tmp_path / "whole").iterdir()} == files
    rows = curve(tmp_path / "whole")
    assert [(int(row["step"]), int(row["views"])) for row in rows] == [(2, 6), (4, 12)]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    for _ in range(2):
        pieces = train(tmp_path / "pieces", max_minutes=0.0)
    killed_after(3, lambda: train(tmp_path / "killed"))
    killed = train(tmp_path / "killed")
    for other, folder in ((pieces, "pieces"), (killed, "killed")):
        assert all(torch.equal(value, whole[key]) for key, value in other.items())
        assert curve(tmp_path / folder) == rows


def test_another_prior_is_another_run(tmp_path: Path):
    run_latent(tmp_path / "run", max_minutes=0.0)
    network, about = load_latent_network(tmp_path / "run" / "latent.safetensors")
    assert network.prior == fingerprint(load_kinematic_vae(tmp_path / "prior_0.safetensors")[0])
    assert network.config.latent == VAE.latent
    assert about["sources"] == ["infinigen", "procedural"]
    with pytest.raises(CheckpointError, match="other settings"):
        run_latent(tmp_path / "run", max_minutes=0.0, seed=1)


@pytest.mark.parametrize("train", [run_pose, run_latent])
def test_starting_from_weights(train: Train, tmp_path: Path):
    """With a vanishing rate a run stays at what it started from, mean and spread included, and remembers its past."""
    first = train(tmp_path / "first")
    name = train.__name__.removeprefix("run_")
    load = {"pose": load_pose_network, "latent": load_latent_network}[name]
    start = tmp_path / "start.safetensors"
    network = load(tmp_path / "first" / f"{name}.safetensors")[0]
    network.mean += 0.25  # as of other objects: not what is found in those at hand
    save_network(start, network, {"sources": ["partnet"]})
    for given in (start, None):  # the second call has a state to continue from
        kept = train(tmp_path / "kept", given, rate=1e-12, steps=4, max_minutes=0.0)
        _, about = load(tmp_path / "kept" / f"{name}.safetensors")
        assert about["sources"] == ["infinigen", "partnet", "procedural"]
    for key, value in kept.items():
        torch.testing.assert_close(value, first[key] + (0.25 if key == "mean" else 0.0), atol=1e-6, rtol=0)


def test_weights_that_do_not_fit_are_no_start(tmp_path: Path):
    prior, path = load_kinematic_vae(vae_at(tmp_path / "prior"))[0], tmp_path / "start"
    own, sized = fingerprint(prior), replace(LATENT.model, latent=VAE.latent)
    cases = [
        (PoseNetwork(replace(POSE.model, width=48), KNOWN), "other sizes"),
        (PoseNetwork(POSE.model, KNOWN[::-1]), "other categories"),
        (KinematicVae(VAE, KNOWN), "not a kinediff3d --stage pose checkpoint"),
    ]
    for network, word in cases:
        save_network(path, network, {})
        with pytest.raises(CheckpointError, match=word):
            start_pose(path, POSE)
    latents = [
        (LatentNetwork(replace(sized, latent=8), KNOWN, own), "other sizes"),
        (LatentNetwork(sized, KNOWN[::-1], own), "other categories"),
        (LatentNetwork(sized, KNOWN, own + 1), "another shape prior"),
    ]
    for network, word in latents:
        save_network(path, network, {})
        with pytest.raises(CheckpointError, match=word):
            start_latent(path, LATENT, prior)
    save_network(path, LatentNetwork(sized, KNOWN, own), {})
    assert start_latent(path, LATENT, prior).sources == []


def command(out: Path, stage: str, *more: str) -> list[str]:
    options = {"train.steps": 2, "train.validate-every": 2, "train.batch": 2}
    flags = [text for name, value in options.items() for text in (f"--recipe.{name}", str(value))]
    return ["train", "kinediff3d", "--stage", stage, "--out", str(out), "--device", "cpu", *flags, *more]


def test_from_the_command_line(tmp_path: Path, capsys):
    for name in ("train_shapes.npz", "val_shapes.npz"):
        save_shape_bank(tmp_path / name, small_bank())
    few = ("--recipe.train.validation-views", "3", "--recipe.sampler.hypotheses", "2", "--recipe.views.points", "128")
    assert main(command(tmp_path, "pose", *few)) == 0
    printed = capsys.readouterr()
    assert str(tmp_path / "pose.safetensors") in printed.out
    assert "rotation" in printed.err
    (tmp_path / "state.pt").unlink()
    prior = vae_at(tmp_path / "vae.safetensors")
    more = ("--vae", str(prior), "--recipe.views.points", "128", "--recipe.sampler.steps", "3")
    assert "8 tokens" in refuse(command(tmp_path, "latent", *more), capsys, tmp_path)
    assert main(command(tmp_path, "latent", *more, "--recipe.model.tokens", "2")) == 0
    assert "chamfer_own" in capsys.readouterr().err


def test_bad_input_is_one_sentence(tmp_path: Path, capsys, monkeypatch):
    """Wrong weights are said before shapes are packed."""
    monkeypatch.setattr(train_kinediff3d, "training_objects", lambda *_: pytest.fail("shapes are packed"))
    prior = vae_at(tmp_path / "vae.safetensors")
    for name in ("train_shapes.npz", "val_shapes.npz"):
        save_shape_bank(tmp_path / name, small_bank())
    cases = [
        (command(tmp_path, "latent"), "--vae"),
        (command(tmp_path, "latent", "--vae", str(tmp_path / "none")), "does not exist"),
        (command(tmp_path / "new", "pose", "--init", str(prior)), "not a kinediff3d --stage pose checkpoint"),
        (command(tmp_path / "new", "latent", "--vae", str(prior), "--init", "x"), "x does not exist"),
        (command(tmp_path / "new", "vae", "--init", str(prior)), "other sizes"),
        (command(tmp_path, "pose", "--vae", "x"), "--vae"),
        (command(tmp_path, "shape"), "pose"),
    ]
    for line, word in cases:
        assert word in refuse(line, capsys, tmp_path)


def test_presets(tmp_path: Path):
    base = ["kinediff3d", "--out", str(tmp_path), "--stage"]
    options = train_kinediff3d.read_options
    assert options([*base, "pose"]).recipe == PoseRecipe()
    assert options([*base, "pose", "--preset", "gpu"]).recipe == train_kinediff3d.GPU_POSE
    assert options([*base, "latent", "--vae", "x"]).recipe == LatentRecipe()
    assert options([*base, "latent", "--vae", "x", "--preset", "gpu"]).recipe == train_kinediff3d.GPU_LATENT
