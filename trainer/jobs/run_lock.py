"""RUN/lock: one job at a time trains in a run folder.

The file names its holder, which touches it every few seconds. Another process takes it over where the holder is the
same Slurm job before it was requeued, or a process on this host that exited, or where the lock came with a copy of the
run; else after SILENCE seconds without a touch. The age of a file is measured by the file system's clock, so hosts need
not agree on the time.
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
    """The lock of a run folder, for one process: `acquire`, `check` before anything is published, `release`.

    held: True while this process has it. beat: seconds between two touches.
    """

    def __init__(self, run: Path, env: Mapping[str, str] = os.environ, beat: float = BEAT) -> None:
        self.path, self.beat, self.held, self.token = run / "lock", beat, False, uuid.uuid4().hex
        self.me = {
            "token": self.token,
            "job": env.get("SLURM_JOB_ID"),
            "restarts": _restarts(env.get("SLURM_RESTART_COUNT")),
            "host": socket.gethostname(),
            "pids": _namespace(),
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "folder": str(run.absolute()),
        }
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the lock. Raises a UserError that names the holder where the folder is in use."""
        if self.held:
            return
        while not self._create(self.path):
            holder = _read(self.path)
            if holder is None:  # released meanwhile
                continue
            age = self._age(self.path)
            if not self._may_take(holder, age) and not self._is_copied(holder):
                raise UserError(
                    f"{self.path.parent}: is in use by {_holder_name(holder)}, last heard of {age:.0f} s ago; let it "
                    f"end or stop it (what is silent for {SILENCE:.0f} s counts as dead), or choose another run=FOLDER"
                )
            self._remove(self.path, holder["token"])
        self.held = True
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def check(self) -> None:
        """Raise a UserError where another job took the lock over, because this process was silent for too long."""
        holder = _read(self.path) if self.held else None
        if self.held and (holder is None or holder["token"] != self.token):
            self.held = False
            self._ended.set()
            taker = _holder_name(holder) if holder else "another job"
            raise UserError(f"{self.path}: {taker} took this run over while this process was silent; it stops here")

    def release(self) -> None:
        """Give the lock back, if it is still held."""
        self._ended.set()
        if self.held:
            self._remove(self.path, self.token)
            self.held = False

    def _create(self, path: Path) -> bool:
        """Create a lock file, complete from the start. Return False where there is one already.

        It is written under another name and then linked to its own, which fails where a file exists.
        """
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
        """Remove the lock file of one holder, and never the file of another that took its place meanwhile.

        Two processes may try at once. A second file, which only one of them can create, is the permit to remove: while
        a process has it, no other can remove the file between this one's look at it and its unlink.
        """
        permit = self.path.with_name(f"lock.{token}.over")
        if self._create(permit):
            holder = _read(path)
            if holder is not None and holder["token"] == token:
                path.unlink(missing_ok=True)
            permit.unlink(missing_ok=True)
            return
        other = _read(permit)
        if other is not None and self._may_take(other, self._age(permit)):  # its process died in the middle
            self._remove(permit, other["token"])
        else:
            time.sleep(0.01)  # the process with the permit needs no longer

    def _may_take(self, holder: Mapping[str, Any], age: float) -> bool:
        """True if the holder is dead, or is this Slurm job before it was requeued. age: seconds since its last touch.

        Two starts within one job (a bare `srun` of two tasks, a second command in an allocation) keep each other out.
        """
        if age > SILENCE:
            return True
        same_job = holder["job"] is not None and holder["job"] == self.me["job"]
        if same_job and holder.get("restarts", 0) < self.me["restarts"]:
            return True
        same_host = all(holder.get(name) == self.me[name] for name in ("host", "pids"))
        return same_host and _exited(holder["pid"], holder["started"])

    def _is_copied(self, holder: Mapping[str, Any]) -> bool:
        """True if the holder has its lock in another folder, of which this one is a copy.

        The other folder may be this one by another path: then a file that is made here is there too.
        """
        theirs = Path(holder.get("folder") or self.path.parent)
        probe = self.path.with_name(f"lock.{self.token}.here")
        try:
            probe.touch()
            return read_token(theirs / "lock") == holder["token"] and not (theirs / probe.name).exists()
        except OSError:  # what cannot be looked at is not known to be another folder
            return False
        finally:
            probe.unlink(missing_ok=True)

    def _age(self, path: Path) -> float:
        """Return the seconds since the last touch, by the file system's clock."""
        probe = self.path.with_name(f"lock.{self.token}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _keep_beating(self) -> None:
        """Touch the file until the lock is released or lost."""
        while not self._ended.wait(self.beat):
            try:
                holder = _read(self.path)
                if holder is None or holder["token"] != self.token:
                    return
                os.utime(self.path)
            except OSError:  # the file system may answer at the next beat
                continue


def _read(path: Path) -> dict[str, Any] | None:
    """Return the holder that a file names; None where there is no file, an unknown holder where it is not a lock."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if isinstance(content, dict) and "token" in content:
        return content
    return {"token": "", "job": None, "host": "?", "pid": -1, "started": None}


def read_token(path: Path) -> str | None:
    """Return the token of a lock's holder, or None where there is no such file."""
    holder = _read(path)
    return None if holder is None else str(holder["token"])


def _namespace() -> str | None:
    """Return the namespace of this process's PIDs: a container may have its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _restarts(count: str | None) -> int:
    """Return how often Slurm has requeued this job; it sets no variable before the first time."""
    return int(count) if count and count.isdecimal() else 0


def _exited(pid: int, started: str) -> bool:
    """True if a process of this host exited or its PID was reused. started: when it started, as `_start_of` says."""
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, whom /proc may hide
        pass
    now = _start_of(pid)
    return now is not None and now != started


def _start_of(pid: int) -> str | None:
    """Return when a process of this host started (clock ticks since boot), "zombie", or None where that is hidden."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "zombie" if fields[0] == "Z" else fields[19]


def _holder_name(holder: Mapping[str, Any]) -> str:
    """Name a holder for a message."""
    job = f"Slurm job {holder['job']}, " if holder["job"] else ""
    return f"{job}process {holder['pid']} on {holder['host']}"
