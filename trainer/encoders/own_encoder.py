"""Write and read an encoder of your own as a file: a torch.export program, without pickled code."""

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
        """Return the program for a device. Tensors that its forward makes were traced on the CPU, and move with it."""
        return Exported(move_to_device_pass(copy.deepcopy(self.exported), str(device)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images [B, channels, 64, 64] in [0, 1]: (mean, logvar), each [B, c_dim]."""
        return self.program(x)

    def train(self, mode: bool = True) -> Exported:
        """Change nothing."""
        return self


def load(path: Path) -> tuple[Exported, int, int, bytes]:
    """Read an encoder: (encoder, channels, c_dim, the file's bytes).

    Raises a UserError where the file cannot be used, or holds a pickle.
    """
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
    """Copy an archive, member by checked member. Raises a ValueError where reading a member could run code."""
    copied = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(copied, "w", zipfile.ZIP_STORED) as plain:
        twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]} is in it twice")
        for name in archive.namelist():
            data = archive.read(name)
            _refuse_pickles(name, data)
            plain.writestr(name, data)
    return copied.getvalue()


def _refuse_pickles(name: str, data: bytes) -> None:
    """Raise a ValueError where a member of an archive holds, or points to, pickled code."""
    member = name.partition("/")[2]
    if member == _EXAMPLE:
        torch.load(io.BytesIO(data), weights_only=True)
    elif not _PLAIN.fullmatch(member):
        raise ValueError(f"{name} may be pickled code, which is never loaded")
    if member.endswith("_config.json"):
        pickled = [key for key, meta in json.loads(data)["config"].items() if meta["use_pickle"]]
        if pickled:
            raise ValueError(f"{pickled[0]} is pickled, which is never loaded")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's warnings, and its log of an error that it raises as well."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def _code_size(encoder: nn.Module, channels: int, path: Path) -> int:
    """Encode two images and return c_dim. Raises a UserError where q gives anything but (mean, logvar).

    A gradient must reach the image: distillation would silently do nothing without.
    """
    output = encoder(torch.zeros(2, channels, 64, 64, requires_grad=True))
    pair = isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(t, Tensor) for t in output)
    if not pair or output[0].dim() != 2 or output[0].shape != output[1].shape or len(output[0]) != 2:
        raise UserError(
            f"vae: {path}: for two images the encoder gives {_shapes(output)}; it must give (mean, logvar), "
            "each [2, c_dim]"
        )
    if not (output[0].requires_grad or output[1].requires_grad):
        raise UserError(
            f"vae: {path}: no gradient reaches the image through the encoder; take no_grad and detach out of it"
        )
    return int(output[0].shape[1])


def _shapes(output: object) -> str:
    """Describe what an encoder gave, for a message."""
    if isinstance(output, Tensor):
        return f"one tensor {list(output.shape)}"
    if isinstance(output, tuple | list):
        return f"({', '.join(_shapes(part) for part in output)})"[:200]
    return type(output).__name__
