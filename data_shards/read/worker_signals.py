"""How a loader's worker process answers signals, and the end of its parent."""

from __future__ import annotations

import os
import signal
import threading

from common.signals import stop_signals


def follow_parent(worker: int = 0) -> None:
    """Set up a worker: it ignores the signals that ask a run to stop, and ends when its parent does.

    Slurm and the terminal signal every process at once; a worker that ended at once would fail the parent's last steps.
    So SIGTERM counts only when the parent sends it. worker: its number, which a DataLoader passes.
    """
    for number in stop_signals():
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process when the parent is gone, or has sent SIGTERM. Runs in a thread."""
    while os.getppid() == parent:
        sent = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if sent is not None and sent.si_pid == parent:
            break
    os._exit(0)
