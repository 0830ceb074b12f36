"""--from-step: resume a run from an earlier checkpoint than its newest. The later ones are set aside, not deleted."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from common.atomic_writes import publish
from common.errors import UserError

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


def go_back(run: Path, step: str, env: Mapping[str, str] = os.environ) -> None:
    """Make a step the newest of a run. Later checkpoints and snapshots of averages get names that end in .skipped.

    A job that a scheduler or a launcher starts again gives the same option again, and has gone back already: it keeps
    what it trained since. Raises a UserError where there is no such step.
    """
    restarts = [env.get(name, "0") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")]
    if any(count not in ("", "0") for count in restarts) and _recorded(run) == published.full_name(step):
        log.info("--from-step: this job went back to %s when it first started", step)
        return
    target = find(run, step)
    publish(run / RECORD, (json.dumps({"step": target.name}) + "\n").encode())
    aside = [path.name for path in published.steps(run) if path.name > target.name]
    retention.set_newer_aside(run, target)
    publish(published.folder(run) / "latest", f"{target.name}\n".encode())
    clock = published.clock_of(target)
    if (published.pointed(run, "best") or 0) > clock:
        (published.folder(run) / "best").unlink()
    for name in aside:
        evaluation_holds.release(run, name)
    ema_snapshots.set_later_aside(run, clock)
    if aside:
        log.info("--from-step: %s is the newest checkpoint now; set aside: %s", target.name, ", ".join(sorted(aside)))


def _recorded(run: Path) -> str | None:
    """Return the step that the run went back to last, or None."""
    try:
        name: str = json.loads((run / RECORD).read_bytes())["step"]
        return name
    except (OSError, ValueError, KeyError):
        return None
