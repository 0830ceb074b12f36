"""RUN/profile: where the time of some iterations went, and on a GPU the memory: the setting `profile`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from trainer.distributed.world import World

log = logging.getLogger(__name__)
FOLDER = "profile"
OPERATIONS = 15  # in the table of the log
PASSES = (  # the regions that the steps name, in the order of an iteration
    *("data", "batch to device", "code", "VAE", "critic", "fakes", "D paired", "D real", "R1 pass 1", "R1 pass 2"),
    *("D fake", "G", "distillation", "optimizer step", "EMA"),
)
MEMORY_EVENTS = 100_000  # allocations that a snapshot keeps, the newest


class Profiler:
    """Profiles a window of the iterations of a command, on every process; the main process prints tables.

    window: START:STEPS, or None for no profile; run: the folder of the run. A folder that cannot be written to costs
    the trace and a warning, not the run.
    """

    def __init__(self, window: str | None, run: Path, world: World) -> None:
        self.first, self.steps = (int(part) for part in window.split(":")) if window else (0, 0)
        self.run, self.world, self._begun = run, world, 0
        self._active: profile | None = None
        self._on_gpu = world.device.type == "cuda"

    def iteration(self, images_seen: int) -> None:
        """Note that an iteration begins. images_seen: the clock."""
        if self._active is not None and self._begun == self.first + self.steps:
            self.close(images_seen)
        if self.steps and self._begun == self.first:
            self._start()
        self._begun += 1

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it complains of every machine without a GPU
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._on_gpu else [])
        if self._on_gpu:
            torch.cuda.memory._record_memory_history(max_entries=MEMORY_EVENTS)
        self._active = profile(activities=activities)
        self._active.start()

    def close(self, images_seen: int) -> None:
        """Write the trace of a window that has begun; nothing where none has. images_seen: the clock."""
        if self._active is None:
            return
        active, self._active = self._active, None
        active.stop()
        name = f"{images_seen:09d}-rank{self.world.rank}"
        try:
            (self.run / FOLDER).mkdir(exist_ok=True)
            trace = self._written(f"{name}.json.gz", active.export_chrome_trace)
            if self._on_gpu:
                self._written(f"{name}-memory.pickle", torch.cuda.memory._dump_snapshot)
        except (OSError, RuntimeError) as error:  # the profiler's own writer raises the latter
            log.warning("warning: profile: %s cannot be written (%s)", self.run / FOLDER, error)
            return
        finally:
            if self._on_gpu:
                torch.cuda.memory._record_memory_history(enabled=None)
        if self.world.is_main:
            steps = min(self.steps, self._begun - self.first)
            log.info("profile of %d iterations: %s, for ui.perfetto.dev or chrome://tracing", steps, trace)
            events = active.key_averages()
            log.info("\n".join([*pass_table(events, steps), "", *operation_table(events, steps)]))

    def _written(self, name: str, write: Any) -> Path:
        """Let torch write a file, which appears under its name when it is complete."""
        path = self.run / FOLDER / name
        part = path.with_name(f"part-{name}")
        try:
            write(str(part))
            os.replace(part, path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return path


def pass_table(events: Sequence[Any], steps: int) -> list[str]:
    """Return a line for each pass of an iteration: milliseconds on the host and, on a GPU, in its kernels.

    events: `key_averages()` of a torch profile of so many iterations. Passes include those that run inside them.
    """
    by_name = {event.key: event for event in events if event.key in PASSES and not _is_of_gpu(event)}
    kernels = {event.key: event for event in events if event.key in PASSES and _is_of_gpu(event)}
    lines = [f"{'pass':24} {'calls':>7} {'ms':>10}" + (f" {'ms on GPU':>10}" if kernels else "") + "   of an iteration"]
    for name in PASSES:
        if event := by_name.get(name):
            line = f"{name:24} {event.count / steps:7.4g} {event.cpu_time_total / 1000 / steps:10.2f}"
            if kernels:
                spent = kernels[name].device_time_total if name in kernels else 0
                line += f" {spent / 1000 / steps:10.2f}"
            lines.append(line)
    return lines


def operation_table(events: Sequence[Any], steps: int) -> list[str]:
    """Return a line for each of the operations that cost most themselves: on the GPU, where there is one.

    events: `key_averages()` of a torch profile of so many iterations.
    """
    own = [event for event in events if event.key not in PASSES and not event.key.startswith("ProfilerStep")]
    on_gpu = any(event.self_device_time_total for event in own)

    def cost(event: Any) -> float:
        return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)

    if on_gpu:  # a kernel's time counts for the operation that launched it; the kernel itself would be the same again
        own = [event for event in own if not _is_of_gpu(event)]
    total = sum(map(cost, own)) or 1
    lines = [f"{'operation':44} {'calls':>7} {'ms':>10} {'share':>7}   of an iteration, without what it calls"]
    for event in sorted(own, key=cost, reverse=True)[:OPERATIONS]:
        milliseconds = cost(event) / 1000 / steps
        lines.append(f"{event.key[:44]:44} {event.count / steps:7.4g} {milliseconds:10.2f} {cost(event) / total:7.1%}")
    return lines


def _is_of_gpu(event: Any) -> bool:
    return event.device_type != torch.autograd.DeviceType.CPU
