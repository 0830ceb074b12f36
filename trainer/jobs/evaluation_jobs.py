"""Evaluation jobs while a run trains: one for each checkpoint, handed to the scheduler and not waited for."""

from __future__ import annotations

import argparse
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

from common.atomic_writes import publish
from common.errors import UserError
from trainer.checkpoints import evaluation_holds, published
from trainer.config.inception_files import FILES, checked
from trainer.config.schema import GanConfig
from trainer.config.sections import EvaluationConfig

log = logging.getLogger(__name__)
_OF_GROUP = re.compile(r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)$|ROLE_NAME$|MASTER_|TORCHELASTIC_|ACCELERATE_|PET_")
PATIENCE = 10  # seconds at the end of a run, for what was submitted last to be answered


def outside(env: Mapping[str, str]) -> dict[str, str]:
    """An environment without what torchrun and accelerate tell this process of its group: sbatch hands it on, and a
    job that took it for its own would wait for processes that never come."""
    return {name: value for name, value in env.items() if not _OF_GROUP.match(name)}


def weights_problem(config: GanConfig, data_set: str) -> str | None:
    """Why the jobs of a run would find no network to look with; None where they do, or choose one themselves."""
    if not config.evaluation.submit or "eval_fid.sh" not in config.evaluation.command:
        return None
    options = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    options.add_argument("--protocol", default="factor-net" if data_set == "dsprites" else "clean")
    options.add_argument("--weights", type=Path)
    options.add_argument("--reference")  # tells the protocol itself
    words = os.environ.get("EVALUATION", "")
    try:
        asked, _ = options.parse_known_args(shlex.split(words))
    except (argparse.ArgumentError, ValueError) as error:
        return f"EVALUATION: {words!r}: {error}; mend it in slurm/site.env"
    if asked.protocol not in FILES or asked.reference:
        return None
    try:
        checked(
            asked.protocol, asked.weights or getattr(config.inception, asked.protocol), config.inception.clean_sha256
        )
    except UserError as error:
        return f"evaluation.submit: its jobs cannot run: {error}; or set evaluation.submit=false"
    return None


class Submitter:
    """The main process's. COMMAND RUN --step STEP --release for each checkpoint, held until that evaluation has ended.

    RUN/evaluation/submitted.json has the steps whose command ended with 0: a resume does not submit them again, and
    does submit the others. What the commands print goes to RUN/evaluation/submit.log.
    """

    def __init__(self, run: Path, config: EvaluationConfig) -> None:
        """Raises UserError where the command is not there."""
        self.run, self.command = run, shlex.split(config.command)
        if not self.command or shutil.which(self.command[0]) is None:
            raise UserError(
                f"evaluation.command: {config.command!r}: no such program on this machine; name another, or set "
                "evaluation.submit=false"
            )
        self.folder = run / "evaluation"
        self.path = self.folder / "submitted.json"
        self.done: list[str] = json.loads(self.path.read_bytes()) if self.path.exists() else []
        self.asked = set(self.done)
        self.waiting: dict[str, subprocess.Popen[bytes]] = {}
        self.warned = False

    def submit(self) -> None:
        """Every checkpoint that is not submitted yet. Returns at once, whatever the scheduler does."""
        self.look()
        for step in reversed(published.steps(self.run)):
            if step.name not in self.asked and published.problem(step) is None:
                self.asked.add(step.name)
                self._hold(step.name)
                self._start(step.name)

    def look(self) -> None:
        """Note which commands have ended, and warn of those that failed."""
        for name, process in list(self.waiting.items()):
            if process.poll() is None:
                continue
            del self.waiting[name]
            if process.returncode == 0:
                self.done.append(name)
                try:
                    publish(self.path, json.dumps(self.done, indent=1).encode())
                except OSError as error:
                    self._warn(name, f"was submitted, and could not be noted ({error.strerror})")
            else:
                self._let_go(name)
                self._warn(name, f"ended with {process.returncode}")

    def finish(self) -> None:
        """The last look, after a short wait; commands that still run go on alone."""
        for process in self.waiting.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                break
        self.look()
        for name in self.waiting:
            self._warn(name, "has not answered yet")

    def _let_go(self, step: str) -> None:
        with contextlib.suppress(OSError):  # then it stays a while longer
            evaluation_holds.release(self.run, step)

    def _hold(self, step: str) -> None:
        try:
            done = evaluation_holds.hold(self.run, step)
        except OSError as error:
            self._warn(step, f"is not held for its evaluation ({error.strerror})")
            return
        if not done and not self.warned:
            self.warned = True
            log.warning(
                "warning: %d checkpoints wait for their evaluation (%s): later ones are not held for theirs",
                evaluation_holds.MOST,
                ", ".join(evaluation_holds.waiting(self.run)),
            )

    def _start(self, step: str) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            with (self.folder / "submit.log").open("ab") as out:
                self.waiting[step] = subprocess.Popen(
                    self._words(step),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env=outside(os.environ),
                )
        except OSError as error:
            self._let_go(step)
            self._warn(step, f"could not be started ({error.strerror})")

    def _words(self, step: str) -> list[str]:
        return [*self.command, str(self.run), "--step", step, "--release"]

    def _warn(self, name: str, why: str) -> None:
        words = shlex.join(self._words(name))
        log.warning("warning: %s %s: see %s; training goes on", words, why, self.folder / "submit.log")
