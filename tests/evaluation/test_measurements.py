"""Records of measurements: which one answers a question that was asked before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.inputs.results import Results
from evaluation.records import measurements
from evaluation.records.printed_output import show

RUN = {"weights_sha256": "w", "ema": "a", "data": "d", "variant": "plain"}


@pytest.mark.parametrize("other", [{}, {"weights_sha256": "v"}, {"ema": "b"}, {"data": "e"}, {"variant": "color"}])
def test_a_record_is_taken_again_for_the_same_weights_and_data_alone(tmp_path: Path, other: dict[str, str]) -> None:
    def ask(description: dict[str, str], answer: int) -> dict[str, Any]:
        return measurements.once(Results(tmp_path), "fid", description, lambda record: True, lambda: {"number": answer})

    assert ask(RUN, 1)["number"] == 1
    assert ask(RUN | other, 2)["number"] == (2 if other else 1)
    assert ask(RUN, 3)["number"] == 1


def test_names_in_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """rich would take [leaks] for markup, and :smile: for a picture."""
    show("of runs/a[b]", ["gan[leaks]"], [["idgan[leaks] <= 0 :smile:"]])
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("of runs/a[b]", "gan[leaks]", "idgan[leaks] <= 0 :smile:"))
