"""python -m trainer generate and push: their arguments. This file imports no torch, so that --help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common import cli

from .request import Device, Request, Video

ModelFolder = Annotated[
    Path, typer.Argument(help="a run folder of either stage, or an export", metavar="RUN", parser=cli.shipped_path)
]
Codes = Annotated[
    str | None,
    typer.Option(
        help="where c comes from: posterior, prior, or a file of codes, .npy or .csv [default: as in training]",
        parser=cli.name_or_path,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--class",
        help="classes of all images, such as shape=heart, of a model that was trained with labels [default: as in "
        "training]",
    ),
]
Traverse = Annotated[
    str | None, typer.Option(help="also traverse latents from the first seed: all, or such as c3,c7 [default: none]")
]
VideoFormat = Annotated[
    Video | None,
    typer.Option(help="also write walks as videos: through all seeds, and along --traverse [default: none]"),
]
Step = Annotated[
    str | None, typer.Option(help="a checkpoint, by name, by images seen, or `best` [default: the newest]")
]
Ema = Annotated[
    str | None,
    typer.Option(
        help="an average of the config, or a file of `evaluation ema` [default: the config's first average]",
        parser=cli.name_or_path,
    ),
]


def generate_command(
    model: ModelFolder,
    seeds: Annotated[str, typer.Option(help="which images, such as 0-63 or 1,5,9-12")],
    out: Annotated[Path, typer.Option(help="folder of the images", parser=cli.path)],
    psi: Annotated[float, typer.Option(help="truncation of c and s towards their means, above 0 and at most 1")] = 1.0,
    codes: Codes = None,
    class_: Classes = None,
    grid: Annotated[
        str | None, typer.Option(help="also draw all images as one, ROWSxCOLUMNS, such as 8x8 [default: none]")
    ] = None,
    traverse: Traverse = None,
    video: VideoFormat = None,
    step: Step = None,
    ema: Ema = None,
    device: Annotated[Device, typer.Option(help="where networks run")] = "auto",
) -> None:
    """Write images of a trained model as PNG files, grids and videos. Seed k is the same image whatever else is asked.

    A run makes the images of its export. Under a launcher the processes share the seeds. The same command again goes on
    where it was stopped.
    """
    request = Request.typed(model, out, seeds, psi, codes, class_, grid, traverse, video, step, ema, device)
    from .generate import generate

    if message := generate(request):
        print(message)


def push_command(
    export: Annotated[Path, typer.Argument(help="an export", metavar="EXPORT", parser=cli.shipped_path)],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME, made if it is not there", metavar="REPO")],
    private: Annotated[bool, typer.Option("--private", help="make it private; a public one is refused")] = False,
) -> None:
    """Upload an export to a Hugging Face hub, with the token of the environment variable HF_TOKEN.

    The same command again sends what has changed.
    """
    from .push import push

    print(push(export, repo, private))
