"""A lock file, so that jobs that would write the same files take turns."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trainer.distributed.world import World

log = logging.getLogger(__name__)


@contextmanager
def hold_lock(path: Path, world: World, what: str) -> Iterator[None]:
    """Hold a lock file; wait, and log it, while another job holds it. what: what the job makes, for the log.

    The main process holds it for all. The system releases it when the process ends.
    """
    file = world.on_main(lambda: _acquire(path, what))
    try:
        yield
    finally:
        if file is not None:
            file.close()


def _acquire(path: Path, what: str) -> IO[str]:
    """Return the locked file. The loop begins again where the job that held the lock has removed the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting: another job makes %s", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()
