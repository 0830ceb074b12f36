"""A few images of an export, measured: do its files and this program still give what was measured when it was shipped?

Beside the networks of an export stand, once `python -m evaluation check --record` has measured it,

check.json             figures of its first images, with the hash of the network that measured them
reference.safetensors  statistics of reals that FID compares with, see evaluation/fid/references.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError, first_line
from evaluation.factors.extractor import Extractor
from evaluation.factors.factor_network import VARIANTS_WITH_FIDELITY
from evaluation.fid import extractors, references
from evaluation.fid.frechet import Moments, distance
from evaluation.fid.references import Reference
from evaluation.inputs.choices import Kind
from evaluation.inputs.images import BLOCK
from evaluation.inputs.target import EvaluationTarget
from trainer.config import exported_files
from trainer.config.file_names import CHECK, REFERENCE
from trainer.export.exported_model import sha256

IMAGES, SEED = 256, 0
FID_SHARE = 0.05  # by which FID may differ, of what was recorded
ERRORS = 3  # standard errors by which all else may differ
ROUNDING = 1e-3  # by which all else may differ in any case: the figures of images that are all alike have no error


@dataclass(frozen=True)
class Difference:
    """A figure that was recorded, what it is here, and by how much it may differ."""

    kind: Kind
    figure: str
    recorded: float
    measured: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the figure is what was recorded."""
        return abs(self.measured - self.recorded) <= self.allowed


def measure(target: EvaluationTarget, extractor: Extractor, reference: Reference) -> dict[str, Any]:
    """Measure the first images of each kind that an export makes. reference: of the set that it was trained on."""
    images = {kind: _images(target, kind) for kind in target.kinds}
    readings = {kind: extractor.readings(made, target.data["variant"]) for kind, made in images.items()}
    kinds = {kind: _figures(target, extractor, made, reference) for kind, made in images.items()}
    for kind, figures in kinds.items():
        figures["readings"] = {name: _mean_and_error(read) for name, read in readings[kind].items()}
    if len(readings) == 2:
        pairs = {name: (readings["gan"][name], read) for name, read in readings["vae"].items()}
        kinds["gan"]["follows"] = {name: _r_squared(*pair) for name, pair in pairs.items()}
    return {
        "export": sha256(target.path),
        "images": IMAGES,
        "seed": SEED,
        "codes": target.source(None),
        "extractor": extractor.sha256,
        "reference_count": reference.identity["count"],
        "kinds": kinds,
    }


def _images(target: EvaluationTarget, kind: Kind) -> Tensor:
    """Make the first images of a kind, a block at a time: uint8 [IMAGES, C, R, R]."""
    make = target.make(kind, SEED, target.source(None), 0, target.resolution)
    return torch.cat([make(positions) for positions in torch.arange(IMAGES).split(BLOCK)])


def _figures(target: EvaluationTarget, extractor: Extractor, images: Tensor, reference: Reference) -> dict[str, Any]:
    """Return FID and, for sprites, fidelity."""
    faithful = extractor.protocol == "factor-net" and target.data["variant"] in VARIANTS_WITH_FIDELITY
    extracted, moments = extractors.shipped(extractor).extract(images, faithful), Moments.empty(extractor.dim)
    moments.add(extracted.features)
    figures: dict[str, Any] = {"fid": distance(moments, reference.moments)}
    return figures if extracted.faithful is None else figures | {"fidelity": float(extracted.faithful.float().mean())}


def _mean_and_error(reading: Tensor) -> list[list[float]]:
    """Return [mean, standard error] of each component of a reading [B, K]."""
    error = reading.std(0) / math.sqrt(len(reading))
    return torch.stack((reading.mean(0), error), 1).double().tolist()


def _r_squared(reading: Tensor, truth: Tensor) -> float | None:
    """Return R^2 of a reading [B, K], over all its components; None where the truth is always the same."""
    spread = (truth - truth.mean(0)).square().sum()
    return None if spread == 0 else float(1 - (reading - truth).square().sum() / spread)


def differences(recorded: dict[str, Any], measured: dict[str, Any]) -> list[Difference]:
    """Compare the figures of two records of one export."""
    if recorded["extractor"] != measured["extractor"]:
        raise UserError(
            f"measured with the network {measured['extractor'][:12]}, but {recorded['extractor'][:12]} is recorded: "
            "the figures do not compare; record them again with --record"
        )
    return list(_differences(recorded, measured))


def _differences(recorded: dict[str, Any], measured: dict[str, Any]) -> Iterator[Difference]:
    count = recorded["images"]
    for kind, before in recorded["kinds"].items():
        now = measured["kinds"][kind]
        yield Difference(kind, "FID", before["fid"], now["fid"], FID_SHARE * before["fid"])
        if "fidelity" in before:
            allowed = ERRORS * math.sqrt(before["fidelity"] * (1 - before["fidelity"]) / count) + ROUNDING
            yield Difference(kind, "faithful sprites", before["fidelity"], now["fidelity"], allowed)
        for name, components in before["readings"].items():
            for k, (mean, error) in enumerate(components):
                figure = f"mean of {name}" + (f", {k + 1} of {len(components)}" if len(components) > 1 else "")
                yield Difference(kind, figure, mean, now["readings"][name][k][0], ERRORS * error + ROUNDING)
        for name, share in before.get("follows", {}).items():
            if share is not None:  # one that cannot be measured here, since all decodings are alike, is none at all
                here, allowed = now["follows"][name] or 0.0, _allowed(share, count)
                yield Difference(kind, f"R2 of {name} to decodings", share, here, allowed)


def _allowed(share: float, count: int) -> float:
    """Return by how much an R^2 of `count` images may differ: errors of a squared correlation (delta method)."""
    return ERRORS * 2 * math.sqrt(max(share, 0)) * abs(1 - share) / math.sqrt(count) + 10 * ROUNDING


def read(folder: Path) -> dict[str, Any]:
    """Read what was recorded of an export. Raises a UserError where nothing was, or where a file is damaged."""
    path = folder / CHECK
    if not path.is_file():
        raise UserError(f"{path}: is missing: nothing was recorded of this export; record it with --record")
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        content["extractor"], content["images"], content["reference_sha256"]
        for figures in content["kinds"].values():
            figures["fid"], figures["readings"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise exported_files.broken(path, error) from None
    return content


def reference_of(folder: Path) -> Reference:
    """Read the statistics of reals that came with an export. Raises a UserError where they are not those recorded."""
    recorded, path = read(folder)["reference_sha256"], folder / REFERENCE
    exported_files.check_file(path, recorded)
    try:
        return references.read(path)
    except UserError as error:
        raise exported_files.broken(path, ValueError(first_line(error))) from None
