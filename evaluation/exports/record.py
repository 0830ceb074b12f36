"""Write what an export's first images measure beside it, and on its model card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from evaluation.factors.extractor import Extractor
from evaluation.fid import references
from evaluation.inputs.target import EvaluationTarget
from trainer.config.file_names import CHECK, REFERENCE
from trainer.export import model_card
from trainer.export.exported_model import CARD

from . import check

KEPT = 1_000  # reals whose features are kept, for KID


def record(target: EvaluationTarget, extractor: Extractor, statistics: Path) -> dict[str, Any]:
    """Measure an export's first images and write check.json, the statistics of its reals, and a section of its card.

    statistics: a file of `python -m evaluation reference`, of the set that it was trained on.
    """
    folder, reference = target.path, references.read(statistics)
    measured = check.measure(target, extractor, reference)
    references.write_small(folder / REFERENCE, reference, KEPT)
    measured["reference_sha256"] = hashlib.sha256((folder / REFERENCE).read_bytes()).hexdigest()
    publish(folder / CHECK, (json.dumps(measured, indent=1) + "\n").encode())
    card = folder / CARD
    if card.is_file():
        publish(card, model_card.with_check(card.read_text(), folder.name, measured).encode())
    return measured
