"""The processes that train together: who this one is, and the few things they tell each other."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from common.errors import UserError, disk_error

T = TypeVar("T")
TIMEOUT = timedelta(minutes=60)  # NCCL's own 10 minutes are too few for a slow disk


@dataclass(frozen=True)
class World:
    """This process among `size`. device: where networks and batches live."""

    rank: int
    size: int
    device: torch.device
    host_group: dist.ProcessGroup | None  # gloo: host values need no wait for the GPU

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_mean_(self, tensor: Tensor) -> Tensor:
        """Mean over the processes, in place."""
        return self.all_reduce_sum_(tensor).div_(self.size)

    def all_reduce_extremes(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and the highest value of any process, elementwise."""
        lowest, highest = tensor.clone(), tensor.clone()
        if self.size > 1:
            dist.all_reduce(lowest, dist.ReduceOp.MIN)
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        return lowest, highest

    def all_gather_rows(self, tensor: Tensor) -> Tensor:
        """Every process's rows [b, ...] below each other, in rank order: the same [size * b, ...] on every process."""
        if self.size == 1:
            return tensor
        whole = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(whole, tensor.contiguous())
        return torch.cat(whole)

    def all_reduce_max(self, vote: int) -> int:
        """The highest vote of any process: all act on it together."""
        if self.size == 1:
            return vote
        votes = torch.tensor(vote)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.host_group)
        return int(votes)

    def barrier(self) -> None:
        """Wait for all: a measurement begins together."""
        if self.size > 1:
            dist.barrier(group=self.host_group)

    def broadcast(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.host_group)
        return box[0]

    def on_all(self, function: Callable[[], T]) -> T:
        """function() on every process; a UserError on any is raised on all, so that none waits for one that left.

        A full or read-only disk is one.
        """
        result, error = None, None
        try:
            result = function()
        except UserError as found:
            error = found
        except OSError as found:
            error = disk_error(found)
            if error is None:
                raise
        messages = [message for message in self.all_gather_object(None if error is None else str(error)) if message]
        if messages:
            raise error or UserError(messages[0])
        return cast(T, result)

    def on_main(self, function: Callable[[], T]) -> T | None:
        """function() on the main process alone, None elsewhere; a UserError there is raised on all."""
        return self.on_all(lambda: function() if self.is_main else None)

    def all_gather_object(self, value: Any) -> list[Any]:
        """Every process's value, in rank order, on every process."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value, group=self.host_group)
        return box


ALONE = World(0, 1, torch.device("cpu"), None)


def connect(device: str, processes: int | None) -> World:
    """Join the processes that the launcher started. device: auto, cpu or cuda; processes: the number wanted, or None.

    Raises a UserError where their number is another: `accelerate launch --cpu --num_processes 2` starts one.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch finds no GPU; set device=cpu or mend the driver")
    for name, strategy in (("FSDP", "fsdp2"), ("DEEPSPEED", "zero1")):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise UserError(
                f"--use_{name.lower()}: the launcher only starts processes here, what they split is the run's own "
                f"setting; leave it out (configs/accelerate has files without it) and set strategy={strategy}"
            )
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    try:
        state = PartialState(cpu=on_cpu, timeout=TIMEOUT)
    except dist.DistNetworkError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        why = "in use" if "EADDRINUSE" in str(error) else "not to be reached"
        raise UserError(
            f"MASTER_PORT: {where} is {why}; choose another with --main_process_port, or look at the main node"
        ) from None
    size = int(state.num_processes)
    if processes is not None and processes != size:
        raise UserError(
            f"processes: the config asks for {processes}, the launcher started {size}; start the right number "
            f"(on CPU: accelerate launch --multi_gpu --num_processes {processes}) or set processes={size}"
        )
    group: Any = dist.new_group(backend="gloo", timeout=TIMEOUT) if size > 1 else None
    if not on_cpu:
        repeatable()
    return World(int(state.process_index), size, torch.device(state.device), group)


def repeatable() -> None:
    """Make a GPU compute in full fp32, and the same bits every time, as the CPU does: a resume rests on it.

    Before the first CUDA operation. Where torch has no such implementation (an encoder of your own may need one) it
    warns and goes on.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may sum in any order
    torch.use_deterministic_algorithms(True, warn_only=True)  # cuDNN's too, and the bilinear look of q at small images
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # none is read


def disconnect() -> None:
    """Leave the group in order."""
    if dist.is_initialized():
        dist.destroy_process_group()
