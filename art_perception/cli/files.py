"""Single files that appear complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from art_perception.errors import OutputError


def write_text(path: Path, text: str) -> None:
    """Write a text file through a temporary sibling.

    Raises:
        OutputError: the file cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another place or free space") from error
