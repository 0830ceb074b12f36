"""RUN/ema/: the power-function averages now and then, from which `evaluation ema` makes any other one after the run.

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

FORMAT = 1
NAMES = "[0-9]" * 12 + "-sigma_rel_*.safetensors"
KEY = "idgan"  # of the metadata: one string, as the header of a safetensors file keeps no order of keys


@dataclass(frozen=True)
class Facts:
    """Of an averaged generator in a file. settings: the identity of the run's settings and inputs (`identity`).

    resolution, alpha: the stage that images_seen was reached in, alpha None outside a fade.
    """

    images_seen: int
    sigma_rel: float
    gamma: float
    resolution: int
    alpha: float | None
    settings: str


def identity(settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Of a run: the SHA-256 of the settings that a resume may not change, and of what its data and encoder are."""
    settings = older_versions.as_first_written(settings)  # files of older versions have that identity
    return hashlib.sha256(json.dumps([settings, dict(inputs)], sort_keys=True).encode()).hexdigest()


def folder(run: Path) -> Path:
    return run / "ema"


def name_of(images_seen: int, average: str) -> str:
    return f"{images_seen:012d}-{average}.safetensors"


def files(run: Path) -> list[Path]:
    """Published snapshots, in the order of the clock, valid or not."""
    return sorted(folder(run).glob(NAMES))


def _sweep(run: Path) -> None:
    """Remove what earlier kills left behind."""
    for left in folder(run).glob(f"{NAMES}.tmp"):
        left.unlink(missing_ok=True)


class Snapshots:
    """Writes them. every: images between two, rounded up to whole iterations."""

    def __init__(self, averages: ema.Averages, config: EmaConfig) -> None:
        assert config.snapshot_kimg is not None
        self.averages, self.widths = averages, config.widths
        self.every = schedule.interval(config.snapshot_kimg)

    def write(self, run: Path, images_seen: int, stage: Mapping[str, Any], settings: str, world: World) -> None:
        """A file for each width; stage: resolution and, in a fade, alpha. The same state gives the same bytes.

        All processes call it together, and the main one writes.

        Raises a UserError where the disk is full or read-only; what was published stays.
        """
        world.on_main(lambda: _sweep(run))
        for average in self.widths:
            power = ema.gamma(average.sigma_rel)
            place = stage["resolution"], stage.get("alpha")
            facts = Facts(images_seen, average.sigma_rel, power, *place, settings)
            path, tensors = folder(run) / name_of(images_seen, average.name), self.averages.full_tensors(average.name)
            world.on_all(partial(write, path, tensors, facts) if world.is_main else lambda: None)


def write(path: Path, tensors: Mapping[str, Tensor], facts: Facts) -> bytes:
    """Publish a generator's weights; what was written. A file of the same name is replaced."""
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save(whole, {KEY: json.dumps({"format": FORMAT} | asdict(facts), sort_keys=True)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, content)
    except OSError as error:
        why = DISK_ERRORS.get(error.errno or 0)
        if why is None:
            raise
        raise UserError(f"{path}: {why}: it was not written; make room and run the same command again") from None
    return content


def read(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in a file. wanted: the names, with tensors of the shapes that must be there.

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


def read_facts(path: Path, settings: str) -> Facts:
    """What a file says of itself. settings: the `identity` that it must have, which is a run's.

    Raises a UserError that names the file where it is truncated, no such file, or of another run.
    """
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {})[KEY])
        if (version := found.pop("format")) != FORMAT:
            raise UserError(f"{path}: has format {version}, this program reads {FORMAT}; write it again")
        facts = Facts(**found)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from None
    if facts.settings != settings:
        raise UserError(
            f"{path}: was written under other settings, data or encoder than the run's newest checkpoint; move it out "
            "of the run's folder, or name a file of this run"
        )
    return facts


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: is no whole file of averaged weights ({first_line(error)}); copy it again, or move it away"
    )
