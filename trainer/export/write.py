"""python -m trainer export RUN OUT: write the networks of a run as a folder that `trainer.load` opens."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from common import shipped
from common.atomic_writes import publish, sync_folder
from common.errors import UserError
from common.progress import progress_bar
from common.provenance import versions
from data_shards.format.manifest import making_command
from data_shards.read.loader import CODE_RESOLUTION
from models import CodeEncoder
from trainer.checkpoints import published
from trainer.config import file_names
from trainer.config.changes import changes
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig, kind_of
from trainer.config.settings import to_yaml, with_relative_paths
from trainer.config.yaml_file import read_yaml
from trainer.encoders import frozen
from trainer.jobs.exit_file import read_command
from trainer.stages.data import Data, open_data
from trainer.steps import networks

from . import exported_model, model_card, run_networks
from .exported_model import EncoderKind, ExportMetadata

BATCH = 512  # images that q encodes in one pass

BANK_IMAGES = 10_000  # whose posteriors an export holds, at most
BANK_ORDER = 2**31  # seed of the order that they are taken in: none that an evaluation's reference comes from

ExportedEncoder = tuple[EncoderKind, CodeEncoder | None, bytes]


@dataclass(frozen=True)
class Parts:
    """What is exported of one checkpoint. generator: None in stage 1; average: which average of G it is."""

    step: str
    manifest: dict[str, Any]
    generator: nn.Module | None
    average: dict[str, str]
    encoder: ExportedEncoder


def export_run(run: Path, out: Path, step: str | None = None, average: str | None = None) -> ExportMetadata:
    """Write the networks of a checkpoint, and q's means and logvars of training images, to a new folder.

    In stage 2 these are the averaged G and q, in stage 1 the VAE. step: a checkpoint's name, images seen or `best`;
    None is the newest. average: a name or a file; None is the first. Raises a UserError where RUN is no run or has no
    such checkpoint or average, its data are missing or others, or OUT exists. OUT appears complete or not at all.
    """
    config = _read_config(run)
    refuse_existing(out)
    has_bank = isinstance(config, VaeConfig) or config.code_source == "posterior"
    data = open_data(config.data, config.seed, file=run / "config.yaml") if has_bank else None
    channels = data.channels if data else _trained_channels(run)
    if isinstance(config, VaeConfig):
        parts = _vae_parts(run, config, channels, step, average)
    else:
        parts = _gan_parts(run, config, channels, step, average)
    if data:
        _refuse_other_data(run, parts.manifest, data)
    metadata = _metadata(run, config, parts, channels, data)
    card = _card(run, out, metadata, parts)
    return publish_export(out, metadata, tensor_files(parts, data), config, card)


def publish_export(
    out: Path, metadata: ExportMetadata, tensors: dict[str, bytes], config: VaeConfig | GanConfig, card: bytes
) -> ExportMetadata:
    """Write an export, which appears under its name when it is complete; return its metadata, with the hashes.

    tensors: the files that hold tensors, by name; card: the content of README.md.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in tensors.items()}
    metadata = replace(metadata, origin=metadata.origin | {"files": hashes})
    texts = {
        file_names.METADATA: metadata.to_json(),
        exported_model.CONFIG: _settings(config),
        exported_model.CARD: card,
    }
    _publish(out, tensors | texts)
    return metadata


def refuse_existing(out: Path) -> None:
    """Raise a UserError where the folder of a new export is there already."""
    if out.exists():
        raise UserError(f"{out}: is there already; name a folder that is not, or remove it")


def _card(run: Path, out: Path, metadata: ExportMetadata, parts: Parts) -> bytes:
    records = model_card.records_of(run, parts.step, parts.average.get("ema"))
    return model_card.model_card(out.name, asdict(metadata), parameter_counts(parts), records).encode()


def parameter_counts(parts: Parts) -> dict[str, int]:
    """Return how many parameters each network has, by its name for a reader."""
    kind, q, _ = parts.encoder
    networks = {"generator": parts.generator, "encoder" if kind != "vae" else "encoder of the VAE": q}
    return {name: sum(p.numel() for p in n.parameters()) for name, n in networks.items() if n is not None}


def _settings(config: VaeConfig | GanConfig) -> bytes:
    """Return the settings of an export: of no run folder and no node, with paths that a copy of the project has too."""
    data = config.data.model_copy(update={"cache": None})  # of the nodes that trained it
    return to_yaml(with_relative_paths(config.model_copy(update={"run": None, "data": data}), Path.cwd())).encode()


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
    return Parts(checkpoint.name, manifest, None, {}, ("vae", CodeEncoder(vae.encoder), content))


def _gan_parts(run: Path, config: GanConfig, channels: int, step: str | None, average: str | None) -> Parts:
    checkpoint, manifest, generator, record = run_networks.averaged_generator(run, step, config, channels, average)
    encoder = _encoder(run, config, channels, checkpoint.name, manifest)
    return Parts(checkpoint.name, manifest, generator, record, encoder)


def _encoder(run: Path, config: GanConfig, channels: int, step: str, manifest: dict[str, Any]) -> ExportedEncoder:
    """Return (its kind, q, the content of its file)."""
    if config.code_source == "posterior":
        file = frozen.saved_path(run)
        if file is None:
            raise UserError(f"{run}: the frozen encoder of this run is gone; run its training command again")
        encoder = frozen.load(file)
        if encoder.sha256 != manifest["facts"]["vae"]:
            raise UserError(f"{file}: is not the encoder that this run was trained with; restore it")
        return "vae" if encoder.vae else "own", CodeEncoder(encoder.encoder), encoder.content
    if config.code_loss == "info":
        _, q = run_networks.load_network(run, step, "q", networks.joint_q(config, channels))
        return "joint", q, _safetensors(q)
    return "none", None, b""


def _refuse_other_data(run: Path, manifest: dict[str, Any], data: Data) -> None:
    """Raise a UserError where the data are not those that the run was trained on."""
    different = changes(manifest["facts"], manifest["facts"] | dict(data.identity))
    if different:
        listed = "; ".join(map(str, different))
        raise UserError(f"{run}: {listed}: not what it was trained on; correct {run / 'config.yaml'}")


def _metadata(
    run: Path, config: VaeConfig | GanConfig, parts: Parts, channels: int, data: Data | None
) -> ExportMetadata:
    """Return the content of export.json."""
    is_gan, manifest = isinstance(config, GanConfig), parts.manifest
    origin = {"run": str(run), "step": parts.step, "images_seen": manifest["images_seen"], **parts.average}
    origin |= _training_record(run, config, manifest, data)
    return ExportMetadata(
        network=config.network.name if isinstance(config, GanConfig) else None,
        generator=networks.generator_arguments(config, channels) if isinstance(config, GanConfig) else None,
        resolution=manifest["resolution"] if is_gan else CODE_RESOLUTION,
        alpha=manifest.get("alpha"),
        channels=channels,
        s_dim=config.s_dim if isinstance(config, GanConfig) else 0,
        c_dim=config.c_dim,
        codes=config.code_source if isinstance(config, GanConfig) else "posterior",
        encoder=parts.encoder[0],
        origin=origin | _inputs_record(config, manifest, data),
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


def tensor_files(parts: Parts, data: Data | None) -> dict[str, bytes]:
    """Return the files of an export that hold tensors, by name."""
    kind, q, content = parts.encoder
    files: dict[str, bytes] = {}
    if parts.generator is not None:
        files[file_names.GENERATOR] = _safetensors(parts.generator)
    if content:
        files[file_names.OWN_ENCODER if kind == "own" else file_names.ENCODER] = content
    if data:
        assert q is not None
        mean, logvar = bank(data, q)
        files[exported_model.BANK] = save({"mean": mean, "logvar": logvar})
    return files


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


def _safetensors(network: nn.Module) -> bytes:
    """Return a network's weights as the content of a safetensors file."""
    return save({name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()})


def _publish(out: Path, files: dict[str, bytes]) -> None:
    """Write the files to a folder that appears under its name when it is complete."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, content in files.items():
            publish(temporary / name, content)
        os.rename(temporary, out)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(out.parent)
