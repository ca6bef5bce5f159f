"""Clean up after a block even when the process ends in the middle of it.

A signal that ends the process at once unwinds no stack, so ``finally`` is not enough. Light, because every command
imports it before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PENDING: list[Callable[[], None]] = []


@contextmanager
def cleaned_up(cleanup: Callable[[], None]) -> Iterator[None]:
    """Call ``cleanup`` when the block ends, however it ends, or in :func:`abandon`."""
    _PENDING.append(cleanup)
    try:
        yield
    finally:
        cleanup()
        _PENDING.remove(cleanup)


def abandon() -> None:
    """Clean up after all blocks that are under way, for a process that is about to end."""
    for cleanup in reversed(_PENDING.copy()):
        cleanup()
