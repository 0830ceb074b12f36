"""The watch of a run: looks for signs at every tick, and warns, stops the run or asks for a rewind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from trainer.checkpoints import published
from trainer.config.schema import GanConfig, WatchConfig
from trainer.distributed.world import World
from trainer.stages.gan import GanStage
from trainer.steps import schedule
from trainer.steps.schedule import Now

from . import rewinds
from .history import History
from .rewinds import Rewind, Rewinds
from .sample_spread import SampleSpread
from .signs import Sign, signs, starts

log = logging.getLogger(__name__)


class Collapsed(UserError):
    """A sign of a collapse ends the run. Nothing is saved."""


class RewindDue(Exception):
    """A sign of a collapse sends the run back. rewinds: all of the run, this one last."""

    def __init__(self, rewinds: Rewinds) -> None:
        super().__init__(rewinds)
        self.rewinds = rewinds


class Watch:
    """Looks for signs of a collapse, and follows the config's `watch.action`. All processes call it together.

    config: the run's, with the seed that it started with; past: the rewinds that the run has had; images_seen: where it
    starts or resumes.
    """

    def __init__(
        self,
        stage: GanStage,
        config: GanConfig,
        watch: WatchConfig,
        run: Path,
        world: World,
        past: Rewinds,
        images_seen: int,
    ) -> None:
        self.config, self.watch, self.run, self.world, self.past = config, watch, run, world, past
        self.history = History(images_seen)
        self._spread = SampleSpread(stage)

    def sample_spread(self, now: Now) -> float:
        """Return how much samples differ from each other: see SampleSpread.measure."""
        return self._spread.measure(now)

    def restore(self, manifest: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint's manifest has of the ticks before it; a run without a watch left nothing."""
        if "watch" in manifest:
            self.history = History.from_json(manifest["watch"])

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest holds."""
        return self.history.to_json()

    def look(self, images_seen: int, terms: Mapping[str, float], sample_spread: float) -> None:
        """Look at a tick. images_seen: at its end; terms: the global means over it.

        Raises Collapsed or RewindDue on every process, as the main process's numbers have it.
        """
        terms, sample_spread = self.world.broadcast((terms, sample_spread))
        found = signs(self.config, self.watch, images_seen, terms, sample_spread, self.history.typical)
        self.history.add(images_seen, found, terms)
        if starts(self.watch, images_seen):
            return
        due = [sign for sign in found if self.history.streaks[sign.name].ticks >= self.watch.ticks]
        if due and self.watch.action != "warn":
            self._end(due[0], images_seen)
        for sign in due:
            self._warn(sign)

    def _warn(self, sign: Sign) -> None:
        """Name a sign, once for as long as it lasts."""
        streak = self.history.streaks[sign.name]
        if not streak.told and self.world.is_main:
            log.warning("warning: %s; %s", self._described(sign), sign.remedy)
        streak.told = True

    def _described(self, sign: Sign) -> str:
        streak = self.history.streaks[sign.name]
        return f"watch: {sign.text}, in {streak.ticks} ticks in a row, since {streak.began} images"

    def _end(self, sign: Sign, images_seen: int) -> None:
        """Raise RewindDue where the run may still go back, else Collapsed."""
        began, most = self.history.streaks[sign.name].began, self.watch.rewinds or 0
        save_every = schedule.interval(self.config.schedule.save_kimg)
        to = self.world.broadcast(self.world.on_main(lambda: rewinds.target(self.run, began, self.past, save_every)))
        count = len(self.past)
        if to is None or count >= most:
            spent = f"; watch.rewinds: {most}, and all are spent" if 0 < most <= count else ""
            raise Collapsed(f"{self._described(sign)}{spent}; {sign.remedy}; {self._way_on(to)}")
        seed = rewinds.seed_after(self.config.seed, count + 1)
        if self.world.is_main:
            log.warning("warning: %s; back to %d images, rewind %d of %d", self._described(sign), to, count + 1, most)
        raise RewindDue((*self.past, Rewind(sign.name, sign.value, images_seen, to, seed)))

    def _way_on(self, clock: int | None) -> str:
        """Say which checkpoint is from before the sign. clock: of that one, 0 without any, None where none is left."""
        if not clock:
            return "no checkpoint is from before; start anew with run=..."
        step = published.folder(self.run) / published.name_of(clock)
        return f"nothing was saved; go on from {step}, from before: --from-step {step.name} --accept-changes"
