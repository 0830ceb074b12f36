"""Bytes that a strategy takes in each process, computed from the sizes of the networks: a fake step cannot show them.

The rules were found by listing the storages of fully_shard (torch 2.14) and DeepSpeed 0.19 on two processes;
tests/trainer/memory/test_sharded_sizes.py compares the sums with real processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from models.resnet import ResBlock
from trainer.config.sections import Strategy
from trainer.distributed import deepspeed_settings
from trainer.distributed.engines.base import Engine


@dataclass(frozen=True)
class Network:
    """Bytes of one network that a strategy may split. blocks: its two largest ResBlocks, or all where it has none."""

    weights: int
    optimizer: int
    averages: int
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, engine: Engine, averages: int) -> Network:
        """Measure a network under the ddp strategy. averages: how many there are of its weights."""
        values = (value for state in engine.optimizer.state.values() for value in state.values())
        optimizer = sum(value.nbytes for value in values if isinstance(value, Tensor))
        blocks = sorted(_bytes(part) for part in engine.network.modules() if isinstance(part, ResBlock))
        weights = _bytes(engine.network)
        return cls(weights, optimizer, averages * weights, tuple(blocks[-2:]) or (weights,))


class Kept(NamedTuple):
    """Bytes of one process that stay between iterations. weights: with a strategy's copies and buffers."""

    weights: int
    optimizer: int
    averages: int


def kept(strategy: Strategy, networks: list[Network], processes: int) -> Kept:
    """Return the bytes of all networks that stay between iterations."""
    whole = Kept(
        weights=sum(n.weights for n in networks),
        optimizer=sum(n.optimizer for n in networks),
        averages=sum(n.averages for n in networks),
    )
    split = Kept(*(part // processes for part in whole))
    if strategy == "ddp":
        return whole
    if strategy == "fsdp2":
        return split
    if strategy == "zero3":  # weights, their fp32 copy and gradients in pieces, and a buffer of each network
        buffers = len(networks) * _buffer(strategy, "reduce_bucket_size")
        return split._replace(weights=3 * split.weights + buffers)
    return Kept(whole.weights + split.weights, split.optimizer, whole.averages)  # with an fp32 copy of a piece


def transient(strategy: Strategy, networks: list[Network], processes: int) -> int:
    """Return the bytes at the peak besides activations: gradients until the step, gathered weights, buffers."""
    return max(_transient(strategy, network, processes) for network in networks)


def _transient(strategy: Strategy, network: Network, processes: int) -> int:
    share = network.weights // processes
    if strategy == "fsdp2":  # a block computes while the next is fetched
        return share + sum(network.blocks)
    if strategy == "zero3":  # gradients stay in pieces all the time
        return max(min(network.weights, _buffer(strategy, "stage3_max_live_parameters")), network.blocks[-1])
    waiting = network.blocks[-1] // 2 if strategy == "zero2" else 0
    return _buffer(strategy, "reduce_bucket_size") + share + waiting


def _buffer(strategy: Strategy, name: str) -> int:
    """Return the bytes of a buffer of fp32 values, whose size DeepSpeed's settings have under a name."""
    return 4 * int(deepspeed_settings.read(strategy)["zero_optimization"][name])


def _bytes(network: nn.Module) -> int:
    return sum(p.nbytes for p in network.parameters())
