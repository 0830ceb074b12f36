"""exit.json: how a training command ended. Launchers and make swallow exit codes; this file does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

from common.atomic_writes import publish

FILE = "exit.json"


def write_exit(folder: Path, code: int | None, reason: str, command: str) -> None:
    """Write FOLDER/exit.json. code: the exit code, None while the command runs; command: what the user typed."""
    content = {"code": code, "reason": reason, "command": command, "folder": os.getcwd()}
    publish(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def read_exit(folder: Path) -> tuple[int | None, str] | None:
    """Return (code, reason) of FOLDER/exit.json, or None without such a file. A code of None: it was killed."""
    try:
        content = json.loads((folder / FILE).read_bytes())
        return content["code"], content["reason"]
    except (OSError, ValueError, KeyError):
        return None


def read_command(run: Path) -> str | None:
    """Return the command that trained a run, from its exit.json; None without such a file."""
    try:
        command: str = json.loads((run / FILE).read_bytes())["command"]
        return command
    except (OSError, ValueError, KeyError):
        return None
