"""configs/experiments/NAME.yaml: data sets, cells (a config, how many seeds, what is measured) and budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from common import cli, shipped
from common.errors import UserError, joined
from trainer.config.settings import PathSetting, Settings
from trainer.config.yaml_file import read_yaml

FOLDER = Path("configs/experiments")


class Cell(Settings):
    """One system on one data set."""

    stage: Literal["vae", "gan"] = Field(..., description="stage of training: the command of `python -m trainer`")
    config: PathSetting = Field(..., description="the config that is trained")
    set: str = Field(..., description="the data set, by its name in `sets`")
    seeds: int = Field(1, ge=1, strict=True, description="runs, with the seeds 0, 1, ...")
    vae: str | None = Field(None, description="the cell whose run of seed 0 gives the encoder")
    init_from: str | None = Field(None, description="the cell whose run of seed 0 gives the networks to start from")
    overrides: tuple[str, ...] = Field((), description="other values of settings, key.path=value")
    hours: float = Field(..., gt=0, description="of one run in the first budget, measured")
    measure: tuple[str, ...] = Field((), description="what follows `python -m evaluation`, without the run's folder")


class Budget(Settings):
    """How much of it is run."""

    hours_factor: float = Field(1, gt=0, description="by which the cells' hours are multiplied")
    overrides: tuple[str, ...] = Field((), description="other values of settings of every cell, after its own")
    stage_2: tuple[str, ...] = Field((), description="the same for cells of stage 2, after these")
    sets: str = Field("", description="more options of the commands that make data sets")
    folder: PathSetting = Field(Path("data"), description="the folder of the data sets")
    measure: dict[str, str] = Field({}, description="more options of a command of evaluation, by its name")


class Experiment(Settings):
    """The content of a file. budgets: the first is what is run without --budget."""

    runs: PathSetting = Field(..., description="the folder of the run folders")
    budgets: dict[str, Budget] = Field(..., min_length=1)
    sets: dict[str, str] = Field(..., description="by name: what follows `python -m data_shards make`, without --out")
    cells: dict[str, Cell] = Field(..., min_length=1)


def names() -> list[str]:
    """Return the names of the shipped experiments."""
    return sorted(path.stem for path in shipped.found(FOLDER).glob("*.yaml"))


def load(name: str) -> Experiment:
    """Read an experiment by its name, or by the path of a file. Raises one UserError with everything that is wrong."""
    path = cli.path(name) if name.endswith(".yaml") else shipped.found(FOLDER / f"{name}.yaml")
    if not path.is_file():
        raise UserError(f"experiment {name}: no such file {path}; choose from {', '.join(names())}")
    try:
        experiment = Experiment.model_validate(read_yaml(path, Experiment))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (value {e['input']!r})" for e in error.errors()]
        raise joined(str(path), problems) from None
    problems = _contradictions(experiment)
    if problems:
        raise joined(str(path), problems)
    return experiment


def _contradictions(experiment: Experiment) -> list[str]:
    problems, before = [], set()
    for name, cell in experiment.cells.items():
        for key, needed in (("vae", cell.vae), ("init_from", cell.init_from)):
            if needed is None:
                continue
            if needed not in experiment.cells:
                problems.append(f"cells.{name}.{key}: {needed} is no cell; choose from {', '.join(experiment.cells)}")
            elif needed not in before:
                problems.append(f"cells.{name}.{key}: {needed} comes after it; put it before")
        before.add(name)
        if cell.set not in experiment.sets:
            problems.append(f"cells.{name}.set: {cell.set} is no set; choose from {', '.join(experiment.sets)}")
        if not shipped.config(cell.config).is_file():
            problems.append(f"cells.{name}.config: {cell.config}: no such file")
    return problems


def chosen(experiment: Experiment, budget: str | None) -> tuple[str, Budget]:
    """Return a budget with its name; None is the first. Raises a UserError where there is no such one."""
    name = budget or next(iter(experiment.budgets))
    if name not in experiment.budgets:
        raise UserError(f"--budget: {name}: the experiment has {', '.join(experiment.budgets)}; choose one of them")
    return name, experiment.budgets[name]
