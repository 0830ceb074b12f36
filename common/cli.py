"""What every command shares: logging, exit codes, and errors without a traceback."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from .errors import UserError, disk_error

EXIT_OK, EXIT_FAULT, EXIT_USER, EXIT_RESUME = 0, 1, 2, 75


def run(app: Any, args: Sequence[str] | None = None) -> None:
    """Run a typer app and leave with its exit code: 0 done, 75 stopped early but resumable, 2 the user can mend it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        _call(app, args)
    except BaseException as error:
        code, message = explain(error)
        if message is None:
            raise
        sys.stdout.flush()
        print(f"error: {message}" if code == EXIT_USER else message, file=sys.stderr, flush=True)
        raise SystemExit(code) from None


def _call(app: Any, args: Sequence[str] | None) -> None:
    """A bad option is a UserError like any other."""
    try:
        code = app(args, standalone_mode=False)
    except Exception as error:
        if hasattr(error, "format_message") and error.format_message():  # click's usage errors
            given = shlex.join(sys.argv[1:] if args is None else args) or "no arguments"
            raise UserError(f"{error.format_message()} (in: {given}; see --help)") from None
        raise
    if code == 130:  # typer's answer to Ctrl-C
        raise KeyboardInterrupt


def explain(error: BaseException) -> tuple[int, str | None]:
    """Exit code and message of an error; no message means that its traceback should be seen."""
    error = disk_error(error) or error
    if isinstance(error, UserError):
        return EXIT_USER, str(error)
    if isinstance(error, KeyboardInterrupt):
        return EXIT_RESUME, "stopped at once; the same command goes on from what was saved"
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return EXIT_USER, f"{error.filename}: {error.strerror}; check the path and its permissions"
    return EXIT_FAULT, None
