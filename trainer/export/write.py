"""python -m trainer export RUN OUT: write the networks of a run as a folder that `trainer.load` opens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from common.atomic_writes import publish, sync_folder
from common.errors import UserError
from common.progress import progress_bar
from common.provenance import versions
from models import CodeEncoder
from trainer.checkpoints import published
from trainer.config.changes import changes
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, kind_of
from trainer.config.yaml_file import read_yaml
from trainer.encoders import frozen
from trainer.stages.data import Data, open_data
from trainer.steps import networks

from . import exported_model, run_networks
from .exported_model import EncoderKind, ExportMetadata

BATCH = 512  # images that q encodes in one pass

ExportedEncoder = tuple[EncoderKind, CodeEncoder | None, bytes]


def export_run(run: Path, out: Path, step: str | None = None, average: str | None = None) -> ExportMetadata:
    """Write the averaged G of a checkpoint, q, and q's means and logvars of every training image, to a new folder.

    step: a checkpoint's name, images seen or `best`; None is the newest. average: a name or a file; None is the first.
    Raises a UserError where RUN is no run of stage 2 or has no such checkpoint, its data are missing or others, or OUT
    exists. OUT appears complete or not at all.
    """
    config = _read_config(run)
    if out.exists():
        raise UserError(f"{out}: is there already; name a folder that is not, or remove it")
    data = open_data(config.data, config.seed) if config.code_source == "posterior" else None
    channels = data.channels if data else _trained_channels(run)
    checkpoint, manifest, generator, average_record = run_networks.averaged_generator(
        run, step, config, channels, average
    )
    encoder = _encoder(run, config, channels, checkpoint.name, manifest)
    if data:
        _refuse_other_data(run, manifest, data)
    origin = {"run": str(run), "step": checkpoint.name, "images_seen": manifest["images_seen"], **average_record}
    origin |= _inputs_record(config, manifest, data)
    metadata = _metadata(config, manifest, channels, encoder[0], origin)
    _publish(out, _files(metadata, generator, encoder, data))
    return metadata


def _read_config(run: Path) -> GanConfig:
    """Read the config of a run of stage 2."""
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run}: no run here (no config.yaml); name a folder that `python -m trainer gan` made")
    kind = kind_of(read_yaml(path))
    if kind is not GanConfig:
        raise UserError(f"{run}: is a run of stage 1, which has no generator; name one of `python -m trainer gan`")
    return load_config(GanConfig, path)


def _trained_channels(run: Path) -> int:
    """Return the channels of the images that a run was trained on."""
    newest = published.newest(run)
    if newest is None:
        raise UserError(f"{run}: holds no usable checkpoint; train the run further, or name another run folder")
    return int(published.read_manifest(newest)["facts"]["channels"])


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


def _inputs_record(config: GanConfig, manifest: dict[str, Any], data: Data | None) -> dict[str, Any]:
    """Return what identifies seed, inputs and versions in export.json, with the notes of the data set, if any."""
    record = {"seed": config.seed, "inputs": manifest["facts"], "variant": config.data.variant, "versions": versions()}
    if manifest.get("data_notes"):
        record["data_notes"] = manifest["data_notes"]
    if data:
        record["data_set"] = data.main.manifest.data_set
        if data.painting is not None:
            record["painting_sha256"] = data.painting.sha256
    return record


def _metadata(
    config: GanConfig, manifest: dict[str, Any], channels: int, encoder_kind: EncoderKind, origin: dict[str, Any]
) -> ExportMetadata:
    """Return the content of export.json."""
    return ExportMetadata(
        network=config.network.name,
        generator=networks.generator_arguments(config, channels),
        resolution=manifest["resolution"],
        alpha=manifest.get("alpha"),
        channels=channels,
        s_dim=config.s_dim,
        c_dim=config.c_dim,
        codes=config.code_source,
        encoder=encoder_kind,
        origin=origin,
    )


def _files(
    metadata: ExportMetadata, generator: nn.Module, encoder: ExportedEncoder, data: Data | None
) -> dict[str, bytes]:
    """Return the files of an export by name."""
    kind, q, content = encoder
    files = {exported_model.METADATA: metadata.to_json(), exported_model.GENERATOR: _safetensors(generator)}
    if content:
        files[exported_model.OWN_ENCODER if kind == "own" else exported_model.ENCODER] = content
    if data:
        assert q is not None
        mean, logvar = bank(data, q)
        files[exported_model.BANK] = save({"mean": mean, "logvar": logvar})
    return files


@torch.no_grad()
def bank(data: Data, q: CodeEncoder) -> tuple[Tensor, Tensor]:
    """Return q's (mean, logvar), each [N, c_dim], of every training image at 64 px; variants as drawn in epoch 0."""
    count, codes = data.main.count, []
    with progress_bar() as bar:
        task = bar.add_task("encode the training set", total=count)
        for ids in torch.arange(count).split(BATCH):
            codes.append(q(data.at(ids, data.seed).float() / 127.5 - 1))
            bar.advance(task, len(ids))
    means, logvars = zip(*codes, strict=True)
    return torch.cat(means).contiguous(), torch.cat(logvars).contiguous()


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
