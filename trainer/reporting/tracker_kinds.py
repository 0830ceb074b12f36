"""TensorBoard, Weights & Biases and MLflow, each through accelerate's class for it.

A tracker's package is imported when its run is opened: none costs a command that does not use it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

from common import shipped

if TYPE_CHECKING:
    from PIL.Image import Image

PROJECT = "idgan"  # W&B's project and MLflow's experiment, where the environment names none
FINISH_SECONDS = 20.0  # that wandb may take to upload the rest at the end of a run; `wandb sync` uploads what is left
FLUSH_SECONDS = 0.5  # between two writes of wandb's own file: a run that is killed loses so much of it
# wandb sends the numbers, the grids and the config, and nothing of the machine or the command line.
WANDB_SETTINGS = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_transaction_log_flush_interval": FLUSH_SECONDS,
    "finish_timeout": FINISH_SECONDS,
}


class Grid(NamedTuple):
    """A sample grid. picture: reduced, for pages; file: RUN/samples/IMAGES_SEEN.png, whole."""

    picture: Image
    file: Path


class RunInfo(NamedTuple):
    """What a tracker is told of a run at its start.

    run: its folder, which holds config.yaml; settings: flat {key.path: JSON value}; yaml: the same as text;
    images_seen: where the run starts or resumes; rewinds: of the watch, before that; last_step: of those that the
    tracker keeps, in images seen.
    """

    run: Path
    settings: dict[str, Any]
    yaml: str
    images_seen: int
    rewinds: int = 0
    last_step: int = -1


class Kind(Protocol):
    """One tracker. Every method may raise what its package raises."""

    name: str
    takes_back: bool
    """Whether it can drop the steps after a clock, so that those are sent anew where they have other numbers."""

    def new_id(self) -> str | None:
        """Return an id for a new run; None where the tracker gives it one, or needs none."""

    def open(self, info: RunInfo, run_id: str | None) -> str | None:
        """Open the run of this id, and begin it where there is none. Returns the id by which to open it again."""

    def config(self, info: RunInfo, is_first: bool) -> None:
        """Send the settings; is_first: no settings have been sent to this run before."""

    def log(self, images_seen: int, values: dict[str, float], grid: Grid | None) -> None:
        """Send what was reported at one clock: numbers, a grid, or both."""

    def finish(self) -> None:
        """Send the rest and close the run."""

    def abandon(self) -> None:
        """End what would hold up the end of this process, as a call hangs in another thread."""


class TensorBoard:
    """RUN/tensorboard. Its reader can be told to drop the steps after a clock, so those of a rewind are taken back."""

    name = "tensorboard"
    takes_back = True

    def new_id(self) -> str | None:
        """Return None: the run is the folder."""
        return None

    def open(self, info: RunInfo, run_id: str | None) -> str | None:
        """Open a new file of events. Its reader drops steps of older files after the last that counts."""
        self._tracker = TensorBoardTracker(self.name, info.run, purge_step=info.last_step + 1)
        self._tracker.start()
        return None

    def config(self, info: RunInfo, is_first: bool) -> None:
        """Write the settings as text."""
        text = "".join(f"    {line}\n" for line in info.yaml.splitlines())  # Markdown's code
        self._tracker.log({"config": text}, step=info.images_seen)

    def log(self, images_seen: int, values: dict[str, float], grid: Grid | None) -> None:
        """Write the numbers and the grid."""
        if grid:
            import numpy as np

            images = np.asarray(grid.picture)[None]
            self._tracker.log_images({"samples": images}, step=images_seen, dataformats="NHWC")
        self._tracker.log(values, step=images_seen)  # flushes the grid too

    def finish(self) -> None:
        """Close the file."""
        self._tracker.finish()

    def abandon(self) -> None:
        """Do nothing: its thread ends with the process."""


class WandB:
    """Weights & Biases. Its files lie in RUN/wandb; WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE say where to send."""

    name = "wandb"
    takes_back = False

    def new_id(self) -> str | None:
        """Return a random id."""
        return secrets.token_hex(8)

    def open(self, info: RunInfo, run_id: str | None) -> str | None:
        """Open the run of this id. Asks for nothing on a terminal: without a key it raises RuntimeError."""
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):  # init would ask
            raise RuntimeError("no API key is configured; run `wandb login`, or set WANDB_MODE=offline")
        known = wandb.Settings.model_fields  # those that begin with x_ come and go with wandb's versions
        settings = wandb.Settings(**{key: value for key, value in WANDB_SETTINGS.items() if key in known})
        place = {"id": run_id, "resume": "allow", "name": info.run.name, "dir": str(info.run), "settings": settings}
        self._tracker = WandBTracker(os.environ.get("WANDB_PROJECT") or PROJECT, **place)
        self._tracker.start()
        return run_id

    def config(self, info: RunInfo, is_first: bool) -> None:
        """Send the settings; they replace those of before."""
        self._tracker.store_init_configuration(info.settings)

    def log(self, images_seen: int, values: dict[str, float], grid: Grid | None) -> None:
        """Send the numbers and the grid as one step."""
        # wandb holds a step back until it is committed, and then takes no more of it
        if values:
            self._tracker.log(values, step=images_seen, commit=grid is None)
        if grid:
            self._tracker.log_images({"samples": [grid.picture]}, step=images_seen, commit=True)

    def finish(self) -> None:
        """Send the rest, for at most FINISH_SECONDS."""
        self._tracker.finish()

    def abandon(self) -> None:
        """Kill wandb-core, the process that it sends by: at exit the package waits for that without a limit."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # a process that ended meanwhile
                start, _, rest = path.read_text().rpartition(") ")
                pid, _, name = start.partition(" (")
                if name == "wandb-core" and int(rest.split()[1]) == os.getpid():  # the state, the parent
                    os.kill(int(pid), signal.SIGKILL)


class MLflow:
    """MLflow. MLFLOW_TRACKING_URI says where; without it the run is in a file store in RUN/mlflow."""

    name = "mlflow"
    takes_back = False

    def new_id(self) -> str | None:
        """Return None: MLflow chooses it."""
        return None

    def open(self, info: RunInfo, run_id: str | None) -> str | None:
        """Open the run of this id, or begin one."""
        import mlflow

        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for answers
        self._is_in_run = not os.environ.get("MLFLOW_TRACKING_URI")
        if self._is_in_run:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # since 3.7 it must be asked for
            mlflow.set_tracking_uri((info.run / "mlflow").as_uri())
        if run_id is None:
            self._make_experiment()
        self._tracker = MLflowTracker(PROJECT, run_name=info.run.name)
        self._tracker.run_id = run_id or self._tracker.run_id  # of a first start MLFLOW_RUN_ID
        self._tracker.start()
        return str(self._tracker.tracker.info.run_id)

    def _make_experiment(self) -> None:
        """Make the experiment, which another run may be doing at this moment: accelerate's class fails then."""
        import mlflow

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        if mlflow.get_experiment_by_name(name) is None:
            with contextlib.suppress(mlflow.MlflowException):
                mlflow.create_experiment(name)

    def config(self, info: RunInfo, is_first: bool) -> None:
        """Send config.yaml as an artifact, and at first the settings as parameters."""
        if is_first:  # MLflow refuses another value of a parameter; the file has those of today
            self._tracker.store_init_configuration(info.settings)
        self._tracker.log_artifact(str(info.run / "config.yaml"))

    def log(self, images_seen: int, values: dict[str, float], grid: Grid | None) -> None:
        """Send the numbers as metrics, the grid as an artifact."""
        if values:
            self._tracker.log(values, step=images_seen)
        if grid:
            self._tracker.log_artifact(str(grid.file), "samples")

    def finish(self) -> None:
        """End the run."""
        import mlflow

        try:
            self._tracker.finish()
        finally:
            if self._is_in_run:  # else the next run of this process would go into this one's folder
                mlflow.set_tracking_uri(None)  # type: ignore[arg-type]

    def abandon(self) -> None:
        """Do nothing: its thread ends with the process."""


KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (TensorBoard, WandB, MLflow)}
_EXTRAS = {"wandb": "wandb", "mlflow": "mlflow"}  # package: extra that installs it


def missing_packages(trackers: Sequence[str]) -> list[str]:
    """List the trackers whose package is not installed, a line each with the remedy."""
    shown = ", ".join(trackers)
    return [
        f"trackers: [{shown}]: {name} is not installed; {shipped.installing(_EXTRAS[name])}, or leave it out: "
        f"trackers=[{', '.join(other for other in trackers if other != name)}]"
        for name in trackers
        if name in _EXTRAS and not _is_installed(name)
    ]


def _is_installed(package: str) -> bool:
    """Return whether a package can be imported. A folder of its name in the working directory is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
