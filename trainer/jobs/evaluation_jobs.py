"""Evaluation jobs while a run trains: one for each checkpoint, handed to the scheduler and not waited for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from common import paths, shipped
from common.atomic_writes import publish
from trainer.checkpoints import evaluation_holds, published
from trainer.config.sections import EvaluationConfig

log = logging.getLogger(__name__)
_LAUNCHER_VARIABLES = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)$|ROLE_NAME$|MASTER_|TORCHELASTIC_|ACCELERATE_|PET_"
    r"|SLURM_STEP|PMI_|PMIX_|OMPI_|MV2_|MPI_"
)
PATIENCE = 10  # seconds to wait for the scheduler's answers at the end of a run


def without_launcher(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what torchrun, accelerate, srun and mpirun tell a process of its group.

    sbatch passes its environment on to the job, which would wait for the processes of that group.
    """
    return {name: value for name, value in env.items() if not _LAUNCHER_VARIABLES.match(name)}


def command_problem(config: EvaluationConfig) -> str | None:
    """Say why evaluation.command cannot be called; None where its program is there."""
    try:
        command = _words(config.command)
    except ValueError as error:
        return f"evaluation.command: {config.command!r}: {error}"
    if not command or shutil.which(command[0]) is None:
        return (
            f"evaluation.command: {config.command!r}: no such program on this machine; name another, or set "
            "evaluation.submit=false"
        )
    missing = [word for word in command if word.startswith("slurm/") and not Path(word).is_file()]
    if not missing:
        return None
    copied = " ".join(f'"$({shipped.LISTING} {folder})"' for folder in ("slurm", "configs"))
    return (
        f"evaluation.command: {config.command!r}: {missing[0]} is not in {Path.cwd()}; start the run where it is, copy "
        f"the job scripts here with `cp -r {copied} .`, or set evaluation.submit=false"
    )


def _words(command: str) -> list[str]:
    """Split a command as a shell does, and expand `~` and variables in its words. Raises ValueError where it cannot."""
    return [paths.expanded(word) for word in shlex.split(command)]


class Submitter:
    """Calls COMMAND RUN --step STEP --release for each checkpoint, on the main process.

    A checkpoint is held, which is not deleted, until its evaluation has ended. RUN/evaluation/submitted.json lists the
    steps whose command ended with 0: a resume submits the others again. The output of the commands goes to
    RUN/evaluation/submit.log.
    """

    def __init__(self, run: Path, config: EvaluationConfig) -> None:
        self.run, self.command = run, _words(config.command)
        self.folder = run / "evaluation"
        self.path = self.folder / "submitted.json"
        self.done: list[str] = json.loads(self.path.read_bytes()) if self.path.exists() else []
        there = {step.name for step in published.steps(run)}
        self.started = there.intersection(self.done)  # of one that was set aside there may be another of that name
        self.waiting: dict[str, subprocess.Popen[bytes]] = {}
        self.warned = False

    def submit(self) -> None:
        """Submit every checkpoint that is not submitted yet, and return without waiting for the scheduler."""
        self.look()
        for step in reversed(published.steps(self.run)):
            if step.name not in self.started and published.problem(step) is None:
                self.started.add(step.name)
                self._hold(step.name)
                self._start(step.name)

    def look(self) -> None:
        """Note which commands have ended, and warn of those that failed."""
        for name, process in list(self.waiting.items()):
            if process.poll() is None:
                continue
            del self.waiting[name]
            if process.returncode == 0:
                self._note_done(name)
            else:
                self._release(name)
                self._warn(name, f"ended with {process.returncode}")

    def _note_done(self, step: str) -> None:
        """Add a step to submitted.json."""
        self.done.append(step)
        try:
            publish(self.path, json.dumps(self.done, indent=1).encode())
        except OSError as error:
            self._warn(step, f"was submitted, and could not be noted ({error.strerror})")

    def finish(self) -> None:
        """Look a last time, after a short wait. Commands that still run go on alone."""
        for process in self.waiting.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                break
        self.look()
        for name in self.waiting:
            self._warn(name, "has not answered yet")

    def _release(self, step: str) -> None:
        """Let retention delete the step again."""
        with contextlib.suppress(OSError):  # the step is then kept for longer than needed
            evaluation_holds.release(self.run, step)

    def _hold(self, step: str) -> None:
        """Keep retention from deleting the step. Warn once where too many are held already."""
        try:
            held = evaluation_holds.hold(self.run, step)
        except OSError as error:
            self._warn(step, f"is not held for its evaluation ({error.strerror})")
            return
        if not held and not self.warned:
            self.warned = True
            log.warning(
                "warning: %d checkpoints wait for their evaluation (%s): later ones are not held for theirs",
                evaluation_holds.MOST,
                ", ".join(evaluation_holds.waiting(self.run)),
            )

    def _start(self, step: str) -> None:
        """Call the command for a step, outside of this process's group."""
        try:
            self.folder.mkdir(exist_ok=True)
            with (self.folder / "submit.log").open("ab") as out:
                self.waiting[step] = subprocess.Popen(
                    self._arguments(step),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env=without_launcher(os.environ),
                )
        except OSError as error:
            self._release(step)
            self._warn(step, f"could not be started ({error.strerror})")

    def _arguments(self, step: str) -> list[str]:
        return [*self.command, str(self.run), "--step", step, "--release"]

    def _warn(self, step: str, problem: str) -> None:
        command = shlex.join(self._arguments(step))
        log.warning("warning: %s %s: see %s; training goes on", command, problem, self.folder / "submit.log")
