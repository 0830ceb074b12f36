"""`--help` answers at once: a command imports torch and its like only when it runs."""

from __future__ import annotations

import pytest

from tests.support.start_up import start_up

HEAVY = {"torch", "torchvision", "numpy", "PIL", "scipy", "sklearn", "matplotlib", "jinja2"}


@pytest.mark.parametrize("args", [("--help",), ("fid", "--help"), ("compare", "--help")])
def test_help_takes_less_than_a_second_and_150_mb(args: tuple[str, ...]) -> None:
    took = start_up("evaluation", *args)
    assert HEAVY & took.modules == set()
    assert took.seconds < 1.0
    assert took.megabytes < 150
