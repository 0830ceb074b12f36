"""What images are made of: a run at a checkpoint, or an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from data_shards.read.loader import CODE_RESOLUTION
from trainer.config.sections import InceptionConfig
from trainer.export import exported_model

from .choices import Codes, Kind, RequestedCodes
from .images import Maker, code_source, maker, own_kind, to_uint8
from .reals import Reals
from .run import Run, at_least_64_px, open_run


@dataclass(frozen=True)
class EvaluationTarget:
    """path: where its records go; facts: what every record says of it; data: of the set that it was trained on.

    kinds: the images that it can show, its own first; reals: None where it knows none; inception: files of weights;
    source(asked): where codes come from; make(kind, seed, codes, offset, resolution): the images, see `images.maker`;
    identity(kind): what these depend on, besides seed and codes.
    """

    path: Path
    facts: dict[str, Any]
    data: dict[str, Any]
    kinds: tuple[Kind, ...]
    reals: Reals | None
    resolution: int
    inception: InceptionConfig
    source: Callable[[RequestedCodes], Codes]
    make: Callable[[Kind, int, Codes, int, int], Maker]
    identity: Callable[[Kind], dict[str, Any]]


def open_target(path: Path, step: str | None, average: str | None, device: torch.device) -> EvaluationTarget:
    """A run folder or an export, with its networks on a device."""
    if not (path / exported_model.FACTS).is_file():
        return of_run(open_run(path, step, average).to(device))
    for option, value in (("--step", step), ("--ema", average)):
        if value is not None:
            raise UserError(f"{option}: {value}: {path} is an export, which holds one generator; leave {option} out")
    return of_export(path, exported_model.load(path), device)


def of_run(run: Run) -> EvaluationTarget:
    """A run as it was opened."""
    kinds: list[Kind] = [own_kind(run), "reals"]
    if run.generator is not None:
        kinds += ["vae", "untrained"] if run.vae is not None else ["untrained"]
    facts = run.describe()

    def identity(kind: Kind) -> dict[str, Any]:
        names = () if kind == "reals" else ("weights_sha256", "ema", "ema_sha256")
        return {"kind": kind, "run": str(run.path.resolve())} | {name: facts[name] for name in names if name in facts}

    return EvaluationTarget(
        run.path,
        facts,
        run.reals.identity(),
        tuple(kinds),
        run.reals,
        run.resolution,
        run.config.inception,
        lambda asked: code_source(run, asked),
        lambda kind, seed, codes, offset, resolution: maker(run, kind, seed, codes, offset, resolution),
        identity,
    )


def of_export(path: Path, model: exported_model.Model, device: torch.device) -> EvaluationTarget:
    """A model as `trainer.load` gives it. It knows no reals; its codes are drawn from its bank."""
    facts, origin = model.facts, model.facts.origin
    for network in (model.generator, model.vae):
        if network is not None:
            network.to(device)

    def make(kind: Kind, seed: int, codes: Codes, offset: int, resolution: int) -> Maker:
        def images(positions: Tensor) -> Tensor:
            c = model.codes(positions, seed, codes == "prior").to(device)
            if kind == "vae":
                return to_uint8(model.decode(c))
            made = model.generate(model.nuisance(positions, seed).to(device), c)
            return to_uint8(at_least_64_px(made))

        return images

    def source(asked: RequestedCodes) -> Codes:
        if asked == "posterior" and model.bank is None:
            raise UserError(f"--codes: posterior: {path} has no codes of images; leave --codes out")
        return asked or facts.codes

    described = {"run": str(path), "stage": "gan", "system": "export", "step": origin["step"], "origin": origin}
    return EvaluationTarget(
        path,
        described | {name: origin[name] for name in ("images_seen", "ema") if name in origin},
        {name: origin[name] for name in ("data_set", "variant", "painting_sha256") if name in origin}
        | {"data": origin["inputs"]["data"]},
        ("gan", "vae") if model.vae is not None else ("gan",),
        None,
        max(CODE_RESOLUTION, facts.resolution),
        InceptionConfig(),
        source,
        make,
        lambda kind: {"kind": kind, "export": exported_model.sha256(path)},
    )
