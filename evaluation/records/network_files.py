"""Which file of weights a run's numbers are of: RUN/evaluation/extractors.json, {name of the numbers: sha256}.

All numbers of a run under one name must come from one file, or they would not compare.
"""

from __future__ import annotations

import json
from pathlib import Path

from common.atomic_writes import publish
from common.errors import UserError
from evaluation.inputs.results import Results

RECORDED = "extractors.json"


def refuse_another(results: Results, name: str, path: Path, digest: str) -> None:
    """Raise a UserError where a run's first numbers of a name are of another file. path: of this one, for the message.

    digest: its sha256.
    """
    for recorded in (folder / RECORDED for folder in results.folders):
        before = _known(recorded).get(name, digest)
        if before != digest:
            raise UserError(
                f"{path}: sha256 is {digest}, but this run's first numbers of {name} are of {before}: they would not "
                f"compare; use that file, or remove {recorded}"
            )


def record(results: Results, name: str, digest: str) -> None:
    """Record the file of a run's first numbers of a name; those of others stay. The results' lock must be held."""
    path = results.folder / RECORDED
    known = _known(path)
    if name not in known:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, (json.dumps(known | {name: digest}, indent=1) + "\n").encode())


def _known(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); remove it") from None
    return known
