"""Perceptual path length of a generator, in s and in c: how far an image moves, as LPIPS sees it, for a small step.

Karras, Laine, Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks" (2019), section 4.1:
the mean over pairs of latents and points t in [0, 1) between them of LPIPS(G(t), G(t + eps)) / eps^2, without the
lowest and the highest hundredth. Between two s, which are N(0, I), one goes along the arc; between two codes along the
line, as codes of the aggregated posterior lie on no sphere. What does not move is the same in both images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.progress import progress_bar
from common.random_numbers import Purpose, uniform
from data_shards.read.loader import CODE_RESOLUTION
from evaluation.inputs.choices import Codes
from evaluation.inputs.images import codes, nuisance
from evaluation.inputs.run import Run
from models import in_chunks
from trainer.pictures.walks import slerp

Space = Literal["s", "c"]
EPSILON, CUT = 1e-4, 0.01  # step along the path; share of the pairs that is left out at either end
MOST_PX, BLOCK = 256, 16  # px that LPIPS sees; pairs at a time
COLUMNS = ("path in", "length")
NAME = "path-length"  # of the command, its records and its network
Features = Callable[[Tensor], Tensor]


def spaces(run: Run) -> list[Space]:
    """Return the parts of the latents that a run's generator has. Raises a UserError for a run of stage 1."""
    if run.generator is None:
        raise UserError(f"{run.path}: is a run of stage 1, which has no generator; name one of stage 2")
    sizes: dict[Space, int] = {"s": run.s_dim, "c": run.c_dim}
    return [space for space, size in sizes.items() if size]


@torch.no_grad()
def length(run: Run, features: Features, space: Space, source: Codes, pairs: int, seed: int) -> float:
    """Measure the mean path length in s or in c over so many pairs."""
    found: list[Tensor] = []
    with progress_bar() as bar:
        task = bar.add_task(f"paths in {space}", total=pairs)
        for at in torch.arange(pairs).split(BLOCK):
            here, after = (_seen(run, z) for z in _steps(run, space, source, at, pairs, seed))
            found.append((features(here) - features(after)).square().sum(1).double().cpu() / EPSILON**2)
            bar.advance(task, len(at))
    return trimmed_mean(torch.cat(found))


def trimmed_mean(distances: Tensor) -> float:
    """Return the mean without the lowest and the highest hundredth of the values."""
    low, high = (torch.quantile(distances, q, interpolation=way) for q, way in ((CUT, "lower"), (1 - CUT, "higher")))
    return float(distances[(distances >= low) & (distances <= high)].mean())


def _steps(run: Run, space: Space, source: Codes, at: Tensor, pairs: int, seed: int) -> Iterator[Tensor]:
    """Yield the latents [s, y, c] at t and at t + eps of pairs `at`; other ends are of later positions. y stays."""
    s, s_end = nuisance(run, seed, at), nuisance(run, seed, at + pairs)
    c, c_end = codes(run, seed, at, source, 0), codes(run, seed, at + pairs, source, 0)
    t = uniform(seed, Purpose.PATHS, at, (1,)).to(run.device)
    for share in (t, t + EPSILON):
        if space == "s":
            moved = slerp(s[:, : run.s_dim], s_end[:, : run.s_dim], share)
            yield torch.cat((moved, s[:, run.s_dim :], c), 1)
        else:
            yield torch.cat((s, torch.lerp(c, c_end, share)), 1)


def _seen(run: Run, z: Tensor) -> Tensor:
    """Draw images as LPIPS sees them: float [b, 3, R, R] in [0, 255], not rounded, at most 256 px."""
    assert run.generator is not None
    parts = in_chunks(z, getattr(run.generator, "resolution", CODE_RESOLUTION))  # large images are made few at a time
    images = torch.cat([run.generator(part) for part in parts])
    if images.shape[-1] > MOST_PX:
        images = F.avg_pool2d(images, images.shape[-1] // MOST_PX)
    return (images.expand(-1, 3, -1, -1) + 1) * 127.5
