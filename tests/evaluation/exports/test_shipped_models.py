"""Every model of pretrained/ still gives what its card says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from common import shipped
from tests.support.evaluating import answer, evaluate

MODELS = sorted(path.parent for path in (shipped.ROOT / "pretrained").glob("*/export.json"))
MOST_BYTES = 45 * 10**6  # of all shipped models together


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_its_first_images_measure_what_was_recorded(model: Path, tmp_path: Path) -> None:
    """With the hashes of its files."""
    assert answer(evaluate(tmp_path, "check", model))["holds"] is True
    origin = json.loads((model / "export.json").read_bytes())["origin"]
    tensors = {path.name for path in model.glob("*.safetensors")} - {"reference.safetensors"}
    assert set(origin["files"]) == tensors
    card = (model / "README.md").read_text()
    assert f"python -m evaluation check pretrained/{model.name}" in card
    assert all(command in card for command in origin["commands"])


def test_they_are_small_and_name_no_folder_of_the_machine_that_trained_them() -> None:
    files = [path for model in MODELS for path in model.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in files:
        if path.suffix != ".safetensors":
            assert not re.search(r"[\s=\"]/\w+/", path.read_text()), path
