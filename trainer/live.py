"""Bytes of tensors that are alive, counted by storage: of real tensors, or of fake ones, which take no memory."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(NamedTuple):
    """A storage: its bytes, and the operation that made it with its result's shape."""

    bytes: int
    maker: str
    shape: tuple[int, ...]


class Live(TorchDispatchMode):
    """Follows every storage that an operation makes while the mode is on, until it is freed.

    now: bytes; peak: the most since the last `restart`. Views and results in place are the storage that they look at,
    and a storage that was made before is not counted, nor what a kernel makes and frees within itself.
    """

    def __init__(self, listing: bool = False) -> None:
        """listing: keep what was alive at the peak, in at_peak (slower)."""
        super().__init__()
        self.now = self.peak = 0
        self.listing, self.at_peak = listing, list[Alive]()
        self._alive: dict[int, Alive | None] = {}  # by the storage's address; None is one that does not count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._meet(tensor, func, (args, kwargs))
        return out

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak = self.now
        self._list()

    def set_apart(self, tensors: Iterable[Tensor]) -> int:
        """Count these no longer; how many bytes they were."""
        before = self.now
        for tensor in tensors:
            known = self._alive.get(tensor.untyped_storage()._cdata)
            if known:
                self.now -= known.bytes
                self._alive[tensor.untyped_storage()._cdata] = None
        return before - self.now

    def _meet(self, tensor: Tensor, func: Any, inputs: object) -> None:
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
        self.now += size - (known.bytes if known else 0)  # an operation in place may resize
        self._alive[key] = Alive(size, str(func), tuple(tensor.shape))
        if self.now > self.peak:
            self.peak = self.now
            self._list()

    def _freed(self, key: int) -> None:
        known = self._alive.pop(key)
        self.now -= known.bytes if known else 0

    def _list(self) -> None:
        if self.listing:
            self.at_peak = [known for known in self._alive.values() if known]


def _tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Every tensor made within has a shape and a storage, and takes no memory; its values are nobody's."""
    with (
        warnings.catch_warnings(),
        patch.object(nn.Module, "_apply", _apply),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # copy.deepcopy asks for it
        yield


def _apply(network: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """nn.Module.to and its like, which torch 2.14 refuses for fake parameters ("Couldn't swap")."""
    for module in network.modules() if recurse else [network]:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else function(buffer)
    return network
