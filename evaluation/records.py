"""RUN/evaluation/: one JSON line per measurement, appended, never rewritten."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

FOLDER = "evaluation"


def append(run: Path, command: str, record: dict[str, Any]) -> dict[str, Any]:
    """Add a record to RUN/evaluation/COMMAND.jsonl; the record with its command and time (UTC)."""
    full = {"command": command, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **record}
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    with open(folder / f"{command}.jsonl", "a") as stream:
        stream.write(json.dumps(full) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return full


def latest(run: Path, command: str) -> dict[str, Any] | None:
    """The newest complete record of a command."""
    path = run / FOLDER / f"{command}.jsonl"
    if not path.exists():
        return None
    for line in reversed(path.read_text().splitlines()):
        try:
            record: dict[str, Any] = json.loads(line)
            return record
        except ValueError:  # cut short by a kill
            continue
    return None
