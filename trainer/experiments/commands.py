"""python -m trainer experiments list | run | table: their arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .jobs import Job

app = typer.Typer(help="Lists of trainings and measurements, in configs/experiments/: show, run, make a table.")
Name = Annotated[str, typer.Argument(help="an experiment's name, or a YAML file", metavar="EXPERIMENT")]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="how much of it [default: its first]")]
Only = Annotated[str | None, typer.Option(help="cells whose names fit a pattern, and what they need: 'faces-*'")]
Seeds = Annotated[int | None, typer.Option(min=1, help="so many seeds of every cell [default: its own number]")]


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
            experiment = experiment_file.load(known)
            print(f"{known:16} budgets {', '.join(experiment.budgets)}; cells {', '.join(experiment.cells)}")
            if experiment.variants:
                print(f"{'':16} for each of {', '.join(experiment.variants)}")
        return
    folder, jobs = _open(name, budget, only, seeds)
    for job in jobs:
        state = "complete" if runner.is_complete(job, folder) else f"{job.hours:.2f} h"
        print(f"{job.name:32} {state:>10}  python -m trainer {' '.join(job.training[1:3])}")
    print(f"{sum(job.hours for job in jobs if not runner.is_complete(job, folder)):.1f} h are left")


@app.command()
def run(
    name: Name,
    budget: BudgetOption = None,
    only: Only = None,
    seeds: Seeds = None,
    element: Annotated[
        str | None, typer.Option(help="of slurm/experiments.sh: STAGE.NUMBER, one job, whose data are there")
    ] = None,
) -> None:
    """Make the data, train and measure all that is not complete. Stopped at any time, the same command goes on."""
    from . import runner

    folder, jobs = _open(name, budget, only, seeds)
    runner.refuse_wrong_settings(jobs)
    without_data: dict[str, str] = {}
    needed = runner.needed_runs(jobs, folder)
    if element is None:
        without_data = runner.make_data(jobs, folder)
    else:
        jobs = runner.element(jobs, folder, element)
    left = [job for job in jobs if job.name not in without_data]
    _refuse_failures(runner.run_jobs(left, folder, needed, without_data), len(jobs))
    print(f"complete: {len(jobs)} jobs, results in {folder}")


@app.command()
def prepare(name: Name, budget: BudgetOption = None, only: Only = None, seeds: Seeds = None) -> None:
    """Check all settings, make the data, and print how many jobs each stage has, a line a stage; train nothing.

    A stage needs what the ones before leave: slurm/experiments.sh makes a job array of each. Data that cannot be made
    are told, and their jobs fail one by one.
    """
    from . import runner
    from .jobs import stages

    folder, jobs = _open(name, budget, only, seeds)
    runner.refuse_wrong_settings(jobs)
    runner.make_data(jobs, folder)
    for stage in stages(jobs):
        print(len(stage))


def _refuse_failures(failed: Mapping[str, str], count: int) -> None:
    from common.errors import listed

    if failed:
        reasons = [f"{name}: {' '.join(reason.split())}" for name, reason in failed.items()]
        raise listed(f"{len(failed)} of {count} jobs failed; the same command runs them again:", reasons)


@app.command()
def table(name: Name, budget: BudgetOption = None, only: Only = None, seeds: Seeds = None) -> None:
    """Make one table and one page of what is complete, with mean and standard deviation over the seeds."""
    from . import cells, experiment_file, programs, runner

    folder, jobs = _open(name, budget, only, seeds)
    for job in jobs:
        runner.is_complete(job, folder)  # which refuses a result of other settings
    experiment = experiment_file.load(name)
    runner.publish_cells(jobs, folder, cells.placed_cells(experiment), experiment.claims)
    try:
        print(programs.run_program(["evaluation", "table", str(folder)]), end="")
    except programs.Failed:
        raise SystemExit(2) from None


def _open(name: str, budget: str | None, only: str | None, seeds: int | None) -> tuple[Path, list[Job]]:
    """Return (the folder of the results, the jobs)."""
    from . import experiment_file, jobs, runner

    experiment = experiment_file.load(name)
    budget_name, chosen = experiment_file.chosen(experiment, budget)
    folder = runner.RESULTS / Path(name).stem / budget_name
    return folder, jobs.jobs(experiment, budget_name, chosen, only, seeds)
