"""A few small pictures of a run, which stay in results/ when its folder goes: OUT/reals, samples, traversals, joint.

All runs of a data set are drawn from the same reals and the same s, and so from the same codes where they have an
encoder in common. Images above 64 px are averaged down to it.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.atomic_writes import publish
from data_shards.format.pyramid import at_most
from data_shards.read.loader import CODE_RESOLUTION
from evaluation.factors.latents import Chosen, names, traversal_rows
from evaluation.inputs.images import code_source, maker, own_kind
from evaluation.inputs.run import Run
from evaluation.pages.figures import code_and_nuisance, pane
from trainer.pictures.image_grids import grid
from trainer.pictures.walks import TRAVERSAL_STEPS

SAMPLES, ACROSS = 32, 8
MOST = 20  # latents, of which a GAN may have hundreds in s
QUALITY = 90  # of WebP


def draw(run: Run, out: Path, seed: int) -> list[Path]:
    """Write the pictures that the run can have to `out`. Returns their paths."""
    at, source = torch.arange(SAMPLES), code_source(run, None)
    pictures = {
        "reals": _sheet(run.reals.at(seed, at), ACROSS),
        "samples": _sheet(maker(run, own_kind(run), seed, source, 0)(at), ACROSS),
        "traversals": _traversals(run, seed),
    }
    if run.generator is not None and run.s_dim and run.c_dim:
        pictures["joint"] = _joint(run, seed)
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        publish(out / f"{name}.webp", _webp(picture))
    return [out / f"{name}.webp" for name in pictures]


def _sheet(images: Tensor, across: int) -> Image.Image:
    return grid(at_most(images.cpu(), CODE_RESOLUTION), across)


def _traversals(run: Run, seed: int) -> Image.Image:
    """Draw a row for each latent, in their own order (Figures A.2 and A.3); of a GAN without a code along s."""
    rows = traversal_rows(run, seed, Chosen({name: name for name in names(run)[:MOST]}))
    return _sheet(torch.cat([row.images for row in rows]), TRAVERSAL_STEPS)


def _joint(run: Run, seed: int) -> Image.Image:
    """Draw images whose rows share c and whose columns share s, below their names (Figure A.5)."""
    panel = code_and_nuisance(run, code_source(run, None), seed)
    return pane(replace(panel, rows=[(name, at_most(images.cpu(), CODE_RESOLUTION)) for name, images in panel.rows]))


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()
