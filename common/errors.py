"""The one kind of error that a user can mend."""

from __future__ import annotations

import errno

DISK_ERRORS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
}


class UserError(Exception):
    """A problem that the user can mend: the message names the key or file, the value and the remedy.

    Every command prints it on standard error without a traceback and exits with 2.
    """


def joined(what: str, problems: list[str]) -> UserError:
    """One error that lists every problem found, so that the user mends them in one go."""
    head = f"{what}: {len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return UserError("\n".join([head, *(f"  - {p}" for p in problems)]))


def of_disk(error: BaseException) -> UserError | None:
    """What to tell of a full or read-only disk; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        return None
    where = error.filename or "the output folder"
    return UserError(f"{where}: {DISK_ERRORS[error.errno]}; make room and run the same command again")
