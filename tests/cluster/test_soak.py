"""The soak of `make soak`, with two faults in a run of less than a minute."""

from __future__ import annotations

from collections import Counter

import pytest

from .cluster import Cluster
from .soak import soak


def test_a_short_soak_ends_with_the_bits_of_the_undisturbed_run(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Takes more than ten seconds: a trial, a run without a break, and one that starts three times."""
    faults = soak(cluster, 0.8, lambda: iter(("truncated_checkpoint", "full_disk")), between=1, trial=15)
    assert faults == Counter({"truncated_checkpoint": 1, "full_disk": 1})
    assert "2 faults in" in capsys.readouterr().out
