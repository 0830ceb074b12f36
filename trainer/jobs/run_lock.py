"""RUN/lock: one job at a time trains in a run folder.

The file names its holder, who touches it every few seconds. Another job takes it over where the holder is the same
Slurm job (requeued), or a process that this one could see and that is gone; else after SILENCE seconds without a touch.
Ages are read off the file system's own clock, so hosts need not agree on the time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError

BEAT, SILENCE = 10.0, 60.0  # seconds


class Lock:
    """Of one process; `acquire`, then `check` before something is published, then `release`."""

    def __init__(self, run: Path, env: Mapping[str, str] = os.environ, beat: float = BEAT) -> None:
        self.path, self.beat, self.held, self.token = run / "lock", beat, False, uuid.uuid4().hex
        self.me = {
            "token": self.token,
            "job": env.get("SLURM_JOB_ID"),
            "host": socket.gethostname(),
            "pids": _namespace(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
        }
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Raises a UserError that names the holder where the folder is in use."""
        if self.held:
            return
        while not self._create(self.path):
            holder = _read(self.path)
            if holder is None:  # it was released meanwhile
                continue
            age = self._age(self.path)
            if not self._may_take(holder, age):
                raise UserError(
                    f"{self.path.parent}: is in use by {_who(holder)}, last heard of {age:.0f} s ago; let it end or "
                    f"stop it (what is silent for {SILENCE:.0f} s counts as dead), or choose another run=FOLDER"
                )
            self._remove(self.path, holder["token"])
        self.held = True
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def check(self) -> None:
        """Raise a UserError where another job has taken over meanwhile: this process was silent for too long."""
        holder = _read(self.path) if self.held else None
        if self.held and (holder is None or holder["token"] != self.token):
            self.held = False
            self._ended.set()
            who = _who(holder) if holder else "somebody"
            raise UserError(f"{self.path}: {who} took this run over while this process was silent; it stops here")

    def release(self) -> None:
        """Leave the folder to others, if it is still held."""
        self._ended.set()
        if self.held:
            self._remove(self.path, self.token)
            self.held = False

    def _create(self, path: Path) -> bool:
        """The file, complete from the start: written aside, then linked under its name, which fails where one is."""
        aside = self.path.with_name(f"lock.{self.token}")
        try:
            aside.write_text(json.dumps(self.me) + "\n")
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}; a run folder must be writable, and on a file system with hard links"
            ) from None
        finally:
            aside.unlink(missing_ok=True)
        return True

    def _remove(self, path: Path, token: str) -> None:
        """The file of one holder and no other's. Who removes it holds the right to, a file that only one can create:
        while one has it, the holder's file stays, and nobody else's takes its place between the look and the unlink."""
        right = self.path.with_name(f"lock.{token}.over")
        if self._create(right):
            holder = _read(path)
            if holder is not None and holder["token"] == token:
                path.unlink(missing_ok=True)
            right.unlink(missing_ok=True)
            return
        other = _read(right)
        if other is not None and self._may_take(other, self._age(right)):  # it died on the way
            self._remove(right, other["token"])
        else:
            time.sleep(0.01)  # whoever has it will soon be done

    def _may_take(self, holder: Mapping[str, Any], age: float) -> bool:
        if age > SILENCE:
            return True
        if holder["job"] is not None and holder["job"] == self.me["job"]:
            return True
        here = all(holder.get(name) == self.me[name] for name in ("host", "pids"))
        return here and _gone(holder["pid"], holder["started"])

    def _age(self, path: Path) -> float:
        """Seconds since the last touch, by the file system's clock."""
        probe = self.path.with_name(f"lock.{self.token}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _keep_beating(self) -> None:
        while not self._ended.wait(self.beat):
            try:
                holder = _read(self.path)
                if holder is None or holder["token"] != self.token:
                    return
                os.utime(self.path)
            except OSError:  # a file system that hiccups: the next beat may do
                continue


def _read(path: Path) -> dict[str, Any] | None:
    """The holder that a file names; None where there is no file."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if isinstance(found, dict) and "token" in found:
        return found
    return {"token": "", "job": None, "host": "?", "pid": -1, "started": None}  # not one of ours: nobody that we know


def read_token(path: Path) -> str | None:
    """The holder of a lock, or None where there is no such file."""
    holder = _read(path)
    return None if holder is None else str(holder["token"])


def _namespace() -> str | None:
    """Whose numbers of processes this one sees: a container may have its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _gone(pid: int, started: str) -> bool:
    """Whether a process of this host, that once was, is no more: its number is nobody's, or another's by now."""
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, whom /proc may hide
        pass
    found = _start_of(pid)
    return found is not None and found != started


def _start_of(pid: int) -> str | None:
    """When a process of this host started (clock ticks since boot), "zombie", or None where that cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "zombie" if fields[0] == "Z" else fields[19]


def _who(holder: Mapping[str, Any]) -> str:
    job = f"Slurm job {holder['job']}, " if holder["job"] else ""
    return f"{job}process {holder['pid']} on {holder['host']}"
