"""What each latent moves in the generated image, as the factor network sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainer.losses import kl_per_latent

from .factors import FULL_RANGE, Extractor
from .images import codes, generate, nuisance, reals, to_uint8
from .run import Run

BASES, STEPS = 64, 7
MOVED = 0.2  # of a factor's full range: less than this is no movement
Decode = Callable[[Tensor], Tensor]


def traversal_values() -> Tensor:
    """linspace(-3, 3, 7), as in the paper's figures."""
    return torch.linspace(-3, 3, STEPS)


def traversal_codes(base: Tensor, latent: int) -> Tensor:
    """base: [B, c_dim] -> [B, 7, c_dim], the latent set to each traversal value."""
    c = base[:, None].repeat(1, STEPS, 1)
    c[:, :, latent] = traversal_values()
    return c


def decoder(run: Run, seed: int) -> Decode:
    """codes [B, K, c_dim] -> uint8 [B, K, C, R, R]: the EMA generator with one s per base, or the VAE in stage 1."""

    @torch.no_grad()
    def decode(c: Tensor) -> Tensor:
        count, steps = c.shape[:2]
        flat = c.flatten(0, 1)
        if run.generator is None:
            images = to_uint8(run.vae.decode(flat))
        else:
            s = nuisance(run, seed, torch.arange(count)).repeat_interleave(steps, 0)
            images = generate(run.generator, s, flat)
        return images.unflatten(0, (count, steps))

    return decode


@torch.no_grad()
def movement(run: Run, extractor: Extractor, seed: int) -> dict[str, Any]:
    """For each latent the share of its full range that x, y and scale each move over, mean of 64 base codes.

    "clear" lists the latents under which one factor moves over at least MOVED, and over twice the share of the others.
    """
    base = codes(run, seed, torch.arange(BASES), "posterior", 0)
    decode = decoder(run, seed)
    matrix = []
    for latent in range(run.c_dim):
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
    return {"factors": list(FULL_RANGE), "share_of_range": matrix, "clear": clear}


@torch.no_grad()
def kl(run: Run, seed: int, count: int = 2048) -> Tensor:
    """KL of each latent's posterior from the prior in nats, mean over reals: [c_dim]. Collapsed latents have none."""

    mean, logvar = run.encoder(reals(run, seed, torch.arange(count)).float() / 127.5 - 1)
    return kl_per_latent(mean, logvar)
