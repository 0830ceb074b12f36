"""python -m evaluation fid | disentanglement | latents | figures | report RUN

Each prints a short table; its last line on standard output is one JSON object, also appended to RUN/evaluation/.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from data_shards.cli import run as run_app
from data_shards.errors import UserError
from data_shards.sources.dsprites import index_of

from . import disentanglement as metrics
from . import encoding, figures, latents, records, report
from .disentanglement import Protocol
from .factors import load_extractor
from .fid import KINDS, fid
from .images import Codes, Kind
from .run import Run, open_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RunFolder = Annotated[Path, typer.Argument(help="a run folder of either stage", metavar="RUN")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="decides which images are looked at")]


CodesOption = Annotated[Codes, typer.Option(help="c from the aggregated posterior, as in training, or from N(0, I)")]


@app.command("fid")
def fid_command(
    run: RunFolder,
    samples: Annotated[int, typer.Option(help="generated images, and at most as many reals")] = 50_000,
    of: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(KINDS)}")] = "",
    codes: CodesOption = "posterior",
    seed: Seed = 0,
) -> None:
    """FID (factor-net features) and sprite fidelity of the run's images and of what they are compared with."""
    opened, extractor = open_run(run), load_extractor()
    kinds = _kinds(of or ("gan" if opened.generator is not None else "vae"))
    found = fid(opened, extractor, kinds, samples, codes, seed)
    record = {
        "protocol": "factor-net",
        "extractor": extractor.sha256,
        "codes": codes,
        "seed": seed,
        "kinds": found,
    }
    rows = [
        [kind, f"{found[kind]['fid']:.4g}", f"{found[kind]['count']:,}", _percent(found[kind]["fidelity"])]
        for kind in kinds
    ]
    title = f"FID against {found['reference_count']:,} reals (factor-net {extractor.sha256[:12]}, codes: {codes})"
    _answer(opened, "fid", record, title, ["images", "FID", "count", "sprites with IoU >= 0.8"], rows)


@app.command("disentanglement")
def disentanglement_command(
    run: RunFolder,
    protocol: Annotated[Protocol, typer.Option(help="of the FactorVAE metric")] = "paper",
    seed: Seed = 0,
) -> None:
    """MIG and the FactorVAE metric of the run's encoder (in stage 2: of its frozen VAE)."""
    opened = open_run(run)
    represent = encoding.representation(opened, seed, whole_grid=protocol != "short")
    rng = np.random.default_rng(seed)
    fvm = metrics.fvm(represent, metrics.FVM_PROTOCOLS[protocol], rng)
    factors = metrics.random_factors(rng, metrics.MIG_SAMPLES)
    score, information = metrics.mig(represent(index_of(factors)), factors)
    encoder = "the frozen VAE of this run" if opened.generator is not None else "this run's VAE"
    record = {
        "encoder": encoder,
        "seed": seed,
        "fvm": {"protocol": protocol, **fvm},
        "mig": {"protocol": "dlib", "score": score, "information": information.round(4).tolist()},
    }
    rows = [
        ["MIG", "dlib", f"{score:.3f}"],
        ["FVM (train accuracy)", protocol, f"{fvm['train_accuracy']:.3f}"],
        *(
            [["FVM (eval accuracy)", protocol, f"{fvm['eval_accuracy']:.3f}"]]
            if fvm["eval_accuracy"] is not None
            else []
        ),
        ["pruned latents", protocol, ", ".join(f"c{j + 1}" for j in fvm["pruned"]) or "none"],
    ]
    _answer(opened, "disentanglement", record, f"encoder: {encoder}", ["metric", "protocol", "value"], rows)


@app.command("latents")
def latents_command(run: RunFolder, seed: Seed = 0) -> None:
    """How far each latent moves x, y and scale in the image, as the factor network sees it."""
    opened, extractor = open_run(run), load_extractor()
    found = latents.movement(opened, extractor, seed)
    record = {"extractor": extractor.sha256, "seed": seed, **found}
    clear = {entry["latent"]: entry["factor"] for entry in found["clear"]}
    rows = [
        [f"c{j + 1}", *(f"{share:.0%}" for share in row), clear.get(j, "")]
        for j, row in enumerate(found["share_of_range"])
    ]
    title = f"share of its full range, over linspace(-3, 3, {latents.STEPS}), mean of {latents.BASES} codes"
    _answer(opened, "latents", record, title, ["latent", *found["factors"], "moves alone"], rows)


@app.command("figures")
def figures_command(run: RunFolder, codes: CodesOption = "posterior", seed: Seed = 0) -> None:
    """Random samples, latent traversals and, where s_dim > 0, c against s: PNG files in RUN/evaluation/figures."""
    opened = open_run(run)
    made = figures.draw(opened, run / records.FOLDER / "figures", codes, seed)
    record = {"codes": codes, "seed": seed, "files": [str(path) for path in made]}
    _answer(opened, "figures", record, "figures", ["file"], [[str(path)] for path in made])


@app.command("report")
def report_command(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option(help="folder of the page [default: RUN/report]")] = None,
) -> None:
    """One self-contained page from what was measured so far."""
    opened = open_run(run)
    page = report.write(opened, out or run / "report")
    _answer(opened, "report", {"page": str(page)}, "report", ["file"], [[str(page)]])


def _kinds(text: str) -> list[Kind]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in KINDS]
    if wrong or not names:
        raise UserError(f"--of: {text!r}: unknown {', '.join(wrong) or 'value'}; choose from {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in names]


def _percent(share: float | None) -> str:
    return "not defined" if share is None else f"{share:.1%}"


def _answer(
    run: Run, command: str, record: dict[str, Any], title: str, columns: list[str], rows: list[list[str]]
) -> None:
    """The table, then the record as one line of JSON; the record is kept beside the run."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
    argv = shlex.join(["python", "-m", "evaluation", *sys.argv[1:]])
    print(json.dumps(records.append(run.path, command, {"argv": argv} | run.describe() | record)))


if __name__ == "__main__":
    run_app(app)
