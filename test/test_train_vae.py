"""Training of the shape prior: the same curve whether killed or not, from Python and from the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shape_tools import slabs, small_bank
from test_cli_errors import refuse
from train_tools import curve, killed_after

from art_perception.cli import train_kinediff3d
from art_perception.cli.main import main
from art_perception.data.clouds import CloudsConfig
from art_perception.data.shape_bank import ShapeBankConfig, load_shape_bank, save_shape_bank
from art_perception.errors import CheckpointError
from art_perception.models.checkpoint import load_kinematic_vae
from art_perception.models.kinematic_vae import KinematicVaeConfig
from art_perception.train import vae
from art_perception.train.run import Optimisation
from art_perception.train.stage import train_stage
from art_perception.train.vae import VaeRecipe, VaeTrainConfig, start_vae, vae_stage

TINY = VaeRecipe(
    model=KinematicVaeConfig(latent=4, encoder=16, code=16, width=16, layers=2, bands=2),
    clouds=CloudsConfig(points=32, labelled=16, queries=16),
    train=VaeTrainConfig(steps=6, batch=3, warmup=2, validate_every=2, validation_objects=6, seed=3),
)


@pytest.fixture(autouse=True, scope="module")
def small_gallery():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae, "_GALLERY_POINTS", 200)
        patch.setattr(vae, "_GALLERY_VOXELS", 12)
        yield


def tiny(**changes) -> VaeRecipe:
    return replace(TINY, train=replace(TINY.train, **changes))


def run(out: Path, recipe: VaeRecipe = TINY, start: Path | None = None) -> dict[str, torch.Tensor]:
    begin = start_vae(start, recipe) if start else None
    path = train_stage(vae_stage(recipe, small_bank(), small_bank(), "cpu", begin), out, "cpu")
    return load_kinematic_vae(path)[0].state_dict()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    out = tmp_path_factory.mktemp("whole")
    return out, run(out)


def test_a_run_leaves_weights_state_and_curve(whole):
    out, _ = whole
    assert {p.name for p in out.iterdir()} == {"vae.safetensors", "state.pt", "curve.csv", "curve.png"}
    rows = curve(out)
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert [int(row["objects"]) for row in rows] == [6, 12, 18]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    _, about = load_kinematic_vae(out / "vae.safetensors")
    assert about["sources"] == ["infinigen", "procedural"]
    assert about["objects"] == 3


def test_killed_and_resumed_is_the_same_run(whole, tmp_path: Path):
    killed_after(3, lambda: run(tmp_path))
    again = run(tmp_path)
    assert all(torch.equal(value, whole[1][name]) for name, value in again.items())
    assert curve(tmp_path) == curve(whole[0])


def test_out_of_time_is_the_same_run_in_pieces(whole, tmp_path: Path):
    for _ in range(3):
        weights = run(tmp_path, tiny(max_minutes=0.0))
    assert all(torch.equal(value, whole[1][name]) for name, value in weights.items())


def test_other_settings_and_other_weights_are_refused(whole, tmp_path: Path):
    (tmp_path / "state.pt").write_bytes((whole[0] / "state.pt").read_bytes())
    with pytest.raises(CheckpointError, match="other settings"):
        run(tmp_path, tiny(rate=1e-4))
    start = whole[0] / "vae.safetensors"
    with pytest.raises(CheckpointError, match="other sizes"):
        run(tmp_path / "wide", replace(TINY, model=replace(TINY.model, width=24)), start)
    kept = run(tmp_path / "kept", tiny(steps=1, validate_every=1, rate=1e-12), start)
    for name, value in kept.items():
        torch.testing.assert_close(value, whole[1][name], atol=1e-6, rtol=0)


def command(out: Path, steps: int = 2) -> list[str]:
    sizes = {"latent": 4, "encoder": 16, "code": 16, "width": 16, "layers": 2, "bands": 2}
    options = {f"model.{name}": value for name, value in sizes.items()}
    options |= {"clouds.points": 32, "clouds.labelled": 16, "clouds.queries": 16}
    options |= {"train.steps": steps, "train.validate-every": 2, "train.batch": 2, "train.validation-objects": 3}
    flags = [text for name, value in options.items() for text in (f"--recipe.{name}", str(value))]
    return ["train", "kinediff3d", "--out", str(out), "--device", "cpu", "--seeds", "1", *flags]


def test_from_the_command_line(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(train_kinediff3d, "training_objects", lambda *_: [("procedural", slabs())])
    monkeypatch.setattr(train_kinediff3d, "HELD_OUT_POINTS", 300)
    flags = ["--shapes.points", "200", "--shapes.queries", "60", "--sdf.voxels", "32"]
    assert main([*command(tmp_path), *flags]) == 0
    names = {"vae.safetensors", "state.pt", "curve.csv", "curve.png", "train_shapes.npz", "val_shapes.npz"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert load_shape_bank(tmp_path / "val_shapes.npz").points.shape == (1, 300, 3)
    printed = capsys.readouterr()
    assert str(tmp_path / "vae.safetensors") in printed.out
    assert "step 2  " in printed.err
    before = (tmp_path / "train_shapes.npz").stat().st_mtime_ns
    assert main([*command(tmp_path), *flags]) == 0
    assert (tmp_path / "train_shapes.npz").stat().st_mtime_ns == before


def test_bad_input_is_one_sentence(tmp_path: Path, capsys):
    for name in ("train_shapes.npz", "val_shapes.npz"):
        save_shape_bank(tmp_path / name, small_bank())
    (tmp_path / "empty").mkdir()
    new = command(tmp_path / "new")
    cases = [
        ([*new, "--stage", "all"], "vae"),
        ([*new, "--assets", tmp_path / "empty"], "holds neither"),
        ([*command(tmp_path), "--sources", "partnet"], "no object of partnet"),
        ([*command(tmp_path), "--init", tmp_path / "nothing"], "does not exist"),
        (["train", "--out", tmp_path / "new", "kinediff3d"], "comes first"),
        (["train", "kinediff3d"], "--out"),
    ]
    for line, word in cases:
        assert word in refuse(line, capsys, tmp_path)


def test_presets_set_defaults_and_keep_what_is_given(tmp_path: Path):
    base = ["kinediff3d", "--out", str(tmp_path)]
    gpu = train_kinediff3d.read_options([*base, "--preset", "gpu", "--recipe.train.seed", "5"])
    assert gpu.recipe == replace(train_kinediff3d.GPU, train=replace(train_kinediff3d.GPU.train, seed=5))
    assert train_kinediff3d.read_options(base).recipe == VaeRecipe()
    assert isinstance(gpu.recipe.train, Optimisation)
    assert gpu.shapes == ShapeBankConfig()
