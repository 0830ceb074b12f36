"""Records of measurements in RUN/evaluation/COMMAND.jsonl: one JSON line each, appended, never rewritten.

With --out they are appended to OUT/COMMAND.jsonl, and both are read.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.json_lines import read_lines
from evaluation.inputs.results import Results
from trainer.checkpoints import published


def append(results: Results, command: str, record: dict[str, Any]) -> dict[str, Any]:
    """Append a record to COMMAND.jsonl, where new results go. Returns it with its command, time (UTC) and argv."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    full = {"command": command, "time": now, "argv": argv(), **record}
    path = results.folder / f"{command}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    incomplete = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")  # after a kill
    with open(path, "a") as stream:
        stream.write(("\n" if incomplete else "") + json.dumps(full) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return full


def argv() -> str:
    """Return the command as the user typed it."""
    return shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])


def latest(
    results: Results,
    command: str,
    step: str,
    average: str | None,
    rank: Callable[[dict[str, Any]], int] = lambda record: 0,
) -> dict[str, Any] | None:
    """Return the newest complete record of a command on a step, or on any step where that one has none; else None.

    average: the generator's average that the record is about, None in a stage without averages; rank: the newest is
    chosen among the records of the highest rank.
    """
    records = [record for record in every(results, command) if record.get("ema") == average]
    same_step = [record for record in records if record["step"] == step]
    return max(reversed(same_step or records), key=rank, default=None)


def every(results: Results, command: str) -> list[dict[str, Any]]:
    """Return all complete records of a command, the oldest first."""
    return [record for folder in results.folders for record in read_lines(folder / f"{command}.jsonl")]


def figures_folder(results: Results, named: Path | None = None, suffix: str = "") -> Path:
    """Return the folder of new figures.

    named: the step that the user named. Figures of an older step have a folder of their own: the page does not show
    them. suffix: tells figures of another average than the config's first apart.
    """
    folder = results.folder / f"figures{suffix}"
    return folder if named is None or named == published.newest(results.run) else folder / named.name


def once(
    results: Results,
    command: str,
    description: dict[str, Any],
    fits: Callable[[dict[str, Any]], bool],
    make: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Return the newest record of the same weights on the same data that fits, or append a new one.

    description: what the record says of the run, see `Run.describe`; make: measures the rest.
    """
    for record in reversed(every(results, command)):
        same = all(record.get(name) == description.get(name) for name in ("weights_sha256", "ema", "data", "variant"))
        if same and fits(record):
            return record
    return append(results, command, description | make())
