"""Floating-point operations of products and convolutions, counted as they run; a multiply-add counts as two."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):
    """Counts all operations within the mode in `total`, by the formulas of torch.utils.flop_counter.

    torch's own FlopCounterMode also hooks into modules, and autograd.grad, which R1 calls, refuses those hooks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out
