"""Gradients are averaged while the last backward pass goes on: the same averages, sent before it ends."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.distributed.engines import ddp
from trainer.distributed.engines.gradient_buckets import GradientBuckets
from trainer.distributed.world import World, connect, disconnect

from . import contract

RANKS = 3
WIDTHS = (5, 7, 4, 6, 3)


class Network(nn.Module):
    """Linear layers of which the first `skipped` take no part, as the blocks of resolutions to come."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(a, b).double() for a, b in itertools.pairwise(WIDTHS))

    def forward(self, x: Tensor, skipped: int) -> Tensor:
        for layer in self.layers[skipped:]:
            x = layer(x).tanh()
        return x.square().sum()


def inputs(rank: int, skipped: int) -> list[Tensor]:
    """Two micro-batches of a rank."""
    noise = torch.Generator().manual_seed(rank)
    return [torch.randn(2, WIDTHS[skipped], generator=noise, dtype=torch.float64) for _ in range(2)]


def expected(skipped: int) -> list[Tensor]:
    network = Network()
    loss = sum(network(x, skipped) for rank in range(RANKS) for x in inputs(rank, skipped)) / RANKS
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(network.parameters(), found, strict=True)]


def child(folder: str) -> None:
    """What came of two micro-batches, of all layers and of the last two; sums that began before the pass was over."""
    torch.set_num_threads(1)
    world = connect("cpu", RANKS)
    events: list[Any] = []
    start = World.start_sum_

    def noted(world: World, tensor: Tensor) -> Any:
        events.append(tensor.numel())
        return start(world, tensor)

    World.start_sum_ = noted  # type: ignore[method-assign]
    network = Network()
    buckets = GradientBuckets(list(network.parameters()), world, size=100)
    averages = {}
    for skipped in (0, 2, 0):
        first, second = inputs(world.rank, skipped)
        network(first, skipped).backward()
        network.requires_grad_(False).requires_grad_(True)  # as a step that freezes it meanwhile
        loss = network(second, skipped)
        with buckets.last_pass(loss):
            loss.backward()
        events.append("the pass is over")
        buckets.average_()
        averages[str(skipped)] = [p.grad.tolist() for p in network.parameters() if p.grad is not None]
        events.append("averaged")
        network.zero_grad()
    (Path(folder) / f"rank{world.rank}.json").write_text(json.dumps({"averages": averages, "events": events}))
    disconnect()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("buckets")
    contract.run(child, folder, size=RANKS)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.parametrize("skipped", [0, 2])
def test_every_rank_has_the_mean_of_all(skipped: int, found: list[dict[str, Any]]) -> None:
    right = expected(skipped)
    for rank in found:
        values = [torch.tensor(value, dtype=torch.float64) for value in rank["averages"][str(skipped)]]
        assert len(values) == len(right)
        for a, b in zip(values, right, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        assert values[0].any() == (skipped == 0)


def test_sums_begin_within_the_pass_in_one_order(found: list[dict[str, Any]]) -> None:
    """A bucket has 100 bytes or a little more: the last layer's 21 values of 8 bytes are two of them, and so on."""
    assert all(rank["events"] == found[0]["events"] for rank in found)
    events = found[0]["events"]
    over = [i for i, event in enumerate(events) if event == "the pass is over"]
    done = [i for i, event in enumerate(events) if event == "averaged"]
    passes = [events[: over[0]], events[done[0] + 1 : over[1]], events[done[1] + 1 : over[2]]]
    everything = sum(p.numel() for p in Network().parameters())
    assert sum(passes[0]) == everything
    assert len(passes[0]) > 3
    assert passes[2] == passes[0], "the same buckets again, whatever the pass between was"
    assert sum(passes[1]) == sum(p.numel() for layer in list(Network().layers)[2:] for p in layer.parameters())
    assert events[over[0] : done[0]] == ["the pass is over"]
    assert events[over[1] : done[1]] == ["the pass is over", everything - sum(passes[1])], "those that took no part"


def test_one_process_has_no_buckets() -> None:
    alone = World(0, 1, torch.device("cpu"), None)
    engine = ddp.Replicated("network", Network(), lambda n: torch.optim.SGD(n.parameters(), 0.1), alone)
    assert engine.buckets is None
