"""configs/experiments/NAME.yaml: data sets, cells (a config, how many seeds, what is measured) and budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from common import cli, shipped
from common.errors import UserError, joined
from trainer.config.settings import PathSetting, Settings
from trainer.config.yaml_file import read_yaml

from . import claims, overrides
from .overrides import OverrideList

FOLDER = Path("configs/experiments")
MEASURES = (
    "fid",
    "disentanglement",
    "alignment",
    "paper",
    "latents",
    "control",
    "modes",
    "labels",
    "leaks",
    "figures",
)  # of python -m evaluation


class Variant(Settings):
    """A data set, a way to draw it, or a value of a setting: each cell exists once for every variant."""

    overrides: tuple[str, ...] = Field((), description="other values of settings, before the cell's own")


class Cell(Settings):
    """One system on one data set. In `config` and `set`, {variant} is the variant's name."""

    once: bool = Field(False, description="one cell for all variants, under its own name")
    stage: Literal["vae", "gan"] = Field(..., description="stage of training: the command of `python -m trainer`")
    config: str = Field(..., description="the config that is trained")
    set: str = Field(..., description="the data set, by its name in `sets`")
    seeds: int = Field(1, ge=1, strict=True, description="runs, with the seeds 0, 1, ...")
    vae: str | None = Field(None, description="the cell whose run of seed 0 gives the encoder")
    init_from: str | None = Field(None, description="the cell whose run of seed 0 gives the networks to start from")
    overrides: tuple[str, ...] = Field((), description="other values of settings, key.path=value")
    hours: float = Field(..., gt=0, description="of one run in the first budget, measured")
    measure: tuple[str, ...] = Field((), description="what follows `python -m evaluation`, without the run's folder")


class Budget(Settings):
    """How much of it is run. Its overrides come after the cells' own: of all, of a stage, of a cell."""

    hours_factor: float = Field(1, gt=0, description="by which the cells' hours are multiplied")
    hours: dict[str, float] = Field({}, description="of one run of a cell by its name, in place of the cell's")
    overrides: tuple[str, ...] = Field((), description="other values of settings of every cell")
    stage_1: tuple[str, ...] = Field((), description="of cells of stage 1")
    stage_2: tuple[str, ...] = Field((), description="of cells of stage 2")
    cells: dict[str, tuple[str, ...]] = Field({}, description="of single cells, by their names without a variant's")
    sets: str = Field("", description="more options of the commands that make data sets")
    folder: PathSetting = Field(Path("data"), description="the folder of the data sets")
    measure: dict[str, str] = Field({}, description="more options of a command of evaluation, by its name")


class Claim(Settings):
    """What the experiment is to show, written down before it is run; see claims.py."""

    says: str = Field(..., description="the claim in words")
    source: str = Field(..., description="where it is made, such as appendix B.3")
    test: str = Field(
        ..., description="CELL[COLUMN] <= FACTOR * CELL[COLUMN] - MARGIN, or >=, with columns of the table"
    )


class Experiment(Settings):
    """The content of a file. budgets: the first is what is run without --budget."""

    runs: PathSetting = Field(..., description="the folder of the run folders")
    budgets: dict[str, Budget] = Field(..., min_length=1)
    sets: dict[str, str] = Field(..., description="by name: what follows `python -m data_shards make`, without --out")
    variants: dict[str, Variant] = Field({}, description="by name; without any, each cell exists once")
    cells: dict[str, Cell] = Field(..., min_length=1)
    claims: tuple[Claim, ...] = Field((), description="the table says of each whether it holds")


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
    problems = contradictions(experiment)
    if problems:
        raise joined(str(path), problems)
    return experiment


def contradictions(experiment: Experiment) -> list[str]:
    """Return all that is wrong between the parts of a file."""
    problems: list[str] = []
    before: set[str] = set()
    for name, cell in experiment.cells.items():
        problems += [f"cells.{name}.{key}: {words}" for key, words in _needs(experiment, cell, before)]
        problems += [f"cells.{name}.{key}: {words}" for key, words in _missing(experiment, cell)]
        problems += [f"cells.{name}.measure: {words}" for words in _unknown_measures(cell)]
        before.add(name)
        before.update(placed_names(experiment, name))
    placed = Counter(placed for name in experiment.cells for placed in placed_names(experiment, name))
    placed += Counter(name for name in experiment.cells if placed_names(experiment, name) != [name])
    problems += [f"cells: two of them would be called {name}" for name, times in placed.items() if times > 1]
    for name, budget in experiment.budgets.items():
        problems += [f"budgets.{name}: {words}" for words in _of_a_budget(experiment, budget)]
    variants = {name: variant.overrides for name, variant in experiment.variants.items()}
    problems += overrides.contradictions(list(_override_lists(experiment)), variants)
    return problems + [
        f"claims: {claim.test}: {words}" for claim in experiment.claims for words in _of_a(claim, experiment)
    ]


def _of_a(claim: Claim, experiment: Experiment) -> Iterator[str]:
    try:
        test = claims.parse(claim.test)
    except ValueError as error:
        yield str(error)
        return
    of_variants = {placed for name in experiment.cells for placed in placed_names(experiment, name)}
    for term in test.terms:
        if term.cell in experiment.cells:
            if term.spread and len(placed_names(experiment, term.cell)) < 2:
                yield f"{term.cell} exists once, and has no spread over variants"
        elif term.spread or term.cell not in of_variants:
            names = dict.fromkeys([*experiment.cells, *(() if term.spread else sorted(of_variants))])
            yield f"{term.cell} is no cell; choose from {', '.join(names)}"
    varied = [placed for term in test.terms if (placed := placed_names(experiment, term.cell))[1:]]
    if not test.left.spread and varied and {term.cell for term in test.terms} & (of_variants - set(experiment.cells)):
        yield f"it compares a cell of one variant with one of every; name one of them, {', '.join(varied[0])}"


def _of_a_budget(experiment: Experiment, budget: Budget) -> Iterator[str]:
    measured = {line.split()[0] for cell in experiment.cells.values() for line in cell.measure if line.strip()}
    for command in sorted(budget.measure.keys() - measured):
        yield f"measure: no cell is measured by {command}; choose from {', '.join(sorted(measured))}"
    for cell in sorted(budget.cells.keys() | budget.hours.keys()):
        if cell not in experiment.cells:
            yield f"{cell} is no cell; choose from {', '.join(experiment.cells)}"


def _override_lists(experiment: Experiment) -> Iterator[OverrideList]:
    """Yield all lists of overrides of a file."""
    varied = {name: cell.stage for name, cell in experiment.cells.items() if not cell.once}
    for name, variant in experiment.variants.items():
        yield OverrideList(f"variants.{name}.overrides", variant.overrides, of_variants=False)
    for name, cell in experiment.cells.items():
        sources = {"vae": cell.vae, "init_from": cell.init_from}  # a GAN without a cell's run may have an export
        free = {key for key, source in sources.items() if source is None and cell.stage == "gan"}
        reserved = [key for key in overrides.RESERVED if key not in free]
        yield OverrideList(f"cells.{name}.overrides", cell.overrides, name in varied, reserved)
    for name, budget in experiment.budgets.items():
        yield OverrideList(f"budgets.{name}.overrides", budget.overrides, bool(varied))
        yield OverrideList(f"budgets.{name}.stage_1", budget.stage_1, "vae" in varied.values())
        yield OverrideList(f"budgets.{name}.stage_2", budget.stage_2, "gan" in varied.values())
        for cell_name, its in budget.cells.items():
            yield OverrideList(f"budgets.{name}.cells.{cell_name}", its, cell_name in varied)


def placed_names(experiment: Experiment, name: str) -> list[str]:
    """Return the names that a cell of the file has for each variant: VARIANT-CELL, or its own. [] for no cell."""
    if name not in experiment.cells:
        return []
    if experiment.cells[name].once or not experiment.variants:
        return [name]
    return [f"{variant}-{name}" for variant in experiment.variants]


def _needs(experiment: Experiment, cell: Cell, before: set[str]) -> Iterator[tuple[str, str]]:
    """Yield a key and what is wrong with the cell that it names: a cell of the file, or one for one variant."""
    known = {placed for name in experiment.cells for placed in (name, *placed_names(experiment, name))}
    for key, needed in (("vae", cell.vae), ("init_from", cell.init_from)):
        if needed is None:
            continue
        if needed not in known:
            yield key, f"{needed} is no cell; choose from {', '.join(experiment.cells)}"
        elif needed not in before:
            yield key, f"{needed} comes after it; put it before"
        elif cell.once and needed in experiment.cells and placed_names(experiment, needed) != [needed]:
            yield key, f"{needed} exists for every variant; name one of {', '.join(placed_names(experiment, needed))}"


def _missing(experiment: Experiment, cell: Cell) -> Iterator[tuple[str, str]]:
    for variant in [""] if cell.once else experiment.variants or [""]:
        chosen, config = filled(cell.set, variant), filled(cell.config, variant)
        if chosen not in experiment.sets:
            yield "set", f"{chosen} is no set; choose from {', '.join(experiment.sets)}"
        if not shipped.config(Path(config)).is_file():
            yield "config", f"{config}: no such file"


def filled(pattern: str, variant: str) -> str:
    """Return a pattern with the variant's name in it."""
    return pattern.replace("{variant}", variant)


def _unknown_measures(cell: Cell) -> Iterator[str]:
    for line in cell.measure:
        command = line.partition(" ")[0]
        if command not in MEASURES:
            yield f"{line!r}: {command or 'nothing'} measures no run; choose from {', '.join(MEASURES)}"


def chosen(experiment: Experiment, budget: str | None) -> tuple[str, Budget]:
    """Return a budget with its name; None is the first. Raises a UserError where there is no such one."""
    name = budget or next(iter(experiment.budgets))
    if name not in experiment.budgets:
        raise UserError(f"--budget: {name}: the experiment has {', '.join(experiment.budgets)}; choose one of them")
    return name, experiment.budgets[name]
