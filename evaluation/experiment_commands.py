"""The commands sheet and table, which `python -m trainer experiments` starts: their arguments, and what each does.

They import what they need when they run: `--help` would wait seconds for torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common import cli
from evaluation.inputs.options import DataOption, RunFolder, Seed


def sheet_command(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="folder of the pictures", parser=cli.path)],
    seed: Seed = 0,
    data: DataOption = None,
) -> None:
    """Draw small pictures of a run that stay when its folder goes: reals, samples, traversals, c against s."""
    from evaluation.inputs.run import open_run
    from evaluation.records.measurements import argv

    from .experiments import sheet

    paths = sheet.draw(open_run(run, data_path=data), out, seed)
    print(json.dumps({"command": "sheet", "argv": argv(), "files": [str(path) for path in paths]}))


def table_command(
    folder: Annotated[
        Path, typer.Argument(help="results/EXPERIMENT/BUDGET", metavar="RESULTS", parser=cli.shipped_path)
    ],
) -> None:
    """Make table.csv, table.md and index.html of an experiment from what its finished jobs left."""
    from common.atomic_writes import publish
    from evaluation.records.printed_output import show

    from .experiments import claims, page, results
    from .experiments import table as tables

    found = results.read(folder)
    made = tables.table(found)
    files = [folder / "table.csv", folder / "table.md"]
    publish(files[0], made.csv.encode())
    publish(files[1], made.markdown.encode())
    files.append(page.write(found, made))
    print("\n".join([made.title, *tables.bullets(made.measured)]))
    for head, rows in made.parts():
        show("", head, rows)
    if made.claims:
        show("Claims", list(claims.HEAD), made.claims)
    verdicts = [each.as_json() for each in claims.verdicts(found)]
    printed = {"command": "table", "files": [str(path) for path in files], "measured": made.measured}
    print(json.dumps(printed | {"claims": verdicts}))
