"""What one call of FID measures, and the checks before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from evaluation.factors.factor_network import VARIANTS_WITH_FIDELITY
from evaluation.inputs.choices import Codes, Kind
from evaluation.inputs.target import EvaluationTarget

from . import references
from .extractors import FeatureNet, refuse_unknown


@dataclass(frozen=True)
class FidPlan:
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


def has_fidelity(target: EvaluationTarget, plan: FidPlan) -> bool:
    """True if sprite fidelity is defined for these images and this network."""
    return plan.net.protocol == "factor-net" and target.data.get("variant") in VARIANTS_WITH_FIDELITY


def check(target: EvaluationTarget, plan: FidPlan, reference_count: int, offset: int) -> None:
    """Raise a UserError where the target cannot be measured as planned; warn of few images.

    offset: how many images of the target's own set are the reference.
    """
    if plan.samples < 2:
        raise UserError(f"--samples: {plan.samples} is too few; FID needs at least 2, and 50000 to be comparable")
    if reference_count < 2:
        of = f" of {target.data['class']}" if "class" in target.data else ""
        raise UserError(f"{target.path}: there is one real{of} to compare with; FID needs at least 2")
    refuse_unknown(target.path, plan.net.protocol, target.data.get("data_set", "dsprites"))
    for kind in plan.kinds:
        if kind not in target.kinds:
            raise UserError(f"--of {kind}: {target.path} has no such images; choose from {', '.join(target.kinds)}")
    if "reals" in plan.kinds and target.reals is not None and target.reals.count - offset < 2:
        raise UserError(
            f"--of reals: all {target.reals.count} images of the set are the reference; "
            f"leave reals out or {'name a --reference of fewer' if plan.reference else 'lower --samples'}"
        )
    references.warn_of_few(min(plan.samples, reference_count), plan.net)
