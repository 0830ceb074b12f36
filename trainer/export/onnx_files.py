"""The parts of a model as ONNX files, which other programs run without torch; images are float32 in [0, 1].

generator.onnx   s [batch, s_dim], y [batch, y_dim], c [batch, c_dim] -> images [batch, channels, R, R]; without those
                 that G lacks; y is one-hot, see trainer/labels
encoder.onnx     images [batch, channels, R, R] -> mean, logvar [batch, c_dim] of q(c|x)
decoder.onnx     c [batch, c_dim] -> images [batch, channels, 64, 64], of the VAE

R is the model's resolution. The batch may have any size.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common import shipped
from common.errors import UserError, first_cause, first_line
from trainer.config import file_names

from .exported_model import Model

OPSET = 18  # of every ONNX Runtime since 1.14
EXAMPLES = 3  # the batch that a graph is traced with; none of those that it is compared at
COMPARED_BATCHES = (1, 4)
MOST_DIFFERENT = 1e-4  # of means, logvars, and images in [-1, 1]; relative for values above 1


class OnnxPart(NamedTuple):
    """What becomes a file. weights: the file of the export that holds its weights; inputs, outputs: names."""

    file: str
    weights: str
    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class OnnxFiles:
    """The files of a model.

    contents: by name; problems: a line for each part that could not be written; differences: of each file, the largest
    between ONNX Runtime and torch, empty where ONNX Runtime is not installed.
    """

    contents: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return what export.json says of them."""
        found: dict[str, Any] = {"opset": OPSET, "files": list(self.contents)}
        if self.differences:
            found |= {"compared_with": f"onnxruntime {version('onnxruntime')}", "differences": self.differences}
        return found


class _Generate(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        assert model.generator is not None
        self.generator, self.resolution = model.generator, model.metadata.resolution
        alpha = model.metadata.alpha
        self.register_buffer("alpha", None if alpha is None else torch.tensor(alpha))

    def forward(self, *latents: Tensor) -> Tensor:
        return (self.generator(torch.cat(latents, 1), self.resolution, self.alpha) + 1) / 2


class _Encode(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(images * 2 - 1)


class _Decode(nn.Module):
    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, c: Tensor) -> Tensor:
        return self.decoder(c).sigmoid()


def require() -> None:
    """Raise a UserError where a package that writes ONNX files is missing."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--onnx: needs {' and '.join(missing)}; install what writes ONNX: {shipped.installing('onnx')}"
        )


def summary(record: dict[str, Any]) -> str:
    """Say what a record, the value of `onnx` in export.json, has of the files."""
    if "differences" not in record:
        return f"{', '.join(record['files'])}, not compared with torch: onnxruntime is not installed"
    return f"{', '.join(record['files'])}, as torch to {max(record['differences'].values()):.1g}"


def onnx_files(model: Model) -> OnnxFiles:
    """Convert every part of a model on the CPU, and compare each file with torch where ONNX Runtime is installed."""
    found, is_compared = OnnxFiles(), find_spec("onnxruntime") is not None
    for name in ("onnx_ir", "onnxscript"):  # which tell of every node that they remove
        logging.getLogger(name).setLevel(logging.WARNING)
    for part in _parts(model):
        examples = _examples(model, part.inputs, EXAMPLES)
        try:
            content = _convert(part, examples)
            if is_compared:
                batches = [_examples(model, part.inputs, count) for count in COMPARED_BATCHES]
                found.differences[part.file] = _compared(part, content, batches)
        except Exception as error:  # those of torch, ONNX and ONNX Runtime are of many kinds
            found.problems.append(
                f"{part.file}: {part.weights} cannot be converted to ONNX ({first_line(first_cause(error))})"
            )
        else:
            found.contents[part.file] = content
    return found


def _parts(model: Model) -> list[OnnxPart]:
    metadata, parts = model.metadata, []
    if model.generator is not None:
        sizes = {"s": metadata.s_dim, "y": metadata.y_dim, "c": metadata.c_dim}
        inputs = tuple(name for name, size in sizes.items() if size)
        parts.append(OnnxPart(file_names.ONNX_GENERATOR, file_names.GENERATOR, _Generate(model), inputs, ("images",)))
    if model.encoder is not None:
        weights = file_names.OWN_ENCODER if metadata.encoder == "own" else file_names.ENCODER
        outputs = ("mean", "logvar")
        parts.append(OnnxPart(file_names.ONNX_ENCODER, weights, _Encode(model.encoder), ("images",), outputs))
    if model.vae is not None:
        decoder = _Decode(model.vae.decoder)
        parts.append(OnnxPart(file_names.ONNX_DECODER, file_names.ENCODER, decoder, ("c",), ("images",)))
    return parts


def _examples(model: Model, names: Sequence[str], count: int) -> list[Tensor]:
    """Return inputs as users have them; no two batches have the same."""
    seed, s_dim = count, model.metadata.s_dim
    makers = {
        "s": lambda: model.nuisance(count, seed)[:, :s_dim].clone(),
        "y": lambda: model.nuisance(count, seed)[:, s_dim:].clone(),
        "c": lambda: model.codes(count, seed),
        "images": lambda: model.sample(count, seed),
    }
    return [makers[name]() for name in names]


def _convert(part: OnnxPart, examples: list[Tensor]) -> bytes:
    """Return a part as the content of an ONNX file."""
    batch = {0: torch.export.Dim("batch")}
    shapes = tuple(batch for _ in examples)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            part.network.eval(),
            tuple(examples),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_shapes=(shapes,) if isinstance(part.network, _Generate) else shapes,
        )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # lines of code with the folders of this machine
    return program.model_proto.SerializeToString()


def _compared(part: OnnxPart, content: bytes, batches: list[list[Tensor]]) -> float:
    """Return how much a file's results differ from torch's at most. Raises a ValueError where that is too much."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for inputs in batches:
        found = session.run(part.outputs, {n: t.numpy() for n, t in zip(part.inputs, inputs, strict=True)})
        with torch.no_grad():
            wanted = part.network(*inputs)
        for name, a, b in zip(part.outputs, found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            largest = max(largest, _difference(name, a, b.numpy()))
    return largest


def _difference(name: str, found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    """Return the largest difference of an output, of images as in [-1, 1]. Raises a ValueError if it is too large."""
    if found.shape != wanted.shape:
        raise ValueError(f"{name} of ONNX Runtime are {list(found.shape)}, of torch {list(wanted.shape)}")
    scale = 2 if name == "images" else 1
    difference = float(np.abs(found - wanted).max()) * scale
    allowed = MOST_DIFFERENT * max(1.0, float(np.abs(wanted).max()))
    if not difference <= allowed:  # nor not a number
        raise ValueError(f"{name} of ONNX Runtime differ from torch's by {difference:.2g}, more than {allowed:.2g}")
    return difference
