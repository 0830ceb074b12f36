"""How far a long command is: a bar on a terminal, a line a minute in a file."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

log = logging.getLogger(__name__)


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
