"""`python -m tests.support.covered_rooms PERCENT`: the share of each room's lines that the measured tests executed.

A room is a folder with Python files of its own. Exits with 1 where one is below PERCENT.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coverage import Coverage

PACKAGES = ("common", "models", "data_shards", "trainer", "evaluation")


def shares(coverage: Coverage) -> dict[str, float]:
    """Percent of the lines that were executed, by room."""
    lines: dict[str, int] = defaultdict(int)
    missed: dict[str, int] = defaultdict(int)
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*.py")):
            _, statements, _, missing, _ = coverage.analysis2(str(path))
            lines[str(path.parent)] += len(statements)
            missed[str(path.parent)] += len(missing)
    return {room: 100 * (1 - missed[room] / count) for room, count in lines.items() if count}


def main(wanted: float) -> int:
    from coverage import Coverage

    coverage = Coverage()
    coverage.load()
    found = shares(coverage)
    for room, share in found.items():
        print(f"{share:6.1f} %  {room}{'' if share >= wanted else f'  below {wanted:g} %'}")
    return int(min(found.values()) < wanted)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
