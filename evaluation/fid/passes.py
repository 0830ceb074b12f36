"""Passes over images: each kind of images of each seed is made once; its features and sharpness are summed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from common.errors import UserError
from evaluation.inputs.choices import Kind
from evaluation.inputs.target import EvaluationTarget
from trainer.distributed.world import World

from .partial_sums import Extracted, FeaturesAt, Store
from .plan import FidPlan, has_fidelity
from .references import KEPT
from .sharpness import SharpnessSums

IDENTITY_FILE = ".of"  # in a folder of kept images: which images they are


@dataclass(frozen=True)
class Pass:
    """One kind of images of one seed. offset: where the reals that are not the reference begin."""

    kind: Kind
    seed: int
    count: int
    offset: int
    store: Store


def plan_passes(target: EvaluationTarget, plan: FidPlan, offset: int, reference_seed: int) -> list[Pass]:
    """List the passes of a plan. offset: how many of the first reals are the reference.

    Reals have the reference's seed: under another one, some of them would be among the reference.
    """
    passes = []
    for kind in plan.kinds:
        count, seeds = plan.samples, range(plan.seed, plan.seed + plan.seeds)
        if kind == "reals":
            assert target.reals is not None
            count = min(count, target.reals.count - offset)
            seeds = range(reference_seed, reference_seed + 1)
        for seed in seeds:
            store = _store(target, plan, kind, seed, count, offset)
            passes.append(Pass(kind, seed, count, offset, store))
    return passes


def _store(target: EvaluationTarget, plan: FidPlan, kind: Kind, seed: int, count: int, offset: int) -> Store:
    """Return the store of a pass, under a key of everything that its features depend on."""
    identity = {
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
    folder, kept = target.results.folder / "partial", None if plan.keep_features else KEPT
    return Store(folder, identity, kept, [target.resolution_of(kind)])


def features_of_pass(target: EvaluationTarget, plan: FidPlan, one: Pass) -> FeaturesAt:
    """Return a function that makes the images of a pass at given positions and extracts features and sharpness.

    Sharpness is that of the first KEPT images, at their full size. Reals are read again for it where the network of
    the features takes smaller ones: each level of a set of Color, Noisy or Scream is drawn for itself.
    """
    size = plan.net.at or target.resolution
    make = target.make(one.kind, one.seed, plan.codes, one.offset, size)
    again = one.kind == "reals" and size != target.resolution
    make_full_size = target.make(one.kind, one.seed, plan.codes, one.offset, target.resolution) if again else None
    faithful = has_fidelity(target, plan)

    def features_at(positions: Tensor) -> Extracted:
        """Make images, save them where they are kept, and look at them. positions: int64 [b]."""
        images = make(positions)
        if plan.keep_images:
            save_images(images, positions, plan.keep_images / _folder_name(plan, one))
        extracted, first = plan.net.extract(images, faithful), positions[positions < KEPT]
        if not len(first):
            return extracted
        whole = images[: len(first)] if make_full_size is None else make_full_size(first)
        return extracted._replace(sharpness=(SharpnessSums.of(whole),))

    return features_at


def _folder_name(plan: FidPlan, one: Pass) -> str:
    """Return the name of the folder of a pass's kept images."""
    name = f"{one.kind}-{one.seed}" if one.kind == "reals" else f"{one.kind}-{plan.codes}-{one.seed}"
    classes = one.store.identity.get("class")
    return name if classes is None else f"{name}-{str(classes).replace('/', '_')}"


def claim_folder(plan: FidPlan, one: Pass, world: World) -> None:
    """Mark the folder of kept images as that of this pass.

    Raises UserError where it holds images of another one: the two would be mixed.
    """
    if plan.keep_images:
        folder = plan.keep_images / _folder_name(plan, one)
        world.on_main(lambda: _claim(folder, one))


def _claim(folder: Path, one: Pass) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mark, identity = folder / IDENTITY_FILE, json.dumps(dict(one.store.identity), indent=1)
    has_images = any(path != mark for path in folder.iterdir())
    if has_images and not (mark.exists() and mark.read_text() == identity):
        raise UserError(f"--keep-images: {folder} has other images; name another folder, or remove that one")
    mark.write_text(identity)


def save_images(images: Tensor, positions: Tensor, folder: Path) -> None:
    """Save images as FOLDER/POSITION.png. images: uint8 [b, 1 or 3, R, R]."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, position in zip(images.cpu().permute(0, 2, 3, 1).numpy(), positions.tolist(), strict=True):
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(folder / f"{position:06d}.png")


def features_folder(target: EvaluationTarget, one: Pass) -> Path:
    """Return the folder where --keep-features leaves the features of a pass."""
    return target.results.folder / "features" / f"{one.kind}-{one.seed}-{one.store.features.name}"


def keep_features(features: Path, folder: Path) -> None:
    """Move a pass's features to the folder where they stay; older ones there are replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    features.rename(folder)
