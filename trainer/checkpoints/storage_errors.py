"""The errors behind the errors that DCP raises."""

from __future__ import annotations

from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException

from common.errors import DISK_ERRORS, DiskError, UserError

from . import published


def save_error(run: Path, error: BaseException) -> BaseException:
    """Return the error to raise for a failed save: a UserError where the disk is the reason, else the error itself."""
    for cause in causes(error):
        if isinstance(cause, KeyboardInterrupt):
            return cause
        problem = DISK_ERRORS.get(getattr(cause, "errno", None) or 0)
        if problem is None and isinstance(cause, PermissionError):
            problem = DiskError("permission is denied", "make it writable")
        if problem:
            last = published.newest(run)
            kept = f"{last.name} is kept" if last else "none was published before"
            folder = published.folder(run)
            return UserError(
                f"{folder}: {problem.reason}: the checkpoint was not saved ({kept}); {problem.remedy}, and resume"
            )
    return error


def causes(error: BaseException) -> list[BaseException]:
    """List the errors behind an error: DCP wraps them, and torch's zip writer raises its own for a system error."""
    queue = [failure[0] for failure in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    seen: list[BaseException] = []
    while queue:
        cause = queue.pop()
        if cause not in seen:
            seen.append(cause)
            queue += [c for c in (cause.__cause__, cause.__context__) if c is not None]
    return seen
