"""Statistics of the reals that images are compared with, made once for all runs on a data set.

They lie in DATA/references/NAME.safetensors, or in RUN/evaluation/references where DATA cannot be written. The name
ends with a hash of everything that the numbers depend on; the file's header says it in full.
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

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from common.arrays import Float32
from common.atomic_writes import publish
from common.errors import UserError, first_line
from evaluation.inputs.reals import Reals
from evaluation.records.file_lock import hold_lock
from trainer.distributed.world import World

from .extractors import FeatureNet
from .frechet import Moments
from .partial_sums import Extracted, Store, pass_over

FOLDER = "references"
KEPT = 10_000  # first images whose features are kept, for KID, precision, recall, density and coverage
Identity = Mapping[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """identity: what the numbers depend on; features: of the first KEPT images, [N, dim]."""

    identity: dict[str, Any]
    moments: Moments
    features: Float32


def identity_of(data: Identity, net: FeatureNet, resolution: int, count: int, seed: int) -> dict[str, Any]:
    """Return what the statistics of the first `count` reals of a seed's order depend on. data: `Reals.identity`."""
    features = {"resolution": net.at or resolution, "protocol": net.protocol, "extractor": net.sha256}
    return {**data, **features, "count": count, "seed": seed}


def path_of(identity: Identity, reals: Reals, otherwise: Path) -> Path:
    """Return the file where the statistics lie or will lie. otherwise: the folder where DATA cannot be written."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{identity['protocol']}-{identity['resolution']}px-{identity['count']}-{key}.safetensors"
    shared = reals.path / FOLDER / name
    writable = os.access(shared.parent if shared.parent.exists() else reals.path, os.W_OK)
    return shared if shared.exists() or writable else otherwise / name


def make(
    reals: Reals,
    net: FeatureNet,
    identity: Identity,
    path: Path,
    partial: Path,
    world: World,
    advance: Callable[[int], None],
) -> Reference:
    """Read the statistics in `path`, or make and publish them there.

    partial: folder of the sums until they are complete; advance(n) is called when n more images are done.
    """
    if world.broadcast(path.exists()):
        advance(identity["count"])
        return world.on_all(lambda: read(path))
    store = Store(partial, {"reference": dict(identity)}, KEPT)

    def features_at(positions: Tensor) -> Extracted:
        """Extract the features of the reals at these positions."""
        return net.extract(reals.at(identity["seed"], positions, identity["resolution"]).to(net.device), False)

    with hold_lock(store.lock, world, "the same statistics of reals"):
        if world.broadcast(path.exists()):  # the job that held the lock has made it
            advance(identity["count"])
        else:
            sums = pass_over(identity["count"], features_at, net.dim, store, world, advance)
            world.on_main(lambda: _publish(path, identity, sums.moments, store))
    return world.on_all(lambda: read(path))


def warn_of_few(count: int, net: FeatureNet) -> None:
    """Warn where a covariance of `count` images cannot have full rank."""
    if count <= net.dim:
        log.warning("warning: %d images are no more than the %d features: the number means little", count, net.dim)


def read(path: Path) -> Reference:
    """Read statistics that `make` wrote. Raises UserError where the file is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            identity = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in ("total", "outer", "features")}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is no reference, or a damaged one ({first_line(error)}); remove it, and make it again with "
            "`python -m evaluation reference DATA`"
        ) from None
    moments = Moments(identity["count"], tensors["total"].numpy(), tensors["outer"].numpy())
    return Reference(identity, moments, tensors["features"].numpy())


def check(path: Path, reference: Reference, wanted: Identity) -> None:
    """Refuse a reference of another data set, variant, resolution, protocol or network than is wanted."""
    differs = [
        f"{name}: {reference.identity.get(name)} there, {value} here"
        for name, value in wanted.items()
        if reference.identity.get(name) != value
    ]
    if differs:
        raise UserError(
            f"--reference: {path} does not fit these images: {'; '.join(differs)}; name another, or leave it out where "
            "the data are at hand"
        )


def _publish(path: Path, identity: Identity, moments: Moments, store: Store) -> None:
    """Write the statistics under their final name and remove the sums."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "total": torch.from_numpy(moments.total),
        "outer": torch.from_numpy(moments.outer),
        "features": torch.from_numpy(store.load_features(min(identity["count"], KEPT))),
    }
    own = path.with_name(f"{path.name}.{os.getpid()}")  # another run's job may be making the same
    publish(own, save(tensors, {"facts": json.dumps(dict(identity))}))
    os.replace(own, path)
    store.remove()
