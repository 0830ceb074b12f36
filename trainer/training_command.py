"""What the commands vae and gan are asked for, the same for a run and for its dry run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig

from .jobs.run_folder import run_folder
from .resume import as_started


class TrainingCommand(NamedTuple):
    """A config with overrides, and how its run may resume.

    kind: of the config at `path`; overrides: key.path=value; accept_changes: resume from a checkpoint of other
    settings; pinned: refuse code or settings other than those of the first start; from_step: resume from this
    checkpoint, by name or images seen, and set the later ones aside.
    """

    kind: type[VaeConfig | GanConfig]
    path: Path
    overrides: tuple[str, ...] = ()
    accept_changes: bool = False
    pinned: bool = False
    from_step: str | None = None

    @property
    def run(self) -> Path:
        """The folder of the run; see `run_folder`. It is known before the config is checked."""
        return run_folder(self.path, self.overrides)

    def config(self, run: Path) -> VaeConfig | GanConfig:
        """Load the config, as the run in this folder was started with it."""
        return as_started(load_config(self.kind, self.path, self.overrides), run)

    @property
    def data_file(self) -> Path | None:
        """The config if it names data and painting; None where an override does."""
        named = ("data.path=", "data.painting=")
        return None if any(text.startswith(named) for text in self.overrides) else self.path
