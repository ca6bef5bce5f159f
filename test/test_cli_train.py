"""``art-perception train``: a whole run, one in two processes, presets, and bad input."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_cli_errors import refuse

from art_perception.cli import train
from art_perception.cli.main import main
from art_perception.data.bank import load_bank
from art_perception.errors import CheckpointError, UsageError
from art_perception.models.checkpoint import load_sim2art
from art_perception.models.sim2art import BASE, Sim2ArtConfig
from art_perception.train.curve import read_rows
from art_perception.train.sim2art import TrainConfig

ROOT = Path(__file__).parents[1]
SIZES = {"width": 16, "layers": 1, "query-layers": 1, "heads": 2, "keypoints": 4, "neighbours": 4} | {
    "frames": 4,
    "points": 48,
}
SCHEDULE = {"steps": 4, "validate-every": 2, "fresh": 2, "lags": 0, "warmup": 1, "validation-windows": 8}


def command(out: Path, **schedule: float | str) -> list[str]:
    """A tiny run with procedural objects."""
    options = {f"model.{name}": value for name, value in SIZES.items()}
    options |= {f"train.{name.replace('_', '-')}": value for name, value in (SCHEDULE | schedule).items()}
    flags = [text for name, value in options.items() for text in (f"--recipe.{name}", *str(value).split())]
    return ["train", "sim2art", "--out", str(out), "--seeds", "1", "--device", "cpu", *flags]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(command(out)) == 0
    return out


def test_a_run_from_the_command_line(finished: Path):
    names = {"sim2art.safetensors", "state.pt", "curve.csv", "curve.png", "train_objects.npz", "val_objects.npz"}
    assert {p.name for p in finished.iterdir()} == names
    assert [row["step"] for row in read_rows(finished / "curve.csv")] == [2, 4]
    model, _ = load_sim2art(finished / "sim2art.safetensors")
    assert model.config == Sim2ArtConfig(**{name.replace("-", "_"): value for name, value in SIZES.items()})


def test_held_out_objects_are_others(finished: Path):
    training, held_out = (load_bank(finished / f"{split}_objects.npz") for split in ("train", "val"))
    assert not set(training.names) & set(held_out.names)


def test_the_same_command_again_has_nothing_left_to_do(finished: Path, capsys):
    before = {p.name: p.read_bytes() for p in finished.iterdir()}
    assert main(command(finished)) == 0
    printed = capsys.readouterr()
    assert str(finished / "sim2art.safetensors") in printed.out
    assert printed.err == ""
    assert {p.name: p.read_bytes() for p in finished.iterdir()} == before


def test_rows_are_reported_while_it_runs(finished: Path, capsys, tmp_path: Path):
    for name in ("train_objects.npz", "val_objects.npz"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    assert main(command(tmp_path)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"step (\d+)  windows_per_s \S+  loss \S+  miou ", line).group(1) for line in lines] == ["2", "4"]


def test_bad_input_is_one_sentence_and_leaves_nothing(finished: Path, capsys, tmp_path: Path):
    new = command(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").write_text("not weights")
    cases = [
        ([*new, "--sources", "shapenet"], "procedural"),
        ([*new, "--assets", tmp_path / "empty"], "holds neither"),
        ([*new, "--recipe.windows.frames", "9"], "--recipe.model.frames"),
        ([*new, "--recipe.model.appearance", "384"], "leave it at 0"),
        ([*new, "--preset", "tpu"], "gpu"),
        (["train", "kinediff", "--out", tmp_path / "new"], "sim2art"),
        (["train", "sim2art"], "--out"),
        ([*command(finished), "--assets", ROOT, "--recipe.train.rate", "1e-4"], "packed without --assets"),
        ([*command(finished), "--recipe.train.rate", "1e-4"], "other settings"),
        ([*command(finished), "--sources", "partnet"], "no object of partnet"),
        ([*command(finished), "--init", tmp_path / "nothing"], "does not exist"),
        ([*command(finished), "--init", tmp_path / "foreign"], "not a sim2art checkpoint"),
        ([*command(finished), "--init", finished / "sim2art.safetensors", "--recipe.model.width", "32"], "other sizes"),
    ]
    for line, word in cases:
        assert word in refuse(line, capsys, tmp_path)


def test_a_gpu_that_is_not_there(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cpu" in refuse([*command(tmp_path / "new"), "--device", "cuda"], capsys, tmp_path)


def test_sources_choose_among_the_packed_objects(finished: Path, tmp_path: Path):
    bank = load_bank(finished / "train_objects.npz")
    options = train.read_options([*command(finished)[1:], "--sources", "procedural"])
    assert train.packed(options, "train").names == bank.names


def test_presets_set_defaults_and_keep_what_is_given(tmp_path: Path):
    base = ["sim2art", "--out", str(tmp_path)]
    gpu = train.preset(train.read_options([*base, "--preset", "gpu"]))
    assert gpu.model == BASE
    assert (gpu.windows.frames, gpu.windows.points) == (BASE.frames, BASE.points)
    assert gpu.train.steps > TrainConfig().steps
    changed = train.preset(train.read_options([*base, "--preset=gpu", "--recipe.train.seed", "5"]))
    assert changed.train.seed == 5
    assert changed.train.steps == gpu.train.steps, "giving one option changed another"
    small = train.preset(train.read_options([*base, "--recipe.model.frames", "8"]))
    assert small.windows.frames == 8
    assert small.train == TrainConfig()
    with pytest.raises(UsageError, match="Missing value"):
        train.read_options([*base, "--preset"])


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_every_option_is_described(preset: str, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--preset", preset, "--help"])
    text = re.sub(r", --[\w.-]+", "", capsys.readouterr().out)
    entries = re.sub(r"[─╭╮╰╯│]|-{4,}", " ", text).split(" --")[1:]
    described = {entry.split()[0]: re.findall(r" [a-z]{3,}", entry.split("(default")[0]) for entry in entries}
    assert {"out", "assets", "sources", "init", "recipe.train.steps", "recipe.loss.field"} <= set(described)
    assert not [option for option, words in described.items() if not words]


TWO_PROCESSES = """
import os, sys
import torch
from art_perception.cli.main import main
from art_perception.train import stage

advance, kept = stage._advance, {}

def watched(run, *rest):
    kept["run"] = run
    return advance(run, *rest)

stage._advance = watched
code = main(sys.argv[2:])
weights = {**kept["run"].model.state_dict(), **{f"average.{k}": v for k, v in kept["run"].average.items()}}
torch.save(weights, f"{sys.argv[1]}/rank{os.environ['RANK']}.pt")
sys.exit(code)
"""


def test_two_processes_hold_the_same_weights_and_learn(finished: Path, tmp_path: Path):
    script, out = tmp_path / "two.py", tmp_path / "out"
    script.write_text(TWO_PROCESSES)
    line = command(out, steps=15, validate_every=5, fresh=4, lags="0 2", rate=3e-3)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*launcher, script, tmp_path, *line], check=True, cwd=ROOT, env=environment, timeout=300)
    one, two = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows = read_rows(out / "curve.csv")
    assert [row["windows"] for row in rows] == [80, 160, 240]
    assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]
    shipped = load_sim2art(out / "sim2art.safetensors")[0].state_dict()
    assert all(torch.equal(one[f"average.{name}"], value) for name, value in shipped.items())
    with pytest.raises(CheckpointError, match="other settings"):  # one process alone would be another run
        train.main(line[1:])
