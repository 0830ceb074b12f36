"""Memory and FLOPs on paper against two real processes under every strategy."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainer.distributed import contract
from trainer.config.schema import GanConfig
from trainer.config.sections import Strategy
from trainer.distributed.world import connect, disconnect
from trainer.memory.estimate import Need
from trainer.memory.flops import Flops
from trainer.memory.tracker import MemoryTracker
from trainer.plan import CHANNELS, STRATEGIES, Planner, bytes_sent
from trainer.stages.gan import GanTraining
from trainer.steps.schedule import Phase

from . import test_estimate as settings

RANKS = 2
CASES: dict[str, dict[str, Any]] = {
    "wide": {"network": {"name": "resnet", "nf": 128, "nf_max": 512}, "resolution": 16, "batch_size": 4},
    "a fade, checkpointed micro-batches": {
        "network": {"name": "resnet", "nf": 32, "nf_max": 256},
        "resolution": 64,
        "batch_size": 16,
        "micro_batch": 4,
        "growth": {"start_resolution": 32, "phase_kimg": 1, "fade_kimg": 1},
        "checkpointing": {"from_resolution": 32},
    },
}


def config_of(case: str, strategy: str) -> GanConfig:
    return settings.config_of(**CASES[case], strategy=strategy)


def phase_of(paper: Planner) -> Phase:
    """The only phase of a config that does not grow, or the only fade of one that does."""
    return paper.phases[min(1, len(paper.phases) - 1)]


class Sent(TorchDispatchMode):
    """Bytes that a process sends in ring algorithms: what each collective moves, twice for a sum that all get."""

    MOVES: ClassVar = {
        "c10d::allreduce_": (0, 2),
        "c10d::_allgather_base_": (0, 1),
        "c10d::_reduce_scatter_base_": (1, 1),
    }

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in self.MOVES:
            at, times = self.MOVES[func._schema.name]
            tensors = [leaf for leaf in tree_leaves(args[at]) if isinstance(leaf, Tensor)]
            self.bytes += times * sum(t.nbytes for t in tensors) * (RANKS - 1) / RANKS
        return func(*args, **(kwargs or {}))


def child(folder: str) -> None:
    """Peak bytes and FLOPs of one process's iteration, from the second on, in which all is there that stays."""
    torch.set_num_threads(1)
    world, found = connect("cpu", RANKS), {}
    for case, strategy in itertools.product(CASES, STRATEGIES):
        config = config_of(case, strategy)
        phase = phase_of(Planner(config, RANKS))
        with MemoryTracker() as tracker:
            real = GanTraining(config, world, CHANNELS, settings.encoder_of(config))
            share = Phase(phase.resolution, phase.batch_size // RANKS, phase.fades, 0, None)
            settings.iterate(real, config, share)
            tracker.reset_peak()
            with Flops() as counted, Sent() as sending:
                settings.iterate(real, config, share)
        found[f"{case}, {strategy}"] = {"peak": tracker.peak, "flops": counted.total, "sent": sending.bytes}
        del real
    (Path(folder) / f"rank{world.rank}.json").write_text(json.dumps(found))
    disconnect()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    folder = tmp_path_factory.mktemp("measured")
    contract.run(child, folder, size=RANKS)
    return dict(json.loads((folder / "rank0.json").read_text()))


@functools.cache
def planner(case: str, strategy: str) -> Planner:
    return Planner(config_of(case, strategy), RANKS)


@functools.cache
def on_paper(case: str) -> tuple[Planner, Phase, dict[Strategy, Need]]:
    paper = planner(case, "ddp")
    (needs,) = paper.estimator.needs(paper.config, [phase_of(paper)], STRATEGIES)
    return paper, phase_of(paper), needs


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_what_a_process_has_alive_is_what_the_plan_says(case: str, strategy: Strategy, measured: Any) -> None:
    _, _, needs = on_paper(case)
    assert needs[strategy].bytes == pytest.approx(measured[f"{case}, {strategy}"]["peak"], rel=0.15)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_flops_are_exact(case: str, strategy: Strategy, measured: Any) -> None:
    """Of the iteration with R1; tests/trainer/test_plan.py has those without.

    Takes more than ten seconds: a real iteration under a counter of operations.
    """
    paper = planner(case, "ddp" if strategy == "ddp" else "fsdp2")  # all that split networks do the same products
    phase = phase_of(paper)
    assert paper.iteration_flops[phase][0] * phase.batch_size // RANKS == measured[f"{case}, {strategy}"]["flops"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_what_a_process_sends(case: str, strategy: Strategy, measured: Any) -> None:
    paper, _, _ = on_paper(case)
    networks, _ = paper.networks()
    found = measured[f"{case}, {strategy}"]["sent"]
    assert bytes_sent(strategy, networks, paper.config, RANKS) == pytest.approx(found, rel=0.1)
