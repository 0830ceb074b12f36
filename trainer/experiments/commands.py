"""python -m trainer experiments list | run: their arguments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .jobs import Job

app = typer.Typer(help="Lists of trainings and measurements, in configs/experiments/: show one, run one.")
Name = Annotated[str, typer.Argument(help="an experiment's name, or a YAML file", metavar="EXPERIMENT")]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="how much of it [default: its first]")]
Only = Annotated[str | None, typer.Option(help="cells whose names fit a pattern, and what they need: 'faces-*'")]
Seeds = Annotated[int | None, typer.Option(min=1, help="at most so many seeds of a cell [default: its own number]")]


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="an experiment [default: all names]", metavar="EXPERIMENT")] = None,
    budget: BudgetOption = None,
    only: Only = None,
    seeds: Seeds = None,
) -> None:
    """Name all experiments, or the jobs of one: what they take, and which are complete."""
    from . import experiment_file, runner

    if name is None:
        for known in experiment_file.names():
            print(known)
        return
    folder, jobs = _open(name, budget, only, seeds)
    for job in jobs:
        state = "complete" if runner.is_complete(job, folder) else f"{job.hours:.2f} h"
        print(f"{job.name:32} {state:>10}  python -m trainer {' '.join(job.training[1:3])}")
    print(f"{sum(job.hours for job in jobs if not runner.is_complete(job, folder)):.1f} h are left")


@app.command()
def run(name: Name, budget: BudgetOption = None, only: Only = None, seeds: Seeds = None) -> None:
    """Make the data, train and measure all that is not complete. Stopped at any time, the same command goes on."""
    from common.errors import UserError

    from . import runner

    folder, jobs = _open(name, budget, only, seeds)
    failed = runner.run_jobs(jobs, folder)
    if failed:
        raise UserError(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}; see above, and run it again")
    print(f"complete: {len(jobs)} jobs, results in {folder}")


def _open(name: str, budget: str | None, only: str | None, seeds: int | None) -> tuple[Path, list[Job]]:
    """Return (the folder of the results, the jobs)."""
    from . import experiment_file, jobs, runner

    experiment = experiment_file.load(name)
    budget_name, chosen = experiment_file.chosen(experiment, budget)
    folder = runner.RESULTS / Path(name).stem / budget_name
    return folder, jobs.jobs(experiment, budget_name, chosen, only, seeds)
