"""Bad input through the command line: one sentence, exit code 2, nothing left behind; and writes that are cut short."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from bag_tools import COLOR, DEPTH, INFO, POSE, Recorded, make_frames, messages, write_bag

from art_perception.cli import run
from art_perception.cli.main import BAD_INPUT, main
from art_perception.io import encode
from art_perception.io.bag import BagWriter, read_frames
from art_perception.pipeline import Config

ROOT = Path(__file__).parents[1]
SAMPLE = Path(str(files("art_perception") / "data_files" / "laptop.mcap"))
CLIP = [recorded for frame in make_frames(8) for recorded in messages(frame)]


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def refuse(arguments: list[str | Path], capsys, watched: Path) -> str:
    """Expect a command to fail in one line and to leave ``watched`` as it was; return the line."""
    before = tree(watched)
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("art-perception: ")
    assert printed.err.count("\n") == 1
    assert tree(watched) == before
    return printed.err


def changed(topic: str, change) -> list[Recorded]:
    """The clip with every message of a topic changed."""
    return [(t, stamp, change(message) if t == topic else message) for t, stamp, message in CLIP]


def with_depth_size(rows: int, columns: int):
    return lambda m: encode.depth_image(m.header, np.ones((rows, columns), np.float32), "16UC1")


def with_nan_position(message):
    position = replace(message.pose.position, x=float("nan"))
    return replace(message, pose=replace(message.pose, position=position))


def backwards() -> list[Recorded]:
    """Colour, depth and pose stamps that go back halfway through."""
    frames = make_frames(8)
    order = [*frames[4:], *frames[:4]]
    return [(topic, i, message) for i, frame in enumerate(order) for topic, _, message in messages(frame)]


BAD_CLIPS = {
    "no depth": ([r for r in CLIP if r[0] != DEPTH], "no depth"),
    "no camera info": ([r for r in CLIP if r[0] != INFO], "no camera info"),
    "no pose": ([r for r in CLIP if r[0] != POSE], "no camera pose"),
    "no colour": ([r for r in CLIP if r[0] != COLOR], "no colour"),
    "depth of another size": (changed(DEPTH, with_depth_size(24, 32)), "align"),
    "unknown depth encoding": (changed(DEPTH, lambda m: replace(m, encoding="8UC1")), "8UC1"),
    "zero depth": (changed(DEPTH, lambda m: replace(m, data=np.zeros_like(m.data))), "zero"),
    "zero K": (changed(INFO, lambda m: replace(m, k=np.zeros(9))), "K"),
    "NaN pose": (changed(POSE, with_nan_position), "pose"),
    "time goes back": (backwards(), "back"),
    "one frame": (CLIP[:4], "1 usable frame"),
    "empty mask": (
        [r for f in make_frames(8, mask=True) for r in messages(replace(f, mask=np.zeros_like(f.mask)))],
        "mask",
    ),
}


@pytest.mark.parametrize("case", BAD_CLIPS)
def test_bad_clip(case, capsys, tmp_path):
    recorded, word = BAD_CLIPS[case]
    bag = write_bag(tmp_path / "clip", recorded)
    assert word in refuse(["run", bag, "--out", tmp_path / "deep" / "result"], capsys, tmp_path)


def test_missing_and_truncated_bag(capsys, tmp_path):
    out = tmp_path / "result"
    assert "does not exist" in refuse(["run", tmp_path / "nothing", "--out", out], capsys, tmp_path)
    bag = write_bag(tmp_path / "clip", CLIP)
    (bag / "clip.mcap").write_bytes((bag / "clip.mcap").read_bytes()[:-500])
    assert "truncated" in refuse(["run", bag, "--out", out], capsys, tmp_path)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("joint.gate-m", "-1", "gate-m is -1: give 0.001 to 10"),
        ("mask.voxel-m", "0", "voxel-m is 0: give 0.001 to 1"),
        ("joint.strides", "0", "strides is 0: give 1 to 100000"),
        ("label.smooth-px", "nan", "smooth-px is nan: give 0.5 to 100"),
    ],
)
def test_settings_out_of_bounds(setting, value, said, capsys, tmp_path):
    arguments = ["run", SAMPLE, "--out", tmp_path / "result", f"--config.{setting}", value]
    assert said in refuse(arguments, capsys, tmp_path)


def test_every_number_of_a_stage_has_bounds_that_hold_its_default():
    def check(config: object) -> None:
        for item in fields(config):
            value = getattr(config, item.name)
            if is_dataclass(value):
                check(value)
            elif not isinstance(value, bool | str):
                low, high = item.metadata["bounds"]
                assert all(low <= number <= high for number in np.atleast_1d(value)), item.name

    check(Config())


def test_nothing_moves(capsys, tmp_path):
    still = next(read_frames(SAMPLE))
    with BagWriter(tmp_path / "clip") as bag:
        for i in range(8):
            bag.write(replace(still, stamp_ns=still.stamp_ns + i * 10**8))
    line = refuse(["run", tmp_path / "clip", "--out", tmp_path / "result"], capsys, tmp_path)
    assert "mov" in line


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_output_that_cannot_be_written(command, capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    source = [SAMPLE] if command == "run" else []
    assert "file" in refuse([command, *source, "--out", tmp_path / "file" / "result"], capsys, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("not yours to replace")
    assert "not empty" in refuse([command, *source, "--out", tmp_path / "mine"], capsys, tmp_path)


def test_evaluate_without_ground_truth(capsys, tmp_path):
    bag = write_bag(tmp_path / "clip", CLIP)
    assert "no ground truth" in refuse(["evaluate", bag, "--out", tmp_path / "scores"], capsys, tmp_path)


URDF = """<robot name="box"><link name="base"/><link name="lid">{visual}</link>
  <joint name="hinge" type="revolute"><parent link="base"/><child link="lid"/><axis xyz="0 0 1"/>{limit}</joint>
</robot>"""
LIMIT = '<limit lower="0" upper="1" effort="1" velocity="1"/>'
MESH = '<visual><geometry><mesh filename="nowhere.obj"/></geometry></visual>'


@pytest.mark.parametrize(
    ("visual", "limit", "word"), [("", "", "limit"), (MESH, LIMIT, "nowhere.obj"), ("", LIMIT, "mesh")]
)
def test_track_with_a_bad_urdf(visual, limit, word, capsys, tmp_path):
    (tmp_path / "box.urdf").write_text(URDF.format(visual=visual, limit=limit))
    assert word in refuse(["track", tmp_path / "box.urdf", SAMPLE], capsys, tmp_path)


def test_view_of_something_else(capsys, tmp_path):
    assert "object.urdf" in refuse(["view", tmp_path], capsys, tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_full_disk_while_simulating(storage, capsys, small_disk):
    size = ["--clip.frames", "8", "--clip.width", "320", "--clip.height", "240", "--format", storage]
    line = refuse(["simulate", "--out", small_disk / "bag", *size], capsys, small_disk)
    assert "full" in line


def test_full_disk_while_running(capsys, small_disk, sample_run, monkeypatch):
    monkeypatch.setattr(run, "reconstruct", lambda *_: sample_run.reconstruction)
    assert "full" in refuse(["run", SAMPLE, "--out", small_disk / "result"], capsys, small_disk)


KILLED_WHILE_WRITING = """
import pickle, sys, time
from art_perception.cli import main, run
from art_perception.viz import save

def stuck(*_):
    print("writing", flush=True)
    time.sleep(60)

found = pickle.loads(sys.stdin.buffer.read())
run.reconstruct = lambda *_: found
save.write_report = stuck
main.main(["run", *sys.argv[1:]])
"""


@pytest.mark.parametrize("old", [None, {"version": 1}])
def test_killed_while_writing(old, sample_run, tmp_path):
    out = tmp_path / "result"
    if old is not None:
        out.mkdir()
        (out / "result.json").write_text(json.dumps(old))
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, SAMPLE, "--out", out]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    pickle.dump(sample_run.reconstruction, process.stdin)
    process.stdin.close()
    assert process.stdout.readline() == b"writing\n"
    process.kill()
    process.wait()
    process.stdout.close()
    if old is None:
        assert not out.exists()
    else:
        assert [p.name for p in out.iterdir()] == ["result.json"]
        assert json.loads((out / "result.json").read_text()) == old


def assert_ended_by(number: signal.Signals, process: subprocess.Popen[bytes], folder: Path) -> None:
    """The process dies of the signal, says nothing and leaves nothing in ``folder``."""
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == -number  # a shell shows 130 for SIGINT
    assert not list(folder.iterdir())


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_interrupted_while_running_leaves_nothing(command, tmp_path):
    arguments = [sys.executable, "-m", "art_perception.cli.main", command, SAMPLE, "--out", tmp_path / "result"]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True
    )
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to child processes too
    assert_ended_by(signal.SIGINT, process, tmp_path)


SIGNALLED_WHERE_IT_IS_LOST = """
import signal, sys
from art_perception.cli import main, run

number = int(sys.argv.pop())

class Finalised:
    def __del__(self):
        signal.raise_signal(number)

def finalise():
    Finalised()

def guard():
    try:
        signal.raise_signal(number)
    except BaseException:
        pass

run.reconstruct = lambda *_: {"finalise": finalise, "guard": guard}[place]()
place = sys.argv.pop()
main.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["guard", "finalise"])
def test_signals_cannot_be_lost(place, number, tmp_path):
    """Third-party libraries guard imports with ``except BaseException``; Python prints what finalisers raise."""
    script = [sys.executable, "-c", SIGNALLED_WHERE_IT_IS_LOST]
    arguments = ["run", SAMPLE, "--out", tmp_path / "made" / "result", place, str(int(number))]
    process = subprocess.Popen([*script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert_ended_by(number, process, tmp_path)
