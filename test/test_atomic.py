"""A result is there complete or not at all: failures, full disks, killed processes."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from bag_tools import make_frames

from art_perception.errors import OutputError
from art_perception.io.atomic import atomic_directory
from art_perception.io.bag import BagWriter, read_frames
from art_perception.io.cleanup import abandon

ROOT = Path(__file__).parents[1]


def put(folder: Path, text: str) -> None:
    (folder / "result.json").write_text(text)
    (folder / "meshes").mkdir()
    (folder / "meshes" / "base.obj").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_create_then_replace(tmp_path):
    out = tmp_path / "new" / "object"
    for text in ("old", "new"):
        with atomic_directory(out) as folder:
            assert folder.name == "object"
            put(folder, text)
            assert not out.exists() or content(out)["result.json"] == "old"
        assert content(out) == {"result.json": text, "meshes/base.obj": text}
        assert [p.name for p in out.parent.iterdir()] == ["object"]


def test_an_empty_folder_is_filled_and_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_directory(tmp_path / "link") as folder:
        put(folder, "x")
    assert content(tmp_path / "real")["result.json"] == "x"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_result_and_nothing_else(tmp_path, error):
    out = tmp_path / "a" / "b" / "object"

    def fail():
        with atomic_directory(out) as folder:
            put(folder, "half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []
    with atomic_directory(out) as folder:
        put(folder, "old")
    with pytest.raises(error):
        fail()
    assert content(out)["result.json"] == "old"
    assert [p.name for p in out.parent.iterdir()] == ["object"]


def test_somebody_else_s_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"not empty and holds no result\.json"), atomic_directory(tmp_path):
        pass
    with pytest.raises(OutputError, match="is a file"), atomic_directory(tmp_path / "thesis.tex"):
        pass
    assert content(tmp_path) == {"thesis.tex": "years of work"}


def test_unwritable_places(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "object", Path("/proc/object")):
        with pytest.raises(OutputError, match="cannot be written"), atomic_directory(out):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_parent(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"), atomic_directory(tmp_path / "closed" / "object"):
        pass


def run_limited(script: str, *arguments: object) -> str:
    """Run a script whose files may not exceed 100 kB, as on a full disk, and return what it prints."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n" + script
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'test'}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


FULL_RESULT = """
import sys
from art_perception.errors import OutputError
from art_perception.io.atomic import atomic_directory
try:
    with atomic_directory(sys.argv[1]) as folder:
        (folder / "result.json").write_bytes(bytes(200_000))
except OutputError as error:
    print(error)
"""

FULL_BAG = """
import sys
from bag_tools import make_frames
from art_perception.errors import OutputError
from art_perception.io.bag import BagWriter
try:
    with BagWriter(sys.argv[1], sys.argv[2], color="rgb8") as writer:
        for frame in make_frames(100):
            writer.write(frame)
except OutputError as error:
    print(error)
"""


def test_full_disk(tmp_path):
    said = run_limited(FULL_RESULT, tmp_path / "new" / "object")
    assert "disk is full" in said
    assert "free some space" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["mcap", "sqlite3"])
def test_full_disk_while_recording(tmp_path, format):
    said = run_limited(FULL_BAG, tmp_path / "clip", format)
    assert "free some space" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


WRITE_FOREVER = """
import itertools, sys
from art_perception.io.atomic import atomic_directory
for i in itertools.count():
    with atomic_directory(sys.argv[1]) as folder:
        for name in ("a", "b", "c", "result.json"):
            (folder / name).write_text(f"{i}" * 10_000)
    print(i, flush=True)
"""


def test_killed_while_writing(tmp_path):
    out, rng = tmp_path / "object", np.random.default_rng(0)
    for _ in range(4):
        command = [sys.executable, "-c", WRITE_FOREVER, str(out)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        assert set(content(out)) == {"a", "b", "c", "result.json"}
        assert len(set(content(out).values())) == 1  # all of one version
    with atomic_directory(out) as folder:
        put(folder, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["object"]  # what the killed ones left is gone


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_file_systems_without_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    out = tmp_path / "object"
    for text in ("old", "new"):
        with atomic_directory(out) as folder:
            put(folder, text)
    assert content(out)["result.json"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["object"]


def test_a_result_moved_aside_by_a_killed_process_comes_back(tmp_path):
    staging = tmp_path / f".object.{dead_pid()}.tmp"
    staging.mkdir()
    (staging / "object.old").mkdir()
    put(staging / "object.old", "old")

    def fail():
        with atomic_directory(tmp_path / "object"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert content(tmp_path / "object")["result.json"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["object"]


@pytest.mark.parametrize("name", ["object", "old"])
def test_the_old_result_survives_an_interrupt_between_two_renames(tmp_path, monkeypatch, name):
    out, rename = tmp_path / name, Path.rename
    with atomic_directory(out) as folder:
        put(folder, "old")

    def rename_half(self, target):
        if Path(target) == out and self.parent.name.endswith(".tmp") and self.name == name:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    monkeypatch.setattr(Path, "rename", rename_half)
    with pytest.raises(KeyboardInterrupt), atomic_directory(out) as folder:
        put(folder, "new")
    assert content(out)["result.json"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_abandoning_leaves_nothing(tmp_path):
    left = None
    with suppress(SystemExit), atomic_directory(tmp_path / "a" / "b" / "object") as folder:
        put(folder, "half")
        abandon()
        left = list(tmp_path.iterdir())
        raise SystemExit
    assert left == list(tmp_path.iterdir()) == []


def test_another_living_process_keeps_its_folder(tmp_path):
    staging = tmp_path / f".object.{os.getppid()}.tmp"
    staging.mkdir()
    with atomic_directory(tmp_path / "object") as folder:
        put(folder, "x")
    assert staging.exists()


def test_recordings_are_atomic_too(tmp_path):
    def record(count, error=None):
        with BagWriter(tmp_path / "clip") as writer:
            for frame in make_frames(count):
                writer.write(frame)
            if error:
                raise error

    with pytest.raises(ValueError, match="x"):
        record(2, ValueError("x"))
    assert list(tmp_path.iterdir()) == []
    record(2)
    with pytest.raises(ValueError, match="x"):
        record(3, ValueError("x"))
    assert len(list(read_frames(tmp_path / "clip"))) == 2
    record(3)
    assert len(list(read_frames(tmp_path / "clip"))) == 3
    (tmp_path / "clip" / "metadata.yaml").unlink()
    with pytest.raises(OutputError, match=r"metadata\.yaml"):
        record(1)
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]
