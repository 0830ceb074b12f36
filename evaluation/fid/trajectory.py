"""All evaluations of a run in the order of training, and which checkpoint is its best."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from evaluation.records import measurements
from trainer.checkpoints import evaluation_holds, published
from trainer.distributed.world import World

FILE = "trajectory.csv"
FACTS = ("images_seen", "step", "resolution", "ema", "protocol", "extractor", "codes", "samples", "seed", "seeds")
NUMBERS = ("fid", "kid", "fidelity", "precision", "recall", "density", "coverage")
SAME = (
    "protocol",
    "extractor",
    "reals_resolution",
    "codes",
    "samples",
    "seed",
    "seeds",
    "ema",
)  # else FIDs do not compare


def add(run: Path, record: dict[str, Any]) -> None:
    """After a record was kept: RUN/evaluation/trajectory.csv anew, and `best` where it changes."""
    known = write(run)
    if published.folder(run).is_dir() and "ema_sha256" not in record:
        there = {step.name for step in published.steps(run) if published.problem(step) is None}
        best = best_of([other for other in known if "ema_sha256" not in other and other["step"] in there])
        if best is not None:
            publish(published.folder(run) / "best", f"{best}\n".encode())


def write(run: Path) -> list[dict[str, Any]]:
    """RUN/evaluation/trajectory.csv from all records, which are returned."""
    known = measurements.every(run, "fid")
    publish(run / measurements.FOLDER / FILE, table(known).encode())
    return known


def table(known: list[dict[str, Any]]) -> str:
    """CSV: a row for every kind of images of every record, in the order of images seen."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*FACTS, "images", "count", *NUMBERS))
    for record in sorted(known, key=lambda r: int(r["images_seen"])):
        facts = [record.get(name, "") for name in FACTS]
        for kind, found in record["kinds"].items():
            if isinstance(found, dict):
                numbers = ["" if found.get(name) is None else found[name] for name in NUMBERS]
                writer.writerow((*facts, kind, found["count"], *numbers))
    return out.getvalue()


def best_of(known: Sequence[dict[str, Any]]) -> str | None:
    """The step with the lowest FID of the run's own images, among records that compare.

    Of those that were measured alike at the most steps; then on the most samples; then last: one look at one
    checkpoint with other settings does not decide.
    """
    groups: dict[tuple[Any, ...], dict[str, tuple[float, int]]] = {}  # by step: FID of the newest, and its place
    for place, record in enumerate(known):
        own = record["kinds"].get("vae" if record["stage"] == "vae" else "gan")
        if own is not None:
            groups.setdefault(alike(record), {})[record["step"]] = float(own["fid"]), place
    if not groups:
        return None
    samples = SAME.index("samples")
    _, steps = max(groups.items(), key=lambda g: (len(g[1]), g[0][samples], max(place for _, place in g[1].values())))
    return min(steps, key=lambda step: steps[step][0])


def alike(record: dict[str, Any]) -> tuple[Any, ...]:
    """What must be the same for two FIDs to compare."""
    reference = (record["kinds"].get("reference_count"), record["kinds"].get("reference_seed", record["seed"]))
    return (*(record.get(name) for name in SAME), *reference)


@contextmanager
def told(run: Path, step: str | None, world: World) -> Iterator[None]:
    """step: a checkpoint that is held for this evaluation, or None. It is let go when that is done or has failed, not
    when it is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        _let_go(run, step, world)
        raise
    _let_go(run, step, world)


def _let_go(run: Path, step: str | None, world: World) -> None:
    if step is not None and world.is_main:
        with suppress(OSError):  # then it stays a while longer
            evaluation_holds.release(run, published.full_name(step))
