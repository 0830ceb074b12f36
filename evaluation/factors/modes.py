"""Mode coverage on stacked sprites: how many of the 1,000 combinations a generator makes, and how evenly.

As Stacked MNIST is measured (Metz et al., 2017; Lin et al., 2018): a network reads each channel of 25,600 samples, a
mode is covered where one sample or more is of it, and the KL divergence of the samples' modes from the data's, which
are uniform, says how evenly. Here a channel in which no clean sprite of the ten is to be seen is of no class, so that
smears cover nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.arrays import Int64
from common.errors import UserError
from common.progress import progress_bar
from data_shards.sources.sprites.renderer import factors_of
from data_shards.sources.sprites.stacked import CHANNELS, CLASSES, MODES
from evaluation.inputs.choices import Codes, Kind
from evaluation.inputs.images import BLOCK, maker
from evaluation.inputs.run import Run

from .factor_network import FAITHFUL_IOU, FactorExtractor, sprite_iou

PLACE, SCALE = (
    0.1,
    0.15,
)  # how far a sprite may be from its class: 3.2 px of x and y, and a third of what scales differ by
COLUMNS = ("images", f"modes of {MODES:,}", "KL to uniform (nats)", "of a mode")


class Coverage(NamedTuple):
    """What samples cover.

    modes: combinations with one sample or more; kl: of the shares of modes from the uniform ones, in nats, over the
    samples that are of a mode; None where there are none; of_a_mode: their share of the samples.
    """

    modes: int
    kl: float | None
    of_a_mode: float


def coverage(classes: Int64) -> Coverage:
    """Count modes. classes: int64 [N, 3], the class in each channel, -1 where there is none."""
    whole = classes[(classes >= 0).all(1)]
    counts = np.bincount(whole @ len(CLASSES) ** np.arange(len(CHANNELS)), minlength=MODES)
    shares = counts[counts > 0] / max(len(whole), 1)
    kl = float((shares * np.log(shares * MODES)).sum()) if len(whole) else None
    return Coverage(int((counts > 0).sum()), kl, len(whole) / len(classes))


def classes_of(images: Tensor, extractor: FactorExtractor) -> Int64:
    """Read the class of each channel: int64 [N, 3], -1 where no clean sprite of a class is seen.

    images: uint8 [N, 3, R, R]. A sprite is clean where it overlaps the sprite that its factors draw, as a faithful one.
    """
    channels = images.flatten(0, 1)[:, None]
    prediction = extractor.extract(channels)[1]
    table = factors_of(np.array([[c.shape, c.scale, 0, c.x, c.y] for c in CLASSES]))
    far = torch.full((len(channels), len(CLASSES)), False)
    for name, most in (("x", PLACE), ("y", PLACE), ("scale", SCALE)):
        expected = torch.from_numpy(np.asarray(getattr(table, name)))
        far |= (getattr(prediction, name)[:, None] - expected).abs() > most
    far |= prediction.shape.argmax(1)[:, None] != torch.from_numpy(table.shape)
    clean = torch.from_numpy(sprite_iou(channels, prediction) >= FAITHFUL_IOU)
    found = torch.where(clean & ~far.all(1), (~far).int().argmax(1), -1)
    return found.reshape(-1, len(CHANNELS)).numpy()


def measure(
    run: Run, extractor: FactorExtractor, kinds: list[Kind], samples: int, source: Codes, seed: int
) -> dict[str, Coverage]:
    """Measure the coverage of images of each kind."""
    check(run)
    found: dict[str, Coverage] = {}
    with progress_bar() as bar:
        for kind in kinds:
            task, parts = bar.add_task(f"modes of {kind}", total=samples), []
            make = maker(run, kind, seed, source, 0)
            for positions in torch.arange(samples).split(BLOCK):
                parts.append(classes_of(make(positions).cpu(), extractor))
                bar.advance(task, len(positions))
            found[kind] = coverage(np.concatenate(parts))
    return found


def expected_kl(samples: int) -> float:
    """Return the KL in nats that samples of the uniform distribution itself have, to first order: (M - 1) / 2N."""
    return (MODES - 1) / (2 * samples)


def expected_modes(samples: int) -> float:
    """Return the modes that samples of the uniform distribution itself cover on average."""
    return MODES * -math.expm1(samples * math.log1p(-1 / MODES))


def check(run: Run) -> None:
    """Refuse a run of other data."""
    data_set = run.data.main.manifest.data_set
    if data_set != "stacked":
        raise UserError(
            f"{run.path}: trained on {data_set}, which has no modes to count; name a run on a set of "
            "`python -m data_shards make stacked`"
        )


def table_rows(kinds: dict[str, Coverage]) -> list[list[str]]:
    """Format coverages as rows under COLUMNS."""
    return [
        [kind, f"{found.modes:,}", "" if found.kl is None else f"{found.kl:.3f}", f"{found.of_a_mode:.1%}"]
        for kind, found in kinds.items()
    ]
