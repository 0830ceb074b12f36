"""Send what a run reports to the trackers that the setting `trackers` names. None of them can stop or slow training."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple

from common.errors import first_line
from trainer.config.schema import RunConfig
from trainer.config.settings import flat, to_yaml, with_absolute_paths

from .sent_record import Sent, SentRecord
from .tracker_kinds import KINDS, Grid, Kind, RunInfo

log = logging.getLogger(__name__)
# Training waits for a tracker so long, once: what takes longer is left out.
START_SECONDS = 60.0  # a package's first import from a network file system takes its time
LAG_SECONDS = 30.0
END_SECONDS = 30.0
MOST_WAITING = 20  # reports that a tracker may lag behind
_SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")


class Report(NamedTuple):
    """What was reported at one clock."""

    images_seen: int
    values: dict[str, float]
    grid: Grid | None


class Trackers:
    """The trackers of a run, which only its main process has.

    images_seen: where it starts or resumes; rewinds: of the watch, before that.
    """

    def __init__(self, run: Path, config: RunConfig, images_seen: int, rewinds: int = 0) -> None:
        settings = with_absolute_paths(config)
        info = RunInfo(run.absolute(), flat(settings), to_yaml(settings), images_seen, rewinds)
        self._senders: list[Sender] = []
        try:
            record = SentRecord(run)
        except (OSError, ValueError) as error:
            for name in config.trackers:
                _warn(name, error)
            return
        self._senders = [Sender(KINDS[name](), info, record) for name in config.trackers]
        deadline = time.monotonic() + START_SECONDS
        for sender in self._senders:
            sender.wait_until_open(deadline)

    def send(self, images_seen: int, values: dict[str, float], grid: Grid | None) -> None:
        """Hand on what was reported at one clock. Raises nothing."""
        for sender in self._senders:
            sender.send(Report(images_seen, values, grid))

    def close(self) -> None:
        """Send the rest and close the runs. Raises nothing."""
        deadline = time.monotonic() + END_SECONDS
        for sender in self._senders:
            sender.end(deadline)
        for sender in self._senders:
            sender.wait_until_closed(deadline)


class Sender:
    """One tracker, in a thread of its own. What fails or lags too far behind is named in one warning and left out."""

    def __init__(self, kind: Kind, info: RunInfo, record: SentRecord) -> None:
        self._kind, self._info, self._record = kind, info, record
        self._reports: queue.Queue[Report | None] = queue.Queue(MOST_WAITING)
        self._is_open, self._gave_up = threading.Event(), threading.Event()
        self._giving_up = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=kind.name, daemon=True)
        self._thread.start()

    def wait_until_open(self, deadline: float) -> None:
        """Wait for its start. Training begins after that, so that its workers are not forked amid an import."""
        if not self._is_open.wait(max(0.0, deadline - time.monotonic())):
            self._abandon(f"did not start within {START_SECONDS:g} s")

    def send(self, report: Report) -> None:
        """Put a report into the queue."""
        self._put(report, LAG_SECONDS)

    def end(self, deadline: float) -> None:
        """Ask for the end, after what waits in the queue."""
        self._put(None, max(0.0, deadline - time.monotonic()))

    def wait_until_closed(self, deadline: float) -> None:
        """Wait for the end that was asked for."""
        self._thread.join(1.0 if self._gave_up.is_set() else max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._abandon(f"did not take the last reports within {END_SECONDS:g} s")

    def _put(self, report: Report | None, seconds: float) -> None:
        if self._gave_up.is_set():
            return
        try:
            self._reports.put(report, timeout=seconds)
        except queue.Full:
            self._abandon(f"has taken none of {MOST_WAITING} reports for {seconds:.0f} s")

    def _work(self) -> None:
        """Open, send and close, until the end or the first error."""
        try:
            self._open()
            self._is_open.set()
            while not self._gave_up.is_set() and (report := self._reports.get()) is not None:
                self._send(report)
        except BaseException as error:  # a package may even call sys.exit
            self._give_up(error)
        self._is_open.set()
        while not self._reports.empty():  # training may wait for room
            self._reports.get_nowait()
        try:
            self._kind.finish()
        except BaseException as error:
            self._give_up(error)

    def _open(self) -> None:
        """Open the run where it was opened before, and send the settings where they are not what was sent last."""
        name, sent = self._kind.name, self._record.of(self._kind.name)
        run_id = sent.run_id or self._kind.new_id()
        if run_id != sent.run_id:  # known before there is a run of it: a start that is killed leaves no second one
            self._record.change(name, run_id=run_id)
        digest = hashlib.sha256(self._info.yaml.encode()).hexdigest()
        last = self._last_kept(sent, digest)
        opened = self._kind.open(self._info._replace(last_step=max(last, self._info.images_seen)), run_id)
        if opened != run_id:
            self._record.change(name, run_id=opened)
        if digest != sent.config:
            self._kind.config(self._info, is_first=sent.config is None)
            self._record.change(name, config=digest)
        if last > self._info.images_seen:
            log.info("%s has the steps up to %d images; none of them is sent again", name, last)

    def _last_kept(self, sent: Sent, config: str) -> int:
        """Return the last step sent that stays, of which and before which none is sent again.

        A resume repeats the numbers of before. After a rewind or with other settings (config: the sha256 of today's)
        the same steps have other numbers: a tracker that can drop those sent is sent them anew.
        """
        last, is_repeat = sent.step, sent.config == config and sent.rewinds == self._info.rewinds
        if self._kind.takes_back and not is_repeat:
            last = min(last, self._info.images_seen)
        if (last, self._info.rewinds) != (sent.step, sent.rewinds):
            self._record.change(self._kind.name, step=last, rewinds=self._info.rewinds)
        return last

    def _send(self, report: Report) -> None:
        """Send a report, unless one of its clock, or of a later one, was sent before.

        It is recorded first: a run that is killed in between loses a step there, and none is sent twice.
        """
        if report.images_seen <= self._record.of(self._kind.name).step:
            return
        self._record.change(self._kind.name, step=report.images_seen)
        self._kind.log(*report)

    def _abandon(self, reason: str) -> None:
        """Give up a tracker whose call does not return."""
        self._give_up(reason)
        with contextlib.suppress(Exception):
            self._kind.abandon()

    def _give_up(self, reason: BaseException | str) -> None:
        """Name the tracker and what happened, the first time."""
        with self._giving_up:
            if self._gave_up.is_set():
                return
            self._gave_up.set()
        _warn(self._kind.name, reason)


def _warn(name: str, reason: BaseException | str) -> None:
    """Name a tracker and why it is left out."""
    text = reason if isinstance(reason, str) else f"{type(reason).__name__}: {first_line(reason)}"
    log.warning(
        "warning: trackers: %s: %s; training goes on without it, and the next start tries it again",
        name,
        _without_secrets(text),
    )


def _without_secrets(text: str) -> str:
    """Return a package's message without user names and passwords in URLs, and without keys of the environment."""
    text = re.sub(r"//[^/\s@]+@", "//", text)
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 4:
            text = text.replace(value, f"${name}")
    return text
