"""python -m data_shards make | index | check | info"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from common import cli
from common.errors import joined
from data_shards.build.make_commands import CORES, Workers, maker, print_summary
from data_shards.format import manifest
from data_shards.format.manifest import Manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(maker, name="make")
SetFolder = Annotated[
    Any, typer.Argument(metavar="DIR", help="folder of shards, or its URL", parser=cli.location, show_default=False)
]


@app.command("index")
def index_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="folder of tars that another webdataset tool wrote", parser=cli.path)
    ],
    image: Annotated[
        str | None,
        typer.Option(help="extension of the images, where samples have several: left.png [default: by name]"),
    ] = None,
    workers: Workers = CORES,
) -> None:
    """Look at every image of another tool's tars, DIR/*.tar or DIR/<resolution>/*.tar; write index and manifest."""
    from common.progress import progress_bar
    from data_shards.build.index_tars import index_tars

    with progress_bar() as bar:
        total = len(list(folder.glob("*.tar")) + list(folder.glob("[0-9]*/*.tar")))
        task = bar.add_task("indexing shards", total=total)
        made = index_tars(folder, lambda n: bar.advance(task, n), workers, image)
    print_summary(folder, made, "indexed")


@app.command("check")
def check_command(
    folder: SetFolder,
    workers: Workers = CORES,
) -> None:
    """Hash, count and decode everything, and compare the levels with each other."""
    from common.progress import progress_bar
    from data_shards.build.check import check

    stored = manifest.load(folder)
    problems: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("checking shards", total=len(stored.level(stored.resolutions[0]).shards) + 1)
        for problems_of_shard in check(folder, workers):
            bar.advance(task)
            problems += problems_of_shard
    if problems:
        raise joined(str(folder), sorted(set(problems)))
    print_summary(folder, stored, "sound")


@app.command("info")
def info_command(
    folder: SetFolder,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Print what a folder of shards holds."""
    contents = _contents(manifest.load(folder))
    if as_json:
        print(json.dumps(contents))
        return
    for name, value in contents.items():
        if name not in ("levels", "notes"):
            print(f"{name:10} {value}")
    for resolution, level in contents["levels"].items():
        print(f"{resolution:5} px   {level['shards']} shards, {level['bytes'] / 1e6:,.1f} MB")
    for note in contents.get("notes", ()):
        print(f"note: {note}")


def _contents(stored: Manifest) -> dict[str, Any]:
    """What `info` prints, by name: ranges and notes where there are any."""
    shards = {resolution: stored.level(resolution).shards for resolution in stored.resolutions}
    return {
        "data_set": stored.data_set,
        "count": stored.count,
        "channels": stored.channels,
        "levels": {r: {"shards": len(tars), "bytes": sum(tar.bytes for tar in tars)} for r, tars in shards.items()},
        "factors": {factor.name: factor.size for factor in stored.factors},
        **_ranges(stored),
        "labels": [label.name for label in stored.labels],
        "codec": stored.codec.name if stored.codec else None,
        "skipped": len(stored.skipped),
        "hash": stored.hash,
        **({"notes": list(stored.notes)} if stored.notes else {}),
    }


def _ranges(stored: Manifest) -> dict[str, Any]:
    """The ranges of the continuous factors by name, and which of them are circular, where there are such factors."""
    ranges = {factor.name: factor.range for factor in stored.factors if factor.range is not None}
    circular = [factor.name for factor in stored.factors if factor.circular]
    return {"ranges": ranges, "circular": circular} if ranges else {}


if __name__ == "__main__":
    cli.run(app)
