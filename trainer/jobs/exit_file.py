"""exit.json: how a training command ended. Launchers and make swallow exit codes; this file does not.

RUN/exit.json is that of the newest command. A job script reads the one of its own attempt, in RUN/nodes/JOB-RESTARTS.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from common.atomic_writes import publish
from common.cli import explain
from common.errors import UserError

from .run_lock import Lock

FILE = "exit.json"


class ExitRecord:
    """Keeps exit.json of a run, and of the Slurm job's attempt, up to date while a command runs.

    code: the exit code, None while the command runs; reason: what people read.
    """

    def __init__(self, lock: Lock, command: str, env: Mapping[str, str] = os.environ) -> None:
        self.code: int | None = None
        self.reason = "running"
        self._lock, self._command, self._run = lock, command, lock.path.parent
        self._attempt = attempt_folder(self._run, env.get("SLURM_JOB_ID", ""), env.get("SLURM_RESTART_COUNT", "0"))
        self._is_main = env.get("RANK", "0") == "0"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Write the files at the start and at the end, with the reason of an error, then release the run's lock."""
        try:
            self.write()
            yield
        except BaseException as error:
            self.code, message = explain(error)
            self.reason = message or repr(error)
            raise
        finally:
            self.write()
            self._lock.release()

    def write(self) -> None:
        """Write the file of the attempt, and RUN/exit.json unless another job trains in the folder."""
        if not self._is_main or not self._run.is_dir():
            return
        folders = [self._attempt]
        with suppress(UserError, OSError):  # the run reports it where it takes the lock, after its config is checked
            self._lock.acquire()
            folders.append(self._run)
        for folder in folders:
            try:
                if folder.is_dir():
                    write_exit(folder, self._run, self.code, self.reason, self._command)
            except OSError as error:  # a full disk: the reason is printed too, only this file is lost
                print(f"warning: {folder / FILE} could not be written ({error.strerror})", file=sys.stderr)


def typed_command() -> str:
    """Return what the user typed, as far as this process can know it: not the launcher's part."""
    start = ["python"] if os.environ.get("WORLD_SIZE", "1") == "1" else ["(the same launcher)"]
    return " ".join([*start, shlex.join(["-m", "trainer", *_to_go_on(sys.argv[1:])])])


def _to_go_on(arguments: Sequence[str]) -> list[str]:
    """Leave out --from-step, which a command that goes on must not repeat."""
    kept, after = [], ""
    for argument in arguments:
        if after != "--from-step" and argument.partition("=")[0] != "--from-step":
            kept.append(argument)
        after = argument
    return kept


def attempt_folder(run: Path, job: str, restarts: int | str) -> Path:
    """Return the folder of one start of a job, which slurm/node.sh makes."""
    return run / "nodes" / f"{job}-{restarts}"


def write_exit(folder: Path, run: Path, code: int | None, reason: str, command: str) -> None:
    """Write FOLDER/exit.json of a run. code: the exit code, None while it goes on; command: what the user typed."""
    content = {"code": code, "reason": reason, "command": command, "folder": os.getcwd(), "run": str(run.absolute())}
    publish(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def read_exit(folder: Path) -> tuple[int | None, str] | None:
    """Return (code, reason) of FOLDER/exit.json, or None without such a file. A code of None: it was killed."""
    try:
        content = json.loads((folder / FILE).read_bytes())
        return content["code"], content["reason"]
    except (OSError, ValueError, KeyError):
        return None


def place_then(run: Path) -> Path | None:
    """Return where a run lay when it was last trained; None where an older version trained it, or its file is lost."""
    try:
        place: str = json.loads((run / FILE).read_bytes())["run"]
        return Path(place)
    except (OSError, ValueError, KeyError):
        return None


def read_command(run: Path) -> str | None:
    """Return the command that trained a run, from its exit.json; None without such a file."""
    try:
        command: str = json.loads((run / FILE).read_bytes())["command"]
        return command
    except (OSError, ValueError, KeyError):
        return None
