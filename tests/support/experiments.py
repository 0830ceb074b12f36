"""Experiments whose programs are forks of them, which spare each the seconds of an import."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from unittest import mock

from . import processes
from .evaluating import quick


def run(place: Path, *argv: str, real: Collection[str] = ()) -> processes.Running:
    """Start `python -m trainer experiments ARGV` in a folder. real: packages whose programs start as for a user."""
    return processes.start(_with_forks, (str(place), list(argv), tuple(real)), place / "logs")


def _with_forks(place: str, argv: list[str], real: tuple[str, ...]) -> None:
    from trainer.experiments import programs, runner

    os.chdir(place)
    for_users = programs.run_program

    def run_program(program: Sequence[str]) -> str:
        return for_users(program) if program[0] in real else _output(program)

    for module in (programs, runner):
        mock.patch.object(module, "run_program", run_program).start()  # fails where there is no such name
    processes.module("trainer", ["experiments", *argv])


def _output(argv: Sequence[str]) -> str:
    """Run a program to its end; what it printed on standard output."""
    from trainer.experiments.programs import Failed

    with tempfile.TemporaryFile("w+") as out:
        process = multiprocessing.get_context("fork").Process(target=_program, args=(list(argv), out.fileno()))
        process.start()
        process.join()
        if process.exitcode:
            raise Failed(f"exit code {process.exitcode} of {argv}")
        out.seek(0)
        return out.read()


def _program(argv: list[str], out: int) -> None:
    os.dup2(out, 1)
    sys.stdout = os.fdopen(1, "w", 1)
    name, *more = argv
    quick(more) if name == "evaluation" else processes.module(name, more)
