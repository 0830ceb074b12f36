"""The signals that ask a program to save and stop: those of a terminal, of a user, of a scheduler, of a power supply.

Signals that report a fault of the program (SEGV, BUS, FPE, ILL, ABRT, SYS) and PIPE are none of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "XCPU", "ALRM", "PWR", "IO")
Handler = Callable[[int, FrameType | None], None]


def stop_signals() -> list[int]:
    """Return the numbers of the signals that ask for a stop, as far as this system has them."""
    named = [int(getattr(signal, f"SIG{name}")) for name in _NAMES if hasattr(signal, f"SIG{name}")]
    real_time = range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if hasattr(signal, "SIGRTMIN") else ()
    return [*named, *map(int, real_time)]


def name_of(number: int) -> str:
    """Return the name of a signal. Most real-time signals have none of their own: they are called SIGRTMIN+N."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Call handler(number, frame) at each signal that asks for a stop; put the old handlers back afterwards.

    A signal that the parent has set to be ignored, as nohup does with HUP, stays ignored. Under torchrun and
    `accelerate launch` it does not: they handle it, pass it on, and kill their processes half a minute later.
    """
    keep_ignored = "TORCHELASTIC_RUN_ID" not in os.environ
    chosen = [n for n in stop_signals() if not (keep_ignored and signal.getsignal(n) == signal.SIG_IGN)]
    old_handlers = {number: signal.signal(number, handler) for number in chosen}
    try:
        yield
    finally:
        for number, old in old_handlers.items():
            if old is not None:  # None: a library's, which Python cannot put back
                signal.signal(number, old)
