"""Commands that print a page of text answer at once: nothing heavy is imported for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.data_sets import make_dsprites
from tests.support.start_up import start_up

HEAVY = {"torch", "numpy", "PIL", "h5py", "pyarrow", "scipy", "webdataset", "dicebear", "data_shards.sources"}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dsprites(tmp_path_factory.mktemp("few") / "set")


@pytest.mark.parametrize("args", [("--help",), ("make", "--help"), ("make", "faces", "--help"), ("info",)])
def test_help_and_info_take_less_than_a_second_and_150_mb(args: tuple[str, ...], few: Path) -> None:
    args = (*args, str(few), "--json") if args == ("info",) else args
    took = start_up("data_shards", *args)
    assert HEAVY & took.modules == set()
    assert took.seconds < 1.0  # of CPU: a busy machine takes longer
    assert took.megabytes < 150
