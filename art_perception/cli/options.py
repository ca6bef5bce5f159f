"""Command-line options from dataclasses (tyro), with errors of one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import tyro

from art_perception.bounds import outside
from art_perception.errors import UsageError

T = TypeVar("T")

_RULE = re.compile(r"[─╭╮╰╯]+|-{4,}")
_OPTION = re.compile(r"--[\w.-]+")


def parse(options: type[T], command: str, arguments: Sequence[str], defaults: T | None = None) -> T:
    """Read a command's options.

    Args:
        options: dataclass; its docstring is the help text, the strings below its fields describe the options.
        command: name of the command.
        arguments: what follows the command's name.
        defaults: instead of the dataclass's own; ``tyro.MISSING`` in place of what has to be given.

    Raises:
        UsageError: unknown, missing or malformed options, with the closest valid choice; numbers out of bounds.
        SystemExit: ``--help`` was asked for.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            name = f"art-perception {command}"
            found = cast("T", tyro.cli(options, args=list(arguments), prog=name, default=defaults))
            require_bounds(found)
            return found
    except SystemExit as stop:
        if not stop.code:
            raise
    raise UsageError(f"{one_line(complaint.getvalue())}; see art-perception {command} --help")


def require_bounds(options: Any) -> None:
    """Compare a dataclass's numbers, nested ones too, with the bounds in its fields' metadata.

    Raises:
        UsageError: one is outside.
    """
    for item in fields(options):
        value = getattr(options, item.name)
        if is_dataclass(value):
            require_bounds(value)
        wrong = outside(item, value)
        if wrong:
            raise UsageError(f"{item.name.replace('_', '-')} {wrong}")


def one_line(box: str) -> str:
    """Fold tyro's framed complaint into a sentence: its first paragraph and, for an unknown option, the closest one."""
    text = " ".join(box.replace("│", " ").split())
    _, complaint, *rest = (paragraph.strip() for paragraph in _RULE.split(text) if paragraph.strip())
    known = [option for paragraph in rest for option in _OPTION.findall(paragraph) if option != "--help"]
    close = difflib.get_close_matches(" ".join(_OPTION.findall(complaint)[:1]), known, 1)
    hint = f": did you mean {close[0]}?" if close and complaint.startswith("Unrecognized") else ""
    return complaint.rstrip(".") + hint
