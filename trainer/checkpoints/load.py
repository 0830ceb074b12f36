"""Load a checkpoint: a whole run from its newest usable step, or some tensors of one step.

A step that is damaged is skipped with a warning, and the one before it is used.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from common.errors import UserError, first_line
from trainer.distributed.world import World

from . import finite, published
from .state import State
from .storage_errors import causes

log = logging.getLogger(__name__)


def restore_newest(
    run: Path, state: State, world: World, check: Callable[[dict[str, Any]], None] = lambda manifest: None
) -> dict[str, Any] | None:
    """Load the newest usable step into the state; return its manifest, or None where no step was published.

    check(manifest) may raise before a step is read. All processes call it together, and use the same step. Raises a
    UserError where steps exist and none can be used.
    """
    skipped: dict[str, str] = {}
    while True:
        path = world.broadcast(_next_candidate(run, skipped) if world.is_main else None)
        if path is None:
            break
        manifest = published.read_manifest(path)
        check(manifest)
        errors = [error for error in world.all_gather_object(_load(path, state)) if error]
        if not errors:
            return manifest
        _skip(skipped, path, errors[0], warn=world.is_main)
    skipped = world.broadcast(skipped)
    if skipped:
        listed = "; ".join(f"{name} {reason}" for name, reason in skipped.items())
        raise UserError(
            f"{published.folder(run)}: no checkpoint can be used ({listed}); restore one from a copy, or choose "
            "another run folder to start again"
        )
    return None


def _next_candidate(run: Path, skipped: dict[str, str]) -> Path | None:
    """Return the newest step that looks complete and was not skipped before."""
    for path in published.steps(run):
        if path.name in skipped:
            continue
        reason = published.problem(path)
        if reason is None:
            return path
        _skip(skipped, path, reason)
    return None


def _skip(skipped: dict[str, str], path: Path, reason: str, warn: bool = True) -> None:
    """Note that a step cannot be used."""
    skipped[path.name] = reason
    if warn:
        log.warning("warning: skipped checkpoint %s: it %s", path.name, reason)


def _load(path: Path, state: State) -> str | None:
    """Read a step into the state. Return why it failed, or None."""
    try:
        state.load_state_dict(load_tensors(path, state.state_dict()))
    except UserError as error:
        return str(error)
    return None


def read_newest(run: Path, like: Callable[[dict[str, Any]], dict[str, Tensor]]) -> tuple[Path, dict[str, Tensor]]:
    """Read some tensors of the newest usable step: (step, tensors).

    like(manifest): the names to read, with tensors of their shapes. Raises a UserError where there is no usable step.
    """
    skipped: dict[str, str] = {}
    while (path := _next_candidate(run, skipped)) is not None:
        wanted = like(published.read_manifest(path))
        try:
            return path, load_tensors(path, wanted)
        except UserError as error:
            _skip(skipped, path, str(error))
    raise UserError(f"{run}: holds no usable checkpoint; train the run further, or name another run folder")


def read_named(run: Path, name: str, like: Mapping[str, Tensor]) -> tuple[Path, dict[str, Tensor]]:
    """Read some tensors of one step, named as its folder, by images seen, or `best`: (step, tensors).

    like: as in `load_tensors`. Raises a UserError, which lists the usable steps, where there is no such step or it
    cannot be used.
    """
    wanted = _best(run) if name == "best" else published.full_name(name)
    steps = {path.name: path for path in published.steps(run)}
    reason = published.problem(steps[wanted]) if wanted in steps else "is not there"
    if reason is None:
        try:
            return steps[wanted], load_tensors(steps[wanted], like)
        except UserError as error:
            reason = str(error)
    usable = sorted(other for other, path in steps.items() if other != wanted and published.problem(path) is None)
    remedy = f"choose one of {', '.join(usable)}" if usable else "there is no other; train the run further"
    raise UserError(f"{published.folder(run)}: checkpoint {wanted} {reason}; {remedy}")


def _best(run: Path) -> str:
    """Return the name of the step that the pointer `best` names."""
    clock = published.pointed(run, "best")
    if clock is None:
        folder = published.folder(run)
        raise UserError(f"{folder}: no checkpoint is the best yet; run `python -m evaluation fid` on some first")
    return published.name_of(clock)


def load_tensors(step: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read some tensors of a step, without a process group.

    like: the names to read, with tensors of their shapes and types. Raises a UserError where the step cannot be read;
    its message continues "checkpoint NAME ...".
    """
    tensors = {name: torch.empty_like(t) for name, t in like.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DCP's remarks on reading without a process group
            dcp.load(tensors, storage_reader=dcp.FileSystemReader(step), no_dist=True)
    except (CheckpointException, Exception) as error:  # DCP's exception is no Exception
        cause = causes(error)[0]
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise UserError(f"cannot be read ({first_line(cause)})") from None
    if bad := finite.not_finite(tensors):  # versions before 0.3 published such checkpoints
        raise UserError(f"holds values that are not finite ({finite.listed(bad)})")
    return tensors
