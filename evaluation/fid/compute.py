"""FID and what else features tell of a run's images against its reals."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from common.progress import progress_bar
from evaluation.inputs.choices import Codes, Kind
from evaluation.inputs.target import EvaluationTarget
from evaluation.records.file_lock import hold_lock
from trainer.distributed.world import World

from . import kid, references
from .extractors import FeatureNet
from .frechet import distance
from .partial_sums import Look, Seen, Store, Sums, pass_over
from .precision_recall import K, reach
from .references import KEPT, Reference

FIDELITY_OF_REALS = 0.95
ROUNDING = 1e-5  # of features, relative: those of one image differ so much by the size of its block
OF = ".of"  # file in a folder of kept images: which images they are
SPRITES = ("plain", "color")  # the variants of which sprite fidelity is defined
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is measured. samples: images of each kind; seeds: how many, from `seed` on, of every kind but reals.

    reference: a file of statistics, or None for the first `samples` reals of the data; keep_images: a folder for
    KIND-CODES-SEED/000000.png; keep_features: of all images, in RUN/evaluation/features/KIND-SEED-KEY/BLOCK.npy.
    """

    net: FeatureNet
    kinds: tuple[Kind, ...]
    samples: int
    codes: Codes
    seed: int
    seeds: int = 1
    reference: Path | None = None
    keep_images: Path | None = None
    keep_features: bool = False


@contextmanager
def fid(target: EvaluationTarget, plan: Plan, world: World) -> Iterator[dict[str, Any]]:
    """Everything by kind of images: FID, sprite fidelity, KID, precision, recall, density, coverage.

    With `reference_count` and `reference_seed`.

    The reference is the first `samples` reals of the evaluation's order (all where there are fewer); "reals" are those
    after it, and so are the reals that give the codes of the same seed, which start again at the order's end. It goes
    on from what an earlier, interrupted call left in RUN/evaluation/partial, which is removed at the end of the
    context, when the numbers are recorded, unless that ends with an error. Jobs that measure the same take turns.
    """
    given = plan.reference
    known = world.on_all(lambda: references.read(given)) if given else None
    size = known.facts["count"] if known else _reference_size(target, plan)
    _check(target, plan, size)
    seed = known.facts["seed"] if known else plan.seed
    passes, found = _passes(target, plan, size, seed), dict[str, list[Numbers]]()
    with ExitStack() as turns, progress_bar(world.is_main) as bar:
        task = bar.add_task("fid", total=sum(each.count for each in passes) + (0 if known else size))

        def advance(images: int) -> None:
            bar.advance(task, images)

        base = known or _reference(target, plan, size, world, advance)
        if given:
            wanted = references.facts_of(target.data, plan.net, target.resolution, size, base.facts["seed"])
            references.check(given, base, wanted)
        for each in passes:
            turns.enter_context(hold_lock(each.store.lock, world, f"the same {each.kind} images"))
            _claim(plan, each, world)
            sums = pass_over(each.count, _look(target, plan, each), plan.net.dim, each.store, world, advance)
            faithful = sums.faithful / each.count if _has_fidelity(target, plan) else None
            numbers = world.on_all(
                lambda each=each, sums=sums, faithful=faithful: (  # type: ignore[misc]
                    _numbers(each, sums, base, faithful) if world.is_main else None
                )
            )
            found.setdefault(each.kind, []).append(world.broadcast(numbers))
        bar.stop()
        counts: dict[str, int] = {each.kind: each.count for each in passes}
        kinds = {kind: {"count": counts[kind], **over_seeds(numbers)} for kind, numbers in found.items()}
        _warn_of_reals(kinds)
        folders = [_features(target, each) for each in passes] if plan.keep_features else []
        yield {"reference_count": size, "reference_seed": seed, **kinds} | (
            {"features": [str(folder) for folder in folders]} if folders else {}
        )
        if world.is_main:
            for each, folder in zip(passes, folders, strict=False):
                _keep(each.store.features, folder)
            for each in passes:
                each.store.remove()


def _features(target: EvaluationTarget, each: Pass) -> Path:
    return target.path / "evaluation" / "features" / f"{each.kind}-{each.seed}-{each.store.features.name}"


def _keep(features: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    features.rename(folder)


@dataclass(frozen=True)
class Pass:
    """One kind of images of one seed. offset: where the reals that are not the reference begin."""

    kind: Kind
    seed: int
    count: int
    offset: int
    store: Store


Numbers = dict[str, float | None]


def _passes(target: EvaluationTarget, plan: Plan, size: int, reference_seed: int) -> list[Pass]:
    """Reals have the reference's seed: some of another's would be among the reference."""
    found = []
    for kind in plan.kinds:
        count = plan.samples
        if kind == "reals":
            assert target.reals is not None
            count = min(count, target.reals.count - size)
        for seed in [reference_seed] if kind == "reals" else range(plan.seed, plan.seed + plan.seeds):
            found.append(Pass(kind, seed, count, size, _store(target, plan, kind, seed, count, size)))
    return found


def _store(target: EvaluationTarget, plan: Plan, kind: Kind, seed: int, count: int, offset: int) -> Store:
    facts = {
        **target.identity(kind),
        **target.data,
        "protocol": plan.net.protocol,
        "extractor": plan.net.sha256,
        "resolution": plan.net.at or target.resolution,
        "codes": plan.codes,
        "seed": seed,
        "count": count,
        "offset": offset,
        "images": str(plan.keep_images),
    }
    return Store(target.path / "evaluation" / "partial", facts, None if plan.keep_features else KEPT)


def _reference_size(target: EvaluationTarget, plan: Plan) -> int:
    if target.reals is None:
        raise UserError(
            f"{target.path}: an export has no reals to compare with; name their statistics with --reference FILE, "
            "which `python -m evaluation reference DATA` makes"
        )
    return min(plan.samples, target.reals.count)


def _reference(
    target: EvaluationTarget, plan: Plan, size: int, world: World, advance: Callable[[int], None]
) -> Reference:
    assert target.reals is not None
    facts = references.facts_of(target.data, plan.net, target.resolution, size, plan.seed)
    path = references.path_of(facts, target.reals, target.path / "evaluation" / references.FOLDER)
    partial = target.path / "evaluation" / "partial"
    return references.make(target.reals, plan.net, facts, path, partial, world, advance)


def _look(target: EvaluationTarget, plan: Plan, each: Pass) -> Look:
    make = target.make(each.kind, each.seed, plan.codes, each.offset, plan.net.at or target.resolution)
    faithful = _has_fidelity(target, plan)

    def look(positions: Tensor) -> Seen:
        images = make(positions)
        if plan.keep_images:
            save_images(images, positions, plan.keep_images / _name(plan, each))
        return plan.net.look(images, faithful)

    return look


def _name(plan: Plan, each: Pass) -> str:
    """Of a folder of kept images."""
    return f"{each.kind}-{each.seed}" if each.kind == "reals" else f"{each.kind}-{plan.codes}-{each.seed}"


def _claim(plan: Plan, each: Pass, world: World) -> None:
    """Make a folder that of this pass's images. Raises UserError where it has others: the two would be mixed."""

    def claim(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mark, facts = folder / OF, json.dumps(dict(each.store.facts), indent=1)
        if any(path != mark for path in folder.iterdir()) and not (mark.exists() and mark.read_text() == facts):
            raise UserError(f"--keep-images: {folder} has other images; name another folder, or remove that one")
        mark.write_text(facts)

    if plan.keep_images:
        folder = plan.keep_images / _name(plan, each)
        world.on_main(lambda: claim(folder))


def save_images(images: Tensor, positions: Tensor, folder: Path) -> None:
    """FOLDER/POSITION.png. images: uint8 [b, 1 or 3, R, R]."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, position in zip(images.cpu().permute(0, 2, 3, 1).numpy(), positions.tolist(), strict=True):
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(folder / f"{position:06d}.png")


def _has_fidelity(target: EvaluationTarget, plan: Plan) -> bool:
    return plan.net.protocol == "factor-net" and target.data.get("variant") in SPRITES


def _numbers(each: Pass, sums: Sums, base: Reference, fidelity: float | None) -> Numbers:
    """Of one pass. What looks at neighbours needs more than K images on both sides."""
    reals, images = base.features.astype(np.float64), each.store.first(min(each.count, KEPT)).astype(np.float64)
    if np.ptp(images, axis=0).max() <= ROUNDING * np.abs(images).max():
        log.warning("warning: all %s images are the same to the network: %s", each.kind, "the generator has collapsed")
    kids = kid.kid(reals, images, np.random.default_rng(each.seed))
    found: Numbers = {"fid": distance(sums.moments, base.moments), "fidelity": fidelity}
    found |= {"kid": float(np.mean(kids)), "kid_std": float(np.std(kids))}
    if min(len(reals), len(images)) > K:
        found |= asdict(reach(torch.from_numpy(reals), torch.from_numpy(images)))
    return found


def over_seeds(numbers: Sequence[Numbers]) -> dict[str, Any]:
    """The mean of each number; where there are several seeds also their spread (ddof 1) and each one's."""
    mean: dict[str, Any] = {name: _mean([each[name] for each in numbers]) for name in numbers[0]}
    if len(numbers) > 1:
        defined = [name for name, value in mean.items() if value is not None]
        mean["spread"] = {name: float(np.std(np.array([n[name] for n in numbers], float), ddof=1)) for name in defined}
        mean["by_seed"] = list(numbers)
    return mean


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(np.array(values, np.float64)))


def _warn_of_reals(kinds: dict[str, dict[str, Any]]) -> None:
    share = kinds.get("reals", {}).get("fidelity")
    if share is not None and share < FIDELITY_OF_REALS:
        log.warning("warning: only %.1f %% of the reals are faithful sprites: the measure is broken here", 100 * share)


def _check(target: EvaluationTarget, plan: Plan, size: int) -> None:
    if plan.samples < 2:
        raise UserError(f"--samples: {plan.samples} is too few; FID needs at least 2, and 50000 to be comparable")
    if plan.net.protocol == "factor-net" and target.data.get("data_set", "dsprites") != "dsprites":
        raise UserError(
            f"{target.path}: of {target.data['data_set']}; the factor network knows the dSprites family only; "
            "use --protocol clean"
        )
    for kind in plan.kinds:
        if kind not in target.kinds:
            raise UserError(f"--of {kind}: {target.path} has no such images; choose from {', '.join(target.kinds)}")
    if "reals" in plan.kinds and target.reals is not None and target.reals.count - size < 2:
        raise UserError(
            f"--of reals: all {target.reals.count} images of the set are the reference; "
            f"leave reals out or {'name a --reference of fewer' if plan.reference else 'lower --samples'}"
        )
    references.warn_of_few(min(plan.samples, size), plan.net)
