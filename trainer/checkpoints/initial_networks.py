"""Networks that a new run starts from (`init_from`): those of another run's newest checkpoint, or of an export.

What both have is taken; blocks of higher resolutions, image layers, D's bottleneck and labels may be new. Clock and
optimizers start fresh, and so does D of an export that holds none (`export --discriminator` writes it). InfoGAN's q is
a network of its own, which shares no layer with D: an export has it, as a checkpoint has. The frozen encoder of other
systems is no part of this: `vae` names it. Of stage 1 the decoder is taken: Table A.3's generator is the same network,
and sees s and labels besides.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

from common import shipped
from common.errors import UserError
from trainer.config import exported_files
from trainer.config.file_names import DISCRIMINATOR, ENCODER, GENERATOR, METADATA
from trainer.config.schema import GanConfig
from trainer.config.sections import EmaConfig

from . import finite, published
from .load import load_tensors
from .state import State

NETWORKS = ("generator", "discriminator", "q", "ema")
AVERAGE = re.compile(r"ema\.(?P<name>.+?)\.(?P<parameter>(?:fc|blocks|to_rgb|layers)\..+)")
FIRST_LAYER = re.compile(r"(?:generator|ema\..+)\.(?:fc|layers\.0)\.weight")
MAY_BE_NEW = re.compile(
    r"generator\.(?:blocks|to_rgb)\.\d+|discriminator\.(?:(?:blocks|from_rgb)\.\d+|bottleneck|judge\.(?:label_)?projection)"
)


@dataclass(frozen=True)
class InitialNetworks:
    """Trained networks by the names that a checkpoint gives their tensors.

    source: the folder that they come from; sha256: of names and values; tensors: whole, on the CPU, none where a run
    resumes, which has taken them; average: of the source, what averages that it has not start as; labels: that the
    source's networks are told; channels: of the images that they were trained on, None where that is not recorded;
    of_stage_1: whether G is a VAE's decoder, which sees c alone.
    """

    source: Path
    sha256: str
    tensors: dict[str, Tensor]
    average: str
    labels: tuple[str, ...] = ()
    channels: int | None = None
    of_stage_1: bool = False

    def tensor(self, name: str) -> Tensor | None:
        """Return what a tensor of a checkpoint starts as, None where it starts fresh."""
        match = AVERAGE.fullmatch(name)
        if name in self.tensors or match is None:
            return self.tensors.get(name)
        return self.tensors.get(f"ema.{self.average}.{match['parameter']}")


def load(path: Path) -> InitialNetworks:
    """Read the networks of a run's newest checkpoint, or of an export. Raises a UserError where there are none."""
    path = shipped.found(path)
    if not path.exists():
        raise UserError(f"init_from: {path}: no such folder; name a run, or an export of one")
    is_export = (path / METADATA).is_file()
    tensors, average = _of_export(path) if is_export else _of_run(path)
    of_stage_1 = any(map(_of_decoder, tensors))
    if of_stage_1:
        tensors, average = _as_generator(tensors), "export"
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.contiguous().numpy().tobytes())
    labels, channels = _origin_of_export(path) if is_export else _origin_of_run(path)
    return InitialNetworks(path, digest.hexdigest(), tensors, average, labels, channels, of_stage_1)


def _origin_of_export(path: Path) -> tuple[tuple[str, ...], int | None]:
    """Return the labels that an export's networks are told, and the channels of their images."""
    metadata = _metadata(path)
    return tuple(label["name"] for label in metadata.get("labels") or ()), metadata.get("channels")


def _origin_of_run(path: Path) -> tuple[tuple[str, ...], int | None]:
    step = published.newest(path)
    if step is None:
        return (), None
    manifest = published.read_manifest(step)
    return tuple(manifest["config"].get("labels") or ()), manifest["facts"].get("channels")


def with_inputs(initial: InitialNetworks, config: GanConfig, y_dim: int) -> InitialNetworks:
    """Return networks for a config whose G sees more: its first layer gets columns of 0 for y, and for a decoder's s.

    So G draws the same images at first, whatever y and s are. y_dim: size of y, which stands between s and c. Networks
    that have labels already stay as they are; others than the config's are refused.
    """
    if initial.labels and initial.labels != config.labels:
        told = ", ".join(initial.labels)
        raise UserError(
            f"init_from: {initial.source}: its networks are told {told}, those of this config "
            f"{', '.join(config.labels or ()) or 'no labels'}; set labels=[{told}], or name another run"
        )
    new_s = config.s_dim if initial.of_stage_1 else 0
    if initial.labels or not y_dim + new_s:
        return initial
    found, known_s = dict(initial.tensors), config.s_dim - new_s
    for name, weight in initial.tensors.items():
        if FIRST_LAYER.fullmatch(name) and weight.shape[1] == known_s + config.c_dim:
            s, c = weight[:, :known_s], weight[:, known_s:]
            found[name] = torch.cat((s, weight.new_zeros(len(weight), new_s + y_dim), c), 1)
    return replace(initial, tensors=found)


def problems(initial: InitialNetworks, wanted: Mapping[str, torch.Size], channels: int, variant: str) -> list[str]:
    """List what of the source does not fit, and as the last line what to do.

    wanted: shapes of G, D and q by the names of a checkpoint; channels, variant: of the config's data.
    """
    found, have = [], {name.partition(".")[0] for name in initial.tensors}
    for name, shape in wanted.items():
        tensor = initial.tensor(name)
        if tensor is not None and tensor.shape != shape:
            there, here = (" x ".join(map(str, s)) for s in (tensor.shape, shape))
            found.append(f"init_from: {initial.source}: {name} is {there} there, {here} in this config")
        if tensor is None and name.partition(".")[0] in have and not MAY_BE_NEW.match(name):
            found.append(f"init_from: {initial.source}: has no {name}, which this config's network has")
    return [*found, f"init_from: {initial.source}: {_remedy(initial, channels, variant)}"] if found else []


def _remedy(initial: InitialNetworks, channels: int, variant: str) -> str:
    """Say how networks and config come to fit."""
    there = initial.channels
    if there is not None and there != channels:
        other = "plain" if there == 1 else "color"
        return (
            f"its networks are for images of {there} channel{'s' * (there != 1)}, those of data.path (data.variant: "
            f"{variant}) have {channels}; name another run, or other data in data.path, or for sprites set "
            f"data.variant={other}"
        )
    return (
        "set network, s_dim, c_dim and d_sees_code as in its config.yaml (at N times its resolution network.nf / N; "
        "for a decoder of stage 1 network={name: conv}), or name another run"
    )


def fill(state: State, initial: InitialNetworks) -> None:
    """Write the source's networks into a fresh state. All processes call it together."""
    tensors = state.state_dict()
    for name, like in tensors.items():
        value = initial.tensor(name)
        if value is not None:
            tensors[name] = _laid_out(value, like)
    state.load_state_dict(tensors)


def report(initial: InitialNetworks, wanted: Mapping[str, torch.Size], encoder: Path | None) -> str:
    """Say how many tensors a run takes, of which networks, and which modules start fresh.

    encoder: what `vae` names, None where the config has no frozen encoder.
    """
    taken = [name for name in wanted if initial.tensor(name) is not None]
    of = dict.fromkeys(name.partition(".")[0] for name in taken)
    others = (name for name in wanted if initial.tensor(name) is None)
    fresh = dict.fromkeys(_module(name) if name.partition(".")[0] in of else name.partition(".")[0] for name in others)
    what = f"init_from: {initial.source}: {len(taken)} of {len(wanted)} tensors of the networks are taken"
    what += f", of {', '.join(of)}" if of else ""
    what += f"; {', '.join(fresh)} start fresh" if fresh else ""
    return what + (f"; the frozen encoder is that of vae: {encoder}" if encoder else "")


def _module(name: str) -> str:
    """Return a block or layer that a tensor belongs to, or its network where that has no such names."""
    match = MAY_BE_NEW.match(name)
    return match[0] if match else name.partition(".")[0]


def _of_run(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return (tensors, the name of the first average, of which stage 1 has none)."""
    step = published.newest(path)
    if step is None:
        raise UserError(f"init_from: {path}: is no export and holds no usable checkpoint; name a run")
    stored = FileSystemReader(step).read_metadata().state_dict_metadata
    shapes = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype, device="cpu")
        for name, entry in stored.items()
        if isinstance(entry, TensorStorageMetadata) and (name.partition(".")[0] in NETWORKS or _of_decoder(name))
    }
    try:
        found = load_tensors(step, shapes)
        if any(map(_of_decoder, found)):
            return found, ""
        averages = EmaConfig(averages=published.read_manifest(step)["config"]["ema.averages"]).averages
        return found, averages[0].name
    except UserError as error:
        raise UserError(f"init_from: {path}: checkpoint {step.name} {error}; remove it, or name another run") from None


def _of_export(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return (tensors, the name of the average that they are, "" for stage 1)."""
    if (path / GENERATOR).is_file():
        found = _twice(_read(path, GENERATOR))
        if (path / DISCRIMINATOR).is_file():
            found |= {f"discriminator.{name}": tensor for name, tensor in _read(path, DISCRIMINATOR).items()}
        if _metadata(path).get("encoder") == "joint":
            found |= {f"q.{name}": tensor for name, tensor in _read(path, ENCODER).items()}
        return found, "export"
    if not (path / ENCODER).is_file():
        raise UserError(f"init_from: {path}: holds an encoder of your own and no generator; name another export")
    return _read(path, ENCODER), ""


def _read(path: Path, file: str) -> dict[str, Tensor]:
    """Return the tensors of a file of an export."""
    exported_files.check(path, file)
    try:
        found = load_file(path / file)
    except (OSError, SafetensorError) as error:
        raise exported_files.broken(path / file, error) from None
    if bad := finite.not_finite(found):
        raise UserError(f"init_from: {path}: holds values that are not finite ({finite.listed(bad)}); name another")
    return found


def _metadata(path: Path) -> dict[str, Any]:
    """Return the content of an export's export.json."""
    try:
        content: dict[str, Any] = json.loads((path / METADATA).read_bytes())
        content.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise exported_files.broken(path / METADATA, error) from None
    return content


def _twice(generator: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of a generator as those of G and of an average."""
    return {f"{as_}.{name}": t for as_ in ("generator", "ema.export") for name, t in generator.items()}


def _of_decoder(name: str) -> bool:
    """Return whether a tensor of an export or of a run's checkpoint is of a VAE's decoder."""
    return name.startswith(("decoder.", "vae.decoder."))


def _as_generator(vae: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn a decoder into the generator that draws its images: tanh(x / 2) of its logits x is 2 sigmoid(x) - 1."""
    decoder = {name.partition("decoder.")[2]: tensor for name, tensor in vae.items() if _of_decoder(name)}
    last = max(int(name.partition(".")[0]) for name in decoder)
    return _twice(
        {f"layers.{name}": t / 2 if name.startswith(f"{last}.") else t.clone() for name, t in decoder.items()}
    )


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    value = value.to(like.device, like.dtype)
    return distribute_tensor(value, like.device_mesh, like.placements) if isinstance(like, DTensor) else value
