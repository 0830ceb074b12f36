"""The images that metrics compare: image i of each kind is a pure function of (seed, i), as uint8 like a saved file."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.random_numbers import Purpose, normal
from data_shards.read.loader import CODE_RESOLUTION
from models import in_chunks, sample_posterior
from trainer.config.schema import GanConfig
from trainer.pictures.image_grids import to_uint8

from .choices import Codes, Kind, RequestedCodes
from .run import Run

BLOCK = 64  # positions; a block's images do not depend on which process makes it
Maker = Callable[[Tensor], Tensor]


def signed(images: Tensor) -> Tensor:
    """Map uint8 images to [-1, 1], as q takes them."""
    return images.float() / 127.5 - 1


def code_source(run: Run, requested: RequestedCodes) -> Codes:
    """Return where codes come from: as requested, else as in training.

    Raises UserError where codes are requested of a GAN without a code.
    """
    trained: Codes = run.config.code_source if isinstance(run.config, GanConfig) else "posterior"
    if trained == "posterior" and run.q is None:
        trained = "prior"  # an export of weights that were imported without their encoder
    if trained == "none" and requested is not None:
        raise UserError(f"--codes: {requested}: {run.path} is a GAN without a code; leave --codes out")
    return requested or trained


def codes(run: Run, seed: int, positions: Tensor, source: Codes, offset: int) -> Tensor:
    """Draw c for generated images i: posterior samples of the reals at offset + i, or N(0, I). Returns [b, c_dim]."""
    eps = normal(seed, Purpose.EVAL_CODE, positions, (run.c_dim,)).to(run.device)
    if source != "posterior":
        return eps
    mean, logvar = run.require_encoder()(signed(run.reals.at(seed, positions + offset).to(run.device)))
    return sample_posterior(mean, logvar, eps)


def nuisance(run: Run, seed: int, positions: Tensor, offset: int = 0, rows: Tensor | None = None) -> Tensor:
    """Draw s of each position, and with labels y behind it: [b, s_dim + y_dim].

    y is that of the reals at offset + i, as the codes of `codes` are. rows: other labels, int64 [b, L].
    """
    s = normal(seed, Purpose.EVAL_NUISANCE, positions, (run.s_dim,)).to(run.device)
    if run.labels is None:
        return s
    if rows is None:
        rows = run.labels.rows[run.data.mixed(seed, positions + offset)]
    return torch.cat((s, run.labels.labels.y(rows).to(s)), 1)


@torch.no_grad()
def generate(network: nn.Module, s: Tensor, c: Tensor) -> Tensor:
    """Make images of a generator: uint8 [b, C, R, R]. Large ones are made few at a time."""
    chunks = in_chunks(torch.cat((s, c), 1), getattr(network, "resolution", CODE_RESOLUTION))
    return torch.cat([to_uint8((network(z) + 1) / 2) for z in chunks])


def maker(run: Run, kind: Kind, seed: int, source: Codes, offset: int, resolution: int = CODE_RESOLUTION) -> Maker:
    """Return a function from positions int64 [b] to uint8 images [b, C, R, R] of one kind.

    offset: position where the reals begin that are not the reference; resolution: px of reals.
    """

    @torch.no_grad()
    def make(positions: Tensor) -> Tensor:
        """Make the images at these positions."""
        if kind == "reals":
            return run.reals.at(seed, positions + offset, resolution).to(run.device)
        c, s = codes(run, seed, positions, source, offset), nuisance(run, seed, positions, offset)
        return of_codes(run, kind, c, s)

    return make


@torch.no_grad()
def of_codes(run: Run, kind: Kind, c: Tensor, s: Tensor) -> Tensor:
    """Make images of codes by the VAE (kind "vae"), the generator ("gan") or the untrained one: uint8 [b, C, R, R]."""
    if kind == "vae":
        assert run.vae is not None
        return to_uint8(run.vae.decode(c))
    network = run.generator if kind == "gan" else run.untrained
    assert network is not None
    return generate(network, s, c)


def own_kind(run: Run) -> Kind:
    """Return the kind of images that a run was trained to make."""
    return "gan" if run.generator is not None else "vae"
