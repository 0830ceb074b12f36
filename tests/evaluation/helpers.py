"""Evaluation commands as processes, and what they answer."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tests import processes
from tests.trainer.helpers import finish


def evaluate(folder: Path, *argv: object, code: int = 0) -> processes.Running:
    """`python -m evaluation ARGV`, ended with this exit code; folder: of its output."""
    return finish(processes.command("evaluation", argv, folder), code)


def quickly(folder: Path, *argv: object, place: Path | None = None) -> processes.Running:
    """Start `python -m evaluation ARGV` with few images behind MIG, FVM, latents and control; no pruning.

    place: the folder to run it in.
    """
    return processes.start(_quick, ([str(a) for a in argv], None if place is None else str(place)), folder)


def _quick(argv: list[str], place: str | None) -> None:
    from evaluation.disentanglement import predictors
    from evaluation.disentanglement import scores as disentanglement
    from evaluation.factors import control, latents

    disentanglement.FVM_PROTOCOLS["short"] = disentanglement.FvmProtocol(500, 0.0, 16, 40, 0)
    disentanglement.MIG_SAMPLES = 500
    predictors.PROTOCOLS["short"] = predictors.Protocol(100, 50, 1)
    latents.BASES = 4
    control.GRID = 8
    if place is not None:
        os.chdir(place)
    processes.module("evaluation", argv)


def answer(running: processes.Running) -> dict[str, Any]:
    """The last line of standard output."""
    found: dict[str, Any] = json.loads(running.out.splitlines()[-1])
    return found


def lines(run: Path, command: str) -> list[str]:
    """The records of a command on a run."""
    path = run / "evaluation" / f"{command}.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def refused(running: processes.Running, *words: object) -> None:
    """Exit code 2, every word on standard error, no traceback, no answer."""
    finish(running, 2)
    for word in words:
        assert str(word) in running.err, running.err
    assert "Traceback" not in running.err
    assert not running.out


def self_contained(page: str) -> bool:
    """Whether a page needs no other file."""
    return not re.search(r"(src|href)=[\"'](?!data:)", page) and "@import" not in page and "url(" not in page
