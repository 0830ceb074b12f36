"""Claims of an experiment: inequalities between numbers of its table, written down before it is run.

    idgan[FID] <= 0.5 * idgan[FID of the VAE]
    idgan_no_distill[R2 x] <= idgan[R2 x] - 0.2
    spread(idgan[FID]) <= spread(infogan[FID])
    idgan[fidelity] <= 0.9
    ada-gan[FID] <= 0.667 * none-gan[FID]
    relativistic-gan[modes] >= 950

CELL[COLUMN] is a number of a cell by its name without a variant's, so that the claim is made in every variant, or with
it, VARIANT-CELL; spread(...) the largest of it over the variants divided by the smallest.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NUMBER = r"\d+(?:\.\d+)?"
_TERM = r"(?:spread\([^\[\]()]+\[[^\[\]]+\]\)|[^\[\]()\s]+\[[^\[\]]+\])"
_TEST = re.compile(
    rf"(?P<left>{_TERM})\s*(?P<relation><=|>=)\s*(?:(?P<limit>{_NUMBER})"
    rf"|(?:(?P<factor>{_NUMBER})\s*\*\s*)?(?P<right>{_TERM})(?:\s*(?P<sign>[+-])\s*(?P<margin>{_NUMBER}))?)"
)


class Term(NamedTuple):
    """A number of a cell: its name with or without a variant's, the table's column, whether it is the spread."""

    cell: str
    column: str
    spread: bool

    def __str__(self) -> str:
        text = f"{self.cell}[{self.column}]"
        return f"spread({text})" if self.spread else text


class Test(NamedTuple):
    """left <= factor * right + margin, >= with at_least; right is None where margin alone is the limit."""

    left: Term
    right: Term | None
    factor: float
    margin: float
    at_least: bool = False

    @property
    def terms(self) -> list[Term]:
        """The numbers that it compares."""
        return [self.left] if self.right is None else [self.left, self.right]


def parse(text: str) -> Test:
    """Read a test. Raises a ValueError where it is none."""
    match = _TEST.fullmatch(text.strip())
    if match is None:
        raise ValueError("it is no CELL[COLUMN] <= FACTOR * CELL[COLUMN] - MARGIN, nor CELL[COLUMN] <= NUMBER (or >=)")
    at_least = match["relation"] == ">="
    if match["limit"]:
        return Test(_term(match["left"]), None, 1, float(match["limit"]), at_least)
    left, right = _term(match["left"]), _term(match["right"])
    if left.spread != right.spread:
        raise ValueError("it compares a spread with a number; write spread(...) on both sides, or on none")
    sign = -1 if match["sign"] == "-" else 1
    return Test(left, right, float(match["factor"] or 1), sign * float(match["margin"] or 0), at_least)


def _term(text: str) -> Term:
    spread = text.startswith("spread(")
    cell, _, column = (text[len("spread(") : -1] if spread else text).partition("[")
    return Term(cell.strip(), column.rstrip("]").strip(), spread)
