"""FID and sprite fidelity of a run's images against its reals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_shards.cli import progress_bar
from data_shards.errors import UserError
from models.factor_net import FEATURES

from ..factors.network import Extractor, at_64_px, sprite_iou
from ..images import BLOCK, Codes, Kind, Maker, maker, reals
from ..run import Run
from .frechet import Moments, distance

FIDELITY_IOU, FIDELITY_OF_REALS = 0.8, 0.95
log = logging.getLogger(__name__)
KINDS: tuple[Kind, ...] = ("reals", "gan", "vae", "untrained")


@dataclass(frozen=True)
class Measured:
    """One set of images: moments of its features and, where it is defined, the share of faithful sprites."""

    moments: Moments
    fidelity: float | None


def measure(make: Maker, count: int, extractor: Extractor, faithful: bool, advance: Callable[[int], None]) -> Measured:
    """Look at images 0 to count - 1 in blocks."""
    moments, overlaps = Moments.empty(FEATURES), []
    for start in range(0, count, BLOCK):
        positions = torch.arange(start, min(start + BLOCK, count))
        images = at_64_px(make(positions))  # once for both looks
        features, prediction = extractor.look(images)
        if not torch.isfinite(features).all():
            raise UserError(
                f"images {start} to {int(positions[-1])} give features that are not finite: it has diverged"
            )
        moments.add(features)
        if faithful:
            overlaps.append(sprite_iou(images, prediction))
        advance(len(positions))
    assert moments.count == count
    fidelity = float((np.concatenate(overlaps) >= FIDELITY_IOU).mean()) if faithful else None
    return Measured(moments, fidelity)


def fid(run: Run, extractor: Extractor, kinds: list[Kind], samples: int, source: Codes, seed: int) -> dict[str, Any]:
    """FID of each kind of images against the same reference reals. Returns the record's numbers by kind.

    The reference is the first `samples` reals of the evaluation's order (all where there are fewer); "reals" are those
    after it, and so are the reals that give the codes, which start again at the order's end.
    """
    count = run.data.main.count
    reference = min(samples, count)
    _check(run, kinds, samples, count - reference)
    counts: dict[Kind, int] = {kind: min(samples, count - reference) if kind == "reals" else samples for kind in kinds}
    faithful = run.data.variant in ("plain", "color")
    with progress_bar() as bar:
        task = bar.add_task("fid", total=reference + sum(counts.values()))
        base = measure(lambda at: reals(run, seed, at), reference, extractor, False, lambda n: bar.advance(task, n))
        found = {
            kind: measure(
                maker(run, kind, seed, source, reference),
                n,
                extractor,
                faithful,
                lambda n: bar.advance(task, n),
            )
            for kind, n in counts.items()
        }
    if faithful and "reals" in found and (found["reals"].fidelity or 0) < FIDELITY_OF_REALS:
        log.warning(
            "warning: only %.1f %% of the reals are faithful sprites: the measure is broken here",
            100 * (found["reals"].fidelity or 0),
        )
    return {
        "reference_count": reference,
        **{
            kind: {"fid": distance(m.moments, base.moments), "count": counts[kind], "fidelity": m.fidelity}
            for kind, m in found.items()
        },
    }


def _check(run: Run, kinds: list[Kind], samples: int, others: int) -> None:
    run.need_factor_net()
    if samples < 2:
        raise UserError(f"--samples: {samples} is too few; FID needs at least 2, and 50000 to be comparable")
    if "reals" in kinds and others < 2:
        raise UserError(
            f"--of reals: all {run.data.main.count} images of the set are the reference; "
            "leave reals out or lower --samples"
        )
    if samples <= FEATURES:
        log.warning("warning: %d images are no more than the %d features: the number means little", samples, FEATURES)
    if run.generator is None and {"gan", "untrained"} & set(kinds):
        raise UserError(f"{run.path}: is a run of stage 1; measure it with --of vae or --of reals")
    if run.vae is None and "vae" in kinds:
        raise UserError(f"--of vae: {run.path} has no VAE that could decode a code; measure it with --of gan")
