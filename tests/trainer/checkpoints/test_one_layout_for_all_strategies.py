"""One layout of checkpoints: every strategy at every number of ranks saves it, loads it, and goes on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import differences, newest
from tests.trainer.distributed import contract
from tests.trainer.distributed.contract import BATCH, STRATEGIES, config_of, step_of, train
from trainer.checkpoints import published
from trainer.checkpoints.load import restore_newest
from trainer.checkpoints.retention import Retention
from trainer.checkpoints.save import save_checkpoint
from trainer.checkpoints.state import State
from trainer.distributed.world import World, connect, disconnect
from trainer.steps.gan_step import GanStep

FP32 = torch.float32
WIDE = {"name": "resnet", "nf": 8, "nf_max": 32}  # what a file holds besides tensors hardly counts
REST = slice(1, None)  # after one iteration: five more, through the growth


def state_of(step: GanStep) -> State:
    state = State()
    for part in (step.g, step.d, step.averages):
        state.add(part)
    state.add_tensor("bottleneck.beta", step.kl_constraint.beta)
    return state


def fresh(strategy: str, world: World) -> tuple[GanStep, State]:
    step = step_of(config_of(strategy, network=WIDE), False, FP32, world)
    return step, state_of(step)


def save(run: Path, state: State, world: World) -> None:
    save_checkpoint(run, BATCH, state, {}, world, Retention(2))


def child(strategy: str, size: int, canonical: str, folder: str) -> None:
    """Train, save and go on; the same from its own checkpoint; then take up the canonical one, save it, and go on."""
    world, losses_of = connect("cpu", size), {}
    step, state = fresh(strategy, world)
    train(step, world, 2, FP32, slice(0, 1))
    save(Path(folder) / "own", state, world)
    losses_of["straight"] = train(step, world, 2, FP32, REST)
    for name, run in (("resumed", Path(folder) / "own"), ("canonical", Path(canonical))):
        step, state = fresh(strategy, world)
        assert restore_newest(run, state, world) is not None
        if name == "canonical":
            save(Path(folder) / "again", state, world)
        losses_of[name] = train(step, world, 2, FP32, REST)
    (Path(folder) / f"losses{world.rank}.json").write_text(json.dumps(losses_of))
    disconnect()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """One process: the run folder of the canonical checkpoint, and the losses after it."""
    run, world = tmp_path_factory.mktemp("alone"), World(0, 1, torch.device("cpu"), None)
    step, state = fresh("ddp", world)
    train(step, world, 2, FP32, slice(0, 1))
    save(run, state, world)
    return run, train(step, world, 2, FP32, REST)


@pytest.mark.parametrize(("strategy", "size"), [*((s, 2) for s in STRATEGIES), ("ddp", 3), ("fsdp2", 3), ("zero3", 3)])
def test_every_strategy_saves_loads_and_goes_on_from_one_layout(
    strategy: str, size: int, alone: Any, tmp_path: Path
) -> None:
    """Takes more than ten seconds: two or three processes save, load and train; with ZeRO each imports DeepSpeed."""
    run, losses = alone
    contract.run(child, tmp_path, strategy, size, str(run), size=size)
    by_rank = [json.loads((tmp_path / f"losses{rank}.json").read_text()) for rank in range(size)]
    assert all(other == by_rank[0] for other in by_rank)
    assert by_rank[0]["canonical"] == pytest.approx(losses, rel=1e-5)
    assert by_rank[0]["resumed"] == by_rank[0]["straight"]  # bit for bit
    assert not differences(newest(run), newest(tmp_path / "again"))
    (step,) = published.steps(tmp_path / "again")
    sizes = [sum(f.stat().st_size for f in step.glob(f"__{rank}_*.distcp")) for rank in range(size)]
    assert max(sizes) <= (0.6 if size == 2 else 0.45) * sum(sizes), sizes
