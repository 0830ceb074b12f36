"""Load networks of a run: from its newest checkpoint, from a named one, or from a file of averaged weights."""

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


def averaged_generator(
    run: Path, step_name: str | None, config: GanConfig, sizes: tuple[int, int], requested: str | None
) -> tuple[Path, dict[str, Any], nn.Module, dict[str, str]]:
    """Return (step, its manifest, an averaged generator, what identifies the average in a record).

    step_name: as in `load_network`; sizes: channels of the images, and of y, 0 without labels; requested: the name of
    an average of the config, a file of averaged weights, or None for the first average. With a file, the manifest has
    the clock and the resolution of the file.
    """
    names = [average.name for average in config.ema.averages]
    name = requested if requested in names else names[0]
    step, generator = load_network(run, step_name, f"ema.{name}", networks.generator(config, *sizes))
    manifest = published.read_manifest(step)
    if requested is None or requested in names:
        return step, manifest, generator, {"ema": name}
    file = Path(requested)
    if not file.is_file():
        raise UserError(
            f"--ema: {requested}: {run} has no such average, and there is no such file; choose {', '.join(names)}, or "
            "a file that `python -m evaluation ema` wrote"
        )
    metadata = ema_snapshots.read_metadata(file, ema_snapshots.identity(manifest["config"], manifest["facts"]))
    generator.load_state_dict(ema_snapshots.read(file, generator.state_dict()))
    record = {"ema": requested, "ema_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return step, _manifest_at(config, manifest, metadata), generator, record


def _manifest_at(
    config: GanConfig, manifest: dict[str, Any], metadata: ema_snapshots.SnapshotMetadata
) -> dict[str, Any]:
    """Return the manifest with clock, iteration, resolution and alpha of a file of averaged weights."""
    phases = schedule.gan_phases(config)
    without_alpha = {name: value for name, value in manifest.items() if name != "alpha"}
    return without_alpha | {
        "images_seen": metadata.images_seen,
        "iteration": schedule.iteration(phases, metadata.images_seen, GanStage.batches_per_step),
        "resolution": metadata.resolution,
        **({} if metadata.alpha is None else {"alpha": metadata.alpha}),
    }


def trained_y_dim(run: Path) -> int:
    """Return the size of the label vectors that a run was trained with, 0 without labels or a checkpoint."""
    newest = published.newest(run)
    return 0 if newest is None else int(published.read_manifest(newest)["facts"].get("y_dim", 0))


def load_network(run: Path, step_name: str | None, prefix: str, network: M) -> tuple[Path, M]:
    """Fill a network from a step and freeze it: (step, network).

    step_name: a name, images seen or `best`; None for the newest usable step. prefix: of its tensors in a checkpoint.
    """
    like = {f"{prefix}.{name}": t for name, t in network.state_dict().items()}
    if step_name is None:
        step, tensors = read_newest(run, lambda manifest: like)
    else:
        step, tensors = read_named(run, step_name, like)
    network.load_state_dict({name.removeprefix(f"{prefix}."): t for name, t in tensors.items()})
    freeze(network)
    return step, network
