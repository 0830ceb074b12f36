"""How a loader's worker process behaves."""

from __future__ import annotations

import os
import signal
import threading


def follow_parent(worker: int = 0) -> None:
    """Leave the signals of Ctrl-C and of a cluster's preemption to the parent, and leave when it is gone.

    Slurm and the terminal signal every process at once; a worker that died of it would fail the parent's last
    steps. SIGTERM counts only when the parent sends it.
    """
    for name in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        sent = signal.sigtimedwait({signal.SIGTERM}, 1.0)
        if sent is not None and sent.si_pid == parent:
            break
    os._exit(0)
