"""Errors that a user can mend, and how they are worded."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple


class DiskError(NamedTuple):
    """What is wrong with a disk, and what to do before the same command can go on."""

    reason: str
    remedy: str


_FAILS = "see that the disk and its connection work"
DISK_ERRORS = {
    errno.ENOSPC: DiskError("no space left on the device", "make room"),
    errno.EDQUOT: DiskError("the disk quota is used up", "make room, or have the quota raised"),
    errno.EFBIG: DiskError("the file is larger than may be written here", "raise the limit (ulimit -f)"),
    errno.EROFS: DiskError("the disk is read-only", "mount it for writing, or name another folder"),
    errno.EIO: DiskError("the disk cannot be read or written", _FAILS),
    errno.ESTALE: DiskError("the network file system has lost it", _FAILS),
}


_NO_MEMORY = ("allocate memory", "not enough memory", "out of memory")  # torch's words


class UserError(Exception):
    """A problem that the user can mend: the message names the key or file, the value and the remedy.

    Every command prints it on standard error without a traceback and exits with 2.
    problems: what another list of problems takes of it, a line each; empty where the message is such a line itself.
    """

    problems: tuple[str, ...] = ()


class Fault(Exception):
    """A fault of a machine, a network or a file system, which another start may not meet: the message says where.

    Every command prints it on standard error without a traceback and exits with 1.
    """


def joined(what: str, problems: Sequence[str]) -> UserError:
    """Return one error that lists all problems, so that the user can mend them in one go."""
    head = f"{what}: {len(problems)} problem{'s' if len(problems) != 1 else ''}"
    error = UserError(_bullets(head, problems))
    error.problems = tuple(problems)
    return error


def listed(head: str, lines: Sequence[str]) -> UserError:
    """Return an error about one thing that takes several lines, such as what differs and the remedy.

    head: ends with a colon. In a list of other problems the error is one line.
    """
    error = UserError(_bullets(head, lines))
    error.problems = (f"{head} {'; '.join(lines)}",)
    return error


def _bullets(head: str, lines: Sequence[str]) -> str:
    """Return a heading with a list below it."""
    return "\n".join([head, *(f"  - {line}" for line in lines)])


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type where the message is empty.

    Libraries put a C++ stack or a list of tensors below the first line; a message of ours quotes that line alone.
    """
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def first_cause(error: BaseException) -> BaseException:
    """Return the error that others were raised from, one after the other: libraries wrap what was wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def out_of_memory(error: BaseException) -> str | None:
    """Return what an error says of memory that could not be had, on a CPU or a GPU; None where it is of another kind.

    torch raises a RuntimeError for either, which only its words tell from others.
    """
    line = first_line(error)
    if isinstance(error, MemoryError):
        return line
    return line if isinstance(error, RuntimeError) and any(words in line for words in _NO_MEMORY) else None


def disk_error(error: BaseException) -> UserError | None:
    """Translate the error of a full, read-only or failing disk to one that says what to do; None for any other."""
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        return None
    if error.errno == errno.EIO and error.filename is None:  # as from a terminal that is gone
        return None
    reason, remedy = DISK_ERRORS[error.errno]
    where = error.filename or "the output folder"
    return UserError(f"{where}: {reason}; {remedy}, and run the same command again")
