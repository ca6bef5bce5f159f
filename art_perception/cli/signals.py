"""Ctrl-C and SIGTERM end a command at once, say nothing and leave nothing behind.

A KeyboardInterrupt does not always arrive: libraries swallow it where they guard an import with ``except
BaseException``, and Python prints it where it hits a finaliser. So no exception is raised.
"""

from __future__ import annotations

import signal
from types import FrameType

from art_perception.io.cleanup import abandon


def end_on_signals() -> None:
    """From now on SIGINT and SIGTERM clean up and kill this process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    abandon()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)  # shells tell a command that died of SIGINT from one that failed
