"""A code that was saved from the page: s and c of one image, as JSON. Loaded again, they give the same image."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError, first_line
from trainer.apps.request import LAST_SEED
from trainer.export.exported_model import ExportMetadata

FORMAT = 1
FARTHEST = 100.0  # from 0 that a latent may be


@dataclass(frozen=True)
class SavedCode:
    """The content of a file.

    model: the export's name; weights_sha256: of the network that makes its images; s, c: float32 numbers, s with the
    label vector y behind it; s_seed, c_seed: seeds that s and c came from and still are, else None; names: that the
    user gave to latents.
    """

    model: str
    weights_sha256: str
    s: list[float]
    c: list[float]
    s_seed: int | None = None
    c_seed: int | None = None
    names: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps({"format": FORMAT} | asdict(self), indent=1, ensure_ascii=False) + "\n").encode()


def read_code(data: bytes, metadata: ExportMetadata) -> SavedCode:
    """Read a file's content. Raises a UserError where it is none, of another format, or does not fit the model."""
    try:
        content = json.loads(data)
        version = content.pop("format")
        if version != FORMAT:
            raise UserError(f"this code has format {version}, this program reads {FORMAT}; save it again")
        code = SavedCode(**content)
        _refuse_other_types(code)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"this is no code that was saved here ({first_line(error)}); choose a .json file of one"
        ) from None
    vector(code.s, metadata.nuisance_dim, "s")
    vector(code.c, metadata.c_dim, "c")
    return code


def vector(numbers: Any, size: int, name: str) -> Tensor:
    """Return numbers that came from a browser as float32 [1, size]. Raises a UserError where they are not such."""
    if not isinstance(numbers, list) or not all(type(x) in (int, float) for x in numbers):
        raise UserError(f"{name}: is no list of numbers; send {size} of them")
    if len(numbers) != size:
        raise UserError(f"{name}: has {len(numbers)} numbers, the model's has {size}; choose a code of this model")
    far = [x for x in numbers if not math.isfinite(x) or abs(x) > FARTHEST]
    if far:
        raise UserError(f"{name}: {far[0]} is not between -{FARTHEST:g} and {FARTHEST:g}; choose a number that is")
    return torch.tensor(numbers, dtype=torch.float32)[None]


def seed_or_none(value: Any, name: str) -> int | None:
    """Return a seed that came from a browser. Raises a UserError where it is none."""
    if value is None or (type(value) is int and 0 <= value <= LAST_SEED):
        return value
    raise UserError(f"{name}: {value}: is no seed; type a whole number from 0 to {LAST_SEED}")


def _refuse_other_types(code: SavedCode) -> None:
    """Raise a TypeError or UserError where a field is of another type."""
    seed_or_none(code.s_seed, "s_seed")
    seed_or_none(code.c_seed, "c_seed")
    texts = [code.model, code.weights_sha256, *code.names, *code.names.values()]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a field is no text")
