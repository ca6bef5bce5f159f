"""Directories that appear complete or not at all, even when the process is killed.

Everything is written into a hidden sibling, flushed to disk, then swapped in with one system call.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from art_perception.errors import OutputError
from art_perception.io.cleanup import cleaned_up

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def atomic_directory(out: Path | str, marker: str = "result.json") -> Iterator[Path]:
    """Yield a temporary folder that becomes ``out`` when the block succeeds and vanishes when it fails.

    Args:
        out: folder to create or replace.
        marker: file that makes a non-empty ``out`` one of ours; any other non-empty folder is refused.

    Raises:
        OutputError: ``out`` cannot be written, is not ours to replace, or the disk is full.
    """
    out = Path(out).resolve()
    _check_replaceable(out, marker)
    staging = out.parent / f".{out.name}.{os.getpid()}.tmp"
    missing = [parent for parent in out.parents if not parent.exists()]
    with cleaned_up(partial(_discard, staging, out, missing)):
        try:
            work = _prepare(staging, out)
            yield work
            _flush(work)
            _install(work, out)
        except OSError as error:
            if error.errno in _FULL:
                raise _full(out) from error
            raise


def _prepare(staging: Path, out: Path) -> Path:
    """Create the folder to write into; its name is the final one, so that files may be named after it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clean_stale(out)
        work = staging / out.name
        work.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    return work


def _full(out: Path) -> OutputError:
    return OutputError(f"the disk is full while writing {out}: free some space or choose another folder")


def _unwritable(out: Path, error: OSError) -> OutputError:
    if error.errno in _FULL:
        return _full(out)
    return OutputError(
        f"{out} cannot be written ({error.strerror}): choose an output folder inside a folder you may write to"
    )


def _check_replaceable(out: Path, marker: str) -> None:
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise OutputError(f"{out} is a file, expected a folder to write to: choose another name")
        if any(out.iterdir()) and not (out / marker).exists():
            raise OutputError(
                f"{out} is not empty and holds no {marker}, so it is not an earlier result: choose another folder"
            )
    except OSError as error:
        raise _unwritable(out, error) from error


def _clean_stale(out: Path) -> None:
    """Remove what killed processes left behind."""
    for staging in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        pid = staging.name.split(".")[-2]
        if not pid.isdigit() or (int(pid) != os.getpid() and _is_alive(int(pid))):
            continue
        _discard(staging, out, [])


def _discard(staging: Path, out: Path, missing: list[Path]) -> None:
    """Remove ``staging``, and the folders that were made for nothing; put back a result that was moved aside."""
    aside = _aside(staging, out)
    if aside.exists() and not out.exists():
        aside.rename(out)
    shutil.rmtree(staging, ignore_errors=True)
    for parent in missing:
        with suppress(OSError):  # holds the result
            parent.rmdir()


def _aside(staging: Path, out: Path) -> Path:
    """Where ``_swap`` keeps the old result for a moment."""
    return staging / f"{out.name}.old"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _flush(folder: Path) -> None:
    """Force files, then folders, to disk, so that a power cut after the swap loses nothing."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _install(work: Path, out: Path) -> None:
    try:
        if out.exists():
            _swap(work, out)
        else:
            work.rename(out)
        _sync(out.parent)
    except OSError as error:
        raise _unwritable(out, error) from error


def _swap(work: Path, out: Path) -> None:
    """Exchange two folders atomically; two renames where the file system cannot (healed by ``_clean_stale``)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(_AT_FDCWD, bytes(work), _AT_FDCWD, bytes(out), _RENAME_EXCHANGE) == 0:
        return
    out.rename(_aside(work.parent, out))
    work.rename(out)
