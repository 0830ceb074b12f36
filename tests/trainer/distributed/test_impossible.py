"""What a strategy refuses it really cannot do: each reason, shown without the refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.reference import plain
from trainer.config.rules import contradictions
from trainer.distributed.world import connect, disconnect
from trainer.steps import compilation

from . import contract
from .contract import config_of, step_of, train


def compiled(strategy: str, backend: str, folder: str) -> None:
    """Two iterations, with R1 and without, with G and D compiled as `compile: true` does it.

    backend: eager runs the graphs that torch captures of the passes, aot_eager those of their backward passes too.
    """
    world = connect("cpu", 2)
    step = step_of(config_of(strategy), False, torch.float32, world)
    compilation.compile_passes([step.g.network, step.d.network], backend)
    error = None
    try:
        train(step, world, 1, torch.float32, slice(0, 2))
    except Exception as found:  # of many kinds
        error = f"{type(found).__name__}: {found}"
    Path(folder, f"error{world.rank}").write_text(error or "none")
    if error is None:
        disconnect()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero2", "fsdp2", "zero3"])
def test_only_the_refused_strategies_cannot_be_compiled(strategy: str, tmp_path: Path) -> None:
    """Takes more than ten seconds where it may be compiled: two processes trace five passes forwards and backwards."""
    contract.run(compiled, tmp_path, strategy, "eager" if strategy in ("fsdp2", "zero3") else "aot_eager")
    found = [(tmp_path / f"error{rank}").read_text() for rank in range(2)]
    refused = bool(
        contradictions(plain.gan_config("ID-GAN").model_copy(update={"strategy": strategy, "compile": True}))
    )
    assert [error != "none" for error in found] == [refused] * 2, found
    if refused:
        assert all(
            "graph" in error.lower() or "dynamo" in error.lower() or "Unsupported" in error for error in found
        ), found


def float64(strategy: str, folder: str) -> None:
    world = connect("cpu", 2)
    error = None
    try:
        step = step_of(config_of(strategy), False, torch.float64, world)
        train(step, world, 1, torch.float64, slice(0, 1))
        dtypes = {t.dtype for t in step.g.optimizer.state_dict()["state"][0].values()} - {torch.int64}
        error = None if torch.float64 in dtypes else f"steps in {dtypes}"
    except Exception as found:
        error = f"{type(found).__name__}: {found}"
    Path(folder, f"error{world.rank}").write_text(error or "none")


@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_deepspeed_does_not_step_in_float64(strategy: str, tmp_path: Path) -> None:
    contract.run(float64, tmp_path, strategy)
    assert (tmp_path / "error0").read_text() != "none"
