"""RUN/ema/: snapshots of the power-function averages. After the run, `evaluation ema` makes any other width of them.

A file holds a generator's weights and, as metadata, where they come from. It is published complete and never deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from common.atomic_writes import publish
from common.errors import DISK_ERRORS, UserError, first_line
from trainer.config import older_versions
from trainer.config.sections import EmaConfig
from trainer.distributed.world import World
from trainer.steps import ema, schedule
from trainer.steps.running_means import NonFinite

from . import finite
from .retention import free_name

FORMAT = 1
NAMES = "[0-9]" * 12 + "-sigma_rel_*.safetensors"
KEY = "idgan"  # of the metadata: one string, as the header of a safetensors file keeps no order of keys


@dataclass(frozen=True)
class SnapshotMetadata:
    """Where the averaged generator in a file comes from.

    images_seen: its clock; resolution, alpha: of the phase at that clock, alpha None outside a fade; settings: the
    `identity` of the run.
    """

    images_seen: int
    sigma_rel: float
    gamma: float
    resolution: int
    alpha: float | None
    settings: str


def identity(settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return the identity of a run: a SHA-256 over the settings that a resume may not change, and over its inputs.

    inputs: hashes of data and encoder.
    """
    settings = older_versions.as_first_written(settings)  # files of older versions have that identity
    return hashlib.sha256(json.dumps([settings, dict(inputs)], sort_keys=True).encode()).hexdigest()


def folder(run: Path) -> Path:
    """Return the folder of a run's snapshots."""
    return run / "ema"


def name_of(images_seen: int, average: str) -> str:
    """Return the name of a snapshot's file."""
    return f"{images_seen:012d}-{average}.safetensors"


def files(run: Path) -> list[Path]:
    """Return the published snapshots in the order of the clock, whether valid or not."""
    return sorted(folder(run).glob(NAMES))


def set_later_aside(run: Path, images_seen: int) -> None:
    """Rename the snapshots of a later clock: training goes another way from here."""
    for path in files(run):
        if int(path.name[:12]) > images_seen:
            path.replace(free_name(path))


def _sweep(run: Path) -> None:
    """Remove the incomplete files that kills left behind."""
    for path in folder(run).glob(f"{NAMES}.tmp"):
        path.unlink(missing_ok=True)


class Snapshots:
    """Writes snapshots of a run. every: images between two; one is due at the iteration that crosses a multiple."""

    def __init__(self, averages: ema.Averages, config: EmaConfig) -> None:
        assert config.snapshot_kimg is not None
        self._averages, self._widths = averages, config.widths
        self.every = schedule.interval(config.snapshot_kimg)

    def write(self, run: Path, images_seen: int, phase: Mapping[str, Any], settings: str, world: World) -> None:
        """Write a file for each width. The same state gives the same bytes.

        phase: resolution and, in a fade, alpha; settings: the run's `identity`. All processes call it together, and the
        main one writes. Raises a UserError where the disk is full or read-only; what was published stays.
        """
        world.on_main(lambda: _sweep(run))
        for average in self._widths:
            gamma, alpha = ema.gamma(average.sigma_rel), phase.get("alpha")
            metadata = SnapshotMetadata(images_seen, average.sigma_rel, gamma, phase["resolution"], alpha, settings)
            path = folder(run) / name_of(images_seen, average.name)
            tensors = self._averages.full_tensors(average.name)
            if bad := finite.not_finite(tensors):
                raise NonFinite(f"{average.name}.{finite.listed(bad)} is not finite")
            world.on_main(partial(write, path, tensors, metadata))


def write(path: Path, tensors: Mapping[str, Tensor], metadata: SnapshotMetadata) -> bytes:
    """Publish a generator's weights, and return the content of the file. A file of the same name is replaced."""
    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save(contiguous, {KEY: json.dumps({"format": FORMAT} | asdict(metadata), sort_keys=True)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, content)
    except OSError as error:
        problem = DISK_ERRORS.get(error.errno or 0)
        if problem is None:
            raise
        raise UserError(
            f"{path}: {problem.reason}: it was not written; {problem.remedy}, and run the same command again"
        ) from None
    return content


def read(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights in a file. wanted: their names, with tensors of the shapes that they must have.

    Raises a UserError that names the file where it is truncated, or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    shapes = {name: t.shape for name, t in tensors.items()}
    if shapes != {name: t.shape for name, t in wanted.items()}:
        raise UserError(f"{path}: holds the weights of another network than this run's; name a file of this run")
    return tensors


def read_metadata(path: Path, settings: str) -> SnapshotMetadata:
    """Read where the weights of a file come from. settings: the `identity` of the run that they must be of.

    Raises a UserError that names the file where it is truncated, no such file, or of another run.
    """
    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {})[KEY])
        if (version := content.pop("format")) != FORMAT:
            raise UserError(f"{path}: has format {version}, this program reads {FORMAT}; write it again")
        metadata = SnapshotMetadata(**content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from None
    if metadata.settings != settings:
        raise UserError(
            f"{path}: was written under other settings, data or encoder than the run's newest checkpoint; move it out "
            "of the run's folder, or name a file of this run"
        )
    return metadata


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: is not a complete file of averaged weights ({first_line(error)}); copy it again, or move it away"
    )
