"""The commands check and showcase: their arguments, and what each does in order.

They import what they need when they run: `--help` would wait seconds for torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from common import cli
from common.errors import UserError
from common.paths import Location
from evaluation.inputs.options import Exports


def check_command(
    exports: Exports,
    record: Annotated[
        bool, typer.Option("--record", help="record the figures beside the export and on its card")
    ] = False,
    data: Annotated[
        Any,
        typer.Option(
            help="with --record: the set that it was trained on, folder or URL [default: its data.path]",
            parser=cli.location,
        ),
    ] = None,
) -> None:
    """Measure the first 256 images of exports: are the figures those that were recorded when they were shipped?"""
    if data is not None and not record:
        raise UserError("--data: a check needs no data, --record does; leave --data out, or give --record too")
    for folder in exports:
        _refuse_no_export(folder)
    problems = []
    for folder in exports:
        try:
            print(json.dumps({"command": "check", **(_record(folder, data) if record else _check(folder))}), flush=True)
        except UserError as error:
            problems.append(error)
    if problems:
        raise UserError("; ".join(map(str, problems)))


def showcase_command(
    exports: Exports,
    out: Annotated[Path, typer.Option(help="folder of the page", parser=cli.path)] = Path("runs/showcase"),
) -> None:
    """Write one page of what exports make: random images, traversals, growth. Needs neither runs nor data."""
    for folder in exports:
        _refuse_no_export(folder)
    from .pages import showcase

    page = showcase.write(exports, out)
    print(json.dumps({"command": "showcase", "page": str(page)}))


def _refuse_no_export(folder: Path) -> None:
    from trainer.config.file_names import METADATA

    if not (folder / METADATA).is_file():
        raise UserError(f"{folder}: is no export (no {METADATA}); name a folder that `python -m trainer export` wrote")


def _check(folder: Path) -> dict[str, Any]:
    """Compare the figures of an export with those recorded. Raises a UserError where one differs."""
    from evaluation.records.printed_output import show

    from .exports import check

    recorded, reference = check.read(folder), check.reference_of(folder)
    target, extractor = _open(folder, recorded["extractor"])
    compared = check.differences(recorded, check.measure(target, extractor, reference))
    rows = [
        [d.kind, d.figure, f"{d.recorded:.4g}", f"{d.measured:.4g}", f"{d.allowed:.2g}", "yes" if d.holds else "no"]
        for d in compared
    ]
    title = f"{folder}: {recorded['images']} images, network {extractor.sha256[:12]}"
    show(title, ["images", "figure", "recorded", "here", "may differ by", "holds"], rows)
    wrong = [d for d in compared if not d.holds]
    if wrong:
        listed = "; ".join(f"{d.figure} of {d.kind}: {d.recorded:.4g} recorded, {d.measured:.4g} here" for d in wrong)
        raise UserError(
            f"{folder}: {len(wrong)} of {len(compared)} figures are not those recorded ({listed}): its files or this "
            f"program are others than when it was shipped; restore both with git, or install the package again"
        )
    return {"export": str(folder), "figures": len(compared), "holds": True}


def _record(folder: Path, data: Location | None) -> dict[str, Any]:
    """Measure an export and record the figures beside it."""
    from trainer.config.load import load_config
    from trainer.config.schema import kind_of
    from trainer.config.yaml_file import read_yaml
    from trainer.distributed.world import ALONE

    from . import fid_steps as steps
    from .exports import record

    target, extractor = _open(folder)
    config = load_config(kind_of(read_yaml(folder / "config.yaml")), folder / "config.yaml")
    of_set = config.data if data is None else config.data.model_copy(update={"path": data})
    reals = steps.open_reals(of_set, config.seed)
    differs = _differences(target.data, reals.identity())
    if differs:
        raise UserError(
            f"{of_set.path}: is not the set that {folder} was trained on ({differs}); name its folder with --data"
        )
    net = steps.network_of_reals(reals, extractor.protocol, None, ALONE)
    path, _ = steps.make_reference(reals, net, target.resolution, steps.REFERENCE_IMAGES, 0, None, ALONE)
    return {"export": str(folder)} | record.record(target, extractor, path)


def _differences(then: dict[str, Any], now: dict[str, Any]) -> str:
    names = [name for name in then | now if then.get(name) != now.get(name)]
    return "; ".join(f"{name}: {str(then.get(name))[:12]} then, {str(now.get(name))[:12]} now" for name in names)


def _open(folder: Path, sha256: str | None = None) -> tuple[Any, Any]:
    """Open an export and the network that reads its images. sha256: of the one behind figures on record."""
    import torch

    from evaluation.factors.choose import extractor_for
    from evaluation.inputs.target import open_target

    target = open_target(folder, None, None, torch.device("cpu"))
    data_set, variant = target.data.get("data_set", "dsprites"), target.data.get("variant", "plain")
    return target, extractor_for(folder, data_set, variant, sha256)
