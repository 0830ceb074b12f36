"""A trained generator as a folder of safetensors and JSON, without its run, its data or any pickle.

export.json            what the networks are, and where they come from
generator.safetensors  the averaged G
encoder.safetensors    the VAE, or InfoGAN's q; encoder.pt2 for an encoder of your own; none without a code
bank.safetensors       mean and logvar [N, c_dim] of q for every training image, where c is a posterior sample
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

from common.errors import UserError, first_line
from common.random_numbers import Purpose, integers, normal
from models import VAE, CodeEncoder, ConvGenerator, Encoder, Generator, freeze, in_chunks, sample_posterior

FORMAT = 1
FACTS, GENERATOR, ENCODER, OWN_ENCODER, BANK = (
    "export.json",
    "generator.safetensors",
    "encoder.safetensors",
    "encoder.pt2",
    "bank.safetensors",
)


@dataclass(frozen=True)
class Facts:
    """generator: arguments of its class, `network` its name; codes: where c comes from; encoder: of which kind q is.

    resolution, alpha: the stage that it was exported in, alpha None outside a fade. origin: run, step, hashes.
    """

    network: Literal["conv", "resnet"]
    generator: dict[str, Any]
    resolution: int
    alpha: float | None
    channels: int
    s_dim: int
    c_dim: int
    codes: Literal["none", "prior", "posterior"]
    encoder: Literal["none", "vae", "own", "joint"]
    origin: dict[str, Any]

    def to_json(self) -> bytes:
        return (json.dumps({"format": FORMAT} | asdict(self), indent=1) + "\n").encode()


class Model:
    """What `load` gives. All images are float32 in [0, 1], [B, channels, R, R]."""

    def __init__(self, facts: Facts, generator: nn.Module, encoder: CodeEncoder | None, vae: VAE | None) -> None:
        self.facts, self.generator, self.encoder, self.vae = facts, generator, encoder, vae
        self.bank: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def generate(self, s: Tensor, c: Tensor) -> Tensor:
        """G(s, c). s: [B, s_dim]; c: [B, c_dim]."""
        alpha = None if self.facts.alpha is None else torch.tensor(self.facts.alpha, device=s.device)
        chunks = in_chunks(torch.cat((s, c), 1), self.facts.resolution)
        return (torch.cat([self.generator(z, self.facts.resolution, alpha) for z in chunks]) + 1) / 2

    def nuisance(self, count: int | Tensor, seed: int = 0) -> Tensor:
        """s ~ N(0, I): [count, s_dim]; or [b, s_dim], those of positions int64 [b]."""
        return normal(seed, Purpose.EVAL_NUISANCE, _positions(count), (self.facts.s_dim,))

    def codes(self, count: int | Tensor, seed: int = 0, prior: bool = False) -> Tensor:
        """c as in training: of the aggregated posterior (the bank), or N(0, I), which `prior` asks for.

        [count, c_dim]; see `nuisance`.
        """
        at = _positions(count)
        eps = normal(seed, Purpose.EVAL_CODE, at, (self.facts.c_dim,))
        if self.bank is None or prior:
            return eps
        mean, logvar = self.bank
        chosen = integers(seed, Purpose.EVAL_ORDER, at, (), len(mean))
        return sample_posterior(mean[chosen], logvar[chosen], eps)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Random images: the first k of them do not depend on count."""
        return self.generate(self.nuisance(count, seed), self.codes(count, seed))

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, logvar) of q(c|x), each [B, c_dim], of images of 64 px or 2^k times that (seen as box means)."""
        if self.encoder is None:
            raise UserError("this model has no encoder: its generator was trained without a code")
        return self.encoder(images * 2 - 1)

    @torch.no_grad()
    def decode(self, c: Tensor) -> Tensor:
        """What the VAE makes of codes: [B, channels, 64, 64]."""
        if self.vae is None:
            raise UserError("this model has no decoder: its encoder is none of a VAE of this program")
        return self.vae.decode(c)


def _positions(count: int | Tensor) -> Tensor:
    return torch.arange(count) if isinstance(count, int) else count


def build_generator(facts: Facts) -> nn.Module:
    return (ConvGenerator if facts.network == "conv" else Generator)(**facts.generator)


def load(folder: str | Path) -> Model:
    """The model in a folder that `python -m trainer export` wrote. It runs on the CPU; move its parts where you like.

    Raises UserError where the folder is no export, of another format, or damaged.
    """
    folder = Path(folder)
    facts = _facts(folder)
    generator = build_generator(facts)
    _fill(generator, folder / GENERATOR)
    model = Model(facts, freeze(generator), *_encoder(facts, folder))
    if facts.codes == "posterior":
        bank = _tensors(folder / BANK)
        model.bank = bank["mean"], bank["logvar"]
    return model


def sha256(folder: Path) -> str:
    """The identity of an export: of all that it holds."""
    whole = hashlib.sha256()
    for name in (FACTS, GENERATOR, ENCODER, OWN_ENCODER, BANK):
        if (folder / name).is_file():
            whole.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return whole.hexdigest()


def _facts(folder: Path) -> Facts:
    path = folder / FACTS
    try:
        found = json.loads(path.read_bytes())
        version = found.pop("format")
        if version != FORMAT:
            raise UserError(f"{path}: has format {version}, this program reads {FORMAT}; export the run again")
        return Facts(**found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, error) from None


def _encoder(facts: Facts, folder: Path) -> tuple[CodeEncoder | None, VAE | None]:
    if facts.encoder == "none":
        return None, None
    if facts.encoder == "own":
        from trainer.encoders import own_encoder

        return CodeEncoder(own_encoder.load(folder / OWN_ENCODER)[0]), None
    if facts.encoder == "joint":
        q = CodeEncoder(Encoder(facts.channels, facts.c_dim))
        _fill(q, folder / ENCODER)
        freeze(q)
        return q, None
    vae = VAE(facts.channels, facts.c_dim, "default")
    _fill(vae, folder / ENCODER)
    freeze(vae)
    return CodeEncoder(vae.encoder), vae


def _fill(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(_tensors(path))
    except RuntimeError as error:
        raise _broken(path, error) from None


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: is missing or damaged ({first_line(error)}); export the run again with `python -m trainer export`"
    )
