"""What every command shares: logging, exit codes, and errors without a traceback."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

from .errors import UserError, disk_error

log = logging.getLogger(__name__)
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


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")


class _Lines(Progress):
    """For a file: a line a minute in place of a bar."""

    every = 60.0  # seconds

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.start_of_all = self.told_at = time.monotonic()
        self.first: dict[int, float] = {}  # what an earlier, interrupted call had done when this one began

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        task, now = self.tasks[self.task_ids.index(task_id)], time.monotonic()
        first = self.first.setdefault(task_id, task.completed)
        if now - self.told_at < self.every or not task.total or task.completed <= first:
            return
        self.told_at = now
        left = (task.total - task.completed) * (now - self.start_of_all) / (task.completed - first)
        words = f"{task.description}: {task.completed:,.0f} of {task.total:,.0f} | eta {timedelta(seconds=round(left))}"
        log.info(words)


def progress_bar(shown: bool = True) -> Progress:
    """A bar with count, rate and time left on a terminal; in a file a line a minute. shown: else nothing."""
    console = Console(stderr=True)
    if shown and not console.is_terminal:
        return _Lines()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), Remaining())
    return Progress(*columns, console=console, disable=not shown)
