"""Averages of gradients over the processes, begun while the last backward pass still goes on.

As DistributedDataParallel does it, but without its wrapper: several backward passes add up before a step, and some of
them freeze the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainer.distributed.world import World

BYTES = 25 * 2**20  # of a bucket, as in DistributedDataParallel: large enough for a network's full speed


class GradientBuckets:
    """The parameters of one network, of which `average_` makes the mean of all processes' gradients.

    Which parameters share a bucket depends on the last backward pass's graph alone, and so on the phase of growth: the
    same at a resume, since an element's order of summation depends on its place in a bucket.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], world: World, size: int = BYTES) -> None:
        self.parameters, self.world, self.size = parameters, world, size
        self._buckets: list[list[nn.Parameter]] = []  # of the pass that goes on, in the order of their sums
        self._awaited: list[set[nn.Parameter]] = []
        self._sums: list[tuple[Tensor, Callable[[], None]]] = []
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._arrived)

    @contextmanager
    def last_pass(self, loss: Tensor) -> Iterator[None]:
        """Within: the backward pass of loss, after which no gradient changes. Each bucket is sent once it is whole."""
        taking_part = _leaves(loss)
        self._buckets = _split([p for p in reversed(self.parameters) if p in taking_part], self.size)
        self._awaited = [set(bucket) for bucket in self._buckets]
        try:
            yield
        finally:
            self._awaited = []

    def _arrived(self, parameter: nn.Parameter) -> None:
        for awaited in self._awaited:
            awaited.discard(parameter)
        while len(self._sums) < len(self._awaited) and not self._awaited[len(self._sums)]:
            self._send(self._buckets[len(self._sums)])  # in turn: all processes send them in the same order

    def _send(self, bucket: Sequence[nn.Parameter]) -> None:
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket])
        for parameter in bucket:
            parameter.grad = None
        self._sums.append((flat, self.world.start_sum_(flat)))

    def average_(self) -> None:
        """Put the average into each parameter's grad: zeros where there was none on any process."""
        sent = {parameter for bucket in self._buckets for parameter in bucket}
        if rest := [parameter for parameter in self.parameters if parameter not in sent]:
            self._buckets.append(rest)
        for bucket in self._buckets[len(self._sums) :]:
            self._send(bucket)
        for bucket, (flat, wait) in zip(self._buckets, self._sums, strict=True):
            wait()
            pieces = flat.div_(self.world.size).split([parameter.numel() for parameter in bucket])
            for parameter, piece in zip(bucket, pieces, strict=True):
                parameter.grad = piece.view_as(parameter)
        self._buckets, self._sums = [], []


def _split(parameters: Sequence[nn.Parameter], size: int) -> list[list[nn.Parameter]]:
    """Cut a list of parameters where a part has at least `size` bytes."""
    parts: list[list[nn.Parameter]] = [[]]
    for parameter in parameters:
        if sum(p.nbytes for p in parts[-1]) >= size:
            parts.append([])
        parts[-1].append(parameter)
    return [part for part in parts if part]


def _leaves(loss: Tensor) -> set[Tensor]:
    """Return the tensors into whose grad a backward pass of loss would add."""
    found, seen, waiting = set[Tensor](), set[object](), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found
