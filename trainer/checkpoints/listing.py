"""python -m trainer checkpoints RUN: the published steps of a run, and what may be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed.checkpoint import FileSystemReader

from common.errors import UserError

from . import published
from .load import load_tensors


@dataclass(frozen=True)
class Row:
    """A step. resolution: px, None where the manifest cannot be read; bytes: of its files; problem: None is valid."""

    name: str
    images_seen: int
    resolution: int | None
    bytes: int
    problem: str | None
    pointers: tuple[str, ...]


def rows(run: Path) -> list[Row]:
    """Newest first, every tensor read. Raises UserError where there is no step."""
    steps = published.steps(run)
    if not steps:
        raise UserError(f"{published.folder(run)}: no checkpoint here; name a run folder that has trained")
    pointed = {pointer: published.pointed(run, pointer) for pointer in ("latest", "best")}
    return [_row(step, pointed) for step in steps]


def _row(step: Path, pointed: dict[str, int | None]) -> Row:
    clock, resolution = int(step.name.removeprefix(published.STEP)), None
    problem = published.problem(step)
    if problem is None:
        resolution, problem = int(published.read_manifest(step)["resolution"]), _unreadable(step)
    size = sum(file.stat().st_size for file in step.iterdir()) if step.is_dir() else 0
    return Row(step.name, clock, resolution, size, problem, tuple(p for p, at in pointed.items() if at == clock))


def _unreadable(step: Path) -> str | None:
    try:
        found = FileSystemReader(step).read_metadata().state_dict_metadata
        like = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in found.items()}  # type: ignore[union-attr]
        load_tensors(step, like)
    except UserError as error:
        return str(error)
    except Exception as error:  # a damaged .metadata is a pickle of any kind
        return f"has an unreadable .metadata ({type(error).__name__})"
    return None
