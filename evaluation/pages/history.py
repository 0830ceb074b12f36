"""Sections of a run's page about its training: settings, cost, FID over images seen, samples over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluation.fid.table_rows import reals_of
from evaluation.fid.trajectory import SAME, alike
from evaluation.inputs.images import own_kind
from evaluation.inputs.run import Run
from evaluation.records import measurements
from trainer.reporting.cost import spent
from trainer.reporting.stats_file import read_stats

from .charts import Line, chart
from .page import NOTHING, folded, image, section, slider, table

MOMENTS = 24  # sample grids under the slider, spread evenly over the training
SAMPLES_WIDE = 1056  # px that wider ones are shrunk to


def settings(run: Run) -> Markup:
    """Return what was run: checkpoint, data, hardware, versions, and the whole config."""
    manifest, data = run.manifest, run.data.main.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    rows = [
        ("checkpoint", f"{run.step.name} ({run.images_seen:,} images, iteration {manifest['iteration']:,})"),
        ("resolution", f"{run.resolution} px of {getattr(run.config, 'resolution', run.resolution)} px"),
        ("data", f"{data.data_set} ({run.config.data.variant}), {data.count:,} images, hash {data.hash[:12]}"),
        ("hardware", f"{manifest.get('hardware', 'not recorded')}, {manifest['world_size']} process(es)"),
        ("versions", versions or "not recorded"),
    ]
    config = folded("config.yaml", (run.path / "config.yaml").read_text())
    return section("What was run", table(("", ""), rows) + config)


def cost(run: Run) -> Markup:
    """Return the time that the run took, from its ticks."""
    ticks = read_stats(run.path)
    if not ticks:
        return NOTHING
    on_cpu = run.manifest.get("hardware", "CPU").startswith("CPU")
    total = spent(ticks, int(run.manifest["world_size"]))
    rows = [
        ("images seen in the ticks that are kept", f"{total.images:,}"),
        ("hours", f"{total.seconds / 3600:,.2f}"),
        (f"{'process' if on_cpu else 'GPU'} hours (of {total.processes})", f"{total.process_seconds / 3600:,.2f}"),
        ("images/s", f"{total.images / total.seconds:,.1f}"),
        ("highest memory of a process", f"{max(tick['memory_gb'] for tick in ticks):.1f} GB"),
    ]
    return section("Cost", table(("", "measured"), rows), "Of training alone; loading included, evaluation not.")


def fid_curve(run: Run) -> Markup:
    """Chart the FID of the run's own images over images seen, a line for each way of measuring."""
    kind, lines = own_kind(run), dict[tuple[Any, ...], dict[float, float]]()
    for record in measurements.every(run.results, "fid"):
        if kind in record["kinds"] and record.get("ema") == run.average.get("ema") and "ema_sha256" not in record:
            lines.setdefault(alike(record), {})[record["images_seen"] / 1000] = record["kinds"][kind]["fid"]
    several = [Line(_legend(key), sorted(points.items())) for key, points in lines.items() if len(points) > 1]
    if not several:
        return NOTHING
    note = "Of every checkpoint that was evaluated, by how it was measured."
    return section("FID over images seen", chart("FID", several), note)


def _legend(settings: tuple[Any, ...]) -> str:
    """Say how FIDs were measured. settings: see `trajectory.alike`."""
    value = dict(zip((*SAME, "reference_count", "reference_seed", "reference_data"), settings, strict=True))
    return (
        f"{value['protocol']} {str(value['extractor'])[:8]}, {value['samples']:,} samples against "
        f"{reals_of(value)}, codes: {value['codes']}, seed {value['seed']}"
    )


def samples_over_time(run: Run) -> Markup:
    """Show RUN/samples under a slider."""
    files = sorted((run.path / "samples").glob("*.png"))
    if not files:
        return NOTHING
    last = len(files) - 1
    chosen = [files[i] for i in sorted({round(last * k / (MOMENTS - 1)) for k in range(MOMENTS)})]
    moments = [(_kimg(file), image(file, SAMPLES_WIDE)) for file in chosen]
    return section("Samples over time", slider(moments), "The same codes at every moment.")


def _kimg(file: Path) -> str:
    """Return the kimg of a sample grid, whose name is the images seen."""
    return f"{int(file.stem) / 1000:,.3f}".rstrip("0").rstrip(".")
