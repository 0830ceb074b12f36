"""What may differ when a run goes on from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import UserError
from trainer.config.changes import changes
from trainer.config.schema import RunConfig
from trainer.config.settings import fixed

from .encoders import frozen


class EarlierStage(Exception):
    """The newest checkpoint that can be used is of a stage whose inputs were not looked at: of this clock."""

    def __init__(self, images_seen: int) -> None:
        super().__init__(images_seen)
        self.images_seen = images_seen


def refuse_changes(
    run: Path, manifest: dict[str, Any], config: RunConfig, facts: dict[str, Any], accept_changes: bool
) -> None:
    """Raise a UserError that lists what differs from the checkpoint's settings and inputs."""
    changed = changes(manifest["config"], fixed(config))
    lines: list[str] = []
    if accept_changes:
        _refuse_other_shapes(run, [str(change) for change in changed if change.is_in_checkpoint])
    elif changed:
        remedy = "set these back, choose another folder with run=..., or go on all the same with --accept-changes"
        lines = [*map(str, changed), remedy]
    inputs = changes(manifest["facts"], facts)
    if inputs:
        remedy = "name the same data.path, data.painting and vae as before, or choose another folder with run=..."
        if any(change.key == "vae" for change in inputs):
            remedy += f"; the encoder of this run is kept as vae={frozen.saved_path(run)}"
        lines += [*map(str, inputs), remedy]
    if lines:
        raise UserError(_listed(f"{run} holds a checkpoint that differs from what is asked:", lines))


def _refuse_other_shapes(run: Path, lines: list[str]) -> None:
    if lines:
        lines.append("a checkpoint holds these; set them back, or start anew with run=...")
        raise UserError(_listed(f"{run}: --accept-changes cannot change what its checkpoint is made of:", lines))


def _listed(head: str, lines: list[str]) -> str:
    return "\n".join([head, *(f"  - {line}" for line in lines)])
