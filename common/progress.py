"""Show how far a long command is: a bar on a terminal, a line per minute in a file."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

from common import terminal

log = logging.getLogger(__name__)


class _Throughput(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")


class _Lines(Progress):
    """Log a line per minute in place of a bar."""

    every = 60.0  # seconds

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.started_at = self.logged_at = time.monotonic()
        self.first: dict[int, float] = {}  # by task: what an earlier, interrupted call had done already

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        task, now = self.tasks[self.task_ids.index(task_id)], time.monotonic()
        first = self.first.setdefault(task_id, task.completed)
        if now - self.logged_at < self.every or not task.total or task.completed <= first:
            return
        self.logged_at = now
        left = (task.total - task.completed) * (now - self.started_at) / (task.completed - first)
        line = f"{task.description}: {task.completed:,.0f} of {task.total:,.0f} | eta {timedelta(seconds=round(left))}"
        log.info(line)


def progress_bar(shown: bool = True) -> Progress:
    """Return a bar with count, images per second and time left; where stderr is a file, it logs a line per minute.

    shown: False gives one that shows nothing.
    """
    console = terminal.console(stderr=True)
    if shown and not console.is_terminal:
        return _Lines()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Throughput(),
        Remaining(),
    )
    return Progress(*columns, console=console, disable=not shown)
