"""The paper's figures for a run: random samples, traversals of every latent, c against s."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from .grids import beside, grid, labelled, save
from .images import Codes, codes, generate, maker, nuisance, own_kind, reals, to_uint8
from .latents import bases, by_kl, decoder, names, traversal_codes
from .run import Run

SAMPLES, PANE = 64, 5


def draw(run: Run, out: Path, source: Codes, seed: int) -> list[Path]:
    """Write the figures to `out`; the paths of those that the run can have."""
    made = {
        "reals.png": grid(reals(run, seed, torch.arange(SAMPLES)), 8),
        "samples.png": grid(maker(run, own_kind(run), seed, source, 0)(torch.arange(SAMPLES)), 8),
        "traversals.png": traversals(run, seed),
    }
    if run.generator is not None and run.s_dim and run.c_dim:
        made["code_and_nuisance.png"] = code_and_nuisance(run, source, seed)
    for name, picture in made.items():
        save(picture, out / name)
    return [out / name for name in made]


def traversals(run: Run, seed: int) -> Image.Image:
    """linspace(-3, 3, 7) along each latent from one base, sorted by KL (Figures A.2, A.3).

    Where a generator has a VAE's code, the VAE's decoding stands above the generator's image.
    """
    base, decode = bases(run, seed, 1), decoder(run, seed)
    rows = []
    for latent, words in by_kl(run, seed):
        c = traversal_codes(base, latent)
        images = [decode(c)[0]]
        if run.generator is not None and run.vae is not None:
            with torch.no_grad():
                images.insert(0, to_uint8(run.vae.decode(c[0])))
        rows.append((f"{names(run)[latent]}\n{words}", grid(torch.cat(images), 7)))
    half = (len(rows) + 1) // 2
    return beside([labelled(part) for part in (rows[:half], rows[half:]) if part])


@torch.no_grad()
def code_and_nuisance(run: Run, source: Codes, seed: int) -> Image.Image:
    """Rows share c, columns share s; the decoding of c, where there is a VAE, comes first (Figures A.5, A.7)."""
    assert run.generator is not None
    c = codes(run, seed, torch.arange(PANE), source, 0)
    s = nuisance(run, seed, torch.arange(PANE))
    rows = []
    for code in c:
        images = generate(run.generator, s, code.expand(PANE, -1))
        if run.vae is not None:
            decoded = to_uint8(run.vae.decode(code[None]))
            images = torch.cat((torch.nn.functional.interpolate(decoded, size=images.shape[-1]), images))
        rows.append(images)
    return grid(torch.cat(rows), len(rows[0]))
