"""What is evaluated: a run at a checkpoint, or an export, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.paths import Location
from data_shards.read.loader import CODE_RESOLUTION
from trainer.config.file_names import METADATA
from trainer.config.sections import InceptionConfig
from trainer.export import exported_model
from trainer.export.open_model import refuse_choice
from trainer.labels.labels import Labels
from trainer.pictures.image_grids import to_uint8

from .choices import Codes, Kind, RequestedCodes
from .images import Maker, code_source, maker, own_kind
from .reals import Reals
from .results import Results
from .run import Run, at_least_64_px, open_run

CLASS = "--class"  # the option that names classes


@dataclass(frozen=True)
class EvaluationTarget:
    """A run or an export that makes images of several kinds.

    path: its folder; description: what every record says of it; data: identity of the set that it was
    trained on; kinds: the images that it can make, its own first; reals: None for an export; resolution: px of its
    images, at least 64; inception: files of weights; source(requested): where codes come from; make(kind, seed, codes,
    offset, resolution): a function that makes the images, see `images.maker`; identity(kind): what the images depend
    on, besides seed and codes; out: folder of new results, see `Results`; labels: that the generator is told, or None;
    of_class(text): the target of images of some classes alone, see `Labels.chosen`.
    """

    path: Path
    description: dict[str, Any]
    data: dict[str, Any]
    kinds: tuple[Kind, ...]
    reals: Reals | None
    resolution: int
    inception: InceptionConfig
    source: Callable[[RequestedCodes], Codes]
    make: Callable[[Kind, int, Codes, int, int], Maker]
    identity: Callable[[Kind], dict[str, Any]]
    out: Path | None = None
    labels: Labels | None = None
    of_class: Callable[[str], EvaluationTarget] | None = None

    @property
    def results(self) -> Results:
        """Where the results of this target lie."""
        return Results(self.path, self.out)

    def resolution_of(self, kind: Kind) -> int:
        """Return px of the images of a kind: a VAE's decodings are of 64 px whatever the generator's resolution."""
        return CODE_RESOLUTION if kind == "vae" else self.resolution


def open_target(
    path: Path, step: str | None, average: str | None, device: torch.device, data: Location | None = None
) -> EvaluationTarget:
    """Open a run folder or an export, with its networks on a device.

    step: a checkpoint, by name, by images seen or `best`; average: a name of the config's averages or a file; data: the
    set that it was trained on, where it lies elsewhere, or of an export one drawn alike, which gives it reals. Raises
    UserError where an export is given a step or an average, and as `open_run` does.
    """
    if data is not None or not (path / METADATA).is_file():
        return of_run(open_run(path, step, average, data).to(device))
    refuse_choice(path, step, average)
    return of_export(path, exported_model.load(path), device)


def of_run(run: Run) -> EvaluationTarget:
    """Return the target of an open run."""
    kinds: list[Kind] = [own_kind(run), "reals"]
    if run.generator is not None:
        kinds += ["vae", "untrained"] if run.vae is not None else ["untrained"]
    description = run.describe()

    def identity(kind: Kind) -> dict[str, Any]:
        """Return what images of a kind depend on; reals do not depend on the weights."""
        names = () if kind == "reals" else ("weights_sha256", "ema", "ema_sha256")
        weights = {name: description[name] for name in names if name in description}
        return {"kind": kind, "run": str(run.path.resolve())} | weights

    return EvaluationTarget(
        run.path,
        description,
        run.reals.identity(),
        tuple(kinds),
        run.reals,
        run.resolution,
        run.config.inception,
        lambda requested: code_source(run, requested),
        lambda kind, seed, codes, offset, resolution: maker(run, kind, seed, codes, offset, resolution),
        identity,
        run.out,
        run.labels.labels if run.labels else None,
        lambda classes: of_run(run.of_class(classes, CLASS)),
    )


def _kinds(model: exported_model.Model) -> tuple[Kind, ...]:
    """The images that an export makes, those that it was trained for first."""
    kinds: list[Kind] = [] if model.generator is None else ["gan"]
    return (*kinds, "vae") if model.vae is not None else tuple(kinds)


def _described(path: Path, model: exported_model.Model) -> dict[str, Any]:
    """What every record says of an export."""
    origin, stage = model.metadata.origin, "vae" if model.generator is None else "gan"
    described = {"run": str(path), "stage": stage, "system": "export", "step": origin["step"], "origin": origin}
    return described | {name: origin[name] for name in ("images_seen", "ema") if name in origin}


def of_export(
    path: Path, model: exported_model.Model, device: torch.device, classes: str | None = None
) -> EvaluationTarget:
    """Return the target of an export. It has no reals; its codes and labels are drawn from its bank.

    classes: images of these alone.
    """
    origin, chosen = model.metadata.origin, model.chosen(classes, CLASS)
    of = {"class": model.labels.text(chosen)} if model.labels and chosen else {}
    for network in (model.generator, model.vae):
        if network is not None:
            network.to(device)

    def source(requested: RequestedCodes) -> Codes:
        """Return where codes come from. Raises UserError for posterior codes of an export without a bank."""
        if requested == "posterior" and model.bank is None:
            raise UserError(f"--codes: posterior: {path} has no codes of images; leave --codes out")
        return requested or model.metadata.codes

    return EvaluationTarget(
        path,
        _described(path, model),
        {name: origin[name] for name in ("data_set", "variant", "painting_sha256") if name in origin}
        | {name: value for name, value in origin["inputs"].items() if name == "data"}
        | of,
        _kinds(model),
        None,
        max(CODE_RESOLUTION, model.metadata.resolution),
        InceptionConfig(),
        source,
        lambda kind, seed, codes, offset, resolution: _export_maker(model, kind, seed, codes, device, classes),
        lambda kind: {"kind": kind, "export": exported_model.sha256(path)},
        labels=model.labels,
        of_class=lambda classes: of_export(path, model, device, classes),
    )


def _export_maker(
    model: exported_model.Model, kind: Kind, seed: int, codes: Codes, device: torch.device, classes: str | None
) -> Maker:
    """Return a function from positions int64 [b] to an export's uint8 images [b, C, R, R]."""

    def images(positions: Tensor) -> Tensor:
        """Make the images at these positions."""
        c = model.codes(positions, seed, codes == "prior", classes).to(device)
        if kind == "vae":
            return to_uint8(model.decode(c))
        made = model.generate(model.nuisance(positions, seed, classes).to(device), c)
        return to_uint8(at_least_64_px(made))

    return images
