"""What a run reports while it trains: a status line per tick, a bar on a terminal, and the files of the run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from .sample_grid import save_grid
from .stats_file import append_tick, forget_after
from .tensorboard import Board

log = logging.getLogger(__name__)


class Status:
    """The reports of a run, made by its main process only.

    total: length of the run in images; images_seen: where it resumes.
    """

    def __init__(self, run: Path, total: int, images_seen: int) -> None:
        self.run, self.total = run, total
        forget_after(run, images_seen)
        self.board = Board(run, images_seen)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self.display = Progress(*columns, *times, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.display.add_task(run.name, total=total, completed=images_seen)
        self.display.start()

    def step(self, images_seen: int) -> None:
        """Move the bar on a terminal."""
        self.display.update(self.task, completed=images_seen)

    def tick(self, images_seen: int, progress: dict[str, Any], terms: dict[str, float], partial: bool) -> None:
        """Report a tick on the status line, in stats.jsonl and in TensorBoard.

        progress: times, data_wait, memory_gb, processes, resolution; terms: means of the losses; partial: True for a
        report between two ticks.
        """
        tick = {"images_seen": images_seen, **progress, **terms}
        append_tick(self.run, tick | ({"partial": True} if partial else {}))
        self.board.numbers(images_seen, terms | progress)
        line = self._line(images_seen, progress, terms)
        if self.display.disable:
            log.info(line)
        else:
            self.display.console.print(line, highlight=False, soft_wrap=True)

    def _line(self, images_seen: int, progress: dict[str, Any], terms: dict[str, float]) -> str:
        """Return the status line."""
        parts = [
            f"kimg {images_seen / 1000:.1f}/{self.total / 1000:.1f}",
            f"eta {duration(progress['eta_seconds'])}",
            f"{progress['seconds_per_kimg']:.2f} s/kimg",
            f"data {progress['data_wait']:.0%}",
            f"{progress['memory_gb']:.1f} GB",
            f"{progress['resolution']} px",
            *(f"{name} {value:.4g}" for name, value in terms.items()),
        ]
        return " | ".join(parts)

    def samples(self, images_seen: int, images: Tensor) -> None:
        """Save a grid in RUN/samples and in TensorBoard. images: uint8 [N, C, R, R]."""
        self.board.grid(images_seen, save_grid(self.run, images_seen, images))

    def close(self) -> None:
        """Take the bar off the terminal and close the files."""
        self.display.stop()
        self.board.close()


def duration(seconds: float) -> str:
    """Format a duration: 123 -> "2:03"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
