"""Open an export: trained networks as a folder of safetensors, JSON and YAML, without their run, its data or a pickle.

export.json            what the networks are, and where they come from
config.yaml            the config of the run
README.md              a model card
generator.safetensors  the averaged G; none in stage 1
encoder.safetensors    the VAE, or InfoGAN's q; encoder.pt2 for an encoder of your own; none without a code
bank.safetensors       mean and logvar [N, c_dim] of q for training images, where c is a posterior sample
*.onnx                 generator, encoder and decoder for other programs, where they were asked for; see onnx_files.py
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from common import paths, shipped
from common.errors import UserError
from common.random_numbers import Purpose, integers, normal
from models import VAE, CodeEncoder, ConvGenerator, Encoder, Generator, freeze, in_chunks, sample_posterior
from trainer.config import exported_files
from trainer.config.file_names import CHECK, ENCODER, GENERATOR, METADATA, OWN_ENCODER, REFERENCE

FORMAT = 1
CONFIG, BANK, CARD = "config.yaml", "bank.safetensors", "README.md"
EncoderKind = Literal["none", "vae", "own", "joint"]


@dataclass(frozen=True)
class ExportMetadata:
    """The content of export.json.

    network: the generator's class, None in stage 1; generator: its arguments, None in stage 1; resolution: in px;
    alpha: of the fade that the run was in, None outside one; codes: where c comes from; encoder: the kind of q;
    origin: run, step, hashes of the inputs.
    """

    network: Literal["conv", "resnet"] | None
    generator: dict[str, Any] | None
    resolution: int
    alpha: float | None
    channels: int
    s_dim: int
    c_dim: int
    codes: Literal["none", "prior", "posterior"]
    encoder: EncoderKind
    origin: dict[str, Any]

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n").encode()


class Model:
    """An exported generator and encoder, or a VAE. All images are float32 in [0, 1], [B, channels, R, R].

    metadata: the content of export.json; generator: None in stage 1; bank: mean and logvar [N, c_dim] of q for training
    images, or None.
    """

    def __init__(
        self, metadata: ExportMetadata, generator: nn.Module | None, encoder: CodeEncoder | None, vae: VAE | None
    ) -> None:
        self.metadata, self.generator, self.encoder, self.vae = metadata, generator, encoder, vae
        self.bank: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def generate(self, s: Tensor, c: Tensor) -> Tensor:
        """Return the images G(s, c); of a VAE the decodings of c. s: [B, s_dim]; c: [B, c_dim]."""
        if self.generator is None:
            return self.decode(c)
        sizes = [s.shape[1], c.shape[1]]
        chunks = in_chunks(torch.cat((s, c), 1), self.metadata.resolution)
        return torch.cat([self.draw(*z.split(sizes, 1)) for z in chunks])

    def draw(self, s: Tensor, c: Tensor, resolution: int | None = None) -> Tensor:
        """Return the same images with gradients, all at once. resolution: px, where a growing G is to stop early."""
        if self.generator is None:
            assert self.vae is not None
            return self.vae.decode(c)
        active, alpha = self.metadata.resolution, None
        if resolution in (None, active) and self.metadata.alpha is not None:
            alpha = torch.tensor(self.metadata.alpha, device=s.device)
        return (self.generator(torch.cat((s, c), 1), resolution or active, alpha) + 1) / 2

    def nuisance(self, count: int | Tensor, seed: int = 0) -> Tensor:
        """Draw s ~ N(0, I): [count, s_dim]. count: a number, from position 0 on, or the positions, int64 [b]."""
        return normal(seed, Purpose.EVAL_NUISANCE, _positions(count), (self.metadata.s_dim,))

    def codes(self, count: int | Tensor, seed: int = 0, prior: bool = False) -> Tensor:
        """Draw c as in training, from the aggregated posterior (the bank), or from N(0, I): [count, c_dim].

        count: as in `nuisance`; prior: draw from N(0, I) although there is a bank.
        """
        at = _positions(count)
        eps = normal(seed, Purpose.EVAL_CODE, at, (self.metadata.c_dim,))
        if self.bank is None or prior:
            return eps
        mean, logvar = self.bank
        chosen = integers(seed, Purpose.EVAL_ORDER, at, (), len(mean))
        return sample_posterior(mean[chosen], logvar[chosen], eps)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Generate random images; those of a VAE are decodings. The first k of them do not depend on count."""
        return self.generate(self.nuisance(count, seed), self.codes(count, seed))

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mean, logvar) of q(c|x), each [B, c_dim]. images: of 64 px, or 2^k times that, which are averaged.

        Raises a UserError where the model has no encoder.
        """
        if self.encoder is None:
            raise UserError("this model has no encoder: its generator has no code, or came without its VAE")
        return self.encoder(images * 2 - 1)

    @torch.no_grad()
    def decode(self, c: Tensor) -> Tensor:
        """Decode codes c [B, c_dim] with the VAE: [B, channels, 64, 64]. Raises a UserError where there is no VAE."""
        if self.vae is None:
            raise UserError("this model has no decoder: its encoder is not that of a VAE of this program")
        return self.vae.decode(c)


def _positions(count: int | Tensor) -> Tensor:
    return torch.arange(count) if isinstance(count, int) else count


def build_generator(metadata: ExportMetadata) -> nn.Module:
    """Build the generator that the metadata describe, without its weights."""
    assert metadata.generator is not None, "a VAE has no generator"
    return (ConvGenerator if metadata.network == "conv" else Generator)(**metadata.generator)


def load(folder: str | Path) -> Model:
    """Open a folder that `python -m trainer export` wrote. The model is on the CPU; move its parts where you like.

    pretrained/NAME is a model that came with this program, whatever the working directory is; `~` and `$VAR` are
    expanded. Raises a UserError where
    the folder is no export, of another format, or damaged.
    """
    try:
        folder = shipped.found(paths.typed(str(folder)))
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None
    metadata = _read_metadata(folder)
    for name in exported_files.recorded(folder):
        exported_files.check(folder, name)
    generator = None
    if metadata.network is not None:
        generator = build_generator(metadata)
        _fill(generator, folder / GENERATOR)
        freeze(generator)
    model = Model(metadata, generator, *_load_encoder(metadata, folder))
    if metadata.codes == "posterior":
        bank = _tensors(folder / BANK)
        model.bank = bank["mean"], bank["logvar"]
    return model


def files_of(folder: Path) -> list[str]:
    """Return the names of an export's files, with those of its check. Raises a UserError where one was removed."""
    written = {METADATA, CONFIG, CARD, *exported_files.recorded(folder)}
    for name in sorted(written):
        if not (folder / name).is_file():
            raise exported_files.broken(folder / name, FileNotFoundError("no such file"))
    of_older_versions = {GENERATOR, ENCODER, OWN_ENCODER, BANK}  # whose export.json names no files
    return sorted(written | {name for name in of_older_versions | {CHECK, REFERENCE} if (folder / name).is_file()})


def sha256(folder: Path) -> str:
    """Return the identity of an export: a hash over all its files."""
    digest = hashlib.sha256()
    for name in (METADATA, GENERATOR, ENCODER, OWN_ENCODER, BANK):
        if (folder / name).is_file():
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def _read_metadata(folder: Path) -> ExportMetadata:
    """Read export.json. Raises a UserError where it is missing, damaged or of another format."""
    path = folder / METADATA
    try:
        content = json.loads(path.read_bytes())
        version = content.pop("format")
        if version != FORMAT:
            raise UserError(f"{path}: has format {version}, this program reads {FORMAT}; export the run again")
        return ExportMetadata(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise exported_files.broken(path, error) from None


def _load_encoder(metadata: ExportMetadata, folder: Path) -> tuple[CodeEncoder | None, VAE | None]:
    """Load (encoder, the VAE that it belongs to), None where there is none."""
    if metadata.encoder == "none":
        return None, None
    if metadata.encoder == "own":
        from trainer.encoders import own_encoder

        return CodeEncoder(own_encoder.load(folder / OWN_ENCODER)[0]), None
    if metadata.encoder == "joint":
        q = CodeEncoder(Encoder(metadata.channels, metadata.c_dim))
        _fill(q, folder / ENCODER)
        freeze(q)
        return q, None
    vae = VAE(metadata.channels, metadata.c_dim, "default")
    _fill(vae, folder / ENCODER)
    freeze(vae)
    return CodeEncoder(vae.encoder), vae


def _fill(network: nn.Module, path: Path) -> None:
    """Load a network's weights from a file."""
    try:
        network.load_state_dict(_tensors(path))
    except RuntimeError as error:
        raise exported_files.broken(path, error) from None


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise exported_files.broken(path, error) from None
