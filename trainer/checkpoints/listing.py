"""python -m trainer checkpoints RUN: the published steps of a run, and what may be wrong with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch.distributed.checkpoint import FileSystemReader

from common import terminal
from common.errors import UserError
from trainer.config.yaml_file import read_yaml

from . import published
from .load import load_tensors
from .mirror import Mirror

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A step of a run.

    resolution: in px, None where the manifest cannot be read; bytes: of its files; problem: why it cannot be used, or
    None; pointers: which of `latest` and `best` name it.
    """

    name: str
    images_seen: int
    resolution: int | None
    bytes: int
    problem: str | None
    pointers: tuple[str, ...]


def print_checkpoints(run: Path) -> None:
    """Print a table of the steps, and of their copies where the run has a mirror.

    Raises a UserError where there is no step in either place.
    """
    mirror, copies = _copies(run)
    found = [] if copies and not published.steps(run) else rows(run)
    columns = ("step", "images seen", "px", "MB", "is", *(["copy"] if mirror else []))
    table = Table(*columns, title=str(run))
    for row in found:
        validity = "valid" if row.problem is None else f"not usable: it {row.problem}"
        state = ", ".join([validity, *row.pointers])
        copy = [_copy(copies, row.name)] if mirror else []
        table.add_row(
            row.name, f"{row.images_seen:,}", str(row.resolution or "?"), f"{row.bytes / 1e6:.1f}", state, *copy
        )
    for name in sorted(copies.keys() - {row.name for row in found}, reverse=True):
        table.add_row(name, f"{published.clock_of(Path(name)):,}", "", "", "not here", _copy(copies, name))
    terminal.console(130).print(table)
    if mirror:
        print(f"copies: {mirror.url}")


def _copies(run: Path) -> tuple[Mirror | None, dict[str, str | None]]:
    """Return the run's mirror and the state of its copies; nothing, with a warning, where it does not answer."""
    try:
        mirror = _mirror(run)
        return mirror, mirror.steps() if mirror else {}
    except UserError as error:
        log.warning("warning: %s", error)
        return None, {}


def _mirror(run: Path) -> Mirror | None:
    """Return the mirror that the run's config names."""
    try:
        schedule = read_yaml(run / "config.yaml").get("schedule", {})
    except UserError:  # a folder of checkpoints alone
        return None
    url = schedule.get("mirror") if isinstance(schedule, dict) else None
    return Mirror(url, run) if url else None


def _copy(copies: Mapping[str, str | None], name: str) -> str:
    """Say what the mirror has of a step."""
    problem = copies.get(name, "is missing")
    return "complete" if problem is None else f"not usable: it {problem}" if name in copies else "none"


def rows(run: Path) -> list[Row]:
    """Read every tensor of every step, newest first. Raises a UserError where there is no step."""
    steps = published.steps(run)
    if not steps:
        raise UserError(f"{published.folder(run)}: no checkpoint here; name a run folder that has trained")
    clocks = {pointer: published.pointed(run, pointer) for pointer in ("latest", "best")}
    return [_row(step, clocks) for step in steps]


def _row(step: Path, pointer_clocks: dict[str, int | None]) -> Row:
    """Read a step. pointer_clocks: the images seen of the steps that `latest` and `best` name."""
    images_seen, resolution = published.clock_of(step), None
    problem = published.problem(step)
    if problem is None:
        resolution = int(published.read_manifest(step)["resolution"])
        problem = unreadable(step)
    size = sum(file.stat().st_size for file in step.iterdir()) if step.is_dir() else 0
    pointers = tuple(pointer for pointer, clock in pointer_clocks.items() if clock == images_seen)
    return Row(step.name, images_seen, resolution, size, problem, pointers)


def unreadable(step: Path) -> str | None:
    """Read every tensor of a step. Return why that failed, or None."""
    try:
        tensors = FileSystemReader(step).read_metadata().state_dict_metadata
        like = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in tensors.items()}  # type: ignore[union-attr]
        load_tensors(step, like)
    except UserError as error:
        return str(error)
    except Exception as error:  # a damaged .metadata is a pickle of any kind
        return f"has an unreadable .metadata ({type(error).__name__})"
    return None
