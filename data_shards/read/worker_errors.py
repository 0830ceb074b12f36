"""What goes wrong around a loader's workers and not with the shards: memory, files, processes, and the remedies."""

from __future__ import annotations

import errno
import re
import signal

from common.errors import UserError, first_line, out_of_memory
from common.signals import name_of

from . import shared_memory

REMEDIES = {  # of errors that the shard itself has no part in
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "this machine has too many open files: end other programs",
    errno.EACCES: "check the permissions",
    errno.ENOMEM: "lower data.workers or batch_size",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or pids.max of the container), or lower data.workers",
}
_TOO_MANY_FILES = ("Too many open files", "received 0 items of ancdata")  # torch's and multiprocessing's words


def not_started(error: OSError) -> UserError:
    """Say why the workers could not be started."""
    remedy = REMEDIES.get(error.errno or 0, "lower data.workers")
    return UserError(f"data.workers: a worker could not be started ({error.strerror or error}); {remedy}")


def how_ended(code: int) -> str:
    """Say how a worker ended, and what to do. code: its exit code, minus the number of the signal that killed it."""
    remedies = {
        -signal.SIGKILL: "was killed by SIGKILL: out of memory?; lower data.workers or batch_size",
        -signal.SIGBUS: f"was killed by SIGBUS: is {shared_memory.FOLDER} full?; {shared_memory.REMEDY}",
    }
    ended = f"was killed by {name_of(-code)}" if code < 0 else f"ended with exit code {code}"
    return remedies.get(code, f"{ended}; what it printed stands above; data.workers=0 reads without workers")


def no_resource(error: BaseException) -> str | None:
    """Say which memory or which limit of this machine an error is about, and what to do; None where it is none."""
    reason = out_of_memory(error)
    if reason is not None:
        return f"data.workers: no memory for a batch ({reason}); {REMEDIES[errno.ENOMEM]}"
    number = _number(error)
    if number in (errno.EMFILE, errno.ENFILE):
        return f"data.workers: the batches of the workers cannot be taken ({first_line(error)}); {REMEDIES[number]}"
    return None


def _number(error: BaseException) -> int | None:
    """The errno behind an error of torch's, which is in parentheses at the end of its first line."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"\((\d+)\)$", first_line(error))
    if found is None:
        return errno.EMFILE if any(words in str(error) for words in _TOO_MANY_FILES) else None
    return int(found[1])
