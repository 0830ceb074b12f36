"""Statistics of the reals that images are compared with, made once for all runs on a data set.

DATA/references/NAME.safetensors, or RUN/evaluation/references where DATA cannot be written. The name ends with a hash
of everything that the numbers depend on; the file's header says it in full.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from common.atomic_writes import publish
from common.errors import UserError, first_line
from evaluation.inputs.reals import Reals
from evaluation.records.file_lock import hold_lock
from trainer.distributed.world import World

from .extractors import FeatureNet
from .frechet import Moments
from .partial_sums import Seen, Store, pass_over

FOLDER = "references"
KEPT = 10_000  # first images whose features KID, precision, recall, density and coverage look at
Facts = Mapping[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """facts: what the numbers depend on; features: of the first KEPT images, [N, dim]."""

    facts: dict[str, Any]
    moments: Moments
    features: NDArray[np.float32]


def facts_of(data: Facts, net: FeatureNet, resolution: int, count: int, seed: int) -> dict[str, Any]:
    """Of the first `count` reals of a seed's order. data: `Reals.identity`."""
    looked_at = {"resolution": net.at or resolution, "protocol": net.protocol, "extractor": net.sha256}
    return {**data, **looked_at, "count": count, "seed": seed}


def path_of(facts: Facts, reals: Reals, otherwise: Path) -> Path:
    """Where the statistics lie or will lie. otherwise: a folder for data that cannot be written."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{facts['protocol']}-{facts['resolution']}px-{facts['count']}-{key}.safetensors"
    shared = reals.path / FOLDER / name
    writable = os.access(shared.parent if shared.parent.exists() else reals.path, os.W_OK)
    return shared if shared.exists() or writable else otherwise / name


def make(
    reals: Reals,
    net: FeatureNet,
    facts: Facts,
    path: Path,
    partial: Path,
    world: World,
    advance: Callable[[int], None],
) -> Reference:
    """The statistics in `path`, or new ones, published there. partial: folder of the sums until they are complete."""
    if world.broadcast(path.exists()):
        advance(facts["count"])
        return world.on_all(lambda: read(path))
    store = Store(partial, {"reference": dict(facts)}, KEPT)

    def look(positions: Tensor) -> Seen:
        return net.look(reals.at(facts["seed"], positions, facts["resolution"]).to(net.device), False)

    with hold_lock(store.lock, world, "the same statistics of reals"):
        if world.broadcast(path.exists()):  # by whom this one waited for
            advance(facts["count"])
        else:
            sums = pass_over(facts["count"], look, net.dim, store, world, advance)
            world.on_main(lambda: _publish(path, facts, sums.moments, store))
    return world.on_all(lambda: read(path))


def warn_of_few(count: int, net: FeatureNet) -> None:
    """Where a covariance of `count` images cannot have full rank."""
    if count <= net.dim:
        log.warning("warning: %d images are no more than the %d features: the number means little", count, net.dim)


def read(path: Path) -> Reference:
    """Statistics that `make` wrote. Raises UserError where they are not there or damaged."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            found = {name: file.get_tensor(name) for name in ("total", "outer", "features")}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is no reference, or a damaged one ({first_line(error)}); remove it, and make it again with "
            "`python -m evaluation reference DATA`"
        ) from None
    moments = Moments(facts["count"], found["total"].numpy(), found["outer"].numpy())
    return Reference(facts, moments, found["features"].numpy())


def check(path: Path, reference: Reference, wanted: Facts) -> None:
    """Refuse a reference that is of another data set, variant, resolution, protocol or network than is wanted."""
    differs = [
        f"{name}: {reference.facts.get(name)} there, {value} here"
        for name, value in wanted.items()
        if reference.facts.get(name) != value
    ]
    if differs:
        raise UserError(
            f"--reference: {path} does not fit these images: {'; '.join(differs)}; name another, or leave it out where "
            "the data are at hand"
        )


def _publish(path: Path, facts: Facts, moments: Moments, store: Store) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "total": torch.from_numpy(moments.total),
        "outer": torch.from_numpy(moments.outer),
        "features": torch.from_numpy(store.first(min(facts["count"], KEPT))),
    }
    own = path.with_name(f"{path.name}.{os.getpid()}")  # another run's job may be making the same
    publish(own, save(tensors, {"facts": json.dumps(dict(facts))}))
    os.replace(own, path)
    store.remove()
