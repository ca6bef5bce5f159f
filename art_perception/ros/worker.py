"""One thread that does the slow work, so that the executor's thread only moves messages.

A queue of capacity 1 is a latest-only slot: the newest input wins. Drops are counted, never silent.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Calls ``handle(item)`` on its own thread for submitted items, oldest first, dropping the oldest when full.

    Args:
        handle: does the work; an exception stops the worker, see :meth:`raise_failure`.
        capacity: items kept waiting at most.
        name: of the thread.
        niceness: how readily the thread, and those that it starts, give way to the others (Linux), 0 to 19.
    """

    def __init__(self, handle: Callable[[Item], None], capacity: int, name: str, niceness: int = 0) -> None:
        self._handle = handle
        self._niceness = niceness
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._wake = threading.Condition()
        self._closing = False
        self._busy = False
        self._failure: BaseException | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        with self._wake:
            return not self._items and not self._busy

    @property
    def waiting(self) -> int:
        """Items not yet started."""
        return len(self._items)

    def submit(self, item: Item) -> Item | None:
        """Queue ``item``; when the queue is full its oldest item is dropped, counted and returned."""
        with self._wake:
            full = len(self._items) >= self._capacity
            dropped = self._items.popleft() if full else None
            self.dropped += full
            self._items.append(item)
            self._wake.notify()
        return dropped

    def clear(self) -> None:
        """Forget the items not yet started."""
        with self._wake:
            self._items.clear()

    def raise_failure(self) -> None:
        """Re-raise, on the caller's thread, the exception that stopped the worker, if any."""
        if self._failure is not None:
            raise self._failure

    def close(self, timeout_s: float = 3.0) -> bool:
        """Finish the running item, drop the rest, end the thread; False when it is still busy after ``timeout_s``."""
        with self._wake:
            self._closing = True
            self._items.clear()
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        try:
            while (item := self._next()) is not None:
                self._handle(item[0])
                self._busy = False
        except BaseException as error:  # handed to the main thread, which stops the node
            self._failure = error
            self._busy = False

    def _next(self) -> tuple[Item] | None:
        with self._wake:
            self._wake.wait_for(lambda: self._items or self._closing)
            if self._closing:
                return None
            self._busy = True
            return (self._items.popleft(),)
