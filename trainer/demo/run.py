"""Run a demo: say what it will take, show the shipped models, train, measure, and say what it took.

Its lengths are chosen once and kept in runs/demo/NAME.json, so that the same command goes on with a stopped demo.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import shipped
from common.atomic_writes import publish
from common.errors import UserError
from trainer.experiments.programs import Failed, run_program, say

from . import timing
from .demos import RUNS, SHIPPED, Demo, Name, demo, exports


def run(name: Name, own_vae: bool, minutes: float, started: float) -> Path:
    """Run a demo to its end; return its page.

    minutes: that it may take, from `started` (seconds since 1970) on. Raises a UserError where a step fails.
    """
    begun, chosen, plan_file = time.time(), demo(name, own_vae), _plan_file(name, own_vae)
    copy_exports()
    try:
        plan = _read_plan(plan_file)
        if plan is None:
            plan = _make_plan(chosen, minutes * 60 - (begun - started), plan_file)
        else:
            say(f"going on with the lengths of {plan_file}; remove it, and the runs beside it, to choose them again")
        _announce(chosen, plan, begun - started)
        for argv in commands(chosen, plan["kimg"]):
            _step(argv)
    except Failed as error:
        raise UserError(f"the demo stopped: {error}; see above, then run the same command again") from None
    took, expected = time.time() - begun, plan["seconds"]
    say(f"took {_clock(took)} (expected {_clock(expected)}), {_clock(time.time() - started)} with the environment")
    return chosen.page


def _plan_file(name: Name, own_vae: bool) -> Path:
    return RUNS / f"{name}{'-own-vae' if own_vae else ''}.json"


def copy_exports() -> None:
    """Copy the shipped models to runs/demo/shipped/, those that are not there as they are now."""
    for name in exports():
        source, copy = shipped.ROOT / "pretrained" / name, SHIPPED / name
        if not _same(source, copy):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("evaluation"))


def _same(source: Path, copy: Path) -> bool:
    files = [path for path in source.iterdir() if path.is_file()]
    return all((copy / path.name).is_file() and path.read_bytes() == (copy / path.name).read_bytes() for path in files)


def _read_plan(path: Path) -> dict[str, Any] | None:
    """Read the lengths that were chosen; None where there are none, or not as they are written."""
    try:
        plan: dict[str, Any] = json.loads(path.read_bytes())
        plan["kimg"], plan["seconds"], plan["speeds"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return plan


def _make_plan(chosen: Demo, left: float, path: Path) -> dict[str, Any]:
    """Time iterations, choose the lengths and keep them. left: seconds."""
    shutil.rmtree(timing.FOLDER, ignore_errors=True)  # of a demo that was stopped here
    say("a few iterations are timed first, to say what the demo will take on this machine")
    begun = time.time()
    speeds = [timing.seconds_per_kimg(chosen, training) for training in chosen.trainings]
    shutil.rmtree(timing.FOLDER, ignore_errors=True)
    taken = time.time() - begun
    lengths = timing.lengths(chosen, speeds, left - taken)
    seconds = taken + timing.others(chosen, speeds) + sum(length.seconds for length in lengths)
    plan = {"kimg": [length.kimg for length in lengths], "seconds": seconds, "speeds": speeds}
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, (json.dumps(plan, indent=1) + "\n").encode())
    return plan


def _announce(chosen: Demo, plan: dict[str, Any], before: float) -> None:
    """Print what comes, step by step, and in all."""
    slow = timing.slowness(chosen, plan["speeds"])
    steps = [(step.seconds * slow, step.what) for step in (chosen.data, *chosen.before)]
    for training, kimg, speed in zip(chosen.trainings, plan["kimg"], plan["speeds"], strict=True):
        steps.append((timing.START_SECONDS + kimg * speed, f"{training.what}: {kimg:g},000 images"))
    steps += [(step.seconds * slow, step.what) for step in chosen.after]
    cores = len(os.sched_getaffinity(0))
    say(f"\nOn this machine ({cores} cores, {plan['speeds'][-1]:.2f} s for 1,000 images of the GAN):")
    for seconds, what in steps:
        say(f"  {_clock(seconds):>6}  {what}")
    say(f"  {_clock(plan['seconds']):>6}  in all, and {_clock(before)} until now\n")


def commands(chosen: Demo, kimg: Sequence[float]) -> list[list[str]]:
    """Return the demo's command lines in order."""
    before = [list(step.argv) for step in (chosen.data, *chosen.before)]
    trainings = [training.argv(length) for training, length in zip(chosen.trainings, kimg, strict=True)]
    return [*before, *trainings, *(list(step.argv) for step in chosen.after)]


def _step(argv: list[str]) -> None:
    """Run a command; print what it printed, but for its record, which is kept in a file, and how long it took."""
    begun = time.time()
    output = run_program(argv)
    print("\n".join(line for line in output.splitlines() if not line.startswith('{"command"')), flush=True)
    say(f"took {_clock(time.time() - begun)}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
