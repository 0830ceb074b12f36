"""Bytes that a strategy keeps in each process, from the sizes of the networks: what a fake step cannot show.

Read off fully_shard of torch 2.14 and DeepSpeed 0.19 on two processes, storage by storage;
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
        """engine: replicated; averages: how many follow its network."""
        state = (t for of in engine.optimizer.state.values() for t in of.values() if isinstance(t, Tensor))
        blocks = sorted(_bytes(part) for part in engine.network.modules() if isinstance(part, ResBlock))
        weights = _bytes(engine.network)
        return cls(weights, sum(t.nbytes for t in state), averages * weights, tuple(blocks[-2:]) or (weights,))


class Kept(NamedTuple):
    """Bytes of one process that stay between iterations. weights: with the copies and buffers of a strategy."""

    weights: int
    optimizer: int
    averages: int


def kept(strategy: Strategy, networks: list[Network], processes: int) -> Kept:
    """Of networks together."""
    whole = Kept(*(sum(getattr(n, part) for n in networks) for part in Kept._fields))
    split = Kept(*(part // processes for part in whole))
    if strategy == "ddp":
        return whole
    if strategy == "fsdp2":
        return split
    if strategy == "zero3":  # weights, their fp32 copy and gradients in pieces, and a buffer of each network
        buffers = len(networks) * _buffer(strategy, "reduce_bucket_size")
        return split._replace(weights=3 * split.weights + buffers)
    return Kept(whole.weights + split.weights, split.optimizer, whole.averages)  # with an fp32 copy of a piece


def passing(strategy: Strategy, networks: list[Network], processes: int) -> int:
    """Bytes of gradients that wait for the step, gathered weights and buffers, beside the activations at their peak."""
    return max(_passing(strategy, network, processes) for network in networks)


def _passing(strategy: Strategy, network: Network, processes: int) -> int:
    share = network.weights // processes
    if strategy == "fsdp2":  # a block computes while the next is fetched
        return share + sum(network.blocks)
    if strategy == "zero3":  # gradients stay in pieces all the time
        return max(min(network.weights, _buffer(strategy, "stage3_max_live_parameters")), network.blocks[-1])
    waiting = network.blocks[-1] // 2 if strategy == "zero2" else 0
    return _buffer(strategy, "reduce_bucket_size") + share + waiting


def _buffer(strategy: Strategy, name: str) -> int:
    """Return the bytes of a buffer of fp32 values, whose size DeepSpeed's settings have under a name."""
    settings = deepspeed_settings.read(int(strategy.removeprefix("zero")))
    return 4 * int(settings["zero_optimization"][name])


def _bytes(network: nn.Module) -> int:
    return sum(p.nbytes for p in network.parameters())
