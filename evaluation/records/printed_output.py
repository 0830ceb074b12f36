"""The output of a command: a table, and as the last line its record, which is kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from common import terminal
from evaluation.inputs.results import Results

from . import measurements

WIDTH = 130


def print_and_record(
    results: Results,
    command: str,
    record: dict[str, Any],
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Print a table, append the record to the results, print it as one line of JSON. Returns it as appended."""
    show(title, columns, rows)
    kept = measurements.append(results, command, record)
    print(json.dumps(kept))
    return kept


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    terminal.console(WIDTH).print(table)
