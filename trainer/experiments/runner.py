"""Run the jobs of an experiment one after the other, as programs; each can be stopped, and goes on where it was.

A finished job leaves results/EXPERIMENT/BUDGET/NAME.json: its settings, what it took, and the records of its
measurements. It is skipped from then on, also where its run folder is gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.errors import UserError
from trainer.reporting.cost import spent
from trainer.reporting.stats_file import read_stats

from .jobs import Job
from .programs import Failed, run_program, say

RESULTS = Path("results")


def run_jobs(jobs: Sequence[Job], results: Path) -> list[str]:
    """Run what is not complete; return the names of the jobs that failed. A line before each says what is to come.

    A job that fails does not stop the others, but for those that need its run. Exits with 75 where a signal stopped it.
    """
    left = [job for job in jobs if not is_complete(job, results)]
    for job in (job for job in jobs if job not in left):
        say(f"{job.name}: complete, see {result_file(job, results)}")
    failed: list[str] = []
    for at, job in enumerate(left):
        rest = sum(job.hours for job in left[at:])
        say(f"{job.name}: {at + 1} of {len(left)}, about {_time(job.hours)}; all that is left: {_time(rest)}")
        try:
            publish_result(job, results, _run(job))
        except Failed as error:
            say(f"{job.name}: failed: {error}")
            failed.append(job.name)
    return failed


def is_complete(job: Job, results: Path) -> bool:
    """Return whether a job has left its result. Raises a UserError where that is of other settings."""
    path = result_file(job, results)
    if not path.is_file():
        return False
    try:
        done = json.loads(path.read_bytes())["job"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is damaged; remove it, and the job is measured again") from None
    if done != _described(job):
        changed = [key for key in done | _described(job) if done.get(key) != _described(job).get(key)]
        raise UserError(
            f"{path}: is the result of another {', '.join(changed)}; move it away, with the run {job.run}, or set the "
            "experiment back"
        )
    return True


def result_file(job: Job, results: Path) -> Path:
    """Return the file of a job's result."""
    return results / f"{job.name}.json"


def publish_result(job: Job, results: Path, measured: dict[str, Any]) -> None:
    """Write a job's result."""
    results.mkdir(parents=True, exist_ok=True)
    content = {"job": _described(job), **measured}
    publish(result_file(job, results), (json.dumps(content, indent=1, default=str) + "\n").encode())


def _described(job: Job) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(json.dumps(asdict(job), default=str))
    del described["hours"]  # an estimate
    return described


def _run(job: Job) -> dict[str, Any]:
    """Make the data, train, measure; return the hours of training, its last tick, and the records."""
    run_program(job.data)
    run_program(job.training)
    records = [_record(run_program(argv)) for argv in job.measurements]
    ticks = read_stats(job.run)
    last = ticks[-1] if ticks else None
    return {"hours": round(spent(ticks, 1).seconds / 3600, 3), "last_tick": last, "records": records}


def _record(output: str) -> dict[str, Any]:
    """Return the JSON object that a command of evaluation prints as its last line."""
    try:
        record: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        raise Failed("its last line is no JSON object") from None
    return record


def _time(hours: float) -> str:
    return str(timedelta(seconds=round(hours * 3600)))
