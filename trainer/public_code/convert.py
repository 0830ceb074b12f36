"""python -m trainer import FILE --as CONFIG: write the networks of the public code as an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from common.errors import UserError, listed
from data_shards.read.loader import CODE_RESOLUTION
from models import VAE, CodeEncoder, freeze
from trainer.checkpoints import published
from trainer.config.feature_networks import sha256
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.yaml_file import read_yaml
from trainer.encoders import frozen
from trainer.export import model_card, run_parts, write
from trainer.export.exported_model import EncoderKind, ExportMetadata
from trainer.export.run_parts import BankSource, ExportedEncoder, Parts
from trainer.jobs.exit_file import typed_command
from trainer.stages.data import Data, open_data
from trainer.steps import networks

from .names import fill, problems
from .read import PublicCheckpoint, StateDict, read

NO_ENCODER = Path("not-imported")  # stands for `vae` in the config of a generator that came without its encoder
REMEDY = (
    "name the config that it was trained with, or the settings that differ from it, such as network.nf=32, s_dim=128, "
    "c_dim=10, bottleneck={} for branch vgan or bottleneck=null for master"
)


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    file: of the public code; config: that it was trained with; overrides: of the config; vae: its stage 1, or None;
    data: the set that it was trained on, or None; out: the new folder.
    """

    file: Path
    config: Path
    overrides: Sequence[str]
    vae: Path | None
    data: Path | None
    out: Path


def default_folder(config: Path) -> Path:
    """Return the folder of an export that has no other name: exports/celeba-256 for configs/celeba/256.yaml."""
    return Path("exports") / f"{config.resolve().parent.name}-{config.stem}"


def import_weights(request: Request) -> ExportMetadata:
    """Write an export of a checkpoint of the public code. Raises one UserError with all that does not fit the config.

    Its codes are drawn from N(0, I), as the public code's samples are; with a data set and an encoder from q's
    posteriors of its images, as those of other exports. The export appears complete or not at all.
    """
    write.refuse_existing(request.out)
    checkpoint = read(request.file)
    stage_1 = None if request.vae is None else _stage_1(request.vae)
    config = _config(request, checkpoint)
    channels = _channels(checkpoint)
    vae, generator = _converted(request, config, checkpoint, stage_1, channels)
    data = open_data(config.data, config.seed) if request.data else None
    if data and data.channels != channels:
        raise UserError(f"--data: {request.data} has {data.channels} channels, {request.file} is of {channels}")
    parts, vae_sha256 = _parts(config, checkpoint, vae, generator)
    inputs: dict[str, Any] = {"channels": channels} if data is None else dict(data.identity)
    inputs |= {"vae": vae_sha256} if vae and generator else {}
    origin = _origin(request, config, checkpoint, parts, data, inputs)
    metadata = _metadata(config, channels, parts.encoder.kind, bool(data and vae), origin)
    card = model_card.model_card(request.out.name, asdict(metadata), write.parameter_counts(parts), {})
    source = BankSource(data, parts.encoder.q, None) if data and metadata.codes == "posterior" else None
    files = write.tensor_files(parts, source)
    return write.publish_export(request.out, metadata, files, config, card.encode())


def _parts(
    config: VaeConfig | GanConfig, checkpoint: PublicCheckpoint, vae: VAE | None, generator: nn.Module | None
) -> tuple[Parts, str | None]:
    """Return what is exported, and the hash of the VAE, if there is one."""
    file = None if vae is None else frozen.of_vae(vae, [])
    encoder = ExportedEncoder("vae", CodeEncoder(file.encoder), vae, file.content) if file else run_parts.NO_ENCODER
    average = {"ema": checkpoint.generator} if generator and checkpoint.generator == "generator_test" else {}
    step = published.name_of(checkpoint.iterations * config.batch_size)
    return Parts(step, {}, generator, average, encoder), file.sha256 if file else None


def _stage_1(path: Path) -> PublicCheckpoint:
    checkpoint = read(path)
    if not checkpoint.is_vae:
        raise UserError(f"--vae: {path}: is of stage 2, and holds no VAE; name the chkpts/last of its stage 1")
    return checkpoint


def _config(request: Request, checkpoint: PublicCheckpoint) -> VaeConfig | GanConfig:
    """Read the config, without growth and with `vae` as the export has it."""
    values = read_yaml(request.config)
    is_gan = bool(values.keys() & (GanConfig.model_fields.keys() - VaeConfig.model_fields.keys()))
    if is_gan == checkpoint.is_vae:
        here, there = (2, 1) if is_gan else (1, 2)
        raise UserError(
            f"--as: {request.config}: is a config of stage {here}, {request.file} is of stage {there}; name one of "
            f"stage {there}"
        )
    settings = list(request.overrides) + ([f"data.path={request.data}"] if request.data else [])
    if not is_gan:
        if request.vae is not None:
            raise UserError(f"--vae: {request.vae}: {request.file} is a VAE itself; leave --vae out")
        return load_config(VaeConfig, request.config, settings)
    if _code_source(values, request.overrides) == "posterior":
        settings.append(f"vae={NO_ENCODER if request.vae is None else request.out}")
    elif request.vae is not None:
        raise UserError(f"--vae: {request.vae}: {request.config} takes no code from a VAE; leave --vae out")
    config = load_config(GanConfig, request.config, [*settings, "growth=null"])
    if config.d_sees_code or config.code_loss == "info":
        raise UserError(
            f"--as: {request.config}: is of a {config.system}, which the public code does not train; name an ID-GAN's"
        )
    if config.labels is not None:
        raise UserError(f"labels: {', '.join(config.labels)}: the public code has none; set labels=null")
    return config


def _code_source(values: dict[str, Any], overrides: Sequence[str]) -> str:
    """Return the setting code_source, before the config is checked."""
    typed = [text.partition("=")[2] for text in overrides if text.startswith("code_source=")]
    return str(typed[-1] if typed else values.get("code_source", GanConfig.model_fields["code_source"].default))


def _channels(checkpoint: PublicCheckpoint) -> int:
    """Return the channels of the images: those of the last layer that makes them. Raises UserError where none does."""
    state = checkpoint.networks["net" if checkpoint.is_vae else checkpoint.generator]
    last = ("conv_img.bias", "layer.11.bias", "decoder.layer.11.bias")
    found = [int(state[name].numel()) for name in last if name in state]
    if found[:1] not in ([1], [3]):
        raise UserError(f"{checkpoint.path}: has no layer that makes images of 1 or 3 channels ({', '.join(last)})")
    return found[0]


def _converted(
    request: Request,
    config: VaeConfig | GanConfig,
    checkpoint: PublicCheckpoint,
    stage_1: PublicCheckpoint | None,
    channels: int,
) -> tuple[VAE | None, nn.Module | None]:
    """Return (VAE, generator), None where there is none, with their weights. D is checked, and not kept."""
    made: list[tuple[Any, StateDict, str]] = []
    for name, state in checkpoint.networks.items():
        if isinstance(config, GanConfig):
            build = networks.discriminator if name == "discriminator" else networks.generator
            made.append((build(config, channels), state, name))
    first = checkpoint if checkpoint.is_vae else stage_1
    if first is not None:
        made.append((VAE(channels, config.c_dim, "default"), first.networks["net"], "the VAE"))
    wrong = [problem for network, state, where in made for problem in problems(network, state, where)]
    if wrong:
        raise listed(f"{request.file} does not fit {request.config}:", [*wrong, REMEDY])
    kept = {where: network for network, _, where in made}
    for network, state, _ in made:
        fill(network, state)
        freeze(network)
    return kept.get("the VAE"), None if checkpoint.is_vae else kept[checkpoint.generator]


def _origin(
    request: Request,
    config: VaeConfig | GanConfig,
    checkpoint: PublicCheckpoint,
    parts: Parts,
    data: Data | None,
    inputs: dict[str, Any],
) -> dict[str, Any]:
    """Return what export.json says of where the networks come from. inputs: what identifies data and encoder."""
    imported = {"file": str(request.file), "sha256": checkpoint.sha256}
    if request.vae is not None:
        imported |= {"vae": str(request.vae), "vae_sha256": sha256(request.vae)}
    return {
        "run": str(request.file),
        "step": parts.step,
        "images_seen": checkpoint.iterations * config.batch_size,
        "iteration": checkpoint.iterations,
        "imported": imported,
        "system": config.system,
        "variant": config.data.variant,
        "inputs": inputs,
        "commands": [typed_command()],
        **parts.average,
        **(run_parts.data_record(data) if data else {}),
    }


def _metadata(
    config: VaeConfig | GanConfig, channels: int, encoder: EncoderKind, has_bank: bool, origin: dict[str, Any]
) -> ExportMetadata:
    """Return the content of export.json."""
    gan = config if isinstance(config, GanConfig) else None
    source = gan.code_source if gan else "posterior"
    return ExportMetadata(
        network=gan.network.name if gan else None,
        generator=networks.generator_arguments(gan, channels) if gan else None,
        resolution=gan.resolution if gan else CODE_RESOLUTION,
        alpha=None,
        channels=channels,
        s_dim=gan.s_dim if gan else 0,
        c_dim=config.c_dim,
        codes="prior" if source == "posterior" and not has_bank else source,
        encoder=encoder,
        origin=origin,
    )
