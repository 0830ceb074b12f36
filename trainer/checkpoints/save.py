"""Save a checkpoint: one DCP folder with a manifest per step, published complete or not at all.

Protocol, for N images seen: every process writes its part of step-N.tmp. The main process adds manifest.json, syncs,
renames the folder to step-N and replaces the pointer `latest`. Only then are old steps deleted, and newer ones, which a
resume had to skip, renamed to step-N.skipped. A kill at any point leaves the last published step as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from common.atomic_writes import publish, sync_folder
from trainer.distributed.world import World
from trainer.steps.running_means import NonFinite

from . import finite, published, retention
from .retention import Retention
from .state import State
from .storage_errors import save_error


def save_checkpoint(
    run: Path, images_seen: int, state: State, metadata: dict[str, Any], world: World, keep: Retention
) -> Path:
    """Publish the state as the step at images_seen, then delete the steps that need not be kept.

    metadata: what the manifest holds besides format, clock and files. A step of the same name is replaced. All
    processes call it together. Raises a UserError where the disk is full or read-only, or where a tensor holds NaN or
    infinity (NonFinite); published steps stay.
    """
    target = published.folder(run) / published.name_of(images_seen)
    temporary = target.with_name(target.name + ".tmp")
    tensors = state.state_dict()
    _refuse_not_finite(tensors, world)
    world.on_main(lambda: _prepare(run))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DCP's remarks on its own defaults
            writer = dcp.FileSystemWriter(temporary)
            dcp.save(tensors, storage_writer=writer, process_group=world.host_group, no_dist=world.size == 1)
    except (CheckpointException, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise save_error(run, error) from None
    manifest = {"format": published.FORMAT, "images_seen": images_seen} | metadata
    world.on_main(lambda: _publish(run, temporary, target, manifest, keep))
    return target


def _refuse_not_finite(tensors: Mapping[str, Tensor], world: World) -> None:
    """Raise NonFinite on every process where any holds a value that is not finite."""
    bad = sorted({name for names in world.all_gather_object(finite.not_finite(tensors)) for name in names})
    if bad:
        raise NonFinite(f"{finite.listed(bad)} {'is' if len(bad) == 1 else 'are'} not finite: nothing was published")


def _prepare(run: Path) -> None:
    """Make the folder of checkpoints and clean it."""
    try:
        published.folder(run).mkdir(parents=True, exist_ok=True)
        retention.sweep(run)
    except OSError as error:
        raise save_error(run, error) from None


def _publish(run: Path, temporary: Path, target: Path, manifest: dict[str, Any], keep: Retention) -> None:
    """Give the written step its manifest and its name, then clean up."""
    try:
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        content = json.dumps(manifest | {"files": sizes}, indent=1) + "\n"
        publish(temporary / published.MANIFEST, content.encode())
        sync_folder(temporary)
        if target.exists():  # it could not be loaded, so training from an earlier step came to it again
            retention.delete(target)
        os.rename(temporary, target)
        sync_folder(published.folder(run))
        publish(published.folder(run) / "latest", f"{target.name}\n".encode())
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise save_error(run, error) from None
    retention.set_newer_aside(run, target)
    retention.delete_unneeded(run, keep)
