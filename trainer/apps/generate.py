"""python -m trainer generate: images of a model by seed, as PNG files, a grid, traversals and videos.

The image of a seed depends on the model, the codes, psi and the kind of device alone. Images are made one at a time, so
that the bits do not depend on which others are asked for, and memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from common.progress import progress_bar
from common.provenance import versions
from common.signals import handling
from trainer.config.file_names import METADATA
from trainer.distributed.world import World, connect, disconnect
from trainer.encoders.frozen import weights_sha256
from trainer.export.exported_model import Model
from trainer.export.open_model import open_model
from trainer.jobs.exit_file import typed_command
from trainer.pictures.image_grids import picture_of, save

from . import drawings, output_folder
from .image_maker import ImageMaker
from .latents import Latents, latents_of
from .request import Problems, Request, seeds_text


def generate(request: Request) -> str | None:
    """Write what is asked for, and return what was written, for a reader; None on all processes but the main one.

    Raises a UserError with all that is wrong before the first image is made.
    """
    with _processes(request.device) as world:
        model = _open_everywhere(request, world)
        latents, chosen = world.on_all(lambda: _checked(request, model))
        record = _record(request, model, latents, chosen, world)
        world.on_main(lambda: output_folder.claim(request.out, record))
        maker = ImageMaker(model, latents, world.device)
        world.on_all(lambda: _write_images(request, maker, world))
        drawn = world.on_main(lambda: drawings.draw(request, maker, chosen, lambda seed: image_path(request.out, seed)))
    if drawn is None:
        return None
    images = "1 image" if len(request.seeds) == 1 else f"{len(request.seeds):,} images"
    return f"wrote {', '.join([images, *drawn])} to {request.out}"


def image_path(out: Path, seed: int) -> Path:
    """Return the file of a seed's image."""
    return out / f"seed{seed:06d}.png"


@contextmanager
def _processes(device: str) -> Iterator[World]:
    """Connect the processes that the launcher started, or this one alone. SIGTERM and the like stop them as Ctrl-C."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handling(stop):
        try:
            yield connect(device, None)
        finally:
            disconnect()


def _open_everywhere(request: Request, world: World) -> Model:
    """Open the same checkpoint on every process: `best` or the newest may change in between."""

    def opened(step: str | None) -> Model:
        return open_model(request.model, step, request.ema, request.codes in (None, "posterior"))

    first = world.on_main(lambda: opened(request.step))
    is_run = first is not None and not (request.model / METADATA).is_file()
    step = world.broadcast(first.metadata.origin["step"] if first and is_run else request.step)
    return world.on_all(lambda: first or opened(step))


def _checked(request: Request, model: Model) -> tuple[Latents, drawings.Chosen]:
    """Return the latents and what is traversed. Raises one UserError with all that the model has not."""
    problems = Problems()
    latents = problems.read(lambda: _latents(request, model))
    chosen = problems.read(lambda: drawings.choose(model, request.traverse))
    problems.refuse("generate")
    assert latents is not None
    assert chosen is not None
    return latents, chosen


def _latents(request: Request, model: Model) -> Latents:
    return latents_of(model, request.model, request.codes, request.psi, request.seeds, request.classes)


def _record(request: Request, model: Model, latents: Latents, chosen: drawings.Chosen, world: World) -> dict[str, Any]:
    """Return the content of images.json."""
    origin, network = model.metadata.origin, model.generator or model.vae
    assert network is not None
    names = ("step", "images_seen", "ema", "ema_sha256", "data_notes")
    return {
        "command": typed_command(),
        "model": {"path": str(request.model), **{name: origin[name] for name in names if name in origin}},
        "weights_sha256": weights_sha256(network),
        "resolution": model.metadata.resolution,
        "alpha": model.metadata.alpha,
        "seeds": seeds_text(request.seeds),
        "psi": request.psi,
        "codes": latents.source,
        "codes_sha256": latents.sha256,
        **({} if latents.classes is None else {"class": latents.classes}),
        "grid": request.grid and "x".join(map(str, request.grid)),
        "traverse": ",".join(drawings.names_of(chosen)) or None,
        "video": request.video,
        "device": world.device.type,
        "versions": versions(),
    }


def _write_images(request: Request, maker: ImageMaker, world: World) -> None:
    """Write this process's share of the images; those that are there already stay."""
    seeds = request.seeds[world.rank :: world.size]
    with progress_bar(world.is_main) as bar:
        task = bar.add_task("images", total=len(seeds))
        for seed in seeds:
            path = image_path(request.out, seed)
            if not path.exists():
                save(picture_of(maker.of_seed(seed)[0]), path)
            bar.advance(task)
