"""Open a run folder or an export as a model. A run gives the model that its export would hold, to the bit."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError
from trainer.config.file_names import METADATA

from . import exported_model
from .exported_model import Model
from .run_parts import bank_tensors, read_run


def open_model(path: Path, step: str | None = None, average: str | None = None, with_codes: bool = True) -> Model:
    """Open an export, or a run folder of either stage at a checkpoint.

    step: a checkpoint's name, images seen or `best`, None for the newest; average: a name in the config or a file, None
    for the first; with_codes: whether the posteriors of training images are wanted, which a run computes from its data.
    Raises a UserError where an export is given a step or an average, and as `exported_model.load` and
    `run_parts.read_run` do.
    """
    if (path / METADATA).is_file():
        refuse_choice(path, step, average)
        return exported_model.load(path)
    _, parts, metadata, source = read_run(path, step, average, with_codes)
    model = Model(metadata, parts.generator, parts.encoder.q, parts.encoder.vae)
    tensors = bank_tensors(source) if source else {}
    model.bank = (tensors["mean"], tensors["logvar"]) if "mean" in tensors else None
    model.label_rows = tensors.get("labels", model.label_rows)
    return model


def refuse_choice(path: Path, step: str | None, average: str | None) -> None:
    """Raise a UserError where a checkpoint or an average of an export is named."""
    for option, value in (("--step", step), ("--ema", average)):
        if value is not None:
            raise UserError(f"{option}: {value}: {path} is an export, which holds one generator; leave {option} out")
