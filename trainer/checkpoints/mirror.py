"""Copies of a run's published steps in an object store, or any file system that fsspec knows: `schedule.mirror`.

They lie in URL/RUN-NAME/step-N. The manifest is copied last, so that a copy that was cut has none, and is never chosen.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import NamedTuple

import fsspec
from fsspec.core import url_to_fs

from common.atomic_writes import publish, sync_folder
from common.errors import UserError, first_line

from . import published
from .retention import Retention

log = logging.getLogger(__name__)
TRIES = 3
PAUSE = 2.0  # seconds before the second try, doubled each time
LAST_SECONDS = 60.0  # how long a run that a signal ends waits for the copy of its last step


class Mirror:
    """The copies of one run's steps.

    Raises a UserError where the URL's kind of store needs a package that is not installed.
    """

    def __init__(self, url: str, run: Path) -> None:
        self.url = f"{url.rstrip('/')}/{run.absolute().name}"
        self.fs: fsspec.AbstractFileSystem
        try:
            self.fs, self.root = url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"schedule.mirror: {url}: {first_line(error)}; install the package for it (pip install "
                "'idgan[remote]' has those of s3, gs and http), or correct the URL"
            ) from None

    def check(self) -> None:
        """Raise a UserError where nothing can be written there."""
        try:
            self.fs.makedirs(self.root, exist_ok=True)
            self.fs.pipe_file(f"{self.root}/writable", b"")
        except Exception as error:  # each store has errors of its own
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> UserError:
        return UserError(
            f"schedule.mirror: {self.url}: {_said(error)}; look at the URL, the network and the credentials, or go on "
            "without copies: schedule.mirror=null"
        )

    def steps(self) -> dict[str, str | None]:
        """Return why each copy cannot be used, or None, by the step's name, newest first.

        Raises a UserError where the store does not answer.
        """
        try:
            names = sorted((Path(path).name for path in self._entries()), reverse=True)
            return {name: self._problem(name) for name in names if published.is_step(name)}
        except Exception as error:
            raise self._unreachable(error) from None

    def _entries(self) -> list[str]:
        """Return the paths in the mirror's folder; none where it does not exist yet."""
        try:
            found: list[str] = self.fs.ls(self.root, detail=False)
            return found
        except FileNotFoundError:
            return []

    def _problem(self, name: str) -> str | None:
        """Say why a copy cannot be used; None where all its files have their sizes."""
        folder = f"{self.root}/{name}"
        try:
            manifest = json.loads(self.fs.cat_file(f"{folder}/{published.MANIFEST}"))
            sizes = dict(manifest["files"])
        except FileNotFoundError:
            return "was cut"
        except (ValueError, KeyError, TypeError):
            return f"has no readable {published.MANIFEST}"
        stored = {Path(entry["name"]).name: entry["size"] for entry in self.fs.ls(folder, detail=True)}
        wrong = [name for name, size in sizes.items() if stored.get(name) != size]
        return f"lacks {wrong[0]}, or has another size of it" if wrong else None

    def upload(self, step: Path) -> None:
        """Copy a published step, the manifest last. What was there under its name is removed first."""
        folder = f"{self.root}/{step.name}"
        self._remove(step.name)
        self.fs.makedirs(folder, exist_ok=True)
        for path in sorted(step.iterdir(), key=lambda path: path.name == published.MANIFEST):
            self.fs.put_file(str(path), f"{folder}/{path.name}")

    def _remove(self, name: str) -> None:
        """Delete a copy: its manifest first, without which it is never chosen."""
        folder = f"{self.root}/{name}"
        if self.fs.exists(f"{folder}/{published.MANIFEST}"):
            self.fs.rm_file(f"{folder}/{published.MANIFEST}")
        if self.fs.exists(folder):
            self.fs.rm(folder, recursive=True)

    def delete_unneeded(self, run: Path, newest: str, keep: Retention) -> None:
        """Delete the copies that the run's own rule does not keep, and those that were cut.

        newest: the run's newest step; later copies are of a training that went back past them.
        """
        states = self.steps()
        usable = [name for name, problem in states.items() if problem is None and name <= newest]
        clocks = {int(name.removeprefix(published.STEP)): name for name in usable}
        kept = {clocks[clock] for clock in keep.kept(list(clocks), published.pointed(run, "best"))}
        for name in states.keys() - kept:
            self._remove(name)

    def download(self, run: Path) -> str | None:
        """Publish the newest usable copy in a run folder. Returns its name, or None where there is none.

        Raises a UserError where the store does not answer or the disk refuses it.
        """
        usable = [name for name, problem in self.steps().items() if problem is None]
        if not usable:
            return None
        target = published.folder(run) / usable[0]
        temporary = target.with_name(target.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            for path in self._entries_of(usable[0]):
                self.fs.get_file(path, str(temporary / Path(path).name))
            sync_folder(temporary)
            os.rename(temporary, target)
            publish(published.folder(run) / "latest", f"{target.name}\n".encode())
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise self._unreachable(error) from None
        return usable[0]

    def _entries_of(self, name: str) -> list[str]:
        found: list[str] = self.fs.ls(f"{self.root}/{name}", detail=False)
        return found


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


class _Wanted(NamedTuple):
    step: Path
    keep: Retention


class Copier:
    """Copies the newest published step in a thread of its own. A step that a newer one overtakes is left out."""

    def __init__(self, mirror: Mirror, run: Path) -> None:
        self.mirror, self.run = mirror, run
        self._wanted: _Wanted | None = None
        self._changed = threading.Condition()
        self._busy = self._ended = False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def copy(self, step: Path, keep: Retention) -> None:
        """Ask for a copy of a step, and return at once."""
        with self._changed:
            self._wanted = _Wanted(step, keep)
            self._changed.notify_all()

    def finish(self, seconds: float) -> None:
        """Wait for the copy of the newest step, at most so many seconds, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._busy or self._wanted:
            log.info("copying the last checkpoint to %s", self.mirror.url)
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning(
                "warning: schedule.mirror: the newest checkpoint is not wholly copied to %s; the next start copies it",
                self.mirror.url,
            )

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            self._copy(wanted)
            with self._changed:
                self._busy = False

    def _next(self) -> _Wanted | None:
        """Wait for a step; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted is not None or self._ended)
            wanted, self._wanted = self._wanted, None
            self._busy = wanted is not None
            return wanted

    def _copy(self, wanted: _Wanted) -> None:
        """Copy a step, in a few tries. A failure costs a warning: training goes on."""
        for attempt in range(TRIES):
            try:
                self.mirror.upload(wanted.step)
                self.mirror.delete_unneeded(self.run, wanted.step.name, wanted.keep)
                return
            except Exception as error:
                if not wanted.step.is_dir():
                    return  # the run deleted it meanwhile; a newer one comes
                if attempt + 1 == TRIES:
                    self._warn(wanted.step, error)
                    return
            time.sleep(PAUSE * 2**attempt)

    def _warn(self, step: Path, error: Exception) -> None:
        log.warning(
            "warning: schedule.mirror: %s was not copied to %s (%s); training goes on, and the next checkpoint is "
            "copied again",
            step.name,
            self.mirror.url,
            _said(error),
        )
