"""Rewinds: training goes back to a checkpoint, and on from there with other random numbers.

A checkpoint's manifest has the rewinds before it. RUN/rewinds.json has those of the run: the newest one too, before a
checkpoint follows it. With these records a run is a function of its settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from common.atomic_writes import publish
from common.random_numbers import Purpose, bits
from trainer.checkpoints import go_back, published

FILE = "rewinds.json"


@dataclass(frozen=True)
class Rewind:
    """One rewind.

    sign, value: what led to it; at: the clock then; to: the clock that training went back to; seed: of the random
    numbers that follow, initial weights too where `to` is 0.
    """

    sign: str
    value: float
    at: int
    to: int
    seed: int


Rewinds = tuple[Rewind, ...]


def seed_after(seed: int, count: int) -> int:
    """Return the seed of what follows so many rewinds: the config's own at 0."""
    return seed if count == 0 else int(bits(seed, Purpose.REWIND, torch.tensor(count), 1))


def saved(manifest: Mapping[str, Any]) -> Rewinds:
    """Return the rewinds before a checkpoint."""
    return _parsed(manifest.get("rewinds", []))


def to_json(rewinds: Rewinds) -> list[dict[str, Any]]:
    """Return what a manifest holds."""
    return [asdict(rewind) for rewind in rewinds]


def before(run: Path, manifest: Mapping[str, Any] | None) -> Rewinds:
    """Return the rewinds that count where a run goes on from a checkpoint, or from its start (None).

    Those of its manifest, or all recorded ones where the newest led to this clock and no checkpoint has followed it.
    """
    known, clock = (saved(manifest), int(manifest["images_seen"])) if manifest else ((), 0)
    recorded = _recorded(run)
    is_next = len(recorded) > len(known) and recorded[: len(known)] == known and recorded[-1].to == clock
    return recorded if is_next else known


def target(run: Path, began: int, rewinds: Rewinds, save_every: int) -> int | None:
    """Return the clock to go back to for a sign that began at `began`; None where no checkpoint is from before it.

    The newest usable checkpoint from before; the one before that, if there is one, where the last rewind went there.
    0, the start of the run, where the sign began before the first save was due. save_every: in images.
    """
    usable = [path for path in published.steps(run) if published.problem(path) is None]
    clocks = [clock for clock in map(published.clock_of, usable) if clock <= began]
    if rewinds and len(clocks) > 1 and clocks[0] == rewinds[-1].to:
        return clocks[1]
    if clocks:
        return clocks[0]
    return 0 if began < save_every else None


def go(run: Path, rewinds: Rewinds) -> None:
    """Record rewinds, and set aside what the run has after the clock that the last one went to."""
    record(run, rewinds)
    go_back.set_later_aside(run, rewinds[-1].to)


def complete(run: Path) -> None:
    """Complete a rewind that was recorded, and cut off before later checkpoints were set aside."""
    recorded, newest = _recorded(run), published.newest(run)
    if not recorded or newest is None or published.clock_of(newest) <= recorded[-1].to:
        return
    if len(saved(published.read_manifest(newest))) < len(recorded):
        go_back.set_later_aside(run, recorded[-1].to)


def record(run: Path, rewinds: Rewinds) -> None:
    """Write RUN/rewinds.json; remove it where there were none."""
    if rewinds:
        publish(run / FILE, (json.dumps(to_json(rewinds), indent=1) + "\n").encode())
    else:
        (run / FILE).unlink(missing_ok=True)


def _recorded(run: Path) -> Rewinds:
    """Return the rewinds of the run's own record; () without a readable one."""
    try:
        return _parsed(json.loads((run / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return ()


def _parsed(content: Sequence[Mapping[str, Any]]) -> Rewinds:
    return tuple(Rewind(**fields) for fields in content)
