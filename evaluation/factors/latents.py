"""What each latent moves in the generated image, as the extractor of the data set sees it.

The latents are those of c; in a GAN without a code they are those of s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evaluation.inputs.images import code_source, codes, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run
from trainer.pictures.walks import traversal_codes
from trainer.steps.losses import kl_per_latent

from .extractor import Extractor

BASES = 64
COLLAPSED = 0.01  # nats
MOVED = 0.2  # of a factor's full range: less than this is no movement
Decode = Callable[[Tensor], Tensor]
"""latents [B, K, dim] -> uint8 images [B, K, C, R, R]."""


def names(run: Run) -> list[str]:
    """Return the names of the latents: c1, c2, ... or, without a code, s1, s2, ..."""
    return [f"c{j + 1}" for j in range(run.c_dim)] or [f"s{j + 1}" for j in range(run.s_dim)]


@torch.no_grad()
def bases(run: Run, seed: int, count: int) -> Tensor:
    """Draw the latents that traversals start from, as in training: [count, dim]."""
    at = torch.arange(count)
    return codes(run, seed, at, code_source(run, None), 0) if run.c_dim else nuisance(run, seed, at)


@torch.no_grad()
def decoded(run: Run, c: Tensor, size: int) -> Tensor:
    """Decode codes [B, c_dim] by the VAE and enlarge the images to `size` px (nearest): uint8 [B, C, size, size]."""
    images = of_codes(run, "vae", c, c[:, :0])
    return torch.nn.functional.interpolate(images, size=size)


def decoder(run: Run, seed: int) -> Decode:
    """Return the averaged generator with one s for each base, or in stage 1 the VAE, as a function of latents."""

    def decode(latents: Tensor) -> Tensor:
        """Make uint8 images [B, K, C, R, R] of latents [B, K, dim]."""
        count, steps = latents.shape[:2]
        flat = latents.flatten(0, 1)
        s = nuisance(run, seed, torch.arange(count)).repeat_interleave(steps, 0)
        c, s = (flat, s) if run.c_dim else (flat[:, :0], flat)
        return of_codes(run, own_kind(run), c, s).unflatten(0, (count, steps))

    return decode


@torch.no_grad()
def movement(run: Run, extractor: Extractor, seed: int) -> dict[str, Any]:
    """Measure for each latent the share of its full range that each factor moves over, mean of 64 base codes.

    "clear" lists the latents under which one factor moves over at least MOVED, and over twice the share of the others.
    """
    base, decode = bases(run, seed, BASES), decoder(run, seed)
    matrix = [extractor.shares_of_range(decode(traversal_codes(base, j))) for j in range(base.shape[1])]
    clear = []
    for latent, row in enumerate(matrix):
        best, second = sorted(row, reverse=True)[:2]
        if best >= MOVED and best >= 2 * second:
            clear.append({"latent": latent, "factor": extractor.movable[row.index(best)]})
    return {"latents": names(run), "factors": list(extractor.movable), "share_of_range": matrix, "clear": clear}


def columns(record: dict[str, Any]) -> list[str]:
    """Return the titles of a record's table."""
    return ["latent", *record["factors"], "moves alone"]


def table_rows(record: dict[str, Any]) -> list[list[str]]:
    """Format a record as the rows of a table under `columns`."""
    clear = {entry["latent"]: entry["factor"] for entry in record["clear"]}
    named = zip(record["latents"], record["share_of_range"], strict=True)
    return [[name, *(f"{share:.0%}" for share in row), clear.get(j, "")] for j, (name, row) in enumerate(named)]


@torch.no_grad()
def kl(run: Run, seed: int, count: int = 2048) -> Tensor:
    """Return the KL of each latent's posterior from the prior in nats, mean over reals: [c_dim]; 0 if collapsed."""
    mean, logvar = run.require_encoder()(signed(run.reals.at(seed, torch.arange(count))))
    return kl_per_latent(mean, logvar)


class Row(NamedTuple):
    """A traversal. name: c1 or s1; note: KL for a reader; images: uint8 [7, C, R, R]; c: codes [7, dim]."""

    name: str
    note: str
    images: Tensor
    c: Tensor


def traversal_rows(run: Run, seed: int) -> list[Row]:
    """Traverse each latent over linspace(-3, 3, 7) from one base, the largest KL first (Figures A.2, A.3)."""
    base, decode = bases(run, seed, 1), decoder(run, seed)
    codes_of = {j: traversal_codes(base, j) for j in range(base.shape[1])}
    return [Row(names(run)[j], note, decode(codes_of[j])[0], codes_of[j][0]) for j, note in by_kl(run, seed)]


def by_kl(run: Run, seed: int) -> list[tuple[int, str]]:
    """Return (latent, note on its KL), the largest KL first; without an encoder in their own order, without notes."""
    if run.q is None:
        return [(j, "") for j in range(len(names(run)))]
    values = kl(run, seed)
    notes = ["collapsed" if value < COLLAPSED else f"KL {value:.2f} nats" for value in values.tolist()]
    return [(j, notes[j]) for j in values.argsort(descending=True).tolist()]
