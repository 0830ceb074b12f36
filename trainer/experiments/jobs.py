"""What an experiment runs, in order: a job is a cell with a seed, as command lines."""

from __future__ import annotations

import fnmatch
import hashlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import shipped
from common.errors import UserError

from .cells import PlacedCell, placed_cells
from .experiment_file import Budget, Experiment


@dataclass(frozen=True)
class Job:
    """One run: its training and its measurements.

    name: of the run's folder and of its result; hours: expected; config_sha256: of the config's file; data, training,
    measurements: what follows `python -m`; needs: jobs whose runs it reads.
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
    needs: tuple[str, ...] = ()


def stages(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return jobs in stages: all that one needs lies in earlier ones. jobs: with all that they need."""
    left, found = list(jobs), list[list[Job]]()
    while left:
        waiting = {job.name for job in left}
        ready = [job for job in left if waiting.isdisjoint(job.needs)]
        found.append(ready)
        left = [job for job in left if job not in ready]
    return found


def jobs(
    experiment: Experiment, budget_name: str, budget: Budget, only: str | None = None, seeds: int | None = None
) -> list[Job]:
    """Return the jobs of an experiment in the order that they need each other.

    only: a pattern of cells' names, as of files; what a chosen cell needs comes along, with seed 0. seeds: so many of
    each, None for the cell's own number. Raises a UserError where no cell fits the pattern, or two have one name.
    """
    cells = placed_cells(experiment)
    wanted = [name for name in cells if fnmatch.fnmatch(name, only or "*")]
    if not wanted:
        raise UserError(f"--only: {only} fits no cell; choose from {', '.join(cells)}")
    needed = _with_needed(cells, wanted)
    folder = experiment.runs / budget_name
    found = [
        _job(experiment, cell, seed, budget, folder)
        for name, cell in cells.items()
        if name in needed
        for seed in range((seeds or cell.cell.seeds) if name in wanted else 1)
    ]
    _refuse_one_folder_for_two(found)
    return found


def _refuse_one_folder_for_two(found: Sequence[Job]) -> None:
    twice = [name for name, times in Counter(job.name for job in found).items() if times > 1]
    if twice:
        raise UserError(f"{twice[0]}: two cells would have this run folder, one as a seed; call one of them otherwise")


def _with_needed(cells: Mapping[str, PlacedCell], wanted: Sequence[str]) -> set[str]:
    found, left = set(wanted), list(wanted)
    while left:
        cell = cells[left.pop()]
        for name in (cell.vae, cell.init_from):
            if name is not None and name not in found:
                found.add(name)
                left.append(name)
    return found


def job_name(cell: str, seed: int) -> str:
    """Return the name of a job: the cell's, and the seed's number where it is not the first."""
    return cell if seed == 0 else f"{cell}-{seed}"


def _job(experiment: Experiment, cell: PlacedCell, seed: int, budget: Budget, folder: Path) -> Job:
    run, shards = folder / job_name(cell.name, seed), str(budget.folder / cell.set)
    data = shlex.split(f"data_shards make {experiment.sets[cell.set]} --out {shards} {budget.sets}")
    settings = [f"run={run}", f"seed={seed}", f"data.path={shards}"]
    settings += [f"vae={folder / cell.vae}"] if cell.vae else []
    settings += [f"init_from={folder / cell.init_from}"] if cell.init_from else []
    settings += [*cell.overrides, *budget.overrides, *(budget.stage_2 if cell.cell.stage == "gan" else budget.stage_1)]
    return Job(
        name=run.name,
        cell=cell.name,
        seed=seed,
        run=run,
        hours=budget.hours.get(cell.system, cell.cell.hours * budget.hours_factor),
        config_sha256=hashlib.sha256(shipped.config(cell.config).read_bytes()).hexdigest(),
        data=data,
        training=["trainer", cell.cell.stage, str(cell.config), *settings, *budget.cells.get(cell.system, ())],
        measurements=[_measurement(line, run, budget) for line in cell.cell.measure],
        needs=tuple(need for need in (cell.vae, cell.init_from) if need is not None),
    )


def _measurement(line: str, run: Path, budget: Budget) -> list[str]:
    command, *options = shlex.split(line)
    return ["evaluation", command, str(run), *options, *shlex.split(budget.measure.get(command, ""))]
