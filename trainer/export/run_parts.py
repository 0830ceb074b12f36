"""Read what the model of a run consists of: generator, encoder, posteriors of training images, and their origin.

`write.py` makes an export of it, `open_model.py` a model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from common import shipped
from common.errors import UserError
from common.progress import progress_bar
from common.provenance import versions
from data_shards.format.manifest import making_command
from data_shards.read.loader import CODE_RESOLUTION
from models import VAE, CodeEncoder
from trainer.checkpoints import published
from trainer.config import file_names
from trainer.config.changes import changes
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig, kind_of
from trainer.config.yaml_file import read_yaml
from trainer.encoders import frozen
from trainer.jobs.exit_file import read_command
from trainer.labels.label_table import LabelTable
from trainer.stages.data import Data, labels_of, open_data
from trainer.steps import networks

from . import model_card, run_networks
from .exported_model import EncoderKind, ExportMetadata

BATCH = 512  # images that q encodes in one pass

BANK_IMAGES = 10_000  # whose posteriors an export holds, at most
BANK_ORDER = 2**31  # seed of the order that they are taken in: none that an evaluation's reference comes from


class ExportedEncoder(NamedTuple):
    """The encoder of a model: its kind, q, the VAE that q belongs to, and the content of its file in an export."""

    kind: EncoderKind
    q: CodeEncoder | None
    vae: VAE | None
    content: bytes


NO_ENCODER = ExportedEncoder("none", None, None, b"")


@dataclass(frozen=True)
class Parts:
    """What is exported of one checkpoint. generator: None in stage 1; average: which average of G it is."""

    step: str
    manifest: dict[str, Any]
    generator: nn.Module | None
    average: dict[str, str]
    encoder: ExportedEncoder


class BankSource(NamedTuple):
    """Where the bank of an export comes from: the data, q where codes are its posteriors, labels if there are any."""

    data: Data
    q: CodeEncoder | None
    labels: LabelTable | None


class RunParts(NamedTuple):
    """What a run is at a checkpoint.

    source: what its codes and labels are drawn from; None where they are not, or not asked for.
    """

    config: VaeConfig | GanConfig
    parts: Parts
    metadata: ExportMetadata
    source: BankSource | None


def read_run(run: Path, step: str | None, average: str | None, with_codes: bool = True) -> RunParts:
    """Read the networks of a checkpoint, and open the data that its codes are drawn from.

    step, average: as in `write.export_run`; with_codes: False opens no data but that of labels. Raises a UserError
    where RUN is no run or has no such checkpoint or average, or its data are missing or others.
    """
    config = _read_config(run)
    has_codes = with_codes and (isinstance(config, VaeConfig) or config.code_source == "posterior")
    has_labels = isinstance(config, GanConfig) and config.labels is not None
    data = open_data(config.data, config.seed, file=run / "config.yaml") if has_codes or has_labels else None
    labels = labels_of(config, data) if data else None
    channels = data.channels if data else _trained_channels(run)
    if isinstance(config, VaeConfig):
        parts = _vae_parts(run, config, channels, step, average)
    else:
        sizes = channels, run_networks.trained_y_dim(run)
        parts = _gan_parts(run, config, sizes, step, average)
    if data:
        _refuse_other_data(run, parts.manifest, data)
    metadata = _metadata(run, config, parts, channels, data, labels)
    source = BankSource(data, parts.encoder.q if has_codes else None, labels) if data else None
    return RunParts(config, parts, metadata, source)


def _read_config(run: Path) -> VaeConfig | GanConfig:
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run}: no run here (no config.yaml); name a folder that `python -m trainer` made")
    return load_config(kind_of(read_yaml(path)), path)


def _trained_channels(run: Path) -> int:
    """Return the channels of the images that a run was trained on."""
    newest = published.newest(run)
    if newest is None:
        raise UserError(f"{run}: holds no usable checkpoint; train the run further, or name another run folder")
    return int(published.read_manifest(newest)["facts"]["channels"])


def _vae_parts(run: Path, config: VaeConfig, channels: int, step: str | None, average: str | None) -> Parts:
    if average is not None:
        raise UserError(f"--ema: {average}: {run} is a run of stage 1, which averages nothing; leave --ema out")
    checkpoint, vae = run_networks.load_network(run, step, "vae", networks.vae(config, channels))
    manifest = published.read_manifest(checkpoint)
    content = frozen.of_vae(vae, manifest.get("data_notes", [])).content
    return Parts(checkpoint.name, manifest, None, {}, ExportedEncoder("vae", CodeEncoder(vae.encoder), vae, content))


def _gan_parts(run: Path, config: GanConfig, sizes: tuple[int, int], step: str | None, average: str | None) -> Parts:
    checkpoint, manifest, generator, record = run_networks.averaged_generator(run, step, config, sizes, average)
    encoder = _encoder(run, config, sizes[0], checkpoint.name, manifest)
    return Parts(checkpoint.name, manifest, generator, record, encoder)


def _encoder(run: Path, config: GanConfig, channels: int, step: str, manifest: dict[str, Any]) -> ExportedEncoder:
    """Return the encoder of a run of stage 2."""
    if config.code_source == "posterior":
        file = frozen.saved_path(run)
        if file is None:
            raise UserError(f"{run}: the frozen encoder of this run is gone; run its training command again")
        encoder = frozen.load(file)
        if encoder.sha256 != manifest["facts"]["vae"]:
            raise UserError(f"{file}: is not the encoder that this run was trained with; restore it")
        kind: EncoderKind = "vae" if encoder.vae else "own"
        return ExportedEncoder(kind, CodeEncoder(encoder.encoder), encoder.vae, encoder.content)
    if config.code_loss == "info":
        _, q = run_networks.load_network(run, step, "q", networks.joint_q(config, channels))
        return ExportedEncoder("joint", q, None, safetensors(q))
    return NO_ENCODER


def _refuse_other_data(run: Path, manifest: dict[str, Any], data: Data) -> None:
    """Raise a UserError where the data are not those that the run was trained on."""
    different = changes(manifest["facts"], manifest["facts"] | dict(data.identity))
    if different:
        listed = "; ".join(map(str, different))
        raise UserError(f"{run}: {listed}: not what it was trained on; correct {run / 'config.yaml'}")


def _metadata(
    run: Path,
    config: VaeConfig | GanConfig,
    parts: Parts,
    channels: int,
    data: Data | None,
    table: LabelTable | None,
) -> ExportMetadata:
    """Return the content of export.json."""
    manifest, labels = parts.manifest, table.labels if table else None
    sizes = channels, labels.dim if labels else 0
    origin = {"run": str(run), "step": parts.step, "images_seen": manifest["images_seen"], **parts.average}
    origin |= _training_record(run, config, manifest, data)
    return ExportMetadata(
        network=config.network.name if isinstance(config, GanConfig) else None,
        generator=networks.generator_arguments(config, *sizes) if isinstance(config, GanConfig) else None,
        resolution=manifest["resolution"] if isinstance(config, GanConfig) else CODE_RESOLUTION,
        alpha=manifest.get("alpha"),
        channels=channels,
        s_dim=config.s_dim if isinstance(config, GanConfig) else 0,
        c_dim=config.c_dim,
        codes=config.code_source if isinstance(config, GanConfig) else "posterior",
        encoder=parts.encoder.kind,
        origin=origin | _inputs_record(config, manifest, data),
        labels=labels.to_json() if labels else None,
    )


def _training_record(
    run: Path, config: VaeConfig | GanConfig, manifest: dict[str, Any], data: Data | None
) -> dict[str, Any]:
    """Return the commands that made the model, as they were typed, and what the last of them took."""
    made = making_command(data.main.manifest, config.data.path) if data else None
    sources = (config.vae, config.init_from) if isinstance(config, GanConfig) else ()
    commands = [made, *(command for source in sources for command in _commands_of(source)), read_command(run)]
    took = model_card.hours(run, manifest["images_seen"], manifest["world_size"])
    return {
        "commands": list(dict.fromkeys(command for command in commands if command)),
        "processes": manifest["world_size"],
        **({} if took is None else {"hours": round(took, 3)}),
        **{name: manifest[name] for name in ("hardware",) if name in manifest},
    }


def _commands_of(source: Path | None) -> list[str | None]:
    """Return the commands that trained what a run starts with, where its run or its export is still there."""
    if source is None:
        return []
    exported = shipped.found(source) / file_names.METADATA
    if exported.is_file():
        commands: list[str | None] = json.loads(exported.read_bytes())["origin"].get("commands", [])
        return commands
    return [read_command(source)]


def _inputs_record(config: VaeConfig | GanConfig, manifest: dict[str, Any], data: Data | None) -> dict[str, Any]:
    """Return what identifies seed, inputs and versions in export.json, with the notes of the data set, if any."""
    record = {"system": config.system, "iteration": manifest["iteration"], "seed": config.seed}
    record |= {"inputs": manifest["facts"], "variant": config.data.variant, "versions": versions()}
    if manifest.get("data_notes"):
        record["data_notes"] = manifest["data_notes"]
    return record | (data_record(data) if data else {})


def data_record(data: Data) -> dict[str, Any]:
    """Return what export.json says of a data set, beside its identity."""
    record: dict[str, Any] = {"data_set": data.main.manifest.data_set, "images": data.main.count}
    if data.main.manifest.drawn_by is not None:
        record["drawn_by"] = data.main.manifest.drawn_by
    if data.painting is not None:
        record["painting_sha256"] = data.painting.sha256
    return record


def bank_tensors(source: BankSource) -> dict[str, Tensor]:
    """Return the content of bank.safetensors."""
    tensors: dict[str, Tensor] = {}
    if source.q is not None:
        mean, logvar = bank(source.data, source.q)
        tensors |= {"mean": mean, "logvar": logvar}
    if source.labels is not None:
        tensors["labels"] = source.labels.rows[bank_images(source.data)].contiguous()
    return tensors


@torch.no_grad()
def bank(data: Data, q: CodeEncoder) -> tuple[Tensor, Tensor]:
    """Return q's (mean, logvar), each [N, c_dim], of at most BANK_IMAGES training images at 64 px.

    Images of a larger set are chosen by their position in an order of their own; variants are drawn as in epoch 0.
    """
    chosen, codes = bank_images(data), []
    with progress_bar() as bar:
        task = bar.add_task("encode images of the training set", total=len(chosen))
        for ids in chosen.split(BATCH):
            codes.append(q(data.at(ids, data.seed).float() / 127.5 - 1))
            bar.advance(task, len(ids))
    means, logvars = zip(*codes, strict=True)
    return torch.cat(means).contiguous(), torch.cat(logvars).contiguous()


def bank_images(data: Data) -> Tensor:
    """Return the numbers of the images whose posteriors an export holds, ascending: int64 [N]."""
    count = data.main.count
    if count <= BANK_IMAGES:
        return torch.arange(count)
    return data.mixed(BANK_ORDER, torch.arange(BANK_IMAGES)).sort().values


def safetensors(network: nn.Module) -> bytes:
    """Return a network's weights as the content of a safetensors file."""
    return save({name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()})
