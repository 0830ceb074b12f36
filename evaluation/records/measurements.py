"""RUN/evaluation/: one JSON line per measurement, appended, never rewritten."""

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
from trainer.checkpoints import published

FOLDER = "evaluation"


def append(run: Path, command: str, record: dict[str, Any]) -> dict[str, Any]:
    """Add a record to RUN/evaluation/COMMAND.jsonl; the record with its command, time (UTC) and argv."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    full = {"command": command, "time": now, "argv": argv(), **record}
    path = run / FOLDER / f"{command}.jsonl"
    path.parent.mkdir(exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")  # by a kill
    with open(path, "a") as stream:
        stream.write(("\n" if torn else "") + json.dumps(full) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return full


def argv() -> str:
    """The command as the user typed it."""
    return shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])


def latest(
    run: Path, command: str, step: str, average: str | None, rank: Callable[[dict[str, Any]], int] = lambda record: 0
) -> dict[str, Any] | None:
    """The newest complete record of a command on a step, or on any where that step has none.

    average: of the generator; None is of a stage without any. rank: newest among those that have the highest.
    """
    found = [record for record in every(run, command) if record.get("ema") == average]
    of_step = [record for record in found if record["step"] == step]
    return max(reversed(of_step or found), key=rank, default=None)


def every(run: Path, command: str) -> list[dict[str, Any]]:
    """All complete records of a command, the oldest first."""
    return read_lines(run / FOLDER / f"{command}.jsonl")


def figures_folder(run: Path, named: Path | None = None, suffix: str = "") -> Path:
    """Where figures lie. named: the step that was asked for; an older one's lie apart: the page shows others.

    suffix: of another average than the config's first, which lie apart too.
    """
    folder = run / FOLDER / f"figures{suffix}"
    return folder if named is None or named == published.newest(run) else folder / named.name


def once(
    run: Path,
    command: str,
    facts: dict[str, Any],
    fits: Callable[[dict[str, Any]], bool],
    make: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """The newest record of the same weights that fits, or a new one of facts and make(), which is kept."""
    for record in reversed(every(run, command)):
        same = all(record.get(name) == facts.get(name) for name in ("weights_sha256", "ema"))
        if same and fits(record):
            return record
    return append(run, command, facts | make())
