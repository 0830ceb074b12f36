"""One injector: fail at (iteration, phase) with a signal, on one rank of a run, at a place that users do not choose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Literal, get_args

from tests.support import processes
from trainer.checkpoints import save
from trainer.distributed.engines import ddp, fsdp2
from trainer.loop import Loop
from trainer.stages.gan import GanStage
from trainer.steps.ema import Averages
from trainer.steps.forward_passes import ForwardPasses

Phase = Literal["data", "R1", "D", "G", "EMA", "sample", "save"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class Injector:
    """Counts iterations from 1, and sends this process a signal in the middle of the phase that was asked for."""

    def __init__(self, at: int, phase: Phase, number: int) -> None:
        self.at, self.phase, self.number, self.iteration, self.sent = at, phase, number, 0, False

    def fire(self, phase: Phase) -> None:
        if phase == self.phase and self.iteration == self.at and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)

    def after(self, owner: Any, name: str, phase: Phase, only: Callable[..., bool] = lambda *a: True) -> None:
        """Fire after calls of owner.name for which only(*arguments) holds."""
        function = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if only(*args):
                self.fire(phase)
            return result

        setattr(owner, name, wrapped)

    def arm(self) -> None:
        read = Loop._next_batches

        def counted(loop: Loop, *args: Any) -> Any:
            self.iteration += 1
            found = read(loop, *args)
            self.fire("data")
            return found

        Loop._next_batches = counted  # type: ignore[method-assign]
        for name in ("image_gradient", "add_penalised_gradients"):
            self.after(ForwardPasses, name, "R1")
        for engine in (ddp.Replicated, fsdp2.FullyShard):
            if "step" in vars(engine):
                self.after(engine, "step", "D", lambda engine: engine.name == "discriminator")
                self.after(engine, "step", "G", lambda engine: engine.name == "generator")
        self.after(Averages, "update", "EMA")
        self.after(GanStage, "samples", "sample")
        self.after(save.dcp, "save", "save")  # written, not yet published


def failing(argv: list[str], at: int, phase: Phase, number: int) -> None:
    """`python -m trainer ARGV`, with a fault on rank 1."""
    if os.environ["RANK"] == "1":
        Injector(at, phase, number).arm()
    processes.module("trainer", argv)


SIGNALS = {"SIGKILL": int(signal.SIGKILL), "SIGTERM": int(signal.SIGTERM)}
