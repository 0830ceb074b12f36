"""What an experiment runs, in order: a job is a cell with a seed, as command lines."""

from __future__ import annotations

import fnmatch
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import shipped
from common.errors import UserError

from .experiment_file import Budget, Experiment


@dataclass(frozen=True)
class Job:
    """One run: its training and its measurements.

    name: of the run's folder and of its result; hours: expected; config_sha256: of the config's file; data, training,
    measurements: what follows `python -m`.
    """

    name: str
    cell: str
    seed: int
    run: Path
    hours: float
    config_sha256: str
    data: list[str]
    training: list[str]
    measurements: list[list[str]]


def jobs(
    experiment: Experiment, budget_name: str, budget: Budget, only: str | None = None, seeds: int | None = None
) -> list[Job]:
    """Return the jobs of an experiment in the order that they need each other.

    only: a pattern of cells' names, as of files; what a chosen cell needs comes along. seeds: at most so many of each.
    Raises a UserError where no cell fits the pattern.
    """
    wanted = [name for name in experiment.cells if fnmatch.fnmatch(name, only or "*")]
    if not wanted:
        raise UserError(f"--only: {only} fits no cell; choose from {', '.join(experiment.cells)}")
    needed = _with_needed(experiment, wanted)
    folder = experiment.runs / budget_name
    return [
        _job(experiment, name, seed, budget, folder)
        for name, cell in experiment.cells.items()
        if name in needed
        for seed in range(min(cell.seeds, seeds or cell.seeds) if name in wanted else 1)
    ]


def _with_needed(experiment: Experiment, wanted: Sequence[str]) -> set[str]:
    found, left = set(wanted), list(wanted)
    while left:
        cell = experiment.cells[left.pop()]
        for name in (cell.vae, cell.init_from):
            if name is not None and name not in found:
                found.add(name)
                left.append(name)
    return found


def job_name(cell: str, seed: int) -> str:
    """Return the name of a job: the cell's, and the seed's number where it is not the first."""
    return cell if seed == 0 else f"{cell}-{seed}"


def _job(experiment: Experiment, name: str, seed: int, budget: Budget, folder: Path) -> Job:
    cell, run = experiment.cells[name], folder / job_name(name, seed)
    shards = str(budget.folder / cell.set)
    data = shlex.split(f"data_shards make {experiment.sets[cell.set]} --out {shards} {budget.sets}")
    settings = [f"run={run}", f"seed={seed}", f"data.path={shards}"]
    settings += [f"vae={folder / cell.vae}"] if cell.vae else []
    settings += [f"init_from={folder / cell.init_from}"] if cell.init_from else []
    settings += [*cell.overrides, *budget.overrides, *(budget.stage_2 if cell.stage == "gan" else ())]
    return Job(
        name=run.name,
        cell=name,
        seed=seed,
        run=run,
        hours=cell.hours * budget.hours_factor,
        config_sha256=hashlib.sha256(shipped.config(cell.config).read_bytes()).hexdigest(),
        data=data,
        training=["trainer", cell.stage, str(cell.config), *settings],
        measurements=[_measurement(line, run, budget) for line in cell.measure],
    )


def _measurement(line: str, run: Path, budget: Budget) -> list[str]:
    command, *options = shlex.split(line)
    return ["evaluation", command, str(run), *options, *shlex.split(budget.measure.get(command, ""))]
