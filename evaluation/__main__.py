"""python -m evaluation COMMAND RUN, or compare RUN RUN ...

Each prints a short table; its last line on standard output is one JSON object, also appended to RUN/evaluation/.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common import cli
from evaluation.inputs.choices import FidProtocol, FvmProtocolName
from evaluation.inputs.options import CodesOption, DataOption, EmaOption, ResultsOption, RunFolder, Seed, Step

# A command imports what it needs when it runs: `--help` would wait seconds for torch.
from . import experiment_commands, export_commands, fid_commands, label_commands, leak_commands, mode_commands

if TYPE_CHECKING:
    from evaluation.inputs.run import Run

SHOWN_COLUMNS = 13
PROTOCOL_HELP = "settings of the FactorVAE metric, those of faces for faces; a short one makes DCI and SAP short too"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command("fid")(fid_commands.fid_command)
app.command("reference")(fid_commands.reference_command)
app.command("path-length")(fid_commands.path_length_command)
app.command("weights")(fid_commands.weights_command)
app.command("sheet")(experiment_commands.sheet_command)
app.command("table")(experiment_commands.table_command)
app.command("modes")(mode_commands.modes_command)
app.command("labels")(label_commands.labels_command)
app.command("leaks")(leak_commands.leaks_command)
app.command("check")(export_commands.check_command)
app.command("showcase")(export_commands.showcase_command)


@app.command("disentanglement")
def disentanglement_command(
    run: RunFolder,
    protocol: Annotated[FvmProtocolName | None, typer.Option(help=f"{PROTOCOL_HELP} [default: the full one]")] = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Measure FactorVAE metric, MIG, SAP, modularity and DCI of the encoder: its VAE, frozen q, or InfoGAN's own q."""
    from . import measure

    opened = _open(run, step, None, data, out)
    record = measure.disentanglement(opened, measure.fvm_protocol(opened, protocol, short=False), seed)
    title = f"encoder: {record['encoder']}"
    rows = measure.disentanglement_rows(record)
    _print_and_record(opened, "disentanglement", record, title, ["metric", "protocol", "value"], rows)


@app.command("alignment")
def alignment_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(min=2, help="number of source images")] = 10_000,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Measure how well an image's factors and code are found in what is made of the code (R^2, accuracy, nats)."""
    from evaluation.factors.choose import extractor_of

    from . import measure

    opened = _open(run, step, ema, data, out)
    extractor = extractor_of(opened)
    record = measure.alignment(opened, extractor, samples, seed)
    record["information"] = measure.information(opened, samples, seed)
    rows = [[kind, *measure.alignment_row(scores)] for kind, scores in record["kinds"].items()]
    title = f"factors of {samples:,} sources found in their images; encoder: {record['encoder']}"
    title += f"\n{measure.information_text(record)}"
    _print_and_record(opened, "alignment", record, title, ["images", *measure.alignment_columns(record)], rows)


@app.command("latents")
def latents_command(
    run: RunFolder,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Measure how far each latent moves each factor in the image, and what all of them hold of it (R^2)."""
    from evaluation.factors.choose import extractor_of
    from trainer.pictures.walks import TRAVERSAL_STEPS

    from . import measure
    from .factors import latents

    opened = _open(run, step, ema, data, out)
    extractor = extractor_of(opened)
    record = measure.latents(opened, extractor, seed)
    title = f"share of its full range, over linspace(-3, 3, {TRAVERSAL_STEPS}), mean of {latents.BASES} codes"
    title += f"\n{latents.HELD}" if "means_r2" in record else ""
    _print_and_record(opened, "latents", record, title, latents.columns(record), latents.table_rows(record))


@app.command("control")
def control_command(
    run: RunFolder,
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Measure the share of the variance of each factor, and of the colour, that c and s each control."""
    from evaluation.factors.choose import extractor_of

    from . import measure
    from .factors import control

    opened = _open(run, step, ema, data, out)
    extractor = extractor_of(opened)
    record = measure.control(opened, extractor, codes, seed)
    title = f"share of the variance over {control.GRID} codes x {control.GRID} s (codes: {record['codes']})"
    _print_and_record(opened, "control", record, title, control.COLUMNS, control.table_rows(record))


@app.command("figures")
def figures_command(
    run: RunFolder,
    codes: CodesOption = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    data: DataOption = None,
    out: ResultsOption = None,
    latents: Annotated[
        str | None, typer.Option(help="traverse these alone, in this order, such as c3,c7 [default: all, by KL]")
    ] = None,
    names: Annotated[str | None, typer.Option(help="what they are called, such as azimuth,bangs")] = None,
    base_seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="draws what traversals start from [default: --seed]")
    ] = None,
) -> None:
    """Draw samples, latent traversals and, where s_dim > 0, c against s, in RUN/evaluation/figures[-EMA]."""
    from evaluation.factors.latents import choose
    from evaluation.inputs.images import code_source
    from evaluation.records import measurements

    from .pages import figures

    opened = _open(run, step, ema, data, out)
    source, chosen = code_source(opened, codes), choose(opened, latents, names, base_seed)
    folder = measurements.figures_folder(opened.results, None if step is None else opened.step, _average_suffix(opened))
    paths = [str(path) for path in figures.draw(opened, folder, source, seed, chosen)]
    record: dict[str, Any] = {"codes": source, "seed": seed, "files": paths}
    if chosen.titles:
        record["latents"] = chosen.titles
    if base_seed is not None:
        record["base_seed"] = base_seed
    _print_and_record(opened, "figures", record, "figures", ["file"], [[path] for path in paths])


@app.command("ema")
def ema_command(
    run: RunFolder,
    sigma_rel: Annotated[float, typer.Option(help="width of the average, as a share of the images seen, up to 0.28")],
    at: Annotated[int | None, typer.Option(help="images seen at its end [default: the last snapshot]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="file to write [default: RUN/ema/reconstructed/IMAGES-sigma_rel_X.safetensors]", parser=cli.path
        ),
    ] = None,
) -> None:
    """Make any power-function average of the generator after the run, from snapshots (`ema.snapshot_kimg`)."""
    from evaluation.inputs.results import Results, can_write

    from . import ema_reconstruction

    opened = _open(run, out=None if out is None or can_write(Results(run).folder) else out.parent)
    record = ema_reconstruction.reconstruct(opened, sigma_rel, at, out)
    weights = record["weights"]
    rows = [["relative residual", f"{record['residual']:.2g}", ""]]
    for end in ("largest", "smallest"):
        rows += [[f"{end} weights", f"{w['weight']:.4f}", w["file"]] for w in weights[end]]
    rows.append(["sum of |weights|", f"{weights['sum_of_sizes']:.2f}", ""])
    title = f"sigma_rel {sigma_rel:g} at {record['at']:,} images from {record['snapshots']} snapshots: {record['file']}"
    _print_and_record(opened, "ema", record, title, ["of the fit", "value", "snapshot"], rows)


@app.command("paper")
def paper_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(min=2, help="images behind each FID, and at most as many reals")] = 50_000,
    information_samples: Annotated[int, typer.Option(min=2, help="codes behind R")] = 10_000,
    ema: EmaOption = None,
    seed: Seed = 0,
    step: Step = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="file of pytorch-fid's Inception [default: inception.legacy_pytorch]", parser=cli.path),
    ] = None,
    data: DataOption = None,
    out: ResultsOption = None,
    device: fid_commands.Device = "auto",
) -> None:
    """Measure all that the paper does, with its protocols: FID with both sources of codes, FVM, MIG, R in nats."""
    from . import fid_steps, paper

    opened = _open(run, step, ema, data, out)
    with fid_steps.processes(device) as world:
        net = paper.network(opened, weights, world.device)
        record = paper.paper(opened, paper.PaperPlan(net, samples, information_samples, seed))
    title = f"{opened.config.system}: the paper's measures, {samples:,} images against {record['reference_count']:,}"
    _print_and_record(opened, "paper", record, title, paper.COLUMNS, paper.rows(record))


@app.command("report")
def report_command(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="folder of the page [default: RUN/report]", parser=cli.path)] = None,
    data: DataOption = None,
) -> None:
    """Write one self-contained page from what was measured so far."""
    from .pages import report

    opened = _open(run, data=data, out=out)
    page = report.write(opened, out or run / "report")
    _print_and_record(opened, "report", {"page": str(page)}, "report", ["file"], [[str(page)]])


@app.command("compare")
def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="run folders of either stage, or exports", metavar="RUN RUN ...", parser=cli.shipped_path),
    ],
    out: Annotated[Path, typer.Option(help="folder of the table, the picture and the page", parser=cli.path)] = Path(
        "runs/compare"
    ),
    samples: Annotated[int, typer.Option(min=2, help="images behind each FID and each alignment")] = 10_000,
    protocol: Annotated[FvmProtocolName | None, typer.Option(help=f"{PROTOCOL_HELP} [default: a short one]")] = None,
    fid_protocol: Annotated[
        FidProtocol | None, typer.Option(help="network of FID's features [default: that of `fid` for these data]")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="file of the Inception network [default: that of the config]", parser=cli.path)
    ] = None,
    codes: CodesOption = None,
    seed: Seed = 0,
    data: DataOption = None,
) -> None:
    """Measure several runs alike: a table (CSV, Markdown), a picture, a page. What is measured already is kept."""
    from evaluation.records.measurements import argv
    from evaluation.records.printed_output import show

    from .pages import comparison, comparison_cells, comparison_page

    opened = comparison.open_all(runs, data, out)
    plan = comparison.plan(opened[0], samples, seed, comparison.Asked(protocol, fid_protocol, weights, codes))
    measured = comparison.measure_all(opened, plan)
    written = comparison_page.write(out, plan, comparison.measure_reals(opened, plan), measured)
    columns = list(comparison_cells.COLUMNS)[:SHOWN_COLUMNS]
    show(written.title, columns, [row[:SHOWN_COLUMNS] for row in written.rows])
    print(json.dumps({"command": "compare", "argv": argv(), "files": [str(path) for path in written.files]}))


@app.command("beside")
def beside_command(
    run: RunFolder,
    shipped_model: Annotated[
        Path | None,
        typer.Argument(help="an export of the same kind", metavar="EXPORT", parser=cli.shipped_path),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the page [default: RUN/beside]", parser=cli.path)] = None,
    samples: Annotated[int, typer.Option(min=2, help="images behind each FID and each alignment")] = 10_000,
    seed: Seed = 0,
    data: DataOption = None,
) -> None:
    """Write one page of a generator that was just trained beside a shipped one: pictures, numbers, settings."""
    from evaluation.records.measurements import argv
    from evaluation.records.printed_output import show

    from .pages import comparison, side_by_side

    folder = out or run / "beside"
    opened = comparison.open_all([run] if shipped_model is None else [run, shipped_model], data, folder)
    written = side_by_side.write(opened, comparison.plan_with_readings(opened[0], samples, seed), folder)
    for title, head, rows in written.tables:
        show(title, head, rows)
    print(json.dumps({"command": "beside", "argv": argv(), "page": str(written.page)}))


def _open(
    path: Path, step: str | None = None, ema: str | None = None, data: Any = None, out: Path | None = None
) -> Run:
    """Open a run whose results can be written. out: of --out, see `Results`."""
    from evaluation.inputs.run import open_to_measure

    return open_to_measure(path, step, ema, data, out)


def _average_suffix(run: Run) -> str:
    """Return the suffix of the figures' folder for another average than the config's first, else ""."""
    from trainer.config.schema import GanConfig

    name = run.average.get("ema")
    if name is None or (isinstance(run.config, GanConfig) and name == run.config.ema.averages[0].name):
        return ""
    return f"-{Path(name).name.removesuffix('.safetensors')}"


def _print_and_record(
    run: Run, command: str, record: dict[str, Any], title: str, columns: Sequence[str], rows: list[list[str]]
) -> None:
    """Print and keep a record of a run together with what describes the run."""
    from evaluation.records.printed_output import print_and_record

    print_and_record(run.results, command, run.describe() | record, title, columns, rows)


if __name__ == "__main__":
    cli.run(app)
