"""Run the jobs of an experiment one after the other, as programs; each can be stopped, and goes on where it was.

A finished job leaves results/EXPERIMENT/BUDGET/NAME.json: its settings, what it took, and the records of its
measurements; and in NAME/ small pictures. It is skipped from then on, also where its run folder is gone: that is
trained again only for a job that needs it and is not finished.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from common import shipped
from common.atomic_writes import publish
from common.errors import UserError, joined
from trainer.checkpoints.published import clock_of, newest
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig
from trainer.encoders.frozen import load, weights_sha256
from trainer.jobs.exit_file import FILE as EXIT
from trainer.jobs.exit_file import read_exit
from trainer.reporting.cost import spent
from trainer.reporting.stats_file import read_stats

from .cells import PlacedCell
from .experiment_file import Claim
from .jobs import Job, stages
from .programs import Failed, run_program, say

RESULTS = Path("results")


def run_jobs(
    jobs: Sequence[Job], results: Path, needed: Collection[str] = (), before: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Run what is not complete; return the jobs that failed, with the reason of each, those of `before` among them.

    needed: names of jobs whose runs must be there though the jobs are complete, see `needed_runs`. before: jobs that
    failed before and are not run. A line before each job says what is to come. A job that fails does not stop the
    others, but for those that need its run. Exits with 75 where a signal stopped it. The data must be there, see
    `make_data`.
    """
    complete = [job for job in jobs if is_complete(job, results)]
    left = [job for job in jobs if job not in complete or job.name in needed]
    for job in complete:
        why = f", but its run {job.run} is gone, which others need" if job in left else ""
        say(f"{job.name}: complete{why}, see {result_file(job, results)}")
    failed = dict(before or {})
    expected, took = 0.0, 0.0  # hours of what was run here, which say how this machine compares with the file's
    for at, job in enumerate(left):
        pace = took / expected if expected else 1.0
        rest = pace * sum(job.hours for job in left[at:])
        say(f"{job.name}: {at + 1} of {len(left)}, about {_time(pace * job.hours)}; all that is left: {_time(rest)}")
        start = time.monotonic()
        try:
            without = [name for name in job.needs if name in failed]
            if without:
                raise Failed(f"it needs {', '.join(without)}, which failed")
            if job in complete:
                _train_again(job, results)
            else:
                publish_result(job, results, _run(job, results))
        except Failed as error:
            say(f"{job.name}: failed: {error}")
            failed[job.name] = str(error)
            continue
        expected, took = expected + job.hours, took + (time.monotonic() - start) / 3600
    return failed


def needed_runs(jobs: Sequence[Job], results: Path) -> set[str]:
    """Return the names of complete jobs whose run is gone, or not whole, and is needed for what is not complete."""
    by_name = {job.name: job for job in jobs}
    found: set[str] = set()
    left = [job for job in jobs if not is_complete(job, results)]
    while left:
        for name in left.pop().needs:
            need = by_name[name]
            if name not in found and is_complete(need, results) and not _has_run(need, results):
                found.add(name)
                left.append(need)
    return found


def _has_run(job: Job, results: Path) -> bool:
    """Return whether the run of a complete job is there, to its last image."""
    last, step = _result(job, results)["last_tick"], newest(job.run)
    return step is not None and (last is None or clock_of(step) >= last["images_seen"])


def _train_again(job: Job, results: Path) -> None:
    """Train a complete job whose run is gone. Says where another network comes of it than the one on record."""
    _train(job)
    known = {record.get("encoder_sha256") for record in _result(job, results)["records"]} - {None}
    if known and job.training[1] == "vae" and weights_sha256(load(job.run).encoder) not in known:
        say(
            f"{job.name}: warning: trained again it is another network, as on another kind of processor: its own "
            "figures are of the former one, those of what needs its run of this one"
        )


def _result(job: Job, results: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(result_file(job, results).read_bytes())
    return content


def make_data(jobs: Sequence[Job], results: Path) -> dict[str, str]:
    """Make the data sets of all jobs that are to run, each once; return the jobs without theirs, with the reason."""
    wanted: dict[str, list[Job]] = {}
    needed = needed_runs(jobs, results)
    for job in jobs:
        if job.name in needed or not is_complete(job, results):
            wanted.setdefault(json.dumps(job.data), []).append(job)
    failed: dict[str, str] = {}
    for of_one_set in wanted.values():
        try:
            run_program(of_one_set[0].data)
        except Failed as error:
            say(f"{', '.join(job.name for job in of_one_set)}: no data: {error}")
            failed |= {job.name: f"no data: {error}" for job in of_one_set}
    return failed


def element(jobs: Sequence[Job], results: Path, at: str) -> list[Job]:
    """Return the job of an element of a job array, STAGE.NUMBER, in a list.

    Raises a UserError where there is none, or where what it needs is not complete.
    """
    by_stage = stages(jobs)
    stage, _, number = at.partition(".")
    if not (stage.isdecimal() and number.isdecimal()) or int(stage) >= len(by_stage):
        raise UserError(f"--element: {at}: give STAGE.NUMBER, with a stage below {len(by_stage)}")
    if int(number) >= len(by_stage[int(stage)]):
        raise UserError(f"--element: {at}: stage {stage} has {len(by_stage[int(stage)])} jobs, numbered from 0")
    job = by_stage[int(stage)][int(number)]
    gone = needed_runs(jobs, results)
    missing = [name for name in job.needs if name in gone or not (results / f"{name}.json").is_file()]
    if missing:
        raise UserError(f"{job.name}: needs {', '.join(missing)}, which is not complete; run it first")
    return [job]


def refuse_wrong_settings(jobs: Sequence[Job]) -> None:
    """Raise one UserError with all that the trainings would refuse of their settings, before the first begins."""
    problems = []
    for job in jobs:
        _, stage, config, *overrides = job.training
        kind = VaeConfig if stage == "vae" else GanConfig
        try:
            load_config(kind, shipped.config(Path(config)), overrides)
        except UserError as error:
            problems.append(f"{job.name}: {error}")
    if problems:
        raise joined("these cells cannot be trained", problems)


def publish_cells(jobs: Sequence[Job], results: Path, cells: Mapping[str, PlacedCell], claims: Sequence[Claim]) -> None:
    """Write which cells, with which seeds, a table has, and what is claimed: results/EXPERIMENT/BUDGET/cells.json."""
    names: dict[str, list[str]] = {}
    for job in jobs:
        names.setdefault(job.cell, []).append(job.name)
    listed = [
        {
            "name": name,
            "system": cells[name].system,
            "variant": cells[name].variant,
            "set": cells[name].set,
            "jobs": seeds,
        }
        for name, seeds in names.items()
    ]
    content: dict[str, Any] = {"experiment": results.parent.name, "budget": results.name, "cells": listed}
    if claims:
        content["claims"] = [claim.model_dump() for claim in claims]
    results.mkdir(parents=True, exist_ok=True)
    publish(results / "cells.json", (json.dumps(content, indent=1) + "\n").encode())


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
    del described["hours"], described["needs"]  # an estimate, and what the command lines say
    return described


def _run(job: Job, results: Path) -> dict[str, Any]:
    """Train, measure, draw; return the hours of training, its last tick, and the records."""
    _train(job)
    records = [record for argv in job.measurements for record in _records(run_program(argv))]
    run_program(["evaluation", "sheet", str(job.run), "--out", str(results / job.name)])
    ticks = read_stats(job.run)
    last = ticks[-1] if ticks else None
    return {"hours": round(spent(ticks, 1).seconds / 3600, 3), "last_tick": last, "records": records}


def _train(job: Job) -> None:
    """Train a job. Raises Failed with the reason that this training left in the run's exit.json, where it left one."""
    before = _written(job.run / EXIT)
    try:
        run_program(job.training)
    except Failed as error:
        code, reason = (_written(job.run / EXIT) != before and read_exit(job.run)) or (None, "")
        raise Failed(reason if code else str(error)) from None  # None: it was killed before it could say why


def _written(path: Path) -> tuple[int, int] | None:
    """Return what tells two writings of a file apart, also of equal content; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _records(output: str) -> list[dict[str, Any]]:
    """Return the JSON objects that a command of evaluation prints: its last line, with two sources of codes two."""
    objects = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            objects.append(json.loads(line))
    records = [found for found in objects if isinstance(found, dict)]
    if not records:
        raise Failed("it printed no JSON object")
    return records


def _time(hours: float) -> str:
    return str(timedelta(seconds=round(hours * 3600)))
