"""Evaluation on any device gives the CPU's numbers, but for the order of its sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.fid import network
from tests.support import processes
from tests.support.evaluating import answer, evaluate
from tests.support.training import finish, train

from .checks import GROWTH

COUNT = 128
KINDS = ("gan", "vae", "untrained")


def fid_is_the_cpus(device: torch.device, data: Path, vae: Path, place: Path) -> None:
    """Of a run in the middle of a fade and of its export, by the factor network and by a file of weights."""
    run, export = place / "run", place / "export"
    finish(train("gan", data, run, 5, **GROWTH, vae=vae, s_dim=4))
    finish(processes.command("trainer", ("export", run, export), place / "logs"))
    options = ("--samples", COUNT, "--out", place / "references")
    reference = answer(evaluate(place / "logs", "reference", data, *options))["file"]
    (place / "weights").mkdir()
    weights = ("--protocol", "clean", "--weights", network(place / "weights", 32))
    asked = (
        (run, ("--of", ",".join(KINDS))),
        (run, ("--of", ",".join(KINDS), *weights)),
        (export, ("--reference", reference)),
    )
    for target, more in asked:
        argv = ("fid", target, "--samples", COUNT, *more)
        expected, found = (
            answer(evaluate(place / "logs", *argv, "--device", name))["kinds"] for name in ("cpu", device.type)
        )
        for kind in set(KINDS) & set(expected):
            for number in ("fid", "kid"):
                assert found[kind][number] == pytest.approx(expected[kind][number], rel=1e-3), (target, kind, number)
