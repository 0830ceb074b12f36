"""Statistics of the reals that images are compared with, made once for all runs on a data set.

They lie in DATA/references/NAME.safetensors, or in RUN/evaluation/references where DATA cannot be written or is a URL.
The name ends with a hash of everything that features depend on; the file's header says it in full. The file also holds
the sharpness of the reals at one or more resolutions: one that it lacks is added when it is first needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from trainer.distributed.world import ALONE, World

from .extractors import FeatureNet
from .frechet import Moments
from .partial_sums import Extracted, Store, pass_over
from .sharpness import SharpnessSums

FOLDER = "references"
KEPT = 10_000  # first images that KID, precision, recall, density, coverage and sharpness look at
SHARPNESS = "sharpness_"  # before a resolution: name of a tensor in the file
Identity = Mapping[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """Statistics of reals.

    identity: what features and moments depend on; features: [N, dim], of the first KEPT images; sharpness: of the same
    images, by resolution in px.
    """

    identity: dict[str, Any]
    moments: Moments
    features: Float32
    sharpness: dict[int, SharpnessSums]


@dataclass(frozen=True)
class ReferencePlan:
    """What a reference is made of, and where.

    identity: see `identity_of`; sharpness_at: px at which sharpness is measured; path: of the file; otherwise: the
    folder for a file with more sharpness where `path` cannot be replaced; partial: folder of the sums until they are
    complete.
    """

    reals: Reals
    net: FeatureNet
    identity: Identity
    sharpness_at: Sequence[int]
    path: Path
    otherwise: Path
    partial: Path


def identity_of(data: Identity, net: FeatureNet, resolution: int, count: int, seed: int) -> dict[str, Any]:
    """Return what the statistics of the first `count` reals of a seed's order depend on. data: `Reals.identity`."""
    features = {"resolution": net.at or resolution, "protocol": net.protocol, "extractor": net.sha256}
    return {**data, **features, "count": count, "seed": seed}


def path_of(identity: Identity, reals: Reals, otherwise: Path) -> Path:
    """Return the file where the statistics lie or will lie.

    otherwise: the folder where DATA cannot be written, as at a URL.

    A file in that folder is taken first: it may hold more sharpness than the one of DATA.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{identity['protocol']}-{identity['resolution']}px-{identity['count']}-{key}.safetensors"
    own = otherwise / name
    if own.exists() or not isinstance(reals.path, Path):
        return own
    shared = reals.path / FOLDER / name
    writable = os.access(shared.parent if shared.parent.exists() else reals.path, os.W_OK)
    return shared if shared.exists() or writable else own


def make(plan: ReferencePlan, world: World, advance: Callable[[int], None]) -> Reference:
    """Read the statistics in the plan's path, or make and publish them there; add sharpness that they lack.

    advance(n) is called when n more images are done.
    """
    known = world.broadcast(plan.path.exists())
    if not known:
        _make_all(plan, world, advance)
    reference = world.on_all(lambda: read(plan.path))
    lacking = [size for size in plan.sharpness_at if size not in reference.sharpness]
    if lacking:
        reference = _add_sharpness(plan, reference, lacking, world, advance)
    if known:
        advance(plan.identity["count"] - (_sharpness_count(plan) if lacking else 0))
    return reference


def _sharpness_count(plan: ReferencePlan) -> int:
    """Return how many of the reals' images sharpness looks at."""
    return min(int(plan.identity["count"]), KEPT)


def _make_all(plan: ReferencePlan, world: World, advance: Callable[[int], None]) -> None:
    """Publish the features' statistics and the sharpness of the reals, from one look at every image."""
    count, level = plan.identity["count"], plan.identity["resolution"]
    store = Store(plan.partial, {"reference": dict(plan.identity)}, KEPT, plan.sharpness_at)

    def extracted_at(positions: Tensor) -> Extracted:
        """Extract features and sharpness of the reals at these positions."""
        images = _images(plan, positions, level)
        return plan.net.extract(images, False)._replace(
            sharpness=_sharpness(plan, positions, plan.sharpness_at, images)
        )

    with hold_lock(store.lock, world, "the same statistics of reals"):
        if world.broadcast(plan.path.exists()):  # the job that held the lock has made it
            advance(count)
            return
        sums = pass_over(count, extracted_at, plan.net.dim, store, world, advance)

        def publish_all() -> None:
            """Write the statistics under their final name and remove the sums."""
            features = store.load_features(min(count, KEPT))
            write(plan.path, Reference(dict(plan.identity), sums.moments, features, sums.sharpness))
            store.remove()

        world.on_main(publish_all)


def _add_sharpness(
    plan: ReferencePlan, reference: Reference, lacking: Sequence[int], world: World, advance: Callable[[int], None]
) -> Reference:
    """Measure the sharpness that a reference lacks, publish the file with it, and return the whole."""
    store = Store(plan.partial, {"sharpness": dict(plan.identity), "at": list(lacking)}, 0, lacking)

    def extracted_at(positions: Tensor) -> Extracted:
        """Return no features, and the sharpness of the reals at these positions."""
        return Extracted(torch.empty(len(positions), 0), sharpness=_sharpness(plan, positions, lacking))

    with hold_lock(store.lock, world, "the same sharpness of reals"):
        sums = pass_over(_sharpness_count(plan), extracted_at, 0, store, world, advance)

        def publish_more() -> None:
            """Write the file with the new sharpness, and remove the sums."""
            _add_to_file(plan, sums.sharpness)
            store.remove()

        world.on_main(publish_more)
    return replace(reference, sharpness=reference.sharpness | sums.sharpness)


def _images(plan: ReferencePlan, positions: Tensor, resolution: int) -> Tensor:
    """Read reals at a level, on the network's device."""
    return plan.reals.at(plan.identity["seed"], positions, resolution).to(plan.net.device)


def _sharpness(
    plan: ReferencePlan, positions: Tensor, sizes: Sequence[int], known: Tensor | None = None
) -> tuple[SharpnessSums, ...]:
    """Return the sharpness at each of `sizes` of the reals at those positions that are below KEPT.

    known: the images at all of these positions at one level, which are not read again.
    """
    first = positions[positions < KEPT]
    if not len(first):
        return ()
    by_size = {} if known is None else {known.shape[-1]: known[: len(first)]}
    return tuple(SharpnessSums.of(by_size[px] if px in by_size else _images(plan, first, px)) for px in sizes)


def warn_of_few(count: int, net: FeatureNet) -> None:
    """Warn where a covariance of `count` images cannot have full rank."""
    if count <= net.dim:
        log.warning("warning: %d images are no more than the %d features: the number means little", count, net.dim)


def warn_of_no_sharpness(path: Path, reference: Reference, sizes: Sequence[int]) -> None:
    """Warn where the file that the user named has no sharpness of the reals at one of these resolutions."""
    lacking = [size for size in sizes if size not in reference.sharpness]
    if lacking:
        named = ", ".join(f"{size} px" for size in lacking)
        log.warning(
            "warning: --reference: %s holds no sharpness of reals at %s, so spectrum and detail are unknown there; "
            "make it again in its place with `python -m evaluation reference DATA --resolution %d`, which adds it",
            path,
            named,
            max(lacking),
        )


def read(path: Path) -> Reference:
    """Read statistics that `make` wrote. Raises UserError where the file is missing or damaged."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with `python -m evaluation reference DATA`, or name another")
    try:
        with safe_open(path, "pt") as file:
            identity = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in ("total", "outer", "features")}
            names = [name for name in file.keys() if name.startswith(SHARPNESS)]  # noqa: SIM118 (no mapping)
            sizes = {int(name.removeprefix(SHARPNESS)): file.get_tensor(name).numpy() for name in names}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is no reference, or a damaged one ({first_line(error)}); remove it, and make it again with "
            "`python -m evaluation reference DATA`"
        ) from None
    moments = Moments(identity["count"], tensors["total"].numpy(), tensors["outer"].numpy())
    sharpness = {size: SharpnessSums(size, numbers) for size, numbers in sorted(sizes.items())}
    return Reference(identity, moments, tensors["features"].float().numpy(), sharpness)


def check(path: Path, reference: Reference, wanted: Identity) -> None:
    """Refuse a reference of another kind of set, variant, resolution, protocol or network; warn of other images."""
    known = reference.identity
    differing = {name: value for name, value in ({"class": None} | {**wanted}).items() if known.get(name) != value}
    of_other_images = differing.pop("data", None)
    differs = [f"{name}: {known.get(name)} there, {value} here" for name, value in differing.items()]
    if differs:
        raise UserError(
            f"--reference: {path} does not fit these images: {'; '.join(differs)}; name another, or leave it out where "
            "the data are at hand"
        )
    if of_other_images is not None:
        log.warning(
            "warning: --reference: %s is of other images than the run's own, of the set %s (the run's: %s)",
            path,
            str(known.get("data"))[:12],
            of_other_images[:12],
        )


def _add_to_file(plan: ReferencePlan, sharpness: dict[int, SharpnessSums]) -> None:
    """Replace the file by one with more sharpness; jobs that add to the same file take turns."""
    writable = os.access(plan.path.parent, os.W_OK)
    path = plan.path if writable else plan.otherwise / plan.path.name
    lock = path.with_suffix(".lock")
    with hold_lock(lock, ALONE, "the same statistics of reals"):
        newest = read(path if path.exists() else plan.path)
        write(path, replace(newest, sharpness=newest.sharpness | sharpness))
        lock.unlink()


def write_small(path: Path, reference: Reference, count: int) -> None:
    """Write a reference with the features of its first `count` images alone, in half precision."""
    write(path, replace(reference, features=reference.features[:count]), torch.float16)


def write(path: Path, reference: Reference, dtype: torch.dtype = torch.float32) -> None:
    """Write a reference under its final name. dtype: of the features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "total": torch.from_numpy(reference.moments.total),
        "outer": torch.from_numpy(reference.moments.outer),
        "features": torch.from_numpy(reference.features).to(dtype),
        **{f"{SHARPNESS}{size}": torch.from_numpy(one.numbers) for size, one in reference.sharpness.items()},
    }
    own = path.with_name(f"{path.name}.{os.getpid()}")  # another run's job may be making the same
    publish(own, save(tensors, {"facts": json.dumps(reference.identity)}))
    os.replace(own, path)
