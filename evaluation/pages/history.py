"""Sections of a run's page that follow its training: settings, cost, FID over images seen, samples over time."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.fid.trajectory import SAME, alike
from evaluation.inputs.images import own_kind
from evaluation.inputs.run import Run
from evaluation.records import measurements
from trainer.reporting.stats_file import read_stats

from .charts import Line, chart
from .page import image, section, table

MOMENTS = 24  # samples that the slider holds, spread evenly
SAMPLES_WIDE = 1056  # px that they are shrunk to

_SLIDER = """
<div class="slider"><label>kimg <output></output>
<input type="range" min="0" value="{last}" max="{last}" aria-label="images seen"></label>{figures}</div>
<script>
for (const box of document.querySelectorAll(".slider")) {{
  const [range, word, all] = [box.querySelector("input"), box.querySelector("output"), box.querySelectorAll("figure")];
  const show = () => all.forEach((figure, i) => {{
    figure.hidden = i != range.value;
    if (i == range.value) word.textContent = figure.dataset.kimg;
  }});
  range.addEventListener("input", show);
  show();
}}
</script>
"""


def settings(run: Run) -> str:
    """What was run: the checkpoint's facts, and the whole config."""
    manifest, data = run.manifest, run.data.main.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    rows = [
        ("checkpoint", f"{run.step.name} ({run.images_seen:,} images, iteration {manifest['iteration']:,})"),
        ("resolution", f"{run.resolution} px of {getattr(run.config, 'resolution', run.resolution)} px"),
        ("data", f"{data.data_set} ({run.config.data.variant}), {data.count:,} images, hash {data.hash[:12]}"),
        ("hardware", f"{manifest.get('hardware', 'not recorded')}, {manifest['world_size']} process(es)"),
        ("versions", versions or "not recorded"),
    ]
    config = html.escape((run.path / "config.yaml").read_text())
    folded = f"<details><summary>config.yaml</summary><pre>{config}</pre></details>"
    return section("What was run", table(("", ""), rows) + folded)


def cost(run: Run) -> str:
    """Time that the run took, from its ticks."""
    ticks = read_stats(run.path)
    if not ticks:
        return ""
    on_cpu = run.manifest.get("hardware", "CPU").startswith("CPU")
    took = spent(ticks, int(run.manifest["world_size"]))
    rows = [
        ("images seen in the ticks that are kept", f"{took.images:,}"),
        ("hours", f"{took.seconds / 3600:,.2f}"),
        (f"{'process' if on_cpu else 'GPU'} hours (of {took.processes})", f"{took.of_processes / 3600:,.2f}"),
        ("images/s", f"{took.images / took.seconds:,.1f}"),
        ("highest memory of a process", f"{max(tick['memory_gb'] for tick in ticks):.1f} GB"),
    ]
    return section("Cost", table(("", "measured"), rows), "Of training alone; loading included, evaluation not.")


class Spent(NamedTuple):
    """seconds of a run; of_processes: seconds of each of its processes, summed; processes: how many, such as "2, 4"."""

    seconds: float
    of_processes: float
    images: int
    processes: str


def spent(ticks: Sequence[dict[str, Any]], processes: int) -> Spent:
    """What ticks took. A tick's rate is that since the one before. processes: of ticks that do not say it."""
    counts = [int(tick.get("processes", processes)) for tick in ticks]
    seen = [tick["images_seen"] for tick in ticks]
    images = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    seconds = [n * tick["seconds_per_kimg"] / 1000 for n, tick in zip(images, ticks, strict=True)]
    of_processes = sum(s * n for s, n in zip(seconds, counts, strict=True))
    return Spent(sum(seconds), of_processes, sum(images), ", ".join(str(n) for n in dict.fromkeys(counts)))


def fid_curve(run: Run) -> str:
    """FID of the run's own images over images seen, a line for each way that they were measured."""
    kind, lines = own_kind(run), dict[tuple[Any, ...], dict[float, float]]()
    for record in measurements.every(run.path, "fid"):
        if kind in record["kinds"] and record.get("ema") == run.average.get("ema") and "ema_sha256" not in record:
            lines.setdefault(alike(record), {})[record["images_seen"] / 1000] = record["kinds"][kind]["fid"]
    found = [Line(_how(how), sorted(points.items())) for how, points in lines.items() if len(points) > 1]
    if not found:
        return ""
    note = "Of every checkpoint that was evaluated, by how it was measured."
    return section("FID over images seen", chart("FID", found), note)


def _how(alike: tuple[Any, ...]) -> str:
    """In words; see trajectory.SAME."""
    facts = dict(zip((*SAME, "reference"), alike, strict=False))
    return (
        f"{facts['protocol']} {str(facts['extractor'])[:8]}, {facts['samples']:,} samples against "
        f"{facts['reference']:,} reals, codes: {facts['codes']}, seed {facts['seed']}"
    )


def samples_over_time(run: Run) -> str:
    """RUN/samples with a slider."""
    files = sorted((run.path / "samples").glob("*.png"))
    if not files:
        return ""
    last = len(files) - 1
    chosen = [files[i] for i in sorted({round(last * k / (MOMENTS - 1)) for k in range(MOMENTS)})]
    figures = "".join(_moment(file, file == chosen[-1]) for file in chosen)
    slider = _SLIDER.format(last=len(chosen) - 1, figures=figures)
    return section("Samples over time", slider, "The same codes at every moment.")


def _moment(file: Path, shown: bool) -> str:
    kimg = f"{int(file.stem) / 1000:,.3f}".rstrip("0").rstrip(".")
    hidden = "" if shown else " hidden"
    return f'<figure data-kimg="{kimg}"{hidden}>{image(file, SAMPLES_WIDE)}</figure>'
