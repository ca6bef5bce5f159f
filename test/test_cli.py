"""The command line: help, typing errors, and every command once on a clip small enough to be quick."""

import csv
import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from art_perception.cli import evaluate, run
from art_perception.cli.main import BAD_INPUT, SUMMARIES, find_command, main
from art_perception.errors import UsageError
from art_perception.io.results import read_labels, read_result
from art_perception.urdf.check import check_urdf
from art_perception.urdf.reader import load_urdf

SAMPLE = files("art_perception") / "data_files" / "laptop.mcap"
HEAVY = {"numpy", "scipy", "torch", "open3d", "cv2", "tyro", "viser", "yourdfpy", "coacd", "matplotlib", "rclpy"}


@pytest.fixture(scope="module")
def demo(sample_run, tmp_path_factory):
    """Result folder of `demo`, which other commands then use; the estimator's part of it was computed before."""
    out = tmp_path_factory.mktemp("demo") / "result"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "reconstruct", lambda *_: sample_run.reconstruction)
        assert main(["demo", "--out", str(out)]) == 0
    return out


def error_line(capsys) -> str:
    """The single line that a failed command printed."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("art-perception: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_help_lists_the_commands_and_loads_nothing():
    code = f"import sys; from art_perception.cli.main import main; main(['--help']); print({HEAVY} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {command} " in printed for command in SUMMARIES)
    assert printed.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", [c for c in SUMMARIES if c != "doctor"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code in (0, None)
    assert f"usage: art-perception {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "evaluate", "simulate", "track", "view", "check"])
def test_every_option_is_described(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = re.sub(r", --[\w.-]+", "", capsys.readouterr().out)  # the second name of a switch
    entries = re.sub(r"[─╭╮╰╯│]|-{4,}", " ", text).split(" --")[1:]
    described = {entry.split()[0]: re.findall(r" [a-z]{3,}", entry.split("(default")[0]) for entry in entries}
    assert not [option for option, words in described.items() if not words]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("rnu", "did you mean run?"),
        ("frobnicate", "choose one of demo, run"),
        ("run BAG --ou DIR", "--out"),
        ("run BAG --out DIR --config.window.max-frame 3", "did you mean --config.window.max-frames?"),
        ("run BAG --out DIR --config.window.max-frames many", "--config.window.max-frames: invalid literal"),
        ("run BAG --out DIR --recording.pose-source tpic", "'topic', 'odom', 'tf', 'static'"),
        ("run BAG", "--out"),
        ("simulate --out DIR --category latop", "laptop"),
    ],
)
def test_typing_errors_are_one_line_with_the_valid_choice(line, hint, capsys):
    assert main(line.split()) == BAD_INPUT
    assert hint in error_line(capsys)


def test_every_summary_is_a_command():
    for name in SUMMARIES:
        assert callable(find_command(name))
    with pytest.raises(UsageError):
        find_command("train_")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/contract.md", "docs/training.md"])
def test_documents_name_existing_commands(document):
    text = (Path(__file__).parents[1] / document).read_text()
    assert set(re.findall(r"art-perception (\w+)", text)) - {"COMMAND"} <= set(SUMMARIES)


def test_missing_library_names_the_doctor(monkeypatch, capsys):
    def broken(_: list[str]) -> int:
        raise ImportError("libusb-1.0.so.0: cannot open shared object file", name="open3d")

    monkeypatch.setattr("art_perception.cli.check.main", broken)
    assert main(["check", "anything"]) == BAD_INPUT
    assert "art-perception doctor" in error_line(capsys)


def test_demo_writes_a_complete_result(demo):
    assert {p.name for p in demo.iterdir()} == {"object.urdf", "meshes", "result.json", "labels.npz", "report.html"}
    assert check_urdf(demo / "object.urdf") == []
    result, labels = read_result(demo), read_labels(demo)
    assert len(result.joints) >= 1
    assert np.isfinite(result.q).all()
    assert result.q.shape == (45, len(result.joints))
    assert labels.point.shape == (*labels.part.shape, 3)
    assert labels.part.max() <= len(result.joints)
    assert {"reading", "tracking", "total"} <= set(result.seconds)
    assert [j.name for j in load_urdf(demo / "object.urdf").joints] == [j.name for j in result.joints]


def test_demo_finds_the_hinge(demo):
    score = evaluate.score_folder("demo", demo, SAMPLE, evaluate.require_truth(SAMPLE), "laptop", 0.0)
    assert score.success
    assert score.joints[0].axis_deg < 2
    assert score.joints[0].position_cm < 2


def test_check(demo, capsys, tmp_path):
    assert main(["check", str(demo)]) == 0
    assert "good" in capsys.readouterr().out
    (tmp_path / "bad.urdf").write_text((demo / "object.urdf").read_text())
    assert main(["check", str(tmp_path / "bad.urdf")]) == 1
    assert "problem" in capsys.readouterr().out


def test_track_follows_the_model_through_the_clip(demo, capsys, tmp_path):
    assert main(["track", str(demo / "object.urdf"), str(SAMPLE), "--out", str(tmp_path / "states.csv")]) == 0
    assert "tracked" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "states.csv").open()))
    q = np.array([float(row["joint_1"]) for row in rows])
    assert len(rows) == 45
    assert np.median(np.abs(q - read_result(demo).q[:, 0])) < np.deg2rad(3)


def test_evaluate_scores_every_clip_and_drops_none(demo, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "run_apart", lambda bag, folder, config, recording: outcomes.pop(0))
    outcomes = [(None, 321.0), ("the process died with exit code -9 (-9: out of memory?)", 0.0)]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00_laptop").symlink_to(demo)
    assert main(["evaluate", str(SAMPLE), str(SAMPLE), "--out", str(tmp_path / "out")]) == 0
    assert "no result for 01_laptop: the process died" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["summary"]["clips"] == 2
    assert metrics["summary"]["crashed"] == 1
    assert [clip["success"] for clip in metrics["clips"]] == [True, False]
    rows = list(csv.DictReader((tmp_path / "out" / "metrics.csv").open()))
    assert [row["clip"] for row in rows] == ["00_laptop", "01_laptop"]


def test_a_clip_that_fails_in_its_own_process_says_why(tmp_path):
    error, memory_mb = evaluate.run_apart(tmp_path / "none", tmp_path / "out", evaluate.Config(), evaluate.Recording())
    assert "does not exist" in error
    assert memory_mb > 10


class Crash:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_clip_that_kills_its_process_is_told_apart():
    error, _ = evaluate.run_apart(Crash(), Path("out"), evaluate.Config(), evaluate.Recording())
    assert "died with exit code 3" in error


def test_simulate_then_read(capsys, tmp_path):
    out = tmp_path / "bag"
    small = ["--clip.frames", "3", "--clip.width", "96", "--clip.height", "72"]
    assert main(["simulate", "--category", "cabinet", "--seed", "2", "--out", str(out), *small]) == 0
    assert "3 frames" in capsys.readouterr().out
    assert evaluate.require_truth(out).q.shape[0] == 3


def test_simulate_an_asset_folder(demo, capsys, tmp_path):
    small = ["--clip.frames", "2", "--clip.width", "96", "--clip.height", "72"]
    assert main(["simulate", "--asset", str(demo), "--out", str(tmp_path / "bag"), *small]) == 0
    assert "2 frames" in capsys.readouterr().out


def test_doctor_runs_without_libraries(tmp_path):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise ImportError('broken on purpose')")
    command = [sys.executable, "-c", "from art_perception.cli.main import main; raise SystemExit(main(['doctor']))"]
    path = f"{tmp_path}:{files('art_perception').parent}"
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"})
    assert done.returncode == 1, done.stderr
    assert "FAIL  numpy" in done.stdout
    assert "broken on purpose" in done.stdout
    assert "Traceback" not in done.stderr
