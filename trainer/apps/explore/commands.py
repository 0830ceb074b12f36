"""python -m trainer explore: its arguments. This file imports no torch, so that --help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common import cli
from trainer.apps.request import Device

LOCAL, PORT = "127.0.0.1", 8800

Export = Annotated[Path, typer.Argument(help="an export of either stage", metavar="EXPORT", parser=cli.shipped_path)]
Names = Annotated[
    Path | None,
    typer.Option(
        help="file of the names that you give to latents", show_default="EXPORT/latent_names.json", parser=cli.path
    ),
]


def explore_command(
    export: Export,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the page; 0 takes any that is free")] = PORT,
    host: Annotated[
        str, typer.Option(help="address to listen at; another than this one lets other machines in")
    ] = LOCAL,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="open the page in a browser, if there is a display")
    ] = True,
    names: Names = None,
    device: Annotated[Device, typer.Option(help="where networks run")] = "auto",
) -> None:
    """Play with a trained model in the browser: a slider for each latent, your own pictures, codes to keep.

    A small server on this machine makes the images. Ctrl-C ends it.
    """
    from .serve import Request, explore

    explore(Request(export, names, host, port, browser, device))
