"""Signals such as Ctrl-C, SIGTERM and SIGUSR1, and the end of the launcher, ask a run to save and stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from common.signals import handling, name_of

LAUNCHERS = {"TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"}  # what torchrun and `accelerate launch` set
LOOK = 1.0  # seconds between two looks whether the launcher lives


class StopRequest:
    """A request to stop. `reason` is the signal's name, or what else asks for it; None so far.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = name_of(number)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listen for the signals of common/signals.py, and put the old handlers back afterwards.

        A signal that torchrun and `accelerate launch` do not pass on ends them alone. Their processes then belong to
        nobody who could stop them: that counts as a request too.
        """
        ended = threading.Event()
        if LAUNCHERS & os.environ.keys():
            threading.Thread(target=self._watch_launcher, args=(os.getppid(), ended), daemon=True).start()
        try:
            with handling(self._handle):
                yield self
        finally:
            ended.set()

    def _watch_launcher(self, launcher: int, ended: threading.Event) -> None:
        """Ask for a stop when the parent process is gone. Runs in a thread."""
        while not ended.wait(LOOK):
            if os.getppid() != launcher:
                self.reason = self.reason or "the end of the launcher"
                return
