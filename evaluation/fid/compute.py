"""FID, KID, precision, recall, density, coverage, sprite fidelity and sharpness of images against their reals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from common.errors import UserError
from common.progress import progress_bar
from evaluation.inputs.choices import Kind
from evaluation.inputs.target import EvaluationTarget
from evaluation.records.file_lock import hold_lock
from trainer.distributed.world import World

from . import kid, passes, references, sharpness
from .frechet import distance
from .partial_sums import Sums, pass_over
from .passes import Pass
from .plan import FidPlan, check, has_fidelity
from .precision_recall import K, reach
from .references import KEPT, Reference, ReferencePlan

FIDELITY_OF_REALS = 0.95
ROUNDING = 1e-5  # of features, relative: those of one image differ so much by the size of its block
_SAME: dict[Kind, str] = {  # what it means where all images of a kind are the same
    "gan": "the generator has collapsed; take an earlier checkpoint with --step",
    "vae": "its code says nothing; see how many latents are active in stats.jsonl, and train it with a smaller beta",
    "untrained": "before its first step the generator makes one image of every code",
    "reals": "the set holds one image many times; look at what was made into it",
}
Numbers = dict[str, float | None]
Advance = Callable[[int], None]
log = logging.getLogger(__name__)


@contextmanager
def fid(target: EvaluationTarget, plan: FidPlan, world: World) -> Iterator[dict[str, Any]]:
    """Yield every number by kind of images, with `reference_count` and `reference_seed`.

    The reference is the first `samples` reals of the evaluation's order (all where there are fewer); "reals" are those
    after it, and so are the reals that give the codes of the same seed, which start again at the order's end. Where
    --reference is of another set, its hash is `reference_data`, and "reals" are all that the run has. It goes
    on from what an earlier, interrupted call left in RUN/evaluation/partial, which is removed at the end of the
    context, when the numbers are recorded, unless that ends with an error. Jobs that measure the same take turns.
    """
    source = _open_reference(target, plan, world)
    check(target, plan, source.count, source.offset)
    planned = passes.plan_passes(target, plan, source.offset, source.seed)
    with ExitStack() as locks:
        by_kind = _measure_all(target, plan, planned, source, world, locks)
        folders = [passes.features_folder(target, one) for one in planned] if plan.keep_features else []
        kept = {"features": [str(folder) for folder in folders]} if folders else {}
        other = {} if source.other is None else {"reference_data": source.other}
        yield {"reference_count": source.count, "reference_seed": source.seed, **other, **by_kind} | kept
        if world.is_main:
            for one, folder in zip(planned, folders, strict=False):
                passes.keep_features(one.store.features, folder)
            for one in planned:
                one.store.remove()


@dataclass(frozen=True)
class _ReferenceSource:
    """count: images of the reference; seed: of their order; given: statistics that the user named, else None.

    other: the hash of the set that they are of, where it is not the target's.
    """

    count: int
    seed: int
    given: Reference | None
    other: str | None = None

    @property
    def offset(self) -> int:
        """How many of the first reals of the target's own set are the reference."""
        return 0 if self.other else self.count


def _open_reference(target: EvaluationTarget, plan: FidPlan, world: World) -> _ReferenceSource:
    """Read the statistics that --reference names; without one say how many reals there will be."""
    path = plan.reference
    if path is not None:
        given = world.on_all(lambda: references.read(path))
        of = given.identity.get("data")
        other = None if target.data.get("data", of) == of else of  # an export of other code may not know its set
        return _ReferenceSource(given.identity["count"], given.identity["seed"], given, other)
    if target.reals is None:
        raise UserError(
            f"{target.path}: an export has no reals to compare with; name its set with --data DATA, or statistics "
            "with --reference FILE, which `python -m evaluation reference DATA` makes"
        )
    return _ReferenceSource(min(plan.samples, target.reals.count), plan.seed, None)


def _measure_all(
    target: EvaluationTarget,
    plan: FidPlan,
    planned: Sequence[Pass],
    source: _ReferenceSource,
    world: World,
    locks: ExitStack,
) -> dict[str, Any]:
    """Make the reference and all passes. Returns the numbers by kind; `locks` keeps the passes' locks."""
    numbers: dict[Kind, list[Numbers]] = {}
    with progress_bar(world.is_main) as bar:
        images = sum(one.count for one in planned) + (0 if source.given else source.count)
        task = bar.add_task("fid", total=images)

        def advance(count: int) -> None:
            """Show `count` more images as done."""
            bar.advance(task, count)

        reference = _reference(target, plan, source, world, advance)
        for one in planned:
            locks.enter_context(hold_lock(one.store.lock, world, f"the same {one.kind} images"))
            numbers.setdefault(one.kind, []).append(_measure(target, plan, one, reference, world, advance))
    counts = {one.kind: one.count for one in planned}
    by_kind: dict[str, Any] = {kind: {"count": counts[kind], **over_seeds(each)} for kind, each in numbers.items()}
    _warn_of_unfaithful_reals(by_kind)
    return by_kind


def _reference(
    target: EvaluationTarget, plan: FidPlan, source: _ReferenceSource, world: World, advance: Advance
) -> Reference:
    """Return the given statistics, checked against the target, or make those of the first reals."""
    identity = references.identity_of(target.data, plan.net, target.resolution, source.count, source.seed)
    sizes = sorted({target.resolution_of(kind) for kind in plan.kinds})
    if source.given is not None:
        assert plan.reference is not None
        references.check(plan.reference, source.given, identity)
        references.warn_of_no_sharpness(plan.reference, source.given, sizes)
        return source.given
    assert target.reals is not None
    folder = target.results.folder
    otherwise = folder / references.FOLDER
    path = references.path_of(identity, target.reals, otherwise)
    made_of = ReferencePlan(target.reals, plan.net, identity, sizes, path, otherwise, folder / "partial")
    return references.make(made_of, world, advance)


def _measure(
    target: EvaluationTarget, plan: FidPlan, one: Pass, reference: Reference, world: World, advance: Advance
) -> Numbers:
    """Look at every image of one pass and return its numbers, the same on every process."""
    passes.claim_folder(plan, one, world)
    features_at = passes.features_of_pass(target, plan, one)
    sums = pass_over(one.count, features_at, plan.net.dim, one.store, world, advance)
    fidelity = sums.faithful / one.count if has_fidelity(target, plan) else None
    return world.broadcast(world.on_main(lambda: _numbers(one, sums, reference, fidelity)))


def _numbers(one: Pass, sums: Sums, reference: Reference, fidelity: float | None) -> Numbers:
    """Compute the numbers of one pass. Those from nearest neighbours need more than K images on both sides."""
    reals = reference.features.astype(np.float64)
    images = one.store.load_features(min(one.count, KEPT)).astype(np.float64)
    if np.ptp(images, axis=0).max() <= ROUNDING * np.abs(images).max():
        log.warning("warning: all %s images are the same to the network: %s", one.kind, _SAME[one.kind])
    distances = kid.kid(reals, images, np.random.default_rng(one.seed))
    numbers: Numbers = {"fid": distance(sums.moments, reference.moments), "fidelity": fidelity}
    numbers |= {"kid": float(np.mean(distances)), "kid_std": float(np.std(distances))}
    whole = len(reals) == min(reference.moments.count, KEPT)  # statistics that ship hold fewer, whose radii are larger
    if whole and min(len(reals), len(images)) > K:
        numbers |= asdict(reach(torch.from_numpy(reals), torch.from_numpy(images)))
    return numbers | _sharpness(sums, reference)


def _sharpness(sums: Sums, reference: Reference) -> Numbers:
    """Compare the sharpness of a pass with that of the reals at its resolution, None where that was not measured."""
    (own,) = sums.sharpness.values()
    reals = reference.sharpness.get(own.resolution)
    return {"spectrum": None, "detail": None} if reals is None else sharpness.differences(own, reals)


def over_seeds(numbers: Sequence[Numbers]) -> dict[str, Any]:
    """Return the mean of each number; where there are several seeds also their spread (ddof 1) and each one's."""
    mean: dict[str, Any] = {name: _mean([each[name] for each in numbers]) for name in numbers[0]}
    if len(numbers) > 1:
        defined = [name for name, value in mean.items() if value is not None]
        mean["spread"] = {name: float(np.std(np.array([n[name] for n in numbers], float), ddof=1)) for name in defined}
        mean["by_seed"] = list(numbers)
    return mean


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(np.array(values, np.float64)))


def _warn_of_unfaithful_reals(by_kind: dict[str, Any]) -> None:
    share = by_kind.get("reals", {}).get("fidelity")
    if share is not None and share < FIDELITY_OF_REALS:
        log.warning("warning: only %.1f %% of the reals are faithful sprites: the measure is broken here", 100 * share)
