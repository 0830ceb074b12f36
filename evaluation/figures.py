"""The paper's figures for a run: random samples, traversals of every latent, c against s."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from .grids import beside, grid, labelled, save
from .images import Codes, codes, generate, maker, nuisance, reals, to_uint8
from .latents import decoder, kl, traversal_codes
from .run import Run

COLLAPSED = 0.01  # nats
SAMPLES, PANE = 64, 5


def draw(run: Run, out: Path, source: Codes, seed: int) -> list[Path]:
    """Write the figures to `out`; the paths of those that the run can have."""
    made = {
        "reals.png": grid(reals(run, seed, torch.arange(SAMPLES)), 8),
        "samples.png": grid(maker(run, "gan" if run.generator else "vae", seed, source, 0)(torch.arange(SAMPLES)), 8),
        "traversals.png": traversals(run, seed),
    }
    if run.generator is not None and run.s_dim:
        made["code_and_nuisance.png"] = code_and_nuisance(run, source, seed)
    for name, picture in made.items():
        save(picture, out / name)
    return [out / name for name in made]


def traversals(run: Run, seed: int) -> Image.Image:
    """linspace(-3, 3, 7) along each latent of one real image's code, sorted by KL (Figures A.2, A.3).

    In stage 2 the VAE's decoding stands above the generator's image of the same code.
    """
    base = codes(run, seed, torch.arange(1), "posterior", 0)
    divergence = kl(run, seed)
    rows = []
    for latent in divergence.argsort(descending=True).tolist():
        c = traversal_codes(base, latent)
        with torch.no_grad():
            decoded = [to_uint8(run.vae.decode(c[0]))]
        if run.generator is not None:
            decoded.append(decoder(run, seed)(c)[0])
        note = "collapsed" if divergence[latent] < COLLAPSED else f"KL {divergence[latent]:.2f} nats"
        rows.append((f"c{latent + 1}\n{note}", grid(torch.cat(decoded), 7)))
    half = (len(rows) + 1) // 2
    return beside([labelled(part) for part in (rows[:half], rows[half:]) if part])


@torch.no_grad()
def code_and_nuisance(run: Run, source: Codes, seed: int) -> Image.Image:
    """Rows share c, columns share s; the VAE's decoding of c comes first (Figures A.5, A.7)."""
    assert run.generator is not None
    c = codes(run, seed, torch.arange(PANE), source, 0)
    s = nuisance(run, seed, torch.arange(PANE))
    rows = []
    for code in c:
        images = generate(run.generator, s, code.expand(PANE, -1))
        decoded = to_uint8(run.vae.decode(code[None]))
        decoded = torch.nn.functional.interpolate(decoded, size=images.shape[-1], mode="nearest")
        rows.append(torch.cat((decoded, images)))
    return grid(torch.cat(rows), PANE + 1)
