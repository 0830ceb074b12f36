"""python -m evaluation COMMAND RUN, or compare RUN RUN ...

Each prints a short table; its last line on standard output is one JSON object, also appended to RUN/evaluation/.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from data_shards.cli import run as run_app
from data_shards.errors import UserError
from trainer.config import GanConfig

from . import measure, reconstruction, records
from .disentanglement.scores import Protocol
from .factors import control, latents
from .factors.network import load_extractor
from .fid.compute import KINDS
from .images import Kind, code_source, own_kind
from .pages import comparison, comparison_page, figures, report
from .run import Run, open_run

WIDTH, SHOWN_COLUMNS = 130, 13
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RunFolder = Annotated[Path, typer.Argument(help="a run folder of either stage", metavar="RUN")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="decides which images are looked at")]
Step = Annotated[str | None, typer.Option(help="a checkpoint, by name or by images seen [default: the newest]")]
CodesOption = Annotated[
    Literal["posterior", "prior"] | None,
    typer.Option(help="c from the aggregated posterior or from N(0, I) [default: as in training]"),
]
EmaOption = Annotated[
    str | None,
    typer.Option(help="an average of the config, or a file that `ema` wrote [default: the config's first average]"),
]


@app.command("fid")
def fid_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(help="generated images, and at most as many reals")] = 50_000,
    of: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(KINDS)}")] = "",
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
) -> None:
    """FID (factor-net features) and sprite fidelity of the run's images and of what they are compared with."""
    opened, extractor = open_run(run, step, ema), load_extractor()
    record = measure.fid(opened, extractor, _kinds(of or own_kind(opened)), samples, codes, seed)
    found = record["kinds"]
    rows = [
        [kind, f"{found[kind]['fid']:.4g}", f"{found[kind]['count']:,}", _percent(found[kind]["fidelity"])]
        for kind in KINDS
        if kind in found
    ]
    title = (
        f"FID against {found['reference_count']:,} reals (factor-net {extractor.sha256[:12]}, codes: {record['codes']})"
    )
    _answer(opened, "fid", record, title, ["images", "FID", "count", "sprites with IoU >= 0.8"], rows)


@app.command("disentanglement")
def disentanglement_command(
    run: RunFolder,
    protocol: Annotated[Protocol, typer.Option(help="of the FactorVAE metric")] = "paper",
    seed: Seed = 0,
    step: Step = None,
) -> None:
    """FactorVAE metric, MIG, SAP, modularity and DCI of the run's encoder: its VAE, frozen q, or InfoGAN's own q."""
    opened = open_run(run, step)
    record = measure.disentanglement(opened, protocol, seed)
    title = f"encoder: {record['encoder']}"
    rows = measure.disentanglement_rows(record)
    _answer(opened, "disentanglement", record, title, ["metric", "protocol", "value"], rows)


@app.command("alignment")
def alignment_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(min=2, help="source images")] = 10_000,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
) -> None:
    """How well the factors of an image are found in what is generated from its code (R^2; shape: accuracy)."""
    opened, extractor = open_run(run, step, ema), load_extractor()
    record = measure.alignment(opened, extractor, samples, seed)
    rows = [[kind, *(f"{v:.3f}" for v in found.values())] for kind, found in record["kinds"].items()]
    title = f"factors of {samples:,} sources found in their images; encoder: {record['encoder']}"
    _answer(opened, "alignment", record, title, ["images", "R2 of x", "R2 of y", "R2 of scale", "shape"], rows)


@app.command("latents")
def latents_command(run: RunFolder, ema: EmaOption = None, seed: Seed = 0, step: Step = None) -> None:
    """How far each latent moves x, y and scale in the image, as the factor network sees it."""
    opened, extractor = open_run(run, step, ema), load_extractor()
    record = measure.latents(opened, extractor, seed)
    clear = {entry["latent"]: entry["factor"] for entry in record["clear"]}
    rows = [
        [name, *(f"{share:.0%}" for share in row), clear.get(j, "")]
        for j, (name, row) in enumerate(zip(record["latents"], record["share_of_range"], strict=True))
    ]
    title = f"share of its full range, over linspace(-3, 3, {latents.STEPS}), mean of {latents.BASES} codes"
    _answer(opened, "latents", record, title, ["latent", *record["factors"], "moves alone"], rows)


@app.command("control")
def control_command(
    run: RunFolder, codes: CodesOption = None, ema: EmaOption = None, seed: Seed = 0, step: Step = None
) -> None:
    """Who controls what: the share of the variance of each factor and of the colour that c and s each explain."""
    opened, extractor = open_run(run, step, ema), load_extractor()
    record = measure.control(opened, extractor, codes, seed)
    title = f"share of the variance over {control.GRID} codes x {control.GRID} s (codes: {record['codes']})"
    _answer(opened, "control", record, title, control.COLUMNS, control.table_rows(record))


@app.command("figures")
def figures_command(
    run: RunFolder, codes: CodesOption = None, ema: EmaOption = None, seed: Seed = 0, step: Step = None
) -> None:
    """Samples, latent traversals and, where s_dim > 0, c against s: PNG files in RUN/evaluation/figures[-EMA]."""
    opened = open_run(run, step, ema)
    source = code_source(opened, codes)
    folder = records.figures_folder(run, None if step is None else opened.step, _suffix(opened))
    made = figures.draw(opened, folder, source, seed)
    record = {"codes": source, "seed": seed, "files": [str(path) for path in made]}
    _answer(opened, "figures", record, "figures", ["file"], [[str(path)] for path in made])


@app.command("ema")
def ema_command(
    run: RunFolder,
    sigma_rel: Annotated[float, typer.Option(help="width of the average, as a share of the images seen, up to 0.28")],
    at: Annotated[int | None, typer.Option(help="images seen at its end [default: the last snapshot]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="file to write [default: RUN/ema/reconstructed/IMAGES-sigma_rel_X.safetensors]")
    ] = None,
) -> None:
    """Any power-function average of the generator after the run, from the snapshots that `ema.snapshot_kimg` left."""
    opened = open_run(run)
    record = reconstruction.reconstruct(opened, sigma_rel, at, out)
    weights = record["weights"]
    rows = [["relative residual", f"{record['residual']:.2g}", ""]]
    for which in ("largest", "smallest"):
        rows += [[f"{which} weights", f"{w['weight']:.4f}", w["file"]] for w in weights[which]]
    rows.append(["sum of |weights|", f"{weights['sum_of_sizes']:.2f}", ""])
    title = f"sigma_rel {sigma_rel:g} at {record['at']:,} images from {record['snapshots']} snapshots: {record['file']}"
    _answer(opened, "ema", record, title, ["of the fit", "value", "snapshot"], rows)


@app.command("report")
def report_command(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="folder of the page [default: RUN/report]")] = None,
) -> None:
    """One self-contained page from what was measured so far."""
    opened = open_run(run)
    page = report.write(opened, out or run / "report")
    _answer(opened, "report", {"page": str(page)}, "report", ["file"], [[str(page)]])


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="run folders of either stage", metavar="RUN RUN ...")],
    out: Annotated[Path, typer.Option(help="folder of the table, the picture and the page")] = Path("runs/compare"),
    samples: Annotated[int, typer.Option(min=2, help="images behind each FID and each alignment")] = 10_000,
    protocol: Annotated[Protocol, typer.Option(help="of the FactorVAE metric")] = "short",
    seed: Seed = 0,
) -> None:
    """Measure several runs alike: a table (CSV, Markdown), a picture, a page. What is measured already is kept."""
    opened = comparison.open_all(runs)
    plan = comparison.Plan(load_extractor(), samples, protocol, seed)
    found = comparison.measure_all(opened, plan)
    made = comparison_page.write(out, plan, comparison.measure_reals(opened, plan), found)
    columns = list(comparison_page.COLUMNS)[:SHOWN_COLUMNS]
    _print(made.title, columns, [row[:SHOWN_COLUMNS] for row in made.rows])
    print(json.dumps({"command": "compare", "argv": _argv(), "files": [str(path) for path in made.files]}))


def _suffix(run: Run) -> str:
    """What keeps the figures of another average than the config's first apart."""
    name = run.average.get("ema")
    if name is None or (isinstance(run.config, GanConfig) and name == run.config.ema.averages[0].name):
        return ""
    return f"-{Path(name).name.removesuffix('.safetensors')}"


def _kinds(text: str) -> list[Kind]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in KINDS]
    if wrong or not names:
        raise UserError(f"--of: {text!r}: unknown {', '.join(wrong) or 'value'}; choose from {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in names]


def _percent(share: float | None) -> str:
    return "not defined" if share is None else f"{share:.1%}"


def _answer(
    run: Run, command: str, record: dict[str, Any], title: str, columns: Sequence[str], rows: list[list[str]]
) -> None:
    """The table, then the record as one line of JSON; the record is kept beside the run."""
    _print(title, columns, rows)
    print(json.dumps(records.append(run.path, command, {"argv": _argv()} | run.describe() | record)))


def _argv() -> str:
    """The command as the user typed it."""
    return shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    run_app(app)
