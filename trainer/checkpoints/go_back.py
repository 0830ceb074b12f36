"""--from-step: resume a run from an earlier checkpoint than its newest. The later ones are set aside, not deleted."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.errors import UserError
from common.json_lines import read_lines

from . import ema_snapshots, evaluation_holds, published, retention

log = logging.getLogger(__name__)
RECORD = "from_step.json"  # in RUN: the step that the newest --from-step went back to


def find(run: Path, step: str) -> Path:
    """Return the step that a user named as its folder or by images seen. Raises a UserError where it cannot be used."""
    usable = {path.name: path for path in published.steps(run) if published.problem(path) is None}
    name = published.full_name(step)
    if name not in usable:
        remedy = f"choose one of {', '.join(sorted(usable))}" if usable else "there is none; leave --from-step out"
        raise UserError(f"--from-step: {step} is no usable checkpoint of {run}; {remedy}")
    return usable[name]


def wanted(run: Path, step: str, env: Mapping[str, str] = os.environ) -> Path | None:
    """Return the step that a user named; None where this job has gone back to it before.

    A job that a scheduler or a launcher starts again gives the same option again, and keeps what it trained since.
    Raises a UserError where there is no such step.
    """
    restarts = [env.get(name, "0") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")]
    if any(count not in ("", "0") for count in restarts) and _recorded(run) == published.full_name(step):
        log.info("--from-step: this job went back to %s when it first started", step)
        return None
    return find(run, step)


def go_back(run: Path, target: Path) -> None:
    """Make a step the newest of a run, which no other process trains, and record that --from-step has done so."""
    publish(run / RECORD, (json.dumps({"step": target.name}) + "\n").encode())
    aside = set_later_aside(run, published.clock_of(target))
    if aside:
        log.info("--from-step: %s is the newest checkpoint now; set aside: %s", target.name, ", ".join(aside))


def set_later_aside(run: Path, clock: int) -> list[str]:
    """Set aside what a run has of later clocks, as training goes back to this one. Returns the names of the steps.

    Later checkpoints and snapshots of averages get names that end in .skipped; measurements and ticks of later clocks
    move to files of that name, so that none is taken for one of the steps to come.
    """
    target, latest = published.folder(run) / published.name_of(clock), published.folder(run) / "latest"
    aside = sorted(path.name for path in published.steps(run) if path.name > target.name)
    for path in sorted((run / "evaluation").glob("*.jsonl")):
        _move_lines(path, lambda record: str(record.get("step", "")) > target.name)
    _move_lines(run / "stats.jsonl", lambda tick: int(tick.get("images_seen", 0)) > clock)
    retention.set_newer_aside(run, target)
    if target.is_dir():
        publish(latest, f"{target.name}\n".encode())
    else:
        latest.unlink(missing_ok=True)
    if (published.pointed(run, "best") or 0) > clock:
        (published.folder(run) / "best").unlink()
    for name in aside:
        evaluation_holds.release(run, name)
    ema_snapshots.set_later_aside(run, clock)
    return aside


def _move_lines(path: Path, is_later: Callable[[dict[str, Any]], bool]) -> None:
    """Move the records of a file that are later to the end of FILE.skipped."""
    records = read_lines(path)
    later = [record for record in records if is_later(record)]
    if not later:
        return
    with open(path.with_name(path.name + retention.SKIPPED), "a") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in later)
    kept = [record for record in records if not is_later(record)]
    publish(path, "".join(f"{json.dumps(record)}\n" for record in kept).encode())


def _recorded(run: Path) -> str | None:
    """Return the step that the run went back to last, or None."""
    try:
        name: str = json.loads((run / RECORD).read_bytes())["step"]
        return name
    except (OSError, ValueError, KeyError):
        return None
