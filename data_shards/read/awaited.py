"""Wait for the next item of an iterator no longer than a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Awaited(Generic[T]):
    """Takes items from an iterator in a thread of its own, one at a time and only when one is asked for.

    The caller waits in its own thread, where it can look at a signal or a clock in between. `close` ends the thread;
    one that is stuck in the iterator ends with the process.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._asked = False
        threading.Thread(target=self._serve, daemon=True).start()

    def get(self, seconds: float) -> T | None:
        """Return the next item, or None where it is not there yet: ask again. Raises what the iterator raised."""
        if not self._asked:
            self._requests.put(True)
            self._asked = True
        try:
            item, error = self._answers.get(timeout=seconds)
        except Empty:
            return None
        self._asked = False
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Ask for no more items."""
        self._requests.put(False)

    def _serve(self) -> None:
        while self._requests.get():
            try:
                self._answers.put((next(self._items), None))
            except BaseException as error:  # it belongs to the caller's thread
                self._answers.put((None, error))
