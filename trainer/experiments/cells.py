"""The cells of an experiment, each for every variant, under the names that the command line takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .experiment_file import Cell, Experiment, filled


@dataclass(frozen=True)
class PlacedCell:
    """A cell for one variant.

    name: VARIANT-CELL, or the cell's own; system: the cell's name; variant: "" where there is none; config, set: with
    the variant's name in them; vae, init_from: names of placed cells; overrides: the variant's, then the cell's.
    """

    name: str
    system: str
    variant: str
    cell: Cell
    config: Path
    set: str
    vae: str | None
    init_from: str | None
    overrides: tuple[str, ...]


def placed_cells(experiment: Experiment) -> dict[str, PlacedCell]:
    """Return the cells by name, each after what it needs: variant by variant in the order of the file.

    Those of all variants come first, or, where they need a variant's, last.
    """
    left = [_placed(experiment, name, "") for name, cell in experiment.cells.items() if _is_once(experiment, cell)]
    for variant in experiment.variants:
        left += [_placed(experiment, name, variant) for name, cell in experiment.cells.items() if not cell.once]
    found: dict[str, PlacedCell] = {}
    while left:  # it ends: the file's own order has every cell after what it needs
        cell = next(cell for cell in left if {cell.vae, cell.init_from} <= {None, *found})
        found[cell.name] = cell
        left.remove(cell)
    return found


def _is_once(experiment: Experiment, cell: Cell) -> bool:
    return cell.once or not experiment.variants


def _placed(experiment: Experiment, name: str, variant: str) -> PlacedCell:
    def named(cell: str | None) -> str | None:
        """Return the name of a cell that this one needs."""
        if cell not in experiment.cells or _is_once(experiment, experiment.cells[cell]):
            return cell
        return f"{variant}-{cell}"

    cell = experiment.cells[name]
    return PlacedCell(
        name=f"{variant}-{name}" if variant else name,
        system=name,
        variant=variant,
        cell=cell,
        config=Path(filled(cell.config, variant)),
        set=filled(cell.set, variant),
        vae=named(cell.vae),
        init_from=named(cell.init_from),
        overrides=(*(experiment.variants[variant].overrides if variant else ()), *cell.overrides),
    )
