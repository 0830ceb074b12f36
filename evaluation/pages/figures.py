"""The paper's figures for a run: random samples, traversals of every latent, c against s, detail, interpolation."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from evaluation.factors.latents import ALL, Chosen, decoded, traversal_rows
from evaluation.inputs.choices import Codes
from evaluation.inputs.images import codes, generate, maker, nuisance, of_codes, own_kind
from evaluation.inputs.run import Run
from trainer.pictures.image_grids import TEXT, beside, grid, headed, labelled, save
from trainer.pictures.traversals import rows_of
from trainer.pictures.walks import TRAVERSAL_STEPS

from . import interpolation, pdf, zoom
from .pdf import Panel

SAMPLES, ACROSS, PANE, ZOOMED = 64, 8, 5, 4
TEXT_SHARE, LABEL = 8, 3  # letters have at least an 8th of an image; a label has the room of 3


def draw(run: Run, out: Path, source: Codes, seed: int, chosen: Chosen) -> list[Path]:
    """Write the figures that the run can have to `out`: PNG, the video as WebP, and all on the pages of a PDF.

    chosen: of the traversals. Returns their paths.
    """
    samples = maker(run, own_kind(run), seed, source, 0)(torch.arange(SAMPLES))
    reals = run.reals.at(seed, torch.arange(SAMPLES), samples.shape[-1])
    panels = {"reals": _sheet_of("Reals", reals), "samples": _sheet_of("Random samples", samples)}
    panels["traversals"] = traversals(run, seed, chosen)
    pictures = {"reals": grid(reals, ACROSS), "samples": grid(samples, ACROSS)}
    pictures["traversals"] = two_columns(panels["traversals"], 2 if _has_both(run) else 1)
    if run.generator is not None and run.s_dim and run.c_dim:
        panels["code_and_nuisance"] = code_and_nuisance(run, source, seed)
        pictures["code_and_nuisance"] = pane(panels["code_and_nuisance"])
    if samples.shape[-1] >= zoom.SMALLEST:
        panels["zoom"] = zoomed(samples[:ZOOMED])
        pictures["zoom"] = labelled([(label, grid(row, len(row))) for label, row in panels["zoom"].rows], 8)
    for name, picture in pictures.items():
        save(picture, out / f"{name}.png")
    interpolation.video(run, source, seed, out / "interpolation.webp")
    pdf.write(out / "figures.pdf", list(panels.values()))
    return [*(out / f"{name}.png" for name in pictures), out / "interpolation.webp", out / "figures.pdf"]


def _sheet_of(title: str, images: Tensor) -> Panel:
    return Panel(title, "", [("", row) for row in images.split(ACROSS)])


def traversals(run: Run, seed: int, chosen: Chosen = ALL) -> Panel:
    """Traverse latents. Where a generator has a VAE's code, the VAE's decodings stand above its images."""
    rows, both = list[tuple[str, Tensor]](), _has_both(run)
    for row in traversal_rows(run, seed, chosen):
        decodings = of_codes(run, "vae", row.c, row.c[:, :0]) if both else None
        rows += rows_of(f"{row.name}\n{row.note}", row.images, decodings)
    note = f"linspace(-3, 3, {TRAVERSAL_STEPS}) along each latent from one base"
    note += ", the largest KL first" if run.q is not None and not chosen.titles else ""
    return Panel("Traversals", note + ("; the VAE's decodings above the generator's images" if both else ""), rows)


def _has_both(run: Run) -> bool:
    return run.generator is not None and run.vae is not None


def two_columns(panel: Panel, rows_a_latent: int) -> Image.Image:
    """Draw traversals as a picture. rows_a_latent: rows of images of each latent."""
    whole = panel.rows
    latents = [whole[at : at + rows_a_latent] for at in range(0, len(whole), rows_a_latent)]
    rows = [(part[0][0], grid(torch.cat([images for _, images in part]), TRAVERSAL_STEPS)) for part in latents]
    half, text = (len(rows) + 1) // 2, max(TEXT, whole[0][1].shape[-1] // TEXT_SHARE)
    return beside([labelled(part, 9 * text, text=text) for part in (rows[:half], rows[half:]) if part])


@torch.no_grad()
def code_and_nuisance(run: Run, source: Codes, seed: int) -> Panel:
    """Make images whose rows c1, c2, ... share c and whose columns s1, s2, ... share s (Figures A.5, A.7).

    Where there is a VAE, its decoding of c comes first.
    """
    assert run.generator is not None
    c = codes(run, seed, torch.arange(PANE), source, 0)
    s = nuisance(run, seed, torch.arange(PANE))
    rows, titles = [], [f"s{k + 1}" for k in range(PANE)]
    for i, code in enumerate(c):
        images = generate(run.generator, s, code.expand(PANE, -1))
        if run.vae is not None:
            images = torch.cat((decoded(run, code[None], images.shape[-1]), images))
        rows.append((f"c{i + 1}", images))
    return Panel("c against s", "Rows share c, columns share s.", rows, titles if run.vae is None else ["VAE", *titles])


def pane(panel: Panel) -> Image.Image:
    """Draw the panel of c against s as a picture."""
    text = max(TEXT, panel.rows[0][1].shape[-1] // TEXT_SHARE)
    rows = [(label, grid(images, len(images))) for label, images in panel.rows]
    return headed(panel.columns, labelled(rows, LABEL * text, text=text), LABEL * text, text)


def zoomed(images: Tensor) -> Panel:
    """Show the detail of large images, see `zoom.strip`."""
    panels = zoom.strip(images)
    note = f"Each whole, then half of the side of the square before, around the most detail; {zoom.PANEL} px each."
    return Panel("Detail", note, [("", row) for row in panels])
