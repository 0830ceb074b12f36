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
    """Write what is asked for beside the images, and return the names of the files; those that are there already stay.

    image: returns the file of a seed, which is there.
    """
    wanted: dict[str, Callable[[Path], None]] = {}
    if (shape := request.grid) is not None:
        wanted["grid.png"] = lambda path: save(_grid([image(seed) for seed in request.seeds], shape), path)
    if chosen:
        wanted["traversals.png"] = lambda path: save(_traversals(request, maker, chosen), path)
    if request.walks:
        count = WALK * len(request.seeds)
        wanted[f"interpolation.{request.video}"] = lambda path: _video(path, _walk(request, maker), count)
    if request.video is not None and chosen:
        wanted[f"traversals.{request.video}"] = lambda path: _video(path, _swings(request, maker, chosen), SWING)
    for name, write in wanted.items():
        if not (request.out / name).exists():
            write(request.out / name)
    return list(wanted)


def _grid(files: Sequence[Path], shape: tuple[int, int]) -> Image.Image:
    """Arrange the images of files in rows x columns, at most LARGEST px each, with white images in places left over."""
    images = torch.cat([at_most(read_image(file), LARGEST) for file in files])
    missing = images.new_full((shape[0] * shape[1] - len(files), *images.shape[1:]), 255)
    return grid(torch.cat((images, missing)), shape[1])


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
    for noise, code in zip(loop(s, WALK, maker.model.metadata.s_dim), loop(c, WALK), strict=True):
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


def _video(path: Path, frames: Iterable[Image.Image], count: int) -> None:
    """Write `count` frames as a video in the format that the file's name ends with, with a progress bar."""
    write = write_mp4 if path.suffix == ".mp4" else write_webp
    with progress_bar() as bar:
        task = bar.add_task(f"frames of {path.name}", total=count)

        def counted() -> Iterator[Image.Image]:
            """Yield the frames and count them."""
            for frame in frames:
                yield frame
                bar.advance(task)

        write(path, counted(), FRAMES_A_SECOND)
