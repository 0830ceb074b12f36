"""One contract for every strategy: on two ranks it trains what one process trains, and each rank holds its part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.reference import plain
from trainer.distributed.world import connect, disconnect

from . import contract
from .contract import BOUND, EXACT, STRATEGIES, config_of, everything, held, step_of, train

ADA = {"kind": "ada", "target": -0.99, "interval": 1, "kimg": 0.1}  # p rises by 0.12 in each iteration
WARM = {"start_resolution": 4, "phase_kimg": 1, "fade_kimg": 1, "warm_start": True}
ALL_AT_ONCE: dict[str, Any] = {"objective": "relativistic", "r2": 3, "augment": ADA, "labels": "shape", "growth": WARM}


def child(strategy: str, settings: dict[str, Any], folder: str) -> None:
    world = connect("cpu", 2)
    dtype = EXACT.get(strategy, torch.float32)
    step = step_of(config_of(strategy, **settings), bool(settings), dtype, world)
    losses = train(step, world, 2, dtype)
    save_file(everything(step), Path(folder) / f"rank{world.rank}.safetensors")
    (Path(folder) / f"rank{world.rank}.json").write_text(json.dumps({"losses": losses} | held(step)))
    disconnect()


@pytest.fixture(
    scope="module", params=[{}, ALL_AT_ONCE], ids=["", "with R2, ADA, labels and a warm start, checkpointed"]
)
def alone(request: pytest.FixtureRequest) -> dict[torch.dtype, tuple[dict[str, Any], dict[str, Tensor], list[float]]]:
    """What one process trains."""
    found = {}
    for dtype in BOUND:
        step = step_of(config_of("ddp", **request.param), bool(request.param), dtype, plain.ALONE)
        losses = train(step, plain.ALONE, 1, dtype)
        found[dtype] = request.param, everything(step), losses
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_train_what_one_process_trains(strategy: str, alone: Any, tmp_path: Path) -> None:
    dtype = EXACT.get(strategy, torch.float32)
    settings, expected, losses = alone[dtype]
    contract.run(child, tmp_path, strategy, settings)
    assert (tmp_path / "rank0.safetensors").read_bytes() == (tmp_path / "rank1.safetensors").read_bytes()
    found = load_file(tmp_path / "rank0.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert plain.gap(found[name], value) < BOUND[dtype], name
    told = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2)]
    assert told[0]["losses"] == pytest.approx(losses, rel=BOUND[dtype])
    whole = held(step_of(config_of("ddp", **settings), False, dtype, plain.ALONE))
    for rank in told:
        for what, split in (("parameters", strategy in ("fsdp2", "zero3")), ("optimizer", strategy != "ddp")):
            share = rank[what] / whole[what]
            assert (share <= 0.6) == split, (what, share)
