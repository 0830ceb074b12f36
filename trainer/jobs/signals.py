"""Ctrl-C, SIGTERM and SIGUSR1 ask a run to stop at the next iteration."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """A request to stop, made by a signal. `reason` is the signal's name, or None so far.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listen for the signals, and put the old handlers back afterwards."""
        old_handlers = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
