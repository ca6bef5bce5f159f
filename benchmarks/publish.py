"""What every benchmark does with its text: print it and, if asked to, put it into the document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from art_perception.errors import ArtPerceptionError
from art_perception.eval.benchmark import write_section

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def published(section: str, run: Callable[[], str], publish: bool) -> None:
    """Print what ``run`` measures and, to ``publish``, write it as a section of docs/benchmarks.md.

    Raises:
        SystemExit: with one sentence, where ``run`` cannot.
    """
    try:
        text = run()
    except ArtPerceptionError as error:
        raise SystemExit(str(error)) from error
    print(text)
    if publish:
        write_section(DOCUMENT, section, text)
