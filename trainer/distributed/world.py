"""The processes that train together: this one's rank and device, and the collective operations that training uses."""

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
    """This process among `size`. device: where networks and batches are.

    All processes must call a collective method together; with one process it communicates nothing.
    """

    rank: int
    size: int
    device: torch.device
    host_group: dist.ProcessGroup | None  # gloo, so that values on the CPU do not wait for the GPU

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and logs of the run."""
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
        """Return the lowest and the highest value over the processes, elementwise."""
        lowest, highest = tensor.clone(), tensor.clone()
        if self.size > 1:
            dist.all_reduce(lowest, dist.ReduceOp.MIN)
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        return lowest, highest

    def all_gather_rows(self, tensor: Tensor) -> Tensor:
        """Concatenate the processes' rows [b, ...] in rank order: the same [size * b, ...] on every process."""
        if self.size == 1:
            return tensor
        rows = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(rows, tensor.contiguous())
        return torch.cat(rows)

    def all_reduce_max(self, value: int) -> int:
        """Return the highest value over the processes, such as a vote."""
        if self.size == 1:
            return value
        highest = torch.tensor(value)
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=self.host_group)
        return int(highest)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier(group=self.host_group)

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.host_group)
        return box[0]

    def on_all(self, function: Callable[[], T]) -> T:
        """Call function() on every process. A UserError on any is raised on all, so that none waits for one that left.

        A full or read-only disk is raised as a UserError too.
        """
        result, error = None, None
        try:
            result = function()
        except UserError as user_error:
            error = user_error
        except OSError as os_error:
            error = disk_error(os_error)
            if error is None:
                raise
        messages = [message for message in self.all_gather_object(None if error is None else str(error)) if message]
        if messages:
            raise error or UserError(messages[0])
        return cast(T, result)

    def on_main(self, function: Callable[[], T]) -> T | None:
        """Call function() on the main process; return None on the others. A UserError there is raised on all."""
        return self.on_all(lambda: function() if self.is_main else None)

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return every process's value, in rank order, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.host_group)
        return values


ALONE = World(0, 1, torch.device("cpu"), None)


def connect(device: str, processes: int | None) -> World:
    """Join the processes that the launcher started. device: auto, cpu or cuda; processes: the number wanted, or None.

    Raises a UserError where there is no such device, the launcher was given a sharding option, the main process cannot
    be reached, or the number of processes is another: `accelerate launch --cpu --num_processes 2` starts one.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch finds no GPU; set device=cpu or repair the driver")
    _refuse_sharding_options()
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = _process_state(on_cpu)
    size = int(state.num_processes)
    if processes is not None and processes != size:
        raise UserError(
            f"processes: the config asks for {processes}, the launcher started {size}; start the right number "
            f"(on CPU: accelerate launch --multi_gpu --num_processes {processes}) or set processes={size}"
        )
    group: Any = dist.new_group(backend="gloo", timeout=TIMEOUT) if size > 1 else None
    if not on_cpu:
        make_repeatable()
    return World(int(state.process_index), size, torch.device(state.device), group)


def _refuse_sharding_options() -> None:
    """Raise a UserError where `accelerate launch` was told to split networks: the run's own setting does that."""
    for name, strategy in (("FSDP", "fsdp2"), ("DEEPSPEED", "zero1")):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise UserError(
                f"--use_{name.lower()}: the launcher only starts processes here, what they split is the run's own "
                f"setting; leave it out (configs/accelerate has files without it) and set strategy={strategy}"
            )


def _process_state(on_cpu: bool) -> PartialState:
    """Connect through accelerate, which reads the launcher's environment variables."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        return PartialState(cpu=on_cpu, timeout=TIMEOUT)
    except dist.DistNetworkError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        # torch gives the errno in the message alone; it only chooses the words of ours
        reason = "in use" if "EADDRINUSE" in str(error) else "not to be reached"
        raise UserError(
            f"MASTER_PORT: {address} is {reason}; choose another with --main_process_port, or look at the main node"
        ) from None


def make_repeatable() -> None:
    """Make a GPU compute in full fp32 and the same bits every time, as the CPU does, so that a resume is exact.

    Call it before the first CUDA operation. Where an operation has no such implementation (an encoder of your own may
    use one) torch warns and goes on.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may sum in any order
    torch.use_deterministic_algorithms(True, warn_only=True)  # cuDNN's too, and the bilinear look of q at small images
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # none is read


def disconnect() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()
