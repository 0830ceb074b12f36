"""What a command prints: a table, and as the last line its record, which is kept beside the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import measurements

WIDTH = 130


def answer(
    run: Path,
    command: str,
    record: dict[str, Any],
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Print the table, keep the record, print it as one line of JSON. Returns it as it was kept."""
    show(title, columns, rows)
    kept = measurements.append(run, command, record)
    print(json.dumps(kept))
    return kept


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(width=WIDTH).print(table)
