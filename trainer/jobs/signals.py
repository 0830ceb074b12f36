"""Ctrl-C, SIGTERM and SIGUSR1 ask a run to stop at the next step boundary; RUN/exit.json says how it ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from common.atomic_writes import publish

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Set by a signal; `reason` is its name, or None. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listen for the signals, and put the old handlers back afterwards."""
        old = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def write_exit(run: Path, code: int | None, reason: str, command: str) -> None:
    """RUN/exit.json: launchers and make swallow exit codes, this file does not. code: None while it runs."""
    content = {"code": code, "reason": reason, "command": command, "folder": os.getcwd()}
    publish(run / "exit.json", (json.dumps(content, indent=1) + "\n").encode())


def read_command(run: Path) -> str | None:
    """The command that trained a run, from its exit.json."""
    try:
        command: str = json.loads((run / "exit.json").read_bytes())["command"]
        return command
    except (OSError, ValueError, KeyError):
        return None
