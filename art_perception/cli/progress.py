"""Progress bars, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from art_perception.pipeline import Progress

T = TypeVar("T")


@contextmanager
def stage_bar() -> Iterator[Progress]:
    """Yield a callback (stage, fraction of the whole that is done) that moves a bar on standard error."""
    with tqdm(total=100, disable=not sys.stderr.isatty(), leave=False, bar_format="{desc:>14} {bar} {n:.0f} %") as bar:

        def show(stage: str, fraction: float) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.update(100 * fraction - bar.n)

        yield show


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass items through and count them on a bar."""
    return iter(tqdm(items, what, total, leave=False, disable=not sys.stderr.isatty()))
