"""Open an export: trained networks as a folder of safetensors, JSON and YAML, without their run, its data or a pickle.

export.json            what the networks are, and where they come from
config.yaml            the config of the run
README.md              a model card
generator.safetensors  the averaged G; none in stage 1
encoder.safetensors    the VAE, or InfoGAN's q; encoder.pt2 for an encoder of your own; none without a code
bank.safetensors       mean and logvar [N, c_dim] of q for training images, where c is a posterior sample; with labels
                       also those of the images, or of other ones: int64 [N, L], see labels.py
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
from trainer.labels.labels import Labels, having

FORMAT, WITH_LABELS = 1, 2  # the second is of models with labels, which older programs cannot draw
CONFIG, BANK, CARD = "config.yaml", "bank.safetensors", "README.md"
EncoderKind = Literal["none", "vae", "own", "joint"]


@dataclass(frozen=True)
class ExportMetadata:
    """The content of export.json.

    network: the generator's class, None in stage 1; generator: its arguments, None in stage 1; resolution: in px;
    alpha: of the fade that the run was in, None outside one; codes: where c comes from; encoder: the kind of q;
    origin: run, step, hashes of the inputs; labels: that G is told, as `Labels.to_json` has them, None without.
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
    labels: list[dict[str, Any]] | None = None

    @property
    def y_dim(self) -> int:
        """Size of the label vector y; 0 without labels."""
        return sum(len(label["classes"]) for label in self.labels or ())

    @property
    def nuisance_dim(self) -> int:
        """Size of what G is given beside c: s, and y behind it."""
        return self.s_dim + self.y_dim

    def to_json(self) -> bytes:
        """Return the content of the file."""
        content = {"format": FORMAT if self.labels is None else WITH_LABELS} | asdict(self)
        if self.labels is None:
            del content["labels"]
        return (json.dumps(content, indent=1) + "\n").encode()


class Model:
    """An exported generator and encoder, or a VAE. All images are float32 in [0, 1], [B, channels, R, R].

    metadata: the content of export.json; generator: None in stage 1; bank: mean and logvar [N, c_dim] of q for training
    images, or None; labels: that G is told, or None; label_rows: of training images, int64 [N, L], those of the bank
    where there is one. With labels, what is called s here is s with the label vector y behind it, [B, nuisance_dim].
    """

    def __init__(
        self, metadata: ExportMetadata, generator: nn.Module | None, encoder: CodeEncoder | None, vae: VAE | None
    ) -> None:
        self.metadata, self.generator, self.encoder, self.vae = metadata, generator, encoder, vae
        self.bank: tuple[Tensor, Tensor] | None = None
        self.labels = None if metadata.labels is None else Labels.from_json(metadata.labels)
        self.label_rows = torch.zeros(0, 0, dtype=torch.int64)

    @torch.no_grad()
    def generate(self, s: Tensor, c: Tensor) -> Tensor:
        """Return the images G(s, c); of a VAE the decodings of c. s: [B, nuisance_dim]; c: [B, c_dim]."""
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

    def nuisance(self, count: int | Tensor, seed: int = 0, classes: str | None = None) -> Tensor:
        """Draw s ~ N(0, I), and with labels y behind it, that of a training image: [count, nuisance_dim].

        count: a number, from position 0 on, or the positions, int64 [b]; classes: those of all images, such as
        shape=heart. Raises a UserError where the model has no such class.
        """
        at = _positions(count)
        s = normal(seed, Purpose.EVAL_NUISANCE, at, (self.metadata.s_dim,))
        chosen = self.chosen(classes)
        if self.labels is None:
            return s
        rows = self.label_rows[self._images(seed, at, chosen)].clone()
        for place, k in chosen.items():
            rows[:, place] = k
        return torch.cat((s, self.labels.y(rows)), 1)

    def chosen(self, classes: str | None, option: str = "classes") -> dict[int, int]:
        """Read classes as a user types them; see `Labels.chosen`. None is none."""
        if classes is None:
            return {}
        if self.labels is None:
            raise UserError(f"{option}: {classes}: this model was trained without labels; leave it out")
        return self.labels.chosen(classes, option)

    def codes(self, count: int | Tensor, seed: int = 0, prior: bool = False, classes: str | None = None) -> Tensor:
        """Draw c as in training, from the aggregated posterior (the bank), or from N(0, I): [count, c_dim].

        count, classes: as in `nuisance`, whose labels are of the same training images; prior: draw from N(0, I)
        although there is a bank.
        """
        at = _positions(count)
        eps = normal(seed, Purpose.EVAL_CODE, at, (self.metadata.c_dim,))
        if self.bank is None or prior:
            return eps
        mean, logvar = self.bank
        images = self._images(seed, at, self.chosen(classes))
        return sample_posterior(mean[images], logvar[images], eps)

    def _images(self, seed: int, at: Tensor, chosen: dict[int, int]) -> Tensor:
        """Choose training images: int64 [b]. They have the chosen classes, where there are such."""
        count = len(self.label_rows) if self.bank is None else len(self.bank[0])
        alike = having(self.label_rows, chosen).nonzero()[:, 0] if chosen else None
        if alike is None or not len(alike):
            return integers(seed, Purpose.EVAL_ORDER, at, (), count)
        return alike[integers(seed, Purpose.EVAL_ORDER, at, (), len(alike))]

    def sample(self, count: int, seed: int = 0, classes: str | None = None) -> Tensor:
        """Generate random images; those of a VAE are decodings. The first k of them do not depend on count.

        classes: as in `nuisance`; without them labels are drawn as they are frequent.
        """
        return self.generate(self.nuisance(count, seed, classes), self.codes(count, seed, classes=classes))

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
    if metadata.codes == "posterior" or metadata.labels is not None:
        bank = _tensors(folder / BANK)
        model.bank = (bank["mean"], bank["logvar"]) if "mean" in bank else None
        model.label_rows = bank.get("labels", model.label_rows)
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
    for name in (METADATA, GENERATOR, ENCODER, OWN_ENCODER, BANK):  # others are in the hashes of METADATA
        if (folder / name).is_file():
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


def _read_metadata(folder: Path) -> ExportMetadata:
    """Read export.json. Raises a UserError where it is missing, damaged or of another format."""
    path = folder / METADATA
    try:
        content = json.loads(path.read_bytes())
        version = content.pop("format")
        if version not in (FORMAT, WITH_LABELS):
            raise UserError(
                f"{path}: has format {version}, this program reads {FORMAT} and {WITH_LABELS}; export the run again"
            )
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
