"""The processes that train together: this one's rank and device, and the collective operations that training uses."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from common.errors import Fault, UserError, disk_error, first_line

from . import launch_environment
from .gpu_kernels import Speed, choose_kernels
from .heartbeat import Heartbeat

T = TypeVar("T")
log = logging.getLogger(__name__)
QUIET_SECONDS = 10.0  # of waiting for the others before a word about it
TIMEOUT_MINUTES = 60.0  # NCCL's own 10 minutes are too few for a slow disk


@dataclass(frozen=True)
class World:
    """This process among `size`. device: where networks and batches are.

    All processes must call a collective method together; with one process it communicates nothing. Where the others do
    not come within timeout_minutes, or are gone, it raises a Fault that names them.
    """

    rank: int
    size: int
    device: torch.device
    host_group: dist.ProcessGroup | None  # gloo, so that values on the CPU do not wait for the GPU
    heartbeat: Heartbeat | None = None
    timeout_minutes: float = TIMEOUT_MINUTES

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and logs of the run."""
        return self.rank == 0

    @contextmanager
    def exchange(self, name: str, timed_out_only: bool = False) -> Iterator[None]:
        """Take part in an exchange between the processes; an error of torch's in it becomes a Fault.

        name: for messages. timed_out_only: other work is done inside too, so that only an error after timeout_minutes
        is one of the exchange.
        """
        if self.heartbeat is None:
            yield
            return
        start, outer = time.monotonic(), self.heartbeat.waiting
        self.heartbeat.waiting = "" if timed_out_only else name
        try:
            yield
        except (dist.DistError, RuntimeError) as error:
            seconds = time.monotonic() - start
            if timed_out_only and seconds < self.timeout_minutes * 60:
                raise
            raise self._fault(name, seconds, error) from None
        finally:
            self.heartbeat.waiting = outer

    def _fault(self, name: str, seconds: float, error: Exception) -> Fault:
        """Say which exchange failed, after how long, and who is to be looked at."""
        assert self.heartbeat is not None
        suspects = "; ".join(self.heartbeat.suspects()) or "every process answers: look at the network between them"
        return Fault(
            f"process {self.rank} on {socket.gethostname()} waited {seconds:.0f} s for the others in {name} "
            f"(timeout_minutes: {self.timeout_minutes:g}): {suspects} ({_words(error)}); look there, then run the "
            "same command again"
        )

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            with self.exchange("a sum over the processes"):
                dist.all_reduce(tensor)
        return tensor

    def start_sum_(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to sum over the processes, in place. Returns what waits for it: tensor is not to be touched before.

        All processes must begin their sums, and all other exchanges, in the same order.
        """
        name = "a sum over the processes"
        with self.exchange(name):
            work = dist.all_reduce(tensor, async_op=True)
        assert work is not None

        def wait() -> None:
            with self.exchange(name):
                work.wait()

        return wait

    def all_reduce_mean_(self, tensor: Tensor) -> Tensor:
        """Mean over the processes, in place."""
        return self.all_reduce_sum_(tensor).div_(self.size)

    def all_reduce_extremes(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value over the processes, elementwise."""
        lowest, highest = tensor.clone(), tensor.clone()
        if self.size > 1:
            with self.exchange("the comparison of what they hold alike"):
                dist.all_reduce(lowest, dist.ReduceOp.MIN)
                dist.all_reduce(highest, dist.ReduceOp.MAX)
        return lowest, highest

    def all_gather_rows(self, tensor: Tensor) -> Tensor:
        """Concatenate the processes' rows [b, ...] in rank order: the same [size * b, ...] on every process."""
        if self.size == 1:
            return tensor
        rows = [torch.empty_like(tensor) for _ in range(self.size)]
        with self.exchange("the gathering of rows"):
            dist.all_gather(rows, tensor.contiguous())
        return torch.cat(rows)

    def all_reduce_max(self, value: int) -> int:
        """Return the highest value over the processes, such as a vote."""
        if self.size == 1:
            return value
        highest = torch.tensor(value)
        with self.exchange("a vote"):
            dist.all_reduce(highest, dist.ReduceOp.MAX, group=self.host_group)
        return int(highest)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            with self.exchange("a barrier"):
                dist.barrier(group=self.host_group)

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value on every process."""
        if self.size == 1:
            return value
        box = [value]
        with self.exchange("a message of process 0"):
            dist.broadcast_object_list(box, src=0, group=self.host_group)
        return box[0]

    def on_all(self, function: Callable[[], T]) -> T:
        """Call function() on every process. An error on any is raised on all, so that none waits for one that left.

        A UserError and a Fault are such errors; a full or read-only disk is raised as a UserError too.
        """
        result: T | None = None
        error: UserError | Fault | None = None
        try:
            result = function()
        except (UserError, Fault) as known:
            error = known
        except OSError as os_error:
            error = disk_error(os_error)
            if error is None:
                raise
        self.raise_on_all(error)
        return cast(T, result)

    def raise_on_all(self, error: Exception | None) -> None:
        """Raise on every process the error of one, its own first: a Fault as one, all else as a UserError."""
        own = None if error is None else (isinstance(error, Fault), str(error))
        reports = [report for report in self.all_gather_object(own) if report]
        if error is not None:
            raise error
        if reports:
            is_fault, message = reports[0]
            raise Fault(message) if is_fault else UserError(message)

    def on_main(self, function: Callable[[], T]) -> T | None:
        """Call function() on the main process; return None on the others. A UserError there is raised on all."""
        return self.on_all(lambda: function() if self.is_main else None)

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return every process's value, in rank order, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.exchange("a report of each process"):
            dist.all_gather_object(values, value, group=self.host_group)
        return values


ALONE = World(0, 1, torch.device("cpu"), None)


def connect(
    device: str,
    processes: int | None,
    timeout_minutes: float = TIMEOUT_MINUTES,
    stopped: Callable[[], object] = lambda: None,
    speed: Speed = "exact",
) -> World:
    """Join the processes that the launcher started. device: auto, cpu or cuda; processes: the number wanted, or None.

    speed: which kernels a GPU uses.
    stopped: whether a signal has come, which ends the wait for the others with a KeyboardInterrupt.

    Raises a UserError where there is no such device, the environment is no complete one of a launcher, the launcher was
    given a setting of the run's, the main process cannot be reached, or the number of processes is another:
    `accelerate launch --cpu --num_processes 2` starts one.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but torch finds no GPU; set device=cpu or repair the driver")
    launch_environment.check(os.environ)
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    state = _process_state(on_cpu, timeout_minutes, stopped)
    rank, size = int(state.process_index), int(state.num_processes)
    if processes is not None and processes != size:
        raise UserError(
            f"processes: the config asks for {processes}, the launcher started {size}; start the right number "
            f"(on CPU: accelerate launch --multi_gpu --num_processes {processes}) or set processes={size}"
        )
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(minutes=timeout_minutes)) if size > 1 else None
    if not on_cpu:
        choose_kernels(speed)
    heartbeat = Heartbeat(rank, size) if size > 1 else None
    return World(rank, size, torch.device(state.device), group, heartbeat, timeout_minutes)


def _process_state(on_cpu: bool, timeout_minutes: float, stopped: Callable[[], object]) -> PartialState:
    """Connect through accelerate, which reads the launcher's environment variables."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    # on a GPU torch ends a process whose exchange took too long: the group of the host, which says who, comes first
    timeout = timedelta(minutes=timeout_minutes if on_cpu else timeout_minutes + 1)
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return PartialState(cpu=on_cpu, timeout=timeout)
    try:
        state = _joined(lambda: PartialState(cpu=on_cpu, timeout=timeout), stopped)
        if not on_cpu:
            torch.cuda.set_device(state.device)  # each thread has its own
        return state
    except dist.DistNetworkError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        # torch gives the errno in the message alone; it only chooses the words of ours
        reason = "in use" if "EADDRINUSE" in str(error) else "not to be reached"
        raise UserError(
            f"MASTER_PORT: {address} is {reason}; choose another with --main_process_port, or look at the main node"
        ) from None
    except dist.DistError as error:
        raise Fault(
            f"WORLD_SIZE: {os.environ.get('WORLD_SIZE')} processes did not all join within {timeout_minutes:g} minutes "
            f"({first_line(error)}); look at the logs of the other nodes, then run the same command again"
        ) from None


def _words(error: Exception) -> str:
    """Return what the communication library says of an error, without its source file and its good wishes."""
    return re.sub(r"^\[\S+:\d+\] | *GLHF!.*", "", first_line(error))


def _joined(join: Callable[[], PartialState], stopped: Callable[[], object]) -> PartialState:
    """Join the others in a thread, as torch waits for them deaf to signals. Says after a while that it waits."""
    answers: SimpleQueue[PartialState | Exception] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put(join())
        except Exception as error:  # it belongs to the caller's thread
            answers.put(error)

    threading.Thread(target=answer, daemon=True).start()
    start, told = time.monotonic(), False
    while True:
        try:
            state = answers.get(timeout=0.5)
        except Empty:
            if stopped():
                raise KeyboardInterrupt from None
            if not told and time.monotonic() - start > QUIET_SECONDS:
                told = True
                size, address, port = (os.environ[name] for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
                log.info("waiting for %s processes at %s:%s (this is RANK %s)", size, address, port, os.environ["RANK"])
            continue
        if isinstance(state, Exception):
            raise state
        return state


def disconnect() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()
