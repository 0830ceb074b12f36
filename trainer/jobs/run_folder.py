"""Which folder a config's run has: an override says it, or the config, or the run folder that the config lies in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from common import paths
from common.errors import UserError
from trainer.checkpoints import published
from trainer.config.file_names import METADATA
from trainer.config.overrides import value_of
from trainer.config.schema import RunConfig
from trainer.config.yaml_file import read_yaml
from trainer.jobs import exit_file
from trainer.reporting import stats_file

log = logging.getLogger(__name__)


def run_folder(path: Path, overrides: Sequence[str]) -> Path:
    """Return the folder of a config's run.

    It is known before the config is checked, so that a start which fails can say so in an existing folder. Raises a
    UserError where a config in a run folder, or in an export, names the folder of another run, or one in a run folder a
    place where that run never was.
    """
    given = [value_of(text.partition("=")[2], (Path,)) for text in overrides if text.startswith("run=")]
    if given and given[-1] is not None:
        return _typed(given[-1])
    try:
        named = None if given else read_yaml(path, RunConfig).get("run")
    except UserError:
        named = None  # what is wrong with the file is said when all of it is read
    folder = path.resolve().parent if path.is_symlink() else path.parent
    recorded = _typed(named) if isinstance(named, str) else None
    lies_in_run = path.is_file() and is_run(folder)
    if recorded is not None and is_run(recorded) and (lies_in_run or _is_export(folder)):
        _refuse_another(path, folder, recorded)
    if lies_in_run:
        if recorded is not None and not recorded.exists():
            _refuse_edited(path, folder, recorded)
            log.info("%s: goes on where it lies; its config names %s, which is not there", folder, recorded)
        return folder
    return recorded or Path("runs") / f"{path.resolve().parent.name}-{path.stem}"


def _refuse_edited(config: Path, folder: Path, recorded: Path) -> None:
    """Raise a UserError where a config's `run` was written by hand: a run that was moved still names its old place."""
    before = exit_file.place_then(folder)
    if before is not None and before != recorded.absolute():
        raise UserError(
            f"run: {config} says {recorded}, which is not there, and lies in the run {folder}; to go on with that run "
            f"add run={folder}, to start another run={recorded}"
        )


def is_run(folder: Path) -> bool:
    """Return whether a training has written in a folder, whether or not it came to a checkpoint."""
    written = any((folder / name).is_file() for name in (stats_file.FILE, exit_file.FILE))
    return written or bool(published.steps(folder))


def _is_export(folder: Path) -> bool:
    return (folder / METADATA).is_file()


def _typed(text: str) -> Path:
    """Return a path of a setting, as it stands where it cannot be one: the config is refused for it."""
    try:
        return paths.typed(text)
    except ValueError:
        return Path(text)


def _refuse_another(config: Path, folder: Path, recorded: Path) -> None:
    """Raise a UserError where a config lies in one run folder, or in an export, and names another run."""
    if recorded.samefile(folder):
        return
    here = f"run={folder}" if is_run(folder) else "run=FOLDER for a new run"
    raise UserError(
        f"run: {config} lies in {folder}, and says {recorded}, which is another run; say which one is to be trained, "
        f"with {here} or run={recorded}"
    )
