"""The outer loop, the same for both stages: positions, step, tick, sample, save, stop."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from data_shards.errors import UserError, joined

from . import checkpoint, schedule, settings
from .batches import micro
from .config import RunConfig
from .preemption import StopRequest
from .stages import Stage
from .stats import NonFinite, Stats
from .status import Status, memory_gb
from .world import World

log = logging.getLogger(__name__)


class Loop:
    """One run of one stage. The clock, images_seen, is the only thing that moves."""

    def __init__(self, stage: Stage, config: RunConfig, run: Path, world: World, accept_changes: bool = False) -> None:
        self.stage, self.config, self.run, self.world = stage, config, run, world
        self.clock = torch.zeros((), dtype=torch.int64)
        self.stats = Stats(stage.terms, world.device)
        self._register()
        self._resume(accept_changes)
        plan, batch = config.schedule, config.batch_size
        self.total = schedule.images(plan.total_kimg, batch)
        self.every = {
            name: schedule.images(kimg, batch)
            for name, kimg in (
                ("tick", plan.tick_kimg),
                ("sample", plan.sample_kimg),
                ("save", plan.save_kimg),
            )
        }
        self.waited = self.since = 0.0
        self.ticked_at = self.images_seen

    @property
    def images_seen(self) -> int:
        return int(self.clock)

    @property
    def iteration(self) -> int:
        """Iterations done, from the clock."""
        return self.images_seen // self.config.batch_size

    def _register(self) -> None:
        state = self.stage.state
        state.add_tensor("images_seen", self.clock)
        state.add_tensor("stats.sums", self.stats.sums)
        state.add_tensor("stats.count", self.stats.count)

    def _resume(self, accept_changes: bool) -> None:
        """Go on from the newest usable checkpoint, unless something that matters has changed since."""
        manifest = checkpoint.restore(self.run, self.stage.state, self.world)
        if manifest is None:
            return
        fixed = settings.fixed(self.config)
        changed = [] if accept_changes else settings.changes(manifest["config"], fixed)
        changed += settings.changes(manifest["facts"], dict(self.stage.facts))
        if changed:
            raise joined(
                f"{self.run} holds a checkpoint of other settings; set these back, choose another folder with run=..., "
                "or go on with the new settings by --accept-changes",
                changed,
            )
        if self.world.is_main:
            log.info("resuming %s at %d images (step %d)", self.run, self.images_seen, self.iteration)

    def train(self) -> str | None:
        """Train to the end, or until a signal: then its name. Every way out but an error leaves a checkpoint."""
        if self.images_seen >= self.total:
            log.info("%s is complete: %d images", self.run, self.images_seen)
            return None
        status = Status(self.run, self.total, self.images_seen) if self.world.is_main else None
        try:
            with StopRequest().listening() as stop:
                return self._iterate(stop, status)
        except NonFinite as error:
            raise UserError(f"{error}; {self._way_on()}") from None
        finally:
            if status:
                status.close()

    def _iterate(self, stop: StopRequest, status: Status | None) -> str | None:
        config, world = self.config, self.world
        stream = self.stage.data.batches(config, config.data.workers, self.images_seen, world)  # type: ignore[attr-defined]
        self.since = time.monotonic()
        while True:
            asked = time.monotonic()
            batch = next(stream)
            self.waited += time.monotonic() - asked
            terms = self.stage.step(micro(batch, config.micro_batch), self.images_seen)
            self.stats.add(terms, self.iteration + 1)
            self.clock += config.batch_size
            done = self.images_seen >= self.total
            leave = world.any(stop.reason is not None)
            if status:
                status.step(self.images_seen)
            if self._due("tick") or done:
                self._tick(status)
            if status and (self._due("sample") or done):
                status.samples(self.images_seen, self.stage.samples())
            if self._due("save") or done or leave:
                self._save()
            if done:
                return None
            if leave:
                return next(reason for reason in world.gather(stop.reason) if reason)

    def _due(self, what: str) -> bool:
        return schedule.crossed(self.images_seen, self.config.batch_size, self.every[what])

    def _tick(self, status: Status | None) -> None:
        self.stats.check(self.world)
        terms = self.stats.read(self.world)
        seconds = max(time.monotonic() - self.since, 1e-9)
        per_image = seconds / max(self.images_seen - self.ticked_at, 1)
        facts = {
            "seconds_per_kimg": per_image * 1000,
            "eta_seconds": per_image * (self.total - self.images_seen),
            "data_wait": min(self.waited / seconds, 1.0),
            "memory_gb": memory_gb(self.world.device),
            "resolution": self.stage.resolution,
        }
        if status:
            status.tick(self.images_seen, facts, terms)
        self.waited, self.since, self.ticked_at = 0.0, time.monotonic(), self.images_seen

    def _save(self) -> None:
        self.stats.check(self.world)
        facts = {
            "images_seen": self.images_seen,
            "world_size": self.world.size,
            "config": settings.fixed(self.config),
            "facts": dict(self.stage.facts),
            "versions": {"torch": torch.__version__},
        }
        keep = self.config.schedule.keep_last
        checkpoint.save(self.run, self.iteration, self.stage.state, facts, self.world, keep)

    def _way_on(self) -> str:
        last = checkpoint.newest(self.run)
        if last is None:
            return "no checkpoint was published; lower the learning rate or r1 and start again"
        return (
            f"{last.name} is the last good checkpoint and nothing after it was kept; go on from it with a lower "
            "learning rate or r1 and --accept-changes"
        )
