"""What a run reports while it trains: a status line per tick, a bar on a terminal, and the files of the run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from common import terminal
from trainer.config.schema import RunConfig

from .sample_grid import save_grid
from .stats_file import append_tick, forget_after
from .tracker_kinds import Grid
from .trackers import Trackers

log = logging.getLogger(__name__)
MOST_PX = 2200  # width of a grid in a tracker: 16 images of 128 px and more


class Status:
    """The reports of a run, made by its main process only.

    total: length of the run in images; images_seen: where it resumes; rewinds: of the watch, before that. What is
    reported between two calls of `step` goes to the trackers as one.
    """

    def __init__(self, run: Path, config: RunConfig, total: int, images_seen: int, rewinds: int = 0) -> None:
        self.run, self.total = run, total
        forget_after(run, images_seen)
        self.trackers = Trackers(run, config, images_seen, rewinds)
        self._clock = images_seen
        self._values: dict[str, float] = {}
        self._grid: Grid | None = None
        console = terminal.console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self.display = Progress(*columns, *times, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.display.add_task(run.name, total=total, completed=images_seen)
        self.display.start()

    def step(self, images_seen: int) -> None:
        """End an iteration: move the bar on a terminal, and hand what was reported to the trackers."""
        self.display.update(self.task, completed=images_seen)
        self._send()

    def _send(self) -> None:
        """Hand what was reported at the last clock to the trackers."""
        if self._values or self._grid:
            self.trackers.send(self._clock, self._values, self._grid)
        self._values, self._grid = {}, None

    def tick(self, images_seen: int, progress: dict[str, Any], terms: dict[str, float], partial: bool) -> None:
        """Report a tick on the status line, in stats.jsonl and to the trackers, which get its numbers.

        progress: times, data_wait, memory_gb, processes, resolution; terms: means of the losses; partial: True for a
        report between two ticks.
        """
        tick = {"images_seen": images_seen, **progress, **terms}
        append_tick(self.run, tick | ({"partial": True} if partial else {}))
        self._clock = images_seen
        self._values = {name: value for name, value in (terms | progress).items() if isinstance(value, int | float)}
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
        """Save a grid in RUN/samples and report it to the trackers. images: uint8 [N, C, R, R]."""
        picture, path = save_grid(self.run, images_seen, images)
        self._clock, self._grid = images_seen, Grid(picture.reduce(-(-picture.width // MOST_PX)), path)

    def close(self) -> None:
        """Take the bar off the terminal, hand on what an error kept from it, and close the trackers."""
        self.display.stop()
        self._send()
        self.trackers.close()


def duration(seconds: float) -> str:
    """Format a duration: 123 -> "2:03"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
