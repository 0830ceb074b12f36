"""All evaluations of a run in the order of training, and which checkpoint is its best."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from evaluation.inputs.results import Results
from evaluation.records import measurements
from trainer.checkpoints import evaluation_holds, published
from trainer.distributed.world import World

FILE = "trajectory.csv"
SETTINGS = ("images_seen", "step", "resolution", "ema", "protocol", "extractor", "codes", "samples", "seed", "seeds")
NUMBERS = ("fid", "kid", "fidelity", "precision", "recall", "density", "coverage", "spectrum", "detail")
# FIDs compare only where all of these are the same.
SAME = ("protocol", "extractor", "reals_resolution", "codes", "samples", "seed", "seeds", "ema")


def add(results: Results, record: dict[str, Any]) -> None:
    """Rewrite trajectory.csv after a record was kept, and the run's `best` where it changes and results go there."""
    records, run = write(results), results.run
    if results.out is None and published.folder(run).is_dir() and "ema_sha256" not in record:
        there = {step.name for step in published.steps(run) if published.problem(step) is None}
        best = best_of([other for other in records if "ema_sha256" not in other and other["step"] in there])
        if best is not None:
            publish(published.folder(run) / "best", f"{best}\n".encode())


def write(results: Results) -> list[dict[str, Any]]:
    """Write trajectory.csv from all records, and return them."""
    records = measurements.every(results, "fid")
    results.folder.mkdir(parents=True, exist_ok=True)
    publish(results.folder / FILE, table(records).encode())
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Return CSV: a row for every kind of images of every record, in the order of images seen."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*SETTINGS, "reference_data", "images", "count", *NUMBERS))
    for record in sorted(records, key=lambda r: int(r["images_seen"])):
        settings = [record.get(name, "") for name in SETTINGS] + [record["kinds"].get("reference_data", "")]
        for kind, result in record["kinds"].items():
            if isinstance(result, dict):
                numbers = ["" if result.get(name) is None else result[name] for name in NUMBERS]
                writer.writerow((*settings, kind, result["count"], *numbers))
    return out.getvalue()


def best_of(records: Sequence[dict[str, Any]]) -> str | None:
    """Return the step with the lowest FID of the run's own images, among records that compare; None without records.

    Among the groups of comparable records, the one with the most steps decides; then the one of most samples; then the
    newest. So one measurement of one checkpoint with other settings does not decide.
    """
    groups: dict[tuple[Any, ...], dict[str, tuple[float, int]]] = {}  # by step: FID of the newest, and its place
    for place, record in enumerate(records):
        own = record["kinds"].get("vae" if record["stage"] == "vae" else "gan")
        if own is not None:
            groups.setdefault(alike(record), {})[record["step"]] = float(own["fid"]), place
    if not groups:
        return None

    def importance(settings: tuple[Any, ...]) -> tuple[int, int, int]:
        """Return number of steps, number of samples, and place of the newest record of a group."""
        steps = groups[settings]
        return len(steps), settings[SAME.index("samples")], max(place for _, place in steps.values())

    steps = groups[max(groups, key=importance)]
    return min(steps, key=lambda step: steps[step][0])


def alike(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return what must be the same for two FIDs to compare: the values of SAME, and the reference."""
    kinds = record["kinds"]
    reference = (kinds.get("reference_count"), kinds.get("reference_seed", record["seed"]), kinds.get("reference_data"))
    return (*(record.get(name) for name in SAME), *reference)


@contextmanager
def release_when_done(run: Path, step: str | None, world: World) -> Iterator[None]:
    """Release the hold on a checkpoint when its evaluation is done or has failed, but not when it is stopped.

    step: a checkpoint that the run keeps for this evaluation, or None.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        _release(run, step, world)
        raise
    _release(run, step, world)


def _release(run: Path, step: str | None, world: World) -> None:
    if step is not None and world.is_main:
        with suppress(OSError):  # then the run keeps the checkpoint a while longer
            evaluation_holds.release(run, published.full_name(step))
