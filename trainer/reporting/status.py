"""What a run tells its user: one line per tick, stats.jsonl, TensorBoard, sample grids, a display on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import resource
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from common.atomic_writes import publish
from common.json_lines import read_lines

log = logging.getLogger(__name__)
BOARD_PX = 2200  # wide, of a grid in TensorBoard, which keeps it in floats on the way: 16 images of 128 px and more


class Status:
    """Made on the main process only. total: length of the run in images; images_seen: where it goes on."""

    def __init__(self, run: Path, total: int, images_seen: int) -> None:
        self.run, self.total = run, total
        _forget_after(run / "stats.jsonl", images_seen)
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=images_seen + 1)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self.display = Progress(*columns, *times, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.display.add_task(run.name, total=total, completed=images_seen)
        self.display.start()

    def step(self, images_seen: int) -> None:
        """Move the display on a terminal."""
        self.display.update(self.task, completed=images_seen)

    def tick(self, images_seen: int, facts: dict[str, Any], terms: dict[str, float], partial: bool) -> None:
        """One status line. facts: times, data_wait, memory_gb, processes, resolution; terms: means.

        partial: between two ticks.
        """
        record = {"images_seen": images_seen, **facts, **terms, **({"partial": True} if partial else {})}
        with open(self.run / "stats.jsonl", "a") as stream:
            stream.write(json.dumps(record) + "\n")
        for name, value in (terms | {k: v for k, v in facts.items() if isinstance(v, int | float)}).items():
            self.board.add_scalar(name, value, images_seen)
        self.board.flush()
        head = (
            f"kimg {images_seen / 1000:.1f}/{self.total / 1000:.1f} | eta {duration(facts['eta_seconds'])} | "
            f"{facts['seconds_per_kimg']:.2f} s/kimg | data {facts['data_wait']:.0%} | {facts['memory_gb']:.1f} GB | "
            f"{facts['resolution']} px"
        )
        line = " | ".join([head, *(f"{name} {value:.4g}" for name, value in terms.items())])
        self.display.console.print(line, highlight=False, soft_wrap=True) if not self.display.disable else log.info(
            line
        )

    def samples(self, images_seen: int, images: Tensor) -> None:
        """Save a grid. images: uint8 [N, C, R, R], rows of 16. TensorBoard has it no wider than BOARD_PX."""
        grid = make_grid(images.expand(-1, 3, -1, -1), nrow=16, padding=2, pad_value=255).permute(1, 2, 0)
        picture = Image.fromarray(grid.numpy())
        path = self.run / "samples" / f"{images_seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, format="png")
        publish(path, buffer.getvalue())
        small = picture.reduce(-(-picture.width // BOARD_PX))
        self.board.add_image("samples", np.asarray(small), images_seen, dataformats="HWC")

    def close(self) -> None:
        self.display.stop()
        with contextlib.suppress(OSError):  # a full disk was told, and may refuse the rest of the board too
            self.board.close()


def duration(seconds: float) -> str:
    """123 -> "2:03"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def memory_gb(device: torch.device) -> float:
    """Peak memory so far: of the GPU's allocator, or of this process on a CPU, in 1e9 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _forget_after(path: Path, images_seen: int) -> None:
    """Drop what a crash left behind the checkpoint, and partial ticks, which the run will make whole."""
    kept = [tick for tick in read_lines(path) if tick["images_seen"] <= images_seen and "partial" not in tick]
    if path.exists():
        publish(path, "".join(f"{json.dumps(tick)}\n" for tick in kept).encode())


def read_stats(run: Path) -> list[dict[str, Any]]:
    """All ticks of a run, in order."""
    return read_lines(run / "stats.jsonl")
