"""What all commands share: logging, exit codes, and errors without a traceback."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from . import paths, shipped
from .errors import Fault, UserError, disk_error, out_of_memory
from .paths import Location, Url
from .terminal import outlived

log = logging.getLogger(__name__)
EXIT_OK = 0  # all that was asked for is done
EXIT_FAULT = 1  # a fault of the program, whose traceback is shown, or of a machine
EXIT_USER = 2  # the user can mend it: the message says how
EXIT_RESUME = 75  # stopped early with everything saved: the same command resumes

_LESS = "ask for less at once (a smaller batch_size or micro_batch, fewer workers)"


def run(app: Any, args: Sequence[str] | None = None) -> None:
    """Run a typer app, and end the process with the exit code that belongs to its error, if it raises one.

    args: of the command line; None takes those of the process.
    """
    with outlived():
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        try:
            _call(app, args)
        except BaseException as error:
            code, message = explain(error)
            if message is None:
                raise
            sys.stdout.flush()
            print(message if code == EXIT_RESUME else f"error: {message}", file=sys.stderr, flush=True)
            raise SystemExit(code) from None


def path(text: str | Path) -> Path:
    """Read a path of the command line, for `parser` of an argument or option; see `paths.typed`.

    text: a Path where it is the option's default.
    """
    try:
        return text if isinstance(text, Path) else paths.typed(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from None


def location(text: str | Location) -> Location:
    """Read a folder or a URL of the command line, for `parser` of an argument or option; see `paths.typed_location`.

    text: a Path or a Url where it is the option's default. An argument of it is annotated with Any, for typer takes no
    union.
    """
    try:
        return text if isinstance(text, Path | Url) else paths.typed_location(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from None


def shipped_path(text: str | Path) -> Path:
    """Read the path of something that may have come with the program; see `shipped.found`."""
    return _told(path(text), shipped.found)


def shipped_config(text: str | Path) -> Path:
    """Read the path of a config, or the name of one that came with the program; see `shipped.config`."""
    return _told(path(text), shipped.config)


def _told(given: Path, find: Callable[[Path], Path]) -> Path:
    """Return what is found for a path.

    Says so where a shipped file has the same name: one of the user's was perhaps meant. Short names are no paths.
    """
    found = find(given)
    if found != given and found.name == given.name and os.environ.get("RANK", "0") == "0":
        log.info("%s: is not in %s; taken from what came with the program, %s", given, Path.cwd(), found)
    return found


def name_or_path(text: str) -> str:
    """Read the name of something, or the path of a file that takes its place."""
    return str(path(text))


def _call(app: Any, args: Sequence[str] | None) -> None:
    """Call the app; a bad option becomes a UserError, Ctrl-C a KeyboardInterrupt."""
    try:
        code = app(args, standalone_mode=False)
    except Exception as error:
        if hasattr(error, "format_message") and error.format_message():  # click's usage errors
            given = shlex.join(sys.argv[1:] if args is None else args) or "no arguments"
            raise UserError(f"{error.format_message()} (in: {given}; see --help)") from None
        raise
    if code == 130:  # typer's answer to Ctrl-C
        raise KeyboardInterrupt


def _is_of_a_path(error: OSError) -> bool:
    """Return whether an error is about a path that cannot be what it is used as."""
    kinds = PermissionError | FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError
    return isinstance(error, kinds) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP)


def explain(error: BaseException) -> tuple[int, str | None]:
    """Return exit code and message of an error. Without a message (None) its traceback should be shown."""
    error = disk_error(error) or error
    if isinstance(error, UserError):
        return EXIT_USER, str(error)
    if isinstance(error, Fault):
        return EXIT_FAULT, str(error)
    if reason := out_of_memory(error):
        return EXIT_USER, f"out of memory: {reason}; {_LESS}, or end what else takes memory on this machine"
    if isinstance(error, KeyboardInterrupt):
        return EXIT_RESUME, "stopped at once; the same command resumes from what was saved"
    if isinstance(error, OSError) and error.filename is not None and _is_of_a_path(error):
        return EXIT_USER, f"{error.filename}: {error.strerror}; check the path and its permissions"
    return EXIT_FAULT, None
