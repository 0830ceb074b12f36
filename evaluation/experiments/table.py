"""The table of an experiment: a row a cell, with mean and standard deviation over its seeds.

A cell that is not complete is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import claims
from .job_numbers import COLUMNS, FORMATS, Number, alike, numbers, protocols, system_of
from .results import CellResults, ExperimentResults

FIXED = ("cell", "system", "seeds", "hours")
MEASURED = "measured"  # the last column of the CSV
FIRST_NUMBERS, NUMBERS = 3, 5  # columns of numbers beside those, and in each further part


@dataclass(frozen=True)
class Table:
    """head: titles; rows: cells of text; measured: how all of it was measured, a line each; legend: of the columns.

    measured_of: how the numbers of each row were measured, "" of one without; claims: rows under claims.HEAD.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    measured: list[str]
    measured_of: list[str]
    legend: list[str]
    claims: list[list[str]]

    def parts(self) -> Iterator[tuple[list[str], list[list[str]]]]:
        """Yield head and rows of tables that a page or a terminal is wide enough for, each with the cells' names."""
        first = len(FIXED) + FIRST_NUMBERS
        spans = [slice(0, first), *(slice(at, at + NUMBERS) for at in range(first, len(self.head), NUMBERS))]
        for span in spans:
            names = 0 if span.start == 0 else 1  # the first one has them
            yield [*self.head[:names], *self.head[span]], [[*row[:names], *row[span]] for row in self.rows]

    @property
    def csv(self) -> str:
        """The rows under their head, each with how it was measured: every reader of CSV takes a column."""
        stream = io.StringIO()
        rows = [[*row, how] for row, how in zip(self.rows, self.measured_of, strict=True)]
        csv.writer(stream, lineterminator="\n").writerows([[*self.head, MEASURED], *rows])
        return stream.getvalue()

    @property
    def markdown(self) -> str:
        """The same with title and legend."""
        lines = [self.title, "", *bullets(self.measured), "", *_markdown(self.head, self.rows), ""]
        if self.claims:
            lines += [*_markdown(claims.HEAD, self.claims), ""]
        return "\n".join([*lines, *bullets(self.legend), ""])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def bullets(lines: Sequence[str]) -> list[str]:
    """Return lines of a Markdown list."""
    return [f"* {line}" for line in lines]


def statistics(cell: CellResults) -> dict[str, tuple[float, float | None]]:
    """Return mean and standard deviation over the seeds of each number that all of them have; {} if one is not there.

    The deviation of one seed is None. Numbers that were measured with several networks are left out, see `mixed`.
    """
    return {
        name: _mean_and_deviation([each.value for each in found])
        for name, found in numbers_of_seeds(cell).items()
        if alike(found)
    }


def mixed(cell: CellResults) -> dict[str, list[str]]:
    """Return the columns whose numbers have no mean: the seeds' networks by sha256, where these are several."""
    seeds = {name: found for name, found in numbers_of_seeds(cell).items() if not alike(found)}
    return {name: list(dict.fromkeys(number.network for number in found)) for name, found in seeds.items()}


def numbers_of_seeds(cell: CellResults) -> dict[str, list[Number]]:
    """Return the numbers that all seeds have, by column; {} if a seed is not there."""
    if not cell.complete:
        return {}
    found = [numbers(result) for result in cell.finished.values()]
    return {name: [each[name] for each in found] for name in COLUMNS if all(name in each for each in found)}


def _mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def title_of(cell: CellResults) -> str:
    """Return the paper's name of a cell's system, or that of the file until a job is finished."""
    return next((name for result in cell.finished.values() if (name := system_of(result))), cell.system)


def table(results: ExperimentResults) -> Table:
    """Make the table of an experiment. Numbers that were measured differently are told apart in its head."""
    measured = [statistics(cell) for cell in results.cells]
    columns = [name for name in COLUMNS if any(name in each for each in measured)]
    head = [*FIXED, *columns]
    rows = [
        [
            cell.name,
            title_of(cell),
            _seeds(cell),
            _hours(cell),
            *(_shown(name, each.get(name)) for name in columns),
        ]
        for cell, each in zip(results.cells, measured, strict=True)
    ]
    return Table(
        title=f"Experiment {results.experiment}, budget {results.budget}",
        head=head,
        rows=rows,
        measured=[*_measured(results), *_without_mean(results)],
        measured_of=["; ".join(_protocols(cell)) if cell.complete else "" for cell in results.cells],
        legend=[f"{name}: {COLUMNS[name]}" for name in columns],
        claims=claims.rows(claims.verdicts(results)),
    )


def _seeds(cell: CellResults) -> str:
    return str(len(cell.jobs)) if cell.complete else f"{len(cell.finished)} of {len(cell.jobs)}"


def _hours(cell: CellResults) -> str:
    return f"{np.mean([result['hours'] for result in cell.finished.values()]):.2f}" if cell.complete else ""


def _shown(column: str, value: tuple[float, float | None] | None) -> str:
    if value is None:
        return ""
    mean, deviation = (None if v is None else format(v, FORMATS.get(column, ".3f")) for v in value)
    return f"{mean}" if deviation is None else f"{mean} ± {deviation}"


def _protocols(cell: CellResults) -> list[str]:
    return list(dict.fromkeys(line for result in cell.finished.values() for line in protocols(result)))


def _measured(results: ExperimentResults) -> list[str]:
    """Say how the numbers were measured; where cells differ in it, of which cells each is."""
    cells: dict[str, list[str]] = {}
    for cell in results.cells:
        for line in _protocols(cell):
            cells.setdefault(line, []).append(cell.name)
    kinds = [line.split(" ")[0] for line in cells]
    return [
        f"{line} ({', '.join(names)})" if kinds.count(line.split(" ")[0]) > 1 else line for line, names in cells.items()
    ]


def _without_mean(results: ExperimentResults) -> Iterator[str]:
    """Yield a line for each cell whose seeds were measured with several networks, with the columns that are empty."""
    for cell in results.cells:
        columns: dict[str, list[str]] = {}
        for name, networks in mixed(cell).items():
            columns.setdefault(", ".join(sha256[:12] for sha256 in networks), []).append(name)
        for networks_of_them, names in columns.items():
            yield f"no mean of {cell.name}'s {', '.join(names)}: its seeds were seen by networks {networks_of_them}"
