"""Arguments and options that several commands share. This file imports no torch, so that --help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from common import cli

from .choices import RequestedCodes

RunFolder = Annotated[
    Path,
    typer.Argument(help="a run folder of either stage, or an export", metavar="RUN", parser=cli.shipped_path),
]
Exports = Annotated[
    list[Path],
    typer.Argument(help="folders that `trainer export` wrote", metavar="EXPORT EXPORT ...", parser=cli.shipped_path),
]
DataOption = Annotated[
    Any,  # a folder, a URL or None
    typer.Option(
        help="the set that it was trained on, folder or URL, where it lies elsewhere [default: its data.path]",
        parser=cli.location,
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="folder for the results, where the run's cannot be written [default: RUN/evaluation]",
        parser=cli.path,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="decides which images are used")]
Step = Annotated[
    str | None, typer.Option(help="a checkpoint, by name, by images seen, or `best` [default: the newest]")
]
CodesOption = Annotated[
    RequestedCodes,
    typer.Option(help="draw c from the aggregated posterior or from N(0, I) [default: as in training]"),
]
EmaOption = Annotated[
    str | None,
    typer.Option(
        help="an average of the config, or a file of `evaluation ema` [default: the config's first average]",
        parser=cli.name_or_path,
    ),
]
