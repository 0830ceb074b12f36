"""What `generate` draws beside the images of the seeds: a grid of them, traversals, and walks as videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.progress import progress_bar
from data_shards.format.pyramid import at_most
from trainer.export.exported_model import Model
from trainer.pictures.image_grids import grid, headed, labelled, picture_of, read_image, save
from trainer.pictures.traversals import LARGEST, by_kl, sheet
from trainer.pictures.video import write_mp4, write_webp
from trainer.pictures.walks import loop, swing

from .image_maker import ImageMaker
from .request import Request, Video

MOST_LATENTS = 64  # of a traversal
ACROSS = 5  # images beside each other in the video of a traversal
FRAMES_A_SECOND = 24
WALK, SWING = 24, 96  # frames from one seed to the next; of a latent's swing up, down and back
Chosen = Sequence[tuple[int, str]]
"""(latent from 0, label) of a traversal. A label begins with the latent's name, and has the KL in a second line."""


def choose(model: Model, names: str | None) -> Chosen:
    """Read which latents are traversed: of the code, or of s where there is none.

    names: "all" for all, the largest KL first, or such as c3,c7. Raises a UserError where one is unknown or named
    twice, or where they are more than MOST_LATENTS.
    """
    if names is None:
        return []
    metadata = model.metadata
    known = by_kl(model.bank, metadata.c_dim) or [(j, f"s{j + 1}") for j in range(metadata.s_dim)]
    labels = {label.partition("\n")[0]: (latent, label) for latent, label in known}
    wanted = list(labels) if names == "all" else [name.strip() for name in names.split(",")]
    wrong = [name for name in wanted if name not in labels]
    if wrong:
        there = f"c1 to c{metadata.c_dim}" if metadata.c_dim else f"s1 to s{metadata.s_dim}"
        raise UserError(f"--traverse: {', '.join(map(repr, wrong))} is no latent of this model; it has {there}")
    if len(set(wanted)) != len(wanted):
        raise UserError(f"--traverse: {names}: has a latent twice; name each once")
    if len(wanted) > MOST_LATENTS:
        raise UserError(f"--traverse: {names}: {len(wanted)} latents are too many; name at most {MOST_LATENTS}")
    return [labels[name] for name in wanted]


def names_of(chosen: Chosen) -> list[str]:
    """Return the names of latents, such as c3."""
    return [label.partition("\n")[0] for _, label in chosen]


def draw(request: Request, maker: ImageMaker, chosen: Chosen, image: Callable[[int], Path]) -> list[str]:
    """Write what is asked for beside the images, and return the names of the files. image: the file of a seed."""
    written = []
    if request.grid is not None:
        images = torch.cat([at_most(read_image(image(seed)), LARGEST) for seed in request.seeds])
        save(grid(_filled(images, request.grid), request.grid[1]), request.out / "grid.png")
        written.append("grid.png")
    if chosen:
        save(_traversals(request, maker, chosen), request.out / "traversals.png")
        written.append("traversals.png")
    if request.walks:
        written.append(_video(request, "interpolation", _walk(request, maker), WALK * len(request.seeds)))
    if request.video is not None and chosen:
        written.append(_video(request, "traversals", _swings(request, maker, chosen), SWING))
    return written


def _filled(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add white images up to rows x columns."""
    missing = shape[0] * shape[1] - len(images)
    return torch.cat((images, images.new_full((missing, *images.shape[1:]), 255)))


def _base(request: Request, maker: ImageMaker) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return what traversals start from, [1, dim], and what makes images of it: the code or, without one, s."""
    s, c = maker.latents.of(request.seeds[0])
    if c.shape[1]:
        return c, lambda along: maker.of(s.expand(len(along), -1), along)
    return s, lambda along: maker.of(along, c.expand(len(along), -1))


def _traversals(request: Request, maker: ImageMaker, chosen: Chosen) -> Image.Image:
    base, make = _base(request, maker)
    both = maker.model.generator is not None and maker.model.vae is not None
    return sheet(base, chosen, make, maker.decoded if both else None)


def _walk(request: Request, maker: ImageMaker) -> Iterator[Image.Image]:
    """Yield the frames of an endless walk through the seeds, along arcs from each to the next."""
    s, c = (torch.stack(keys) for keys in zip(*map(maker.latents.of, request.seeds), strict=True))
    for noise, code in zip(loop(s, WALK), loop(c, WALK), strict=True):
        yield picture_of(_frame(request.video, maker.of(noise, code))[0])


def _swings(request: Request, maker: ImageMaker, chosen: Chosen) -> Iterator[Image.Image]:
    """Yield frames in which each latent swings in an image of its own, under its name."""
    base, make = _base(request, maker)
    names = names_of(chosen)
    for moment in zip(*(swing(base, latent, SWING) for latent, _ in chosen), strict=True):
        images = _frame("webp", make(torch.cat(moment)))
        rows = [(names[at : at + ACROSS], images[at : at + ACROSS]) for at in range(0, len(names), ACROSS)]
        yield labelled([("", headed(titles, grid(row, len(row)), 0)) for titles, row in rows], 0)


def _frame(video: Video | None, images: Tensor) -> Tensor:
    """Enlarge images to at least LARGEST px by repeating pixels; those of a WebP are shrunk to it by box means."""
    images = at_most(images, LARGEST) if video == "webp" else images
    return F.interpolate(images, scale_factor=max(1, LARGEST // images.shape[-1]))


def _video(request: Request, name: str, frames: Iterable[Image.Image], count: int) -> str:
    """Write frames as a video in the format that is asked for, with a progress bar; return the name of its file."""
    write = write_mp4 if request.video == "mp4" else write_webp
    with progress_bar() as bar:
        task = bar.add_task(f"frames of {name}", total=count)

        def counted() -> Iterator[Image.Image]:
            for frame in frames:
                yield frame
                bar.advance(task)

        file = f"{name}.{request.video}"
        write(request.out / file, counted(), FRAMES_A_SECOND)
    return file
