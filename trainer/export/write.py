"""python -m trainer export RUN OUT: what a run has learnt as a folder that `trainer.load` opens (`exported.py`)."""

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
from .exported_model import Facts

BATCH = 512  # images that q looks at in one go


def export(run: Path, out: Path, step: str | None = None, average: str | None = None) -> Facts:
    """Write the averaged G of a checkpoint, q, and q's means and logvars of every training image.

    Raises a UserError where RUN is no run of stage 2 or has no such checkpoint, its data are not there or others, or
    OUT exists. OUT appears complete or not at all.
    """
    config = _config(run)
    if out.exists():
        raise UserError(f"{out}: is there already; name a folder that is not, or remove it")
    data = open_data(config.data, config.seed) if config.code_source == "posterior" else None
    channels = data.channels if data else _channels(run)
    at, manifest, generator, which = run_networks.average(run, step, config, channels, average)
    kind, q, content = _encoder(run, config, channels, at.name, manifest)
    if data:
        differs = changes(manifest["facts"], manifest["facts"] | dict(data.identity))
        if differs:
            raise UserError(
                f"{run}: {'; '.join(map(str, differs))}: not what it was trained on; mend {run / 'config.yaml'}"
            )
    origin = {"run": str(run), "step": at.name, "images_seen": manifest["images_seen"], **which, "seed": config.seed}
    origin |= {"inputs": manifest["facts"], "variant": config.data.variant, "versions": versions()}
    if data:
        origin["data_set"] = data.main.manifest.data_set
        origin |= {} if data.painting is None else {"painting_sha256": data.painting.sha256}
    facts = Facts(
        network=config.network.name,
        generator=networks.generator_arguments(config, channels),
        resolution=manifest["resolution"],
        alpha=manifest.get("alpha"),
        channels=channels,
        s_dim=config.s_dim,
        c_dim=config.c_dim,
        codes=config.code_source,
        encoder=kind,
        origin=origin,
    )
    files = {exported_model.FACTS: facts.to_json(), exported_model.GENERATOR: _bytes(generator)}
    if content:
        files[exported_model.OWN_ENCODER if kind == "own" else exported_model.ENCODER] = content
    if data:
        assert q is not None
        mean, logvar = bank(data, q)
        files[exported_model.BANK] = save({"mean": mean, "logvar": logvar})
    _publish(out, files)
    return facts


def _config(run: Path) -> GanConfig:
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run}: no run here (no config.yaml); name a folder that `python -m trainer gan` made")
    kind = kind_of(read_yaml(path))
    if kind is not GanConfig:
        raise UserError(f"{run}: is a run of stage 1, which has no generator; name one of `python -m trainer gan`")
    return load_config(GanConfig, path)


def _channels(run: Path) -> int:
    """Of the images that it was trained on."""

    last = published.newest(run)
    if last is None:
        raise UserError(f"{run}: holds no usable checkpoint; train the run further, or name another run folder")
    return int(published.read_manifest(last)["facts"]["channels"])


def _encoder(
    run: Path, config: GanConfig, channels: int, step: str, manifest: dict[str, Any]
) -> tuple[Any, CodeEncoder | None, bytes]:
    """(its kind, q, the content of its file)."""
    if config.code_source == "posterior":
        file = frozen.saved_path(run)
        if file is None:
            raise UserError(f"{run}: the frozen encoder of this run is gone; run its training command again")
        found = frozen.load(file)
        if found.sha256 != manifest["facts"]["vae"]:
            raise UserError(f"{file}: is not the encoder that this run was trained with; restore it")
        return "vae" if found.vae else "own", CodeEncoder(found.encoder), found.content
    if config.code_loss == "info":
        _, q = run_networks.network(run, step, "q", networks.joint_q(config, channels))
        return "joint", q, _bytes(q)
    return "none", None, b""


@torch.no_grad()
def bank(data: Data, q: CodeEncoder) -> tuple[Tensor, Tensor]:
    """q's (mean, logvar), each [N, c_dim], of every training image at 64 px; variants as drawn in epoch 0."""
    count, found = data.main.count, []
    with progress_bar() as bar:
        task = bar.add_task("encode the training set", total=count)
        for ids in torch.arange(count).split(BATCH):
            found.append(q(data.at(ids, data.seed).float() / 127.5 - 1))
            bar.advance(task, len(ids))
    means, logvars = zip(*found, strict=True)
    return torch.cat(means).contiguous(), torch.cat(logvars).contiguous()


def _bytes(network: nn.Module) -> bytes:
    return save({name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()})


def _publish(out: Path, files: dict[str, bytes]) -> None:
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
