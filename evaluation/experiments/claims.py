"""Which claims of an experiment its results bear out: over all seeds, over none, or not to be told from these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, NamedTuple

from common.errors import UserError
from trainer.experiments.claims import Term, Test, parse

from .job_numbers import COLUMNS, FORMATS, Number, alike, numbers
from .results import CellResults, Claim, ExperimentResults

HEAD = ("claim", "of", "test", "left", "right", "verdict")
HOLDS, FAILS, UNDECIDED, MISSING = "holds", "does not hold", "undecided at these seeds", "not measured"
NOT_COMPARABLE = "not comparable"  # numbers of one kind that several networks have measured


class Verdict(NamedTuple):
    """What became of a claim in one variant: the numbers of the seeds on either side, and a word."""

    claim: Claim
    variant: str
    left: tuple[float, ...]
    right: tuple[float, ...]
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON, which has no number for the infinite spread of what is not above 0: None."""
        sides = {"left": self.left, "right": self.right}
        finite = {name: [value if isfinite(value) else None for value in side] for name, side in sides.items()}
        return self._asdict() | finite | {"claim": self.claim._asdict()}


def verdicts(results: ExperimentResults) -> list[Verdict]:
    """Return a verdict on each claim, in every variant that has cells of it. Raises a UserError for an unknown column.

    A claim holds where the worst pair of seeds fulfils it, and does not hold where even the best one does not. Where
    several networks have measured what it compares it has no numbers.
    """
    return [verdict for claim in results.claims for verdict in _of_claim(results, claim)]


def _of_claim(results: ExperimentResults, claim: Claim) -> Iterator[Verdict]:
    test = parse(claim.test)
    for term in test.terms:
        if term.column not in COLUMNS:
            raise UserError(f"claims: {claim.test}: {term.column} is no column; choose from {', '.join(COLUMNS)}")
    for variant in [""] if test.left.spread else _variants(results, test):
        found = [_measured(results, term, variant) for term in test.terms]
        if all(found):
            yield _verdict(claim, test, variant, found)


def _variants(results: ExperimentResults, test: Test) -> list[str]:
    """Return the variants in which a claim is made: "" for one of cells that it names with theirs."""
    of_one = {cell.name for cell in results.cells if cell.variant}
    if not of_one.isdisjoint(term.cell for term in test.terms):
        return [""]
    return list(dict.fromkeys(cell.variant for cell in results.cells if cell.variant)) or [""]


Seeds = tuple[Number, ...]
"""A number of each seed of a cell; () where it is not measured."""


def _measured(results: ExperimentResults, term: Term, variant: str) -> list[Seeds]:
    """Return the numbers that a term is of, by cell: of a spread each variant's. [] where there is no such cell."""
    cells = [cell for cell in results.cells if cell.system == term.cell]
    if term.spread:
        return [_seeds(cell, term.column) for cell in cells if cell.variant]
    named = [cell for cell in results.cells if cell.name == term.cell]
    of_variant = [cell for cell in cells if cell.variant in ("", variant)]
    return [_seeds(cell, term.column) for cell in named or of_variant][:1]


def _seeds(cell: CellResults, column: str) -> Seeds:
    found = [numbers(result) for result in cell.finished.values()] if cell.complete else []
    return tuple(each[column] for each in found) if all(column in each for each in found) else ()


def _verdict(claim: Claim, test: Test, variant: str, found: Sequence[Sequence[Seeds]]) -> Verdict:
    """Judge a claim. found: the numbers of each term, by cell."""
    left, *others = (_values(term, cells) for term, cells in zip(test.terms, found, strict=True))
    right = others[0] if others else (0.0,)
    if left and right and not alike(number for cells in found for seeds in cells for number in seeds):
        return Verdict(claim, variant, (), (), NOT_COMPARABLE)
    return Verdict(claim, variant, left, right, _word(test, left, right))


def _values(term: Term, cells: Sequence[Seeds]) -> tuple[float, ...]:
    """Return what a term is in each seed; () where one of its cells is not measured."""
    if not all(cells) or (term.spread and len(cells) < 2):
        return ()
    if term.spread:
        return tuple(_spread([number.value for number in each]) for each in zip(*cells, strict=False))
    return tuple(number.value for number in cells[0])


def _spread(values: Sequence[float]) -> float:
    """Return the largest divided by the smallest; infinite where the smallest is not above 0."""
    return max(values) / min(values) if min(values) > 0 else float("inf")


def _word(test: Test, left: Sequence[float], right: Sequence[float]) -> str:
    if not left or not right:
        return MISSING
    sign = -1 if test.at_least else 1
    values = [sign * value for value in left]
    limits = [sign * (test.factor * value + test.margin) for value in right]
    if max(values) <= min(limits):
        return HOLDS
    return FAILS if min(values) > max(limits) else UNDECIDED


def rows(found: Sequence[Verdict]) -> list[list[str]]:
    """Format verdicts as rows under HEAD."""
    return [
        [f"{each.claim.says} ({each.claim.source})", each.variant, each.claim.test, *_sides(each), each.verdict]
        for each in found
    ]


def _sides(verdict: Verdict) -> list[str]:
    test = parse(verdict.claim.test)
    sides = [(test.left, verdict.left), (test.right, verdict.right)]
    return ["" if term is None else ", ".join(_shown(term, value) for value in values) for term, values in sides]


def _shown(term: Term, value: float) -> str:
    return format(value, ".3g" if term.spread else FORMATS.get(term.column, ".3f"))
