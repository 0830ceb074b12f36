"""Commands that print a page of text answer at once: nothing heavy is imported for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.data_sets import make_dsprites

HEAVY = {"torch", "numpy", "PIL", "h5py", "pyarrow", "scipy", "webdataset", "data_shards.sources"}
CODE = """
import json, resource, sys
from common.cli import run
from data_shards.__main__ import app
try:
    run(app, sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop
used = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss holds the parent's, too
print(json.dumps([sorted(sys.modules), used.ru_utime + used.ru_stime, int(status["VmHWM"].split()[0]) / 1024]))
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dsprites(tmp_path_factory.mktemp("few") / "set")


@pytest.mark.parametrize("args", [("--help",), ("make", "--help"), ("make", "celeba", "--help"), ("info",)])
def test_help_and_info_take_less_than_a_second_and_150_mb(args: tuple[str, ...], few: Path) -> None:
    args = (*args, str(few), "--json") if args == ("info",) else args
    done = subprocess.run([sys.executable, "-c", CODE, *args], capture_output=True, text=True, check=True)
    modules, seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    assert HEAVY & set(modules) == set()
    assert seconds < 1.0  # of CPU: a busy machine takes longer
    assert megabytes < 150
