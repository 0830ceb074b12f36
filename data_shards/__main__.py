"""python -m data_shards make | index | check | info"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.cli import run
from common.errors import joined
from common.progress import progress_bar
from data_shards.build.check import check
from data_shards.build.index_tars import index_tars
from data_shards.build.make_commands import CORES, Workers, maker, report

from .format import manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(maker, name="make")


@app.command("index")
def index_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="tars of any webdataset tool")],
) -> None:
    """Write index and manifest for DIR/*.tar or DIR/<resolution>/*.tar, made anywhere."""
    with progress_bar() as bar:
        total = len(list(folder.glob("*.tar")) + list(folder.glob("[0-9]*/*.tar")))
        task = bar.add_task("indexing shards", total=total)
        made = index_tars(folder, lambda n: bar.advance(task, n))
    report(folder, made, "indexed")


@app.command("check")
def check_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a set")], workers: Workers = CORES
) -> None:
    """Hash, count and decode everything, and compare the levels with each other."""
    found = manifest.load(folder)
    problems: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("checking shards", total=len(found.level(found.resolutions[0]).shards) + 1)
        for some in check(folder, workers):
            bar.advance(task)
            problems += some
    if problems:
        raise joined(str(folder), sorted(set(problems)))
    report(folder, found, "sound")


@app.command("info")
def info(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a set")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """What a set holds."""
    found = manifest.load(folder)
    levels = {
        r: {"shards": len(found.level(r).shards), "bytes": sum(s.bytes for s in found.level(r).shards)}
        for r in found.resolutions
    }
    facts = {
        "data_set": found.data_set,
        "count": found.count,
        "channels": found.channels,
        "levels": levels,
        "factors": {f.name: f.size for f in found.factors},
        "labels": [label.name for label in found.labels],
        "codec": found.codec.name if found.codec else None,
        "skipped": len(found.skipped),
        "hash": found.hash,
    }
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if name != "levels":
            print(f"{name:10} {value}")
    for r, level in levels.items():
        print(f"{r:5} px   {level['shards']} shards, {level['bytes'] / 1e6:,.1f} MB")


if __name__ == "__main__":
    run(app)
