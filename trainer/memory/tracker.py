"""Bytes of the tensors that are alive, real or fake, counted by storage."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(NamedTuple):
    """A storage that is alive: its bytes, the operation that made it, and the shape of the result."""

    bytes: int
    maker: str
    shape: tuple[int, ...]


class MemoryTracker(TorchDispatchMode):
    """Follows every storage that an operation makes while the mode is on, until it is freed.

    now: bytes; peak: the most since the last `reset_peak`. A DTensor counts with this process's part, and a storage
    that is resized (which is how fully_shard frees one) with its new size. Views and results in place share a storage,
    which counts once. Not counted: storages made before, a kernel's own scratch space, and the meta device.
    """

    def __init__(self, listing: bool = False) -> None:
        """listing: keep a list of what was alive at the peak in at_peak (slower)."""
        super().__init__()
        self.now = self.peak = 0
        self.listing, self.at_peak = listing, list[Alive]()
        self._alive: dict[int, Alive | None] = {}  # by the storage's address; None: it does not count

    def __enter__(self) -> MemoryTracker:
        self._patch = patch.object(torch.UntypedStorage, "resize_", self._resizing(torch.UntypedStorage.resize_))
        self._patch.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patch.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            if tensor.device.type != "meta":
                self._follow(tensor, func, (args, kwargs))
        return out

    def reset_peak(self) -> None:
        """Measure the peak from here on."""
        self.peak = self.now
        self._list()

    def exclude(self, tensors: Iterable[Tensor]) -> int:
        """Stop counting these tensors, and return how many bytes they were."""
        before = self.now
        for tensor in tensors:
            known = self._alive.get(tensor.untyped_storage()._cdata)
            if known:
                self.now -= known.bytes
                self._alive[tensor.untyped_storage()._cdata] = None
        return before - self.now

    def _follow(self, tensor: Tensor, func: Any, inputs: object) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        known = self._alive.get(key)
        if key in self._alive and (known is None or known.bytes == size):
            return
        if key not in self._alive:
            weakref.finalize(storage, self._freed, key).atexit = False
            if any(given.untyped_storage()._cdata == key for given in _tensors(inputs)):
                self._alive[key] = None  # a view, or a change in place, of a tensor that was there before
                return
        self._count(key, Alive(size, str(func), tuple(tensor.shape)))  # new, or resized by an operation in place

    def _count(self, key: int, alive: Alive) -> None:
        known = self._alive.get(key)
        self.now += alive.bytes - (known.bytes if known else 0)
        self._alive[key] = alive
        if self.now > self.peak:
            self.peak = self.now
            self._list()

    def _resizing(self, resize: Callable[..., Any]) -> Callable[..., Any]:
        def resize_(storage: torch.UntypedStorage, *size: Any) -> Any:
            out, known = resize(storage, *size), self._alive.get(storage._cdata)
            if known:
                self._count(storage._cdata, known._replace(bytes=storage.nbytes()))
            return out

        return resize_

    def _freed(self, key: int) -> None:
        known = self._alive.pop(key)
        self.now -= known.bytes if known else 0

    def _list(self) -> None:
        if self.listing:
            self.at_peak = [known for known in self._alive.values() if known]


def _tensors(tree: object) -> Iterator[Tensor]:
    leaves = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
    return (leaf._local_tensor if isinstance(leaf, DTensor) else leaf for leaf in leaves)


def exclude_gradients(tracker: MemoryTracker, parameters: Iterable[nn.Parameter]) -> None:
    """Stop counting the parameters' gradients from now on: each is excluded when it is added to its parameter."""

    def exclude(parameter: Tensor) -> None:
        if parameter.grad is not None:
            tracker.exclude([parameter.grad])

    for parameter in parameters:
        frozen = not parameter.requires_grad  # torch registers no hook on a frozen one
        parameter.requires_grad_(True)
        parameter.register_post_accumulate_grad_hook(exclude)
        parameter.requires_grad_(not frozen)
