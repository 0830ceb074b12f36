"""RUN/stats.jsonl: a line of JSON per tick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.json_lines import read_lines

FILE = "stats.jsonl"


def read_stats(run: Path) -> list[dict[str, Any]]:
    """Return all ticks of a run, in order; [] where there is no file."""
    return read_lines(run / FILE)


def append_tick(run: Path, tick: dict[str, Any]) -> None:
    """Add a line."""
    with open(run / FILE, "a") as stream:
        stream.write(json.dumps(tick) + "\n")


def forget_after(run: Path, images_seen: int) -> None:
    """Drop what a resume will write again: ticks after its checkpoint, and partial ticks."""
    path = run / FILE
    kept = [tick for tick in read_lines(path) if tick["images_seen"] <= images_seen and "partial" not in tick]
    if path.exists():
        publish(path, "".join(f"{json.dumps(tick)}\n" for tick in kept).encode())
