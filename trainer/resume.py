"""Where a run resumes, and what may differ from its checkpoint then."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from common.errors import listed

from .checkpoints import published
from .config.changes import Change, changes
from .config.schema import GanConfig, RunConfig
from .config.settings import fixed
from .encoders import frozen
from .watch.rewinds import Rewinds

C = TypeVar("C", bound=RunConfig)
log = logging.getLogger(__name__)


class ResumePoint(NamedTuple):
    """Where a run starts: its folder, or None where it has none, and the clock of its newest checkpoint.

    data_file: the config that names its data, for messages; None where the command line does. past: the rewinds before
    that checkpoint.
    """

    run: Path | None = None
    images_seen: int = 0
    data_file: Path | None = None
    past: Rewinds = ()


FROM_SCRATCH = ResumePoint()


class OtherStart(Exception):
    """The newest checkpoint that can be used is not the one that the stage was built for.

    It stands in a phase of growth whose inputs were not checked, or after other rewinds, which have other random
    numbers. images_seen, past: of that checkpoint.
    """

    def __init__(self, images_seen: int, past: Rewinds) -> None:
        super().__init__(images_seen, past)
        self.images_seen, self.past = images_seen, past


def as_started(config: C, run: Path) -> C:
    """Return a config with `init_from` as the run's newest checkpoint has it, where both name the same place.

    The run's own config has the absolute path of what was typed, perhaps relative, at the start.
    """
    if not isinstance(config, GanConfig) or config.init_from is None:
        return config
    newest = published.newest(run)
    before = published.read_manifest(newest)["config"].get("init_from") if newest else None
    if before is None or not _same_place(Path(before), config.init_from):
        return config
    return config.model_copy(update={"init_from": Path(before)})


def _same_place(before: Path, now: Path) -> bool:
    """Return whether two paths name the same place, as far as their texts say it."""
    if before.is_absolute() == now.is_absolute():
        return before == now
    relative, absolute = sorted((before, now), key=Path.is_absolute)
    return absolute.parts[-len(relative.parts) :] == relative.parts


def refuse_changes(
    run: Path, manifest: dict[str, Any], config: RunConfig, identity: dict[str, str | int], accept_changes: bool
) -> None:
    """Raise a UserError that lists which settings and inputs differ from those of the checkpoint.

    manifest: the checkpoint's; identity: hashes of today's data and encoder; accept_changes: settings may differ, as
    long as no tensor of the checkpoint has another shape for it. Inputs never may.
    """
    changed = changes(manifest["config"], fixed(config))
    lines: list[str] = []
    if accept_changes:
        _refuse_other_shapes(run, [str(change) for change in changed if change.is_in_checkpoint])
    elif changed:
        remedy = "set these back, choose another folder with run=..., or resume all the same with --accept-changes"
        lines = [*map(str, changed), remedy]
    inputs = changes(manifest["facts"], identity)
    if inputs:
        lines += [*map(str, inputs), _inputs_remedy(run, inputs)]
    if lines:
        raise listed(f"{run} holds a checkpoint that differs from the config and its inputs:", lines)


def warn_of_other_speed(manifest: dict[str, Any], config: RunConfig) -> None:
    """Warn where a checkpoint was trained with another `speed`. Older manifests, without it, are of exact ones."""
    before = manifest.get("speed", "exact")
    if before != config.speed:
        log.warning(
            "warning: speed: %s until here, %s from here on; a GPU then gives other bits than one speed throughout",
            before,
            config.speed,
        )


def _inputs_remedy(run: Path, inputs: list[Change]) -> str:
    """Say how to resume where data or encoder are others than before."""
    remedy = "name the same data.path, data.painting and vae as before, or choose another folder with run=..."
    if any(change.key == "vae" for change in inputs):
        remedy += f"; the encoder of this run is kept as vae={frozen.saved_path(run)}"
    return remedy


def _refuse_other_shapes(run: Path, lines: list[str]) -> None:
    """Raise a UserError where a setting changed that the checkpoint's tensors depend on."""
    if lines:
        lines.append("a checkpoint holds these; set them back, or start anew with run=...")
        raise listed(f"{run}: --accept-changes cannot change what its checkpoint is made of:", lines)
