"""What an experiment has left in results/EXPERIMENT/BUDGET: cells.json, which lists its cells, and a file for each job.

`python -m trainer experiments` writes both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError

CELLS = "cells.json"


@dataclass(frozen=True)
class CellResults:
    """A cell with what its finished jobs left.

    name: VARIANT-SYSTEM; system: its name in the experiment's file; variant: "" of a cell of all variants; data_set:
    its name in the file; jobs: names of its seeds; finished: by job, what its file holds.
    """

    name: str
    system: str
    variant: str
    data_set: str
    jobs: tuple[str, ...]
    finished: Mapping[str, dict[str, Any]]

    @property
    def complete(self) -> bool:
        """True if all seeds are there."""
        return len(self.finished) == len(self.jobs)


class Claim(NamedTuple):
    """A claim in words, its source, and the test of it; see trainer/experiments/claims.py."""

    says: str
    source: str
    test: str


@dataclass(frozen=True)
class ExperimentResults:
    """All cells of an experiment at one budget, and what was claimed of them. folder: where they lie."""

    folder: Path
    experiment: str
    budget: str
    cells: tuple[CellResults, ...]
    claims: tuple[Claim, ...] = ()


def read(folder: Path) -> ExperimentResults:
    """Read the results in a folder. Raises a UserError where there are none, or a file is damaged."""
    listed = _json(folder / CELLS)
    cells = [_cell(folder, cell) for cell in listed["cells"]]
    claims = tuple(Claim(**claim) for claim in listed.get("claims", ()))
    return ExperimentResults(folder, listed["experiment"], listed["budget"], tuple(cells), claims)


def _cell(folder: Path, cell: dict[str, Any]) -> CellResults:
    paths = {name: folder / f"{name}.json" for name in cell["jobs"]}
    finished = {name: _json(path) for name, path in paths.items() if path.is_file()}
    return CellResults(cell["name"], cell["system"], cell["variant"], cell["set"], tuple(cell["jobs"]), finished)


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; `python -m trainer experiments table NAME` writes it") from None
    except ValueError:
        raise UserError(f"{path}: is damaged; remove it, and the job is measured again") from None
    return found
