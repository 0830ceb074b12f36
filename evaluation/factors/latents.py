"""What each latent moves in the generated image, as the factor network sees it.

The latents are those of c; a GAN without a code is looked at along s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evaluation.inputs.images import code_source, codes, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run
from trainer.steps.losses import kl_per_latent

from .factor_network import FULL_RANGE, Extractor

BASES, STEPS = 64, 7
COLLAPSED = 0.01  # nats
MOVED = 0.2  # of a factor's full range: less than this is no movement
Decode = Callable[[Tensor], Tensor]


def traversal_values() -> Tensor:
    """linspace(-3, 3, 7), as in the paper's figures."""
    return torch.linspace(-3, 3, STEPS)


def traversal_codes(base: Tensor, latent: int) -> Tensor:
    """base: [B, dim] -> [B, 7, dim], the latent set to each traversal value."""
    c = base[:, None].repeat(1, STEPS, 1)
    c[:, :, latent] = traversal_values()
    return c


def names(run: Run) -> list[str]:
    """Of the latents: c1, c2, ... or, without a code, s1, s2, ..."""
    return [f"c{j + 1}" for j in range(run.c_dim)] or [f"s{j + 1}" for j in range(run.s_dim)]


@torch.no_grad()
def bases(run: Run, seed: int, count: int) -> Tensor:
    """The latents that traversals start from, drawn as in training: [count, dim]."""
    at = torch.arange(count)
    return codes(run, seed, at, code_source(run, None), 0) if run.c_dim else nuisance(run, seed, at)


@torch.no_grad()
def decoded(run: Run, c: Tensor, size: int) -> Tensor:
    """The VAE's images of codes [B, c_dim], enlarged to size px (nearest): uint8 [B, C, size, size]."""
    images = of_codes(run, "vae", c, c[:, :0])
    return torch.nn.functional.interpolate(images, size=size)


def decoder(run: Run, seed: int) -> Decode:
    """latents [B, K, dim] -> uint8 [B, K, C, R, R]: the EMA generator with one s per base, or the VAE in stage 1."""

    def decode(latents: Tensor) -> Tensor:
        count, steps = latents.shape[:2]
        flat = latents.flatten(0, 1)
        s = nuisance(run, seed, torch.arange(count)).repeat_interleave(steps, 0)
        c, s = (flat, s) if run.c_dim else (flat[:, :0], flat)
        return of_codes(run, own_kind(run), c, s).unflatten(0, (count, steps))

    return decode


@torch.no_grad()
def movement(run: Run, extractor: Extractor, seed: int) -> dict[str, Any]:
    """For each latent the share of its full range that x, y and scale each move over, mean of 64 base codes.

    "clear" lists the latents under which one factor moves over at least MOVED, and over twice the share of the others.
    """
    run.need_factor_net()
    base = bases(run, seed, BASES)
    decode = decoder(run, seed)
    matrix = []
    for latent in range(base.shape[1]):
        images = decode(traversal_codes(base, latent)).flatten(0, 1)
        prediction = extractor.look(images)[1]
        seen = {"x": prediction.x, "y": prediction.y, "scale": prediction.scale}
        values = {name: v.clamp(*FULL_RANGE[name]).unflatten(0, (BASES, STEPS)) for name, v in seen.items()}
        matrix.append(
            [
                float((v.amax(1) - v.amin(1)).mean()) / (FULL_RANGE[name][1] - FULL_RANGE[name][0])
                for name, v in values.items()
            ]
        )
    clear = []
    for latent, row in enumerate(matrix):
        best, second = sorted(row, reverse=True)[:2]
        if best >= MOVED and best >= 2 * second:
            clear.append({"latent": latent, "factor": list(FULL_RANGE)[row.index(best)]})
    return {"latents": names(run), "factors": list(FULL_RANGE), "share_of_range": matrix, "clear": clear}


def columns(record: dict[str, Any]) -> list[str]:
    """Of a record's table."""
    return ["latent", *record["factors"], "moves alone"]


def table_rows(record: dict[str, Any]) -> list[list[str]]:
    """The rows of a record's table, under `columns`."""
    clear = {entry["latent"]: entry["factor"] for entry in record["clear"]}
    named = zip(record["latents"], record["share_of_range"], strict=True)
    return [[name, *(f"{share:.0%}" for share in row), clear.get(j, "")] for j, (name, row) in enumerate(named)]


@torch.no_grad()
def kl(run: Run, seed: int, count: int = 2048) -> Tensor:
    """KL of each latent's posterior from the prior in nats, mean over reals: [c_dim]. Collapsed latents have none."""
    mean, logvar = run.look()(signed(run.reals.at(seed, torch.arange(count))))
    return kl_per_latent(mean, logvar)


class Row(NamedTuple):
    """A traversal. name: c1 or s1; note: the latent's KL in words; images: uint8 [7, C, R, R]; c: codes [7, dim]."""

    name: str
    note: str
    images: Tensor
    c: Tensor


def traversal_rows(run: Run, seed: int) -> list[Row]:
    """linspace(-3, 3, 7) along each latent from one base, the largest KL first (Figures A.2, A.3)."""
    base, decode = bases(run, seed, 1), decoder(run, seed)
    codes_of = {j: traversal_codes(base, j) for j in range(base.shape[1])}
    return [Row(names(run)[j], note, decode(codes_of[j])[0], codes_of[j][0]) for j, note in by_kl(run, seed)]


def by_kl(run: Run, seed: int) -> list[tuple[int, str]]:
    """(latent, its KL in words), the largest first; where there is no encoder in their own order, without words."""
    if run.q is None:
        return [(j, "") for j in range(len(names(run)))]
    found = kl(run, seed)
    words = ["collapsed" if value < COLLAPSED else f"KL {value:.2f} nats" for value in found.tolist()]
    return [(j, words[j]) for j in found.argsort(descending=True).tolist()]
