"""An encoder of your own as a file: a torch.export program, written and read without pickled code."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from common.atomic_writes import publish
from common.errors import UserError, first_line
from models import freeze

_PLAIN = re.compile(  # the members of an archive that hold no pickle, after its top folder
    r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|data/weights/weight_\d+|"
    r"data/constants/tensor_\d+|archive_\w+|byteorder|\.data/\w+"
)
_EXAMPLE = "data/sample_inputs/model.pt"


def export(encoder: nn.Module, path: Path | str, channels: int) -> None:
    """Write an encoder as a file for vae=PATH. It works for any batch size.

    encoder: maps images [B, channels, 64, 64] in [0, 1] to (mean, logvar), each [B, c_dim], of a Gaussian q(c|x); it
    is frozen and put in eval mode. Raises a UserError where it gives anything else, or lets no gradient through.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise UserError(f"{path}: the name of an exported encoder ends in .pt2")
    freeze(encoder)
    _code_size(encoder, channels, path)
    example = torch.zeros(2, channels, 64, 64)
    try:
        program = torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # torch's are of many kinds
        raise UserError(
            f"{path}: torch.export cannot export this encoder for any batch size ({first_line(error)}); a forward "
            "without Python control flow over the batch exports, for example with x.shape[0] in place of len(x)"
        ) from error
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    publish(path, buffer.getvalue())


class Exported(nn.Module):
    """An exported program as a module. It has one mode, so train() and eval() leave it alone."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.exported = exported
        self.program = exported.module().requires_grad_(False)

    def moved_to(self, device: torch.device) -> Exported:
        """The program for a device: tensors that its forward makes were traced on the CPU, and move with it."""
        return Exported(move_to_device_pass(copy.deepcopy(self.exported), str(device)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.program(x)

    def train(self, mode: bool = True) -> Exported:
        return self


def load(path: Path) -> tuple[Exported, int, int, bytes]:
    """(encoder, channels, c_dim, the file's bytes). Raises a UserError where it cannot be used, or holds a pickle."""
    try:
        content = path.read_bytes()
        with _quiet():
            program = torch.export.load(io.BytesIO(_without_pickles(content)))
            encoder = Exported(program)
        (example,), _ = program.example_inputs
        channels = int(example.shape[1])
        encoder(torch.zeros(3, channels, 64, 64))
    except Exception as error:  # whatever a broken or foreign archive makes torch raise
        raise UserError(
            f"vae: {path}: not an exported encoder ({first_line(error)}); write "
            "it with trainer.own_encoder.export(encoder, path, channels)"
        ) from None
    return encoder, channels, _code_size(encoder, channels, path), content


def _without_pickles(content: bytes) -> bytes:
    """The archive again, of members that were looked at. Raises a ValueError where reading one could run code."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as plain:
        twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]} stands twice in it")
        for name in archive.namelist():
            member, data = name.partition("/")[2], archive.read(name)
            if member == _EXAMPLE:
                torch.load(io.BytesIO(data), weights_only=True)
            elif not _PLAIN.fullmatch(member):
                raise ValueError(f"{name} may be pickled code, which is never loaded")
            if member.endswith("_config.json"):
                pickled = [key for key, meta in json.loads(data)["config"].items() if meta["use_pickle"]]
                if pickled:
                    raise ValueError(f"{pickled[0]} is pickled, which is never loaded")
            plain.writestr(name, data)
    return made.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings and its own report of an error that is raised as well."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def _code_size(encoder: nn.Module, channels: int, path: Path) -> int:
    """Look at two images: c_dim. Raises a UserError where q gives anything but (mean, logvar).

    A gradient must reach the image, or distillation would do nothing without a word.
    """
    found = encoder(torch.zeros(2, channels, 64, 64, requires_grad=True))
    pair = isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(t, Tensor) for t in found)
    if not pair or found[0].dim() != 2 or found[0].shape != found[1].shape or len(found[0]) != 2:
        raise UserError(
            f"vae: {path}: for two images the encoder gives {_shapes(found)}; it must give (mean, logvar), "
            "each [2, c_dim]"
        )
    if not (found[0].requires_grad or found[1].requires_grad):
        raise UserError(
            f"vae: {path}: no gradient reaches the image through the encoder; take no_grad and detach out of it"
        )
    return int(found[0].shape[1])


def _shapes(found: object) -> str:
    """What an encoder gave, in words."""
    if isinstance(found, Tensor):
        return f"one tensor {list(found.shape)}"
    if isinstance(found, tuple | list):
        return f"({', '.join(_shapes(part) for part in found)})"[:200]
    return type(found).__name__
