"""The outer loop, the same for both stages: positions, step, tick, sample, save, stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common.errors import UserError
from common.provenance import hardware, versions
from data_shards.read.loader import Batch
from trainer.checkpoints.load import restore_newest
from trainer.checkpoints.retention import Retention
from trainer.checkpoints.save import save_checkpoint
from trainer.config.schema import GanConfig, RunConfig
from trainer.config.settings import fixed
from trainer.distributed.divergence import Diverged
from trainer.distributed.world import World
from trainer.jobs.evaluation_jobs import Submitter
from trainer.jobs.run_lock import Lock
from trainer.jobs.signals import StopRequest
from trainer.reporting.status import Status
from trainer.reporting.tick_timer import peak_memory_gb
from trainer.stages.base import Stage
from trainer.steps.batches import micro
from trainer.steps.running_means import NonFinite, RunningMeans

from .checkpoints import ema_snapshots, published
from .distributed import divergence
from .resume import EarlierStage, refuse_changes
from .steps import schedule

log = logging.getLogger(__name__)

CONTINUE, LEAVE, FAIL = range(3)  # votes


class Loop:
    """One run of one stage. The clock, images_seen, is the only thing that moves."""

    def __init__(
        self, stage: Stage, config: RunConfig, run: Path, world: World, lock: Lock, accept_changes: bool = False
    ) -> None:
        self.stage, self.config, self.run, self.world, self.lock = stage, config, run, world, lock
        self.clock = torch.zeros((), dtype=torch.int64)
        self.stats = RunningMeans(stage.terms, world)
        state = stage.state
        state.add_tensor("images_seen", self.clock)
        state.add_tensor("stats.sums", self.stats.sums)
        state.add_tensor("stats.count", self.stats.count)
        self.submitter = world.on_all(self._submitter)
        self._resume(accept_changes)
        plan = config.schedule
        self.total = schedule.interval(plan.total_kimg)
        self.every = {
            name: schedule.interval(kimg)
            for name, kimg in (("tick", plan.tick_kimg), ("sample", plan.sample_kimg), ("save", plan.save_kimg))
        }
        if stage.snapshots:
            self.every["snapshot"] = stage.snapshots.every
        self._ticks = 1
        self.before = self.images_seen  # the clock at the start of the last iteration
        self.waited = self.since = 0.0
        self.ticked_at = self.saved_at = self.images_seen

    @property
    def images_seen(self) -> int:
        return int(self.clock)

    @property
    def iteration(self) -> int:
        """Iterations of the present settings that the clock stands for."""
        return schedule.iteration(self.stage.plan, self.images_seen, self.stage.batches_per_step)

    def _submitter(self) -> Submitter | None:
        if self.world.is_main and isinstance(self.config, GanConfig) and self.config.evaluation.submit:
            return Submitter(self.run, self.config.evaluation)
        return None

    def _resume(self, accept_changes: bool) -> None:
        """Go on from the newest usable checkpoint, unless something that matters has changed since."""

        def check(manifest: dict[str, Any]) -> None:
            if manifest["images_seen"] < self.stage.checked_from:
                raise EarlierStage(manifest["images_seen"])
            refuse_changes(self.run, manifest, self.config, dict(self.stage.input_identity), accept_changes)

        if restore_newest(self.run, self.stage.state, self.world, check) is not None:
            self.stats.keep_on_main()
            if self.world.is_main:
                log.info("resuming %s at %d images", self.run, self.images_seen)

    def train(self, stop: StopRequest) -> str | None:
        """Train to the end, or until a signal: then its name. Every way out but an error leaves a checkpoint."""
        if self.images_seen >= self.total:
            log.info("%s is complete: %d images", self.run, self.images_seen)
            if self.submitter:  # what no scheduler took before
                self.submitter.submit()
                self.submitter.finish()
            return None
        status = self.world.on_all(
            lambda: Status(self.run, self.total, self.images_seen) if self.world.is_main else None
        )
        try:
            return self._iterate(stop, status)
        except NonFinite as error:
            hint = self._recovery_hint("lower the learning rate or r1", " with --accept-changes")
            raise UserError(f"{error}; {hint}") from None
        except Diverged as error:
            hint = self._recovery_hint("test memory and network of the machines")
            raise UserError(f"{error}; {hint}") from None
        finally:
            if status:
                status.close()
            if self.submitter:
                self.submitter.finish()

    def _iterate(self, stop: StopRequest, status: Status | None) -> str | None:
        stream: Iterator[Batch] = iter(())
        reads = None
        self.since = time.monotonic()
        while True:
            now = schedule.now(self.stage.plan, self.images_seen)
            if reads != (now.resolution, now.batch_size):  # a new stage reads its own resolution from here on
                stream = self.stage.data.batches(self.config, now, self.images_seen, self.world)
                reads = now.resolution, now.batch_size
            batches, leave = self._next(stream, stop)
            if leave:
                self._save()
                return next(reason for reason in self.world.all_gather_object(stop.reason) if reason)
            pieces = [micro(batch, self.config.micro_batch) for batch in batches]
            terms = self.stage.step(pieces, now, self.images_seen)
            self.stats.add(terms, self.iteration + 1)
            self.before = self.images_seen
            self.clock += now.batch_size * self.stage.batches_per_step
            done = self.images_seen >= self.total
            if status:
                status.step(self.images_seen)
            if self._due("tick") or done:
                self._tick(status, part=not self._due("tick"))
            if self._due("sample") or done:
                images = self.stage.samples(now)
                self._tell(status, partial(Status.samples, images_seen=self.images_seen, images=images))
            if self.stage.snapshots and (self._due("snapshot") or done):  # before a checkpoint goes past it
                self._snapshot(self.stage.snapshots)
            if self._due("save") or done:
                self._save()
            if done:
                return None

    def _next(self, stream: Iterator[Batch], stop: StopRequest) -> tuple[list[Batch], bool]:
        """The next iteration's batches, and whether to save and leave instead of it: a signal waits for one iteration.

        One vote: a process that cannot read takes all with it.
        """
        asked, error, batches = time.monotonic(), None, []
        try:
            batches = [next(stream) for _ in range(self.stage.batches_per_step)]
        except UserError as found:
            error = found
        self.waited += time.monotonic() - asked
        vote = self.world.all_reduce_max(FAIL if error else LEAVE if stop.reason else CONTINUE)
        if vote == FAIL:
            messages = [message for message in self.world.all_gather_object(str(error) if error else None) if message]
            raise error or UserError(messages[0])
        return batches, vote == LEAVE

    def _due(self, what: str) -> bool:
        return schedule.crossed(self.images_seen, self.before, self.every[what])

    def _tick(self, status: Status | None, part: bool) -> None:
        """Report. A part of a tick, at an end between ticks, leaves the sums for a run that is made longer later."""
        self.stats.check()
        if self._ticks % self.config.schedule.compare_ticks == 0:
            divergence.check(self.stage.state.replicated(), self.world)
        self._ticks += 1
        terms = self.stats.means()
        seconds = max(time.monotonic() - self.since, 1e-9)
        per_image = seconds / max(self.images_seen - self.ticked_at, 1)
        facts = {
            "seconds_per_kimg": per_image * 1000,
            "eta_seconds": per_image * (self.total - self.images_seen),
            "data_wait": min(self.waited / seconds, 1.0),
            "memory_gb": peak_memory_gb(self.world.device),
            "processes": self.world.size,
            **self._stage_facts(),
        }
        self._tell(status, lambda status: status.tick(self.images_seen, facts, terms, part))
        if self.submitter:
            self.submitter.look()
        if not part:
            self.stats.reset()
            self.waited, self.since, self.ticked_at = 0.0, time.monotonic(), self.images_seen

    def _tell(self, status: Status | None, what: Callable[[Status], None]) -> None:
        """Something that the main process writes; a disk that refuses it ends all processes with one message."""

        def told() -> None:
            if status:
                what(status)

        self.world.on_all(told)

    def _save(self) -> None:
        if self.saved_at == self.images_seen:
            return
        self.world.on_all(self.lock.check)
        self.stats.check()
        divergence.check(self.stage.state.replicated(), self.world)
        self.stats.gather()
        facts = {
            "iteration": self.iteration,
            **self._stage_facts(),
            "world_size": self.world.size,
            "config": fixed(self.config),
            "facts": dict(self.stage.input_identity),
            "versions": versions(),
            "hardware": hardware(self.world.device),
        }
        keep = Retention(self.config.schedule.keep_last, self.config.schedule.keep_every_kimg)
        save_checkpoint(self.run, self.images_seen, self.stage.state, facts, self.world, keep)
        self.stats.keep_on_main()
        self.saved_at = self.images_seen
        if self.submitter:  # a job reads the checkpoint's facts
            self.submitter.submit()

    def _snapshot(self, found: ema_snapshots.Snapshots) -> None:
        self.stats.check()
        who = ema_snapshots.identity(fixed(self.config), self.stage.input_identity)
        found.write(self.run, self.images_seen, self._stage_facts(), who, self.world)

    def _stage_facts(self) -> dict[str, Any]:
        """Resolution, and in a fade alpha, of the iteration that ended."""
        now = schedule.now(self.stage.plan, self.before)
        return {"resolution": now.resolution} | ({} if now.alpha is None else {"alpha": now.alpha})

    def _recovery_hint(self, remedy: str, option: str = "") -> str:
        last = published.newest(self.run)
        if last is None:
            return f"no checkpoint was published; {remedy} and start again"
        kept = f"{last.name} is the last good checkpoint and nothing after it was kept"
        return f"{kept}; {remedy}, then go on from it{option}"
