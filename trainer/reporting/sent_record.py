"""RUN/trackers.json: what each tracker has been sent of a run, so that a resume goes on in the same run there.

It has no address and no token.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

from common.atomic_writes import publish

FILE = "trackers.json"


class Sent(NamedTuple):
    """What one tracker has been sent.

    run_id: of the run in the tracker, None before there is one; step: the last one sent, in images seen; config: the
    sha256 of the config that was sent last, None before one was; rewinds: of the run, before the steps sent last.
    """

    run_id: str | None = None
    step: int = -1
    config: str | None = None
    rewinds: int = 0


class SentRecord:
    """The file of a run, which the threads of several trackers change.

    A copy of a run folder begins with an empty record: it is another run, for the trackers too. Raises OSError and
    ValueError where there is a file that cannot be read.
    """

    def __init__(self, run: Path) -> None:
        self._run = run.resolve()
        self._lock = threading.Lock()
        self._all = self._read()

    def _read(self) -> dict[str, Sent]:
        path = self._run / FILE
        if not path.exists():
            return {}
        try:
            saved = json.loads(path.read_bytes())
            sent = {name: Sent(**fields) for name, fields in saved["trackers"].items()}
            folder = Path(saved["folder"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is damaged; without it every step would be sent again") from None
        return {} if self._is_copy_of(folder) else sent

    def _is_copy_of(self, folder: Path) -> bool:
        """Return whether the file came from another run folder, which is still there."""
        original = folder / FILE
        return original.exists() and not original.samefile(self._run / FILE)

    def of(self, tracker: str) -> Sent:
        """Return what a tracker has been sent."""
        return self._all.get(tracker, Sent())

    def change(self, tracker: str, **fields: Any) -> None:
        """Write some fields of a tracker. The file is on the disk when this returns. Raises OSError."""
        with self._lock:
            self._all[tracker] = self.of(tracker)._replace(**fields)
            trackers = {name: sent._asdict() for name, sent in self._all.items()}
            text = json.dumps({"folder": str(self._run), "trackers": trackers}, indent=1)
            publish(self._run / FILE, f"{text}\n".encode())
