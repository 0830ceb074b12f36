"""What the trainings of the shipped networks share: a step of the optimizer, and a line of progress."""

from __future__ import annotations

import sys
import time

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

EVERY = 200  # iterations between two lines


def step(loss: Tensor, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Go one step down the gradient of a loss, and on in the schedule of the learning rate."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    schedule.step()


def report(iteration: int, iterations: int, loss: Tensor, batch_size: int, started: float) -> None:
    """Print loss and throughput to standard error, every so many iterations. started: of time.monotonic."""
    if iteration % EVERY == 0:
        throughput = (iteration + 1) * batch_size / (time.monotonic() - started)
        print(f"{iteration}/{iterations} loss {loss.item():.4f} {throughput:.0f} images/s", file=sys.stderr, flush=True)
