"""Manifests that cannot be what this program wrote: the step is named with a reason, and is no fault of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.checkpoints import published


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "has no readable manifest.json"),
        ("null", "has no readable manifest.json"),
        ("{}", "has no readable manifest.json"),
        ('{"format": 1, "files": [3]}', "has no readable manifest.json"),
        ('{"format": 2, "files": {}, "config": [1]}', "has format 2, this program reads 1"),
        ("{", "has no readable manifest.json"),
    ],
)
def test_a_manifest_of_another_kind_is_a_reason_to_skip_its_step(text: str, reason: str, tmp_path: Path) -> None:
    step = published.folder(tmp_path) / published.name_of(16)
    step.mkdir(parents=True)
    (step / "manifest.json").write_text(text)
    assert (published.problem(step) or "").startswith(reason)
    assert published.newest(tmp_path) is None
