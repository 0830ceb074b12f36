"""python -m trainer export RUN OUT: write the networks of a run as a folder that `trainer.load` opens."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from safetensors.torch import save
from torch import nn

from common.atomic_writes import publish, sync_folder
from common.errors import UserError, listed
from trainer.config import file_names
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.settings import to_yaml, with_relative_paths
from trainer.steps.networks import discriminator

from . import exported_model, model_card, onnx_files, run_networks
from .exported_model import ExportMetadata, Model
from .onnx_files import OnnxFiles
from .open_model import refuse_choice
from .run_parts import BankSource, Parts, bank_tensors, read_run, safetensors


def export(
    source: Path,
    out: Path,
    step: str | None = None,
    average: str | None = None,
    onnx: bool = False,
    with_d: bool = False,
) -> ExportMetadata:
    """Write a run as an export, or a copy of an export with ONNX files, to a new folder.

    source: a run folder, or with `onnx` also an export; the rest as of `export_run`.
    """
    if not (source / file_names.METADATA).is_file():
        return export_run(source, out, step, average, onnx, with_d)
    if with_d:
        raise UserError(f"--discriminator: {source}: is an export, whose files are copied as they are; name its run")
    if not onnx:
        raise UserError(f"{source}: is an export already; name a run folder, or add --onnx for a copy with ONNX files")
    refuse_choice(source, step, average)
    return copy_with_onnx(source, out)


def export_run(
    run: Path,
    out: Path,
    step: str | None = None,
    average: str | None = None,
    onnx: bool = False,
    with_d: bool = False,
) -> ExportMetadata:
    """Write the networks of a checkpoint, and q's means and logvars of training images, to a new folder.

    In stage 2 these are the averaged G and q, in stage 1 the VAE. step: a checkpoint's name, images seen or `best`;
    None is the newest. average: a name or a file; None is the first. onnx: also write them as ONNX. with_d: also write
    D, which has no average, for runs that start from the export. Raises a UserError where RUN is no run or has no such
    checkpoint, average or D, its data are missing or others, or OUT exists. OUT appears complete or not at all; only a
    part that ONNX cannot hold is left out, and then named in a UserError.
    """
    _refuse(out, onnx)
    config, parts, metadata, source = read_run(run, step, average)
    d = _discriminator(run, config, parts, metadata) if with_d else None
    converted = OnnxFiles()
    if onnx:
        model = Model(metadata, parts.generator, parts.encoder.q, parts.encoder.vae)
        if source and source.labels:
            model.label_rows = source.labels.rows  # which its label vectors are drawn from
        converted = onnx_files.onnx_files(model)
        metadata = _with_record(metadata, converted)
    card = _card(run, out, metadata, parameter_counts(parts, d), parts)
    files = tensor_files(parts, source, d) | converted.contents
    written = publish_export(out, metadata, files, config, card)
    _report(out, converted)
    return written


def copy_with_onnx(folder: Path, out: Path) -> ExportMetadata:
    """Write a copy of an export with its parts as ONNX files too. Raises a UserError as `export_run` does."""
    _refuse(out, True)
    model = exported_model.load(folder)
    names = [name for name in exported_model.files_of(folder) if not name.endswith(".onnx")]  # which are made anew
    files = {name: (folder / name).read_bytes() for name in names}
    converted = onnx_files.onnx_files(model)
    recorded = {name: digest for name, digest in model.metadata.origin.get("files", {}).items() if name in files}
    hashes = recorded | _hashes(converted.contents)
    metadata = _with_record(model.metadata, converted)
    metadata = replace(metadata, origin=metadata.origin | {"files": hashes})
    card = model_card.with_onnx(files[exported_model.CARD].decode(), asdict(metadata))
    texts = {file_names.METADATA: metadata.to_json(), exported_model.CARD: card.encode()}
    _publish(out, files | converted.contents | texts)
    _report(out, converted)
    return metadata


def _refuse(out: Path, onnx: bool) -> None:
    """Raise a UserError where an export cannot be written, before anything is read."""
    refuse_existing(out)
    if onnx:
        onnx_files.require()


def _with_record(metadata: ExportMetadata, converted: OnnxFiles) -> ExportMetadata:
    return replace(metadata, origin=metadata.origin | {"onnx": converted.record()})


def _report(out: Path, converted: OnnxFiles) -> None:
    """Raise a UserError that names the parts of a model that ONNX cannot hold, if there are any."""
    if converted.problems:
        raise listed(f"{out}: is written and can be used, but without these ONNX files:", converted.problems)


def _hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def publish_export(
    out: Path, metadata: ExportMetadata, tensors: dict[str, bytes], config: VaeConfig | GanConfig, card: bytes
) -> ExportMetadata:
    """Write an export, which appears under its name when it is complete; return its metadata, with the hashes.

    tensors: the files that hold tensors, by name; card: the content of README.md.
    """
    metadata = replace(metadata, origin=metadata.origin | {"files": _hashes(tensors)})
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


def _discriminator(run: Path, config: VaeConfig | GanConfig, parts: Parts, metadata: ExportMetadata) -> nn.Module:
    """Return D of the checkpoint. Raises a UserError in stage 1, which has none."""
    if isinstance(config, VaeConfig):
        raise UserError(f"--discriminator: {run}: is a run of stage 1, which has no D; leave it out")
    sizes = metadata.channels, run_networks.trained_y_dim(run)
    return run_networks.load_network(run, parts.step, "discriminator", discriminator(config, *sizes))[1]


def _card(run: Path, out: Path, metadata: ExportMetadata, counts: dict[str, int], parts: Parts) -> bytes:
    records = model_card.records_of(run, parts.step, parts.average.get("ema"))
    return model_card.model_card(out.name, asdict(metadata), counts, records).encode()


def parameter_counts(parts: Parts, d: nn.Module | None = None) -> dict[str, int]:
    """Return how many parameters each network has, by its name for a reader. d: D, where it is exported too."""
    kind, q, *_ = parts.encoder
    networks = {
        "generator": parts.generator,
        "discriminator": d,
        "encoder" if kind != "vae" else "encoder of the VAE": q,
    }
    return {name: sum(p.numel() for p in n.parameters()) for name, n in networks.items() if n is not None}


def _settings(config: VaeConfig | GanConfig) -> bytes:
    """Return the settings of an export: of no run folder and no node, with paths that a copy of the project has too."""
    data = config.data.model_copy(update={"cache": None})  # of the nodes that trained it
    return to_yaml(with_relative_paths(config.model_copy(update={"run": None, "data": data}), Path.cwd())).encode()


def tensor_files(parts: Parts, source: BankSource | None, d: nn.Module | None = None) -> dict[str, bytes]:
    """Return the files of an export that hold tensors, by name.

    source: of the bank, None where there is none; d: D, where it is exported too.
    """
    kind, *_, content = parts.encoder
    files: dict[str, bytes] = {}
    if parts.generator is not None:
        files[file_names.GENERATOR] = safetensors(parts.generator)
    if d is not None:
        files[file_names.DISCRIMINATOR] = safetensors(d)
    if content:
        files[file_names.OWN_ENCODER if kind == "own" else file_names.ENCODER] = content
    if source:
        files[exported_model.BANK] = save(bank_tensors(source))
    return files


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
