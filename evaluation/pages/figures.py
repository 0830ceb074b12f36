"""The paper's figures for a run: random samples, traversals of every latent, c against s."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ..factors.latents import STEPS, decoded, traversal_rows
from ..images import Codes, codes, generate, maker, nuisance, own_kind
from ..run import Run
from .grids import TEXT, beside, grid, headed, labelled, save

SAMPLES, PANE = 64, 5
TEXT_SHARE, LABEL = 8, 3  # letters have at least an 8th of an image; a label has the room of 3


def draw(run: Run, out: Path, source: Codes, seed: int) -> list[Path]:
    """Write the figures to `out`; the paths of those that the run can have."""
    made = {
        "reals.png": grid(run.reals.at(seed, torch.arange(SAMPLES)), 8),
        "samples.png": grid(maker(run, own_kind(run), seed, source, 0)(torch.arange(SAMPLES)), 8),
        "traversals.png": traversals(run, seed),
    }
    if run.generator is not None and run.s_dim and run.c_dim:
        made["code_and_nuisance.png"] = code_and_nuisance(run, source, seed)
    for name, picture in made.items():
        save(picture, out / name)
    return [out / name for name in made]


def traversals(run: Run, seed: int) -> Image.Image:
    """The traversals of every latent. Where a generator has a VAE's code, the VAE's decoding stands above its image."""
    rows = []
    for row in traversal_rows(run, seed):
        images = row.images
        if run.generator is not None and run.vae is not None:
            images = torch.cat((decoded(run, row.c, images.shape[-1]), images))
        rows.append((f"{row.name}\n{row.note}", grid(images, STEPS)))
    half = (len(rows) + 1) // 2
    return beside([labelled(part) for part in (rows[:half], rows[half:]) if part])


@torch.no_grad()
def code_and_nuisance(run: Run, source: Codes, seed: int) -> Image.Image:
    """Rows c1, c2, ... share c, columns s1, s2, ... share s; where there is a VAE, its decoding of c comes first
    (Figures A.5, A.7)."""
    assert run.generator is not None
    c = codes(run, seed, torch.arange(PANE), source, 0)
    s = nuisance(run, seed, torch.arange(PANE))
    rows, titles = [], [f"s{k + 1}" for k in range(PANE)]
    for i, code in enumerate(c):
        images = generate(run.generator, s, code.expand(PANE, -1))
        if run.vae is not None:
            images = torch.cat((decoded(run, code[None], images.shape[-1]), images))
        rows.append((f"c{i + 1}", grid(images, len(images))))
    text = max(TEXT, images.shape[-1] // TEXT_SHARE)
    titles = titles if run.vae is None else ["VAE", *titles]
    return headed(titles, labelled(rows, LABEL * text, text=text), LABEL * text, text)
