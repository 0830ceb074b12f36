"""Networks out of a run folder: of its newest checkpoint, of a named one, or of a file of averaged weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from common.errors import UserError
from models import freeze
from trainer.checkpoints import ema_snapshots, published
from trainer.checkpoints.load import read_named, read_newest
from trainer.config.schema import GanConfig
from trainer.stages.gan import GanStage
from trainer.steps import networks, schedule

M = TypeVar("M", bound=nn.Module)


def average(
    path: Path, at: str | None, config: GanConfig, channels: int, asked: str | None
) -> tuple[Path, dict[str, Any], nn.Module, dict[str, str]]:
    """The newest usable step, its manifest, an averaged generator, and which it is, in the words of a record.

    With a file's weights the manifest says the clock and the stage of the file.
    """
    names = [average.name for average in config.ema.averages]
    name = asked if asked in names else names[0]
    step, found = network(path, at, f"ema.{name}", networks.generator(config, channels))
    manifest = published.read_manifest(step)
    if asked is None or asked in names:
        return step, manifest, found, {"ema": name}
    file = Path(asked)
    if not file.is_file():
        raise UserError(
            f"--ema: {asked}: {path} has no such average, and there is no such file; choose {', '.join(names)}, or a "
            "file that `python -m evaluation ema` wrote"
        )
    facts = ema_snapshots.read_facts(file, ema_snapshots.identity(manifest["config"], manifest["facts"]))
    found.load_state_dict(ema_snapshots.read(file, found.state_dict()))
    which = {"ema": asked, "ema_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return step, _at(config, manifest, facts), found, which


def _at(config: GanConfig, manifest: dict[str, Any], facts: ema_snapshots.Facts) -> dict[str, Any]:
    """The manifest with the clock and the stage of a file."""
    plan = schedule.gan_phases(config)
    done = schedule.iteration(plan, facts.images_seen, GanStage.batches_per_step)
    stage = {"images_seen": facts.images_seen, "iteration": done, "resolution": facts.resolution}
    fade = {} if facts.alpha is None else {"alpha": facts.alpha}
    return {name: value for name, value in manifest.items() if name != "alpha"} | stage | fade


def network(path: Path, at: str | None, prefix: str, empty: M) -> tuple[Path, M]:
    """Fill a network from a named step, or from the newest usable one, and freeze it."""
    like = {f"{prefix}.{name}": t for name, t in empty.state_dict().items()}
    step, tensors = read_newest(path, lambda manifest: like) if at is None else read_named(path, at, like)
    empty.load_state_dict({name.removeprefix(f"{prefix}."): t for name, t in tensors.items()})
    freeze(empty)
    return step, empty
