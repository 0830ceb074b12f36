"""The outer loop, the same for both stages: positions, step, tick, sample, save, stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common.errors import Fault, UserError, out_of_memory
from common.provenance import hardware, versions
from data_shards.read.loader import CODE_RESOLUTION, Batch
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
from trainer.reporting.profiler import Profiler
from trainer.reporting.status import Status
from trainer.reporting.tick_timer import TickTimer, peak_memory_gb
from trainer.stages.base import Stage
from trainer.stages.gan import GanStage
from trainer.steps.batches import micro, pass_size
from trainer.steps.running_means import NonFinite, RunningMeans
from trainer.steps.schedule import Now
from trainer.watch import rewinds
from trainer.watch.rewinds import Rewinds
from trainer.watch.watch import Watch

from .batch_stream import BatchStream, end_workers
from .checkpoints import ema_snapshots, published
from .checkpoints.mirror import LAST_SECONDS, Copier, Mirror
from .distributed import divergence
from .resume import OtherStart, refuse_changes, warn_of_other_speed
from .steps import schedule

log = logging.getLogger(__name__)


class Loop:
    """One run of one stage. The clock, images_seen, is the only thing that moves.

    stage: what is trained; run: its folder; lock: of the folder, checked before anything is published; past: the
    rewinds before the checkpoint that it resumes from.
    """

    def __init__(
        self,
        stage: Stage,
        config: RunConfig,
        run: Path,
        world: World,
        lock: Lock,
        accept_changes: bool,
        past: Rewinds = (),
    ) -> None:
        """Restore the newest usable checkpoint, where there is one.

        Raises a UserError where it differs from the settings, and OtherStart where the stage was not built for it.
        """
        self.stage, self.config, self.run, self.world, self.lock = stage, config, run, world, lock
        self.clock = torch.zeros((), dtype=torch.int64)
        self.means = RunningMeans(stage.terms, world)
        self._register_state()
        self.submitter = world.on_main(self._submitter)
        self.past = past
        self.watch: Watch | None = None
        manifest = self._resume(accept_changes)
        if isinstance(stage, GanStage) and isinstance(config, GanConfig) and config.watch:
            self.watch = Watch(stage, config, config.watch, run, world, past, self.images_seen)
            self.watch.restore(manifest or {})
        self.total = schedule.interval(config.schedule.total_kimg)
        self.intervals = self._intervals()
        self.copier: Copier | None = None
        self._retention = Retention(config.schedule.keep_last, config.schedule.keep_every_kimg)
        self._ticks = 1
        self.before = self.images_seen  # the clock at the start of the last iteration
        self.saved_at = self.images_seen
        self.timer = TickTimer(self.images_seen)
        self.profiler = Profiler(config.profile, run, world)

    @property
    def images_seen(self) -> int:
        """Real images that training has consumed."""
        return int(self.clock)

    @property
    def iteration(self) -> int:
        """Iterations of the present settings that the clock stands for."""
        return schedule.iteration(self.stage.phases, self.images_seen, self.stage.batches_per_step)

    def _register_state(self) -> None:
        """Add the clock and the sums of the running means to what a checkpoint holds."""
        state = self.stage.state
        state.add_tensor("images_seen", self.clock)
        state.add_tensor("stats.sums", self.means.sums)
        state.add_tensor("stats.count", self.means.count)

    def _intervals(self) -> dict[str, int]:
        """Return the images between two ticks, sample grids, saves and EMA snapshots."""
        settings = self.config.schedule
        intervals = {
            "tick": schedule.interval(settings.tick_kimg),
            "sample": schedule.interval(settings.sample_kimg),
            "save": schedule.interval(settings.save_kimg),
        }
        if self.stage.snapshots:
            intervals["snapshot"] = self.stage.snapshots.every
        return intervals

    def _submitter(self) -> Submitter | None:
        """Return what submits evaluation jobs, where the config asks for it. Only the main process has one."""
        if isinstance(self.config, GanConfig) and self.config.evaluation.submit:
            return Submitter(self.run, self.config.evaluation)
        return None

    def _copier(self) -> Copier | None:
        """Return what copies checkpoints to the mirror, where the config names one. Only the main process has one."""
        if self.config.schedule.mirror is None:
            return None
        copier = Copier(Mirror(self.config.schedule.mirror, self.run), self.run)
        newest = published.newest(self.run)
        if newest and copier.mirror.steps().get(newest.name, "missing"):
            copier.copy(newest, self._retention)
        return copier

    def _resume(self, accept_changes: bool) -> dict[str, Any] | None:
        """Resume from the newest usable checkpoint, unless something that matters has changed. Returns its manifest."""

        def check(manifest: dict[str, Any]) -> None:
            past = self.world.broadcast(self.world.on_main(lambda: rewinds.before(self.run, manifest)))
            if manifest["images_seen"] < self.stage.checked_from or past != self.past:
                raise OtherStart(manifest["images_seen"], past)
            refuse_changes(self.run, manifest, self.config, dict(self.stage.input_identity), accept_changes)
            if self.world.is_main:
                warn_of_other_speed(manifest, self.config)

        manifest = restore_newest(self.run, self.stage.state, self.world, check)
        if manifest is not None:
            self.means.keep_on_main()
            if self.world.is_main:
                log.info("resuming %s at %d images", self.run, self.images_seen)
        return manifest

    def train(self, stop: StopRequest) -> str | None:
        """Train to the end, or until a signal; then return its name. Both ways end with a checkpoint."""
        self.copier = self.world.on_main(self._copier)
        try:
            if self.images_seen < self.total:
                return self._train(stop)
            log.info("%s is complete: %d images", self.run, self.images_seen)
            if self.submitter:  # what the scheduler did not take before
                self.submitter.submit()
            return None
        finally:
            if self.submitter:
                self.submitter.finish()
            if self.copier:
                self.copier.finish(self.config.timeout_minutes * 60 if self.images_seen >= self.total else LAST_SECONDS)

    def _train(self, stop: StopRequest) -> str | None:
        """Train with what reports and reads along the way, and close that whatever comes."""
        if self.world.is_main:
            log.info("training on %s (processes: %d, speed: %s)", *self._machine())
        status = self.world.on_main(lambda: Status(self.run, self.config, self.total, self.images_seen, len(self.past)))
        try:
            return self._iterate(stop, status)
        except Exception as error:
            explained = self._explained(error)
            if explained is error:
                raise
            raise explained from None
        finally:
            end_workers()
            self.profiler.close(self.images_seen)
            if status:
                status.close()

    def _iterate(self, stop: StopRequest, status: Status | None) -> str | None:
        """Run iteration after iteration to the end, or until a signal; then return its name."""
        stream: BatchStream | None = None
        stream_key = None
        self.timer.restart(self.images_seen)
        while self.images_seen < self.total:
            self.profiler.iteration(self.images_seen)
            now = schedule.now(self.stage.phases, self.images_seen)
            if stream is None or stream_key != (now.resolution, now.batch_size):  # another phase, another resolution
                stream, stream_key = self._open_stream(now, stream), (now.resolution, now.batch_size)
            batches = self._next_batches(stream, stop)
            if batches is None:
                self._save()
                return next(reason for reason in self.world.all_gather_object(stop.reason) if reason)
            self._step(batches, now)
            self._report_and_save(status, now)
        return None

    def _open_stream(self, now: Now, before: BatchStream | None) -> BatchStream:
        """Open the batches of a phase from the clock on, and close those of the phase before."""
        if before is not None:
            before.close()
        data = self.stage.data
        batches = data.batches(self.config, now, self.images_seen, self.world)
        source = f"{data.main.root} at {max(now.resolution, CODE_RESOLUTION)} px"
        return BatchStream(batches, source, self.config.data.timeout_minutes, self.world)

    def _next_batches(self, stream: BatchStream, stop: StopRequest) -> list[Batch] | None:
        """Return the next iteration's batches, or None to save and leave instead, because of a signal."""
        return stream.take(self.stage.batches_per_step, stop, self.timer)

    def _step(self, batches: list[Batch], now: Now) -> None:
        """Train on the batches and advance the clock."""
        micro_batches = [micro(batch, self._most_in_a_pass(now)) for batch in batches]
        with self.world.exchange("an iteration", timed_out_only=True):
            terms = self.stage.step(micro_batches, now, self.images_seen)
        self.means.add(terms, self.iteration + 1)
        self.before = self.images_seen
        self.clock += now.batch_size * self.stage.batches_per_step

    def _most_in_a_pass(self, now: Now) -> int | str | None:
        """Return the most images of a pass at this resolution; None for the whole share."""
        return self.stage.pass_sizes.get(now.resolution, self.config.micro_batch)

    def _report_and_save(self, status: Status | None, now: Now) -> None:
        """Do what is due after an iteration: tick, sample grid, EMA snapshot, checkpoint. At the end all are due."""
        done = self.images_seen >= self.total
        if self._due("tick") or done:
            self._tick(status, partial=not self._due("tick"))
        if self._due("sample") or done:
            images = self.stage.samples(now)
            self._write(status, lambda status: status.samples(self.images_seen, images))
        if status:
            status.step(self.images_seen)
        if self.stage.snapshots and (self._due("snapshot") or done):  # before a checkpoint goes past it
            self._snapshot(self.stage.snapshots)
        if self._due("save") or done:
            self._save()

    def _due(self, event: str) -> bool:
        """True if the last iteration crossed a multiple of the event's interval."""
        return schedule.crossed(self.images_seen, self.before, self.intervals[event])

    def _tick(self, status: Status | None, partial: bool) -> None:
        """Check and report the means since the last tick.

        partial: the run ends between two ticks; the sums are kept for a run that is made longer later.
        """
        self.means.check()
        if self._ticks % self.config.schedule.compare_ticks == 0:
            divergence.check(self.stage.state.replicated(), self.world)
        self._ticks += 1
        terms = self.means.global_means()
        spread = self.watch.sample_spread(schedule.now(self.stage.phases, self.before)) if self.watch else None
        progress = {
            **self.timer.metrics(self.images_seen, self.total),
            "memory_gb": peak_memory_gb(self.world.device),
            "processes": self.world.size,
            "speed": self.config.speed,
            **self._phase_values(),
            **({} if spread is None else {"sample_spread": spread}),
        }
        self._write(status, lambda status: status.tick(self.images_seen, progress, terms, partial))
        if self.submitter:
            self.submitter.look()
        if self.watch and spread is not None and not partial:
            self.watch.look(self.images_seen, terms, spread)
        if not partial:
            self.means.reset()
            self.timer.restart(self.images_seen)

    def _write(self, status: Status | None, write: Callable[[Status], None]) -> None:
        """Write a report on the main process. A disk that refuses it ends all processes with one message."""

        def write_report() -> None:
            assert status is not None  # the main process has one
            write(status)

        self.world.on_main(write_report)

    def _save(self) -> None:
        """Publish a checkpoint of the clock, if there is none yet, and submit its evaluation."""
        if self.saved_at == self.images_seen:
            return
        self.world.on_all(self.lock.check)
        self.means.check()
        divergence.check(self.stage.state.replicated(), self.world)
        self.means.sum_over_processes()
        with self.world.exchange("the writing of a checkpoint", timed_out_only=True):
            step = save_checkpoint(
                self.run, self.images_seen, self.stage.state, self._metadata(), self.world, self._retention
            )
        if self.copier:
            self.copier.copy(step, self._retention)
        self.means.keep_on_main()
        self.saved_at = self.images_seen
        if self.submitter:  # its job reads the manifest
            self.submitter.submit()

    def _metadata(self) -> dict[str, Any]:
        """Return what a checkpoint's manifest holds besides its clock."""
        return {
            "iteration": self.iteration,
            **self._phase_values(),
            "world_size": self.world.size,
            "speed": self.config.speed,
            **({"pass_sizes": self.stage.pass_sizes} if self.stage.pass_sizes else {}),
            **({"watch": self.watch.to_json()} if self.watch else {}),
            **({"rewinds": rewinds.to_json(self.past)} if self.past else {}),
            "config": fixed(self.config),
            "facts": dict(self.stage.input_identity),
            "data_notes": list(self.stage.data.main.manifest.notes),
            "versions": versions(),
            "hardware": hardware(self.world.device),
        }

    def _snapshot(self, snapshots: ema_snapshots.Snapshots) -> None:
        """Write the averaged generators, unless a loss was not finite."""
        self.means.check()
        identity = ema_snapshots.identity(fixed(self.config), self.stage.input_identity)
        snapshots.write(self.run, self.images_seen, self._phase_values(), identity, self.world)

    def _machine(self) -> tuple[str, int, str]:
        """Return what the run trains on: the hardware's name, the processes, the setting `speed`."""
        return hardware(self.world.device), self.world.size, self.config.speed

    def _phase_values(self) -> dict[str, Any]:
        """Return the resolution, and in a fade alpha, of the iteration that ended."""
        now = schedule.now(self.stage.phases, self.before)
        return {"resolution": now.resolution} | ({} if now.alpha is None else {"alpha": now.alpha})

    def _explained(self, error: Exception) -> Exception:
        """Return an error with what a user needs to go on; the same one where nothing is known of it."""
        if isinstance(error, NonFinite):
            return UserError(f"{error}; {self._way_back()}")
        if isinstance(error, Fault):
            return Fault(f"{error}; {self._kept()}")
        if isinstance(error, Diverged):
            remedy = "test memory and network of the machines, then run the same command again"
            return UserError(f"{error}; {self._kept()}; {remedy}")
        if reason := out_of_memory(error):
            return UserError(self._no_memory(reason))
        return error

    def _kept(self) -> str:
        """Say which checkpoint a resume starts from."""
        last = published.newest(self.run)
        if last is None:
            return "no checkpoint was published"
        return f"{last.name} is the last good checkpoint and nothing after it was kept"

    def _no_memory(self, reason: str) -> str:
        """Say at which settings memory ran out, and what takes less."""
        now = schedule.now(self.stage.phases, self.images_seen)
        share = now.batch_size // self.world.size
        size = pass_size(share, self._most_in_a_pass(now))
        return (
            f"out of memory on process {self.world.rank} at {now.resolution} px with {share} images, in passes of "
            f"{size} ({reason}); lower micro_batch, which changes no result but rounding, or batch_size; {self._kept()}"
        )

    def _way_back(self) -> str:
        """Say how to go on after a loss, or a weight, that is not finite."""
        usable = [step.name for step in published.steps(self.run) if published.problem(step) is None]
        remedy = "lower the learning rate or r1"
        if not usable:
            return f"no checkpoint was published; {remedy} and start again"
        way = f"{self._kept()}; {remedy}, then resume from it with --accept-changes"
        if len(usable) == 1:
            return f"{way}; where that ends here again, start anew with run=..."
        earlier = ", ".join(usable[1:])
        return f"{way}; where that ends here again, go further back with --from-step STEP (there are {earlier})"
