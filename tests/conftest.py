"""Shared sets of shards and settings. One thread a process: ranks and workers share two cores."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
# as the Makefile does: in the folder that all share, a build that was killed leaves a lock that others wait for
os.environ.setdefault("TORCH_EXTENSIONS_DIR", os.path.abspath(".venv/torch_extensions"))

from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.training import finish, train

torch.set_num_threads(1)

LONG = (  # longest first: each is the work of one process
    "tests/test_documents.py",
    "tests/trainer/config/test_shipped_configs_train.py",
    "tests/trainer/distributed/test_impossible.py",
    "tests/trainer/memory/test_sharded_sizes.py",
    "tests/trainer/steps/test_compiled.py",
    "tests/trainer/checkpoints/test_one_layout_for_all_strategies.py",
    "tests/trainer/distributed/test_two_processes.py",
    "tests/trainer/distributed/test_engines.py",
    "tests/evaluation/fid/test_fid.py",
    "tests/trainer/test_resume.py",
    "tests/trainer/steps/test_growth.py",
    "tests/evaluation/test_systems.py",
    "tests/evaluation/pages/test_comparison.py",
    "tests/trainer/distributed/test_faults.py",
    "tests/trainer/distributed/test_two_nodes.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, so that none begins when the others are done."""
    root = Path(__file__).parent.parent
    rank = {root / name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Pass over what is marked `root` where another user runs the tests."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.skip("needs root, for a file system of its own")


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """The process that forks all others, from the first test on."""
    processes.start_server()
    if "MEASURE_LINES" in os.environ:  # the lines of modules that are executed as they are imported, once for all forks
        import_module("tests.support.preload")


@pytest.fixture(scope="session")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 dSprites at 64 px in four shards."""
    return make_dsprites(tmp_path_factory.mktemp("data") / "sprites", count=256, per_shard=64)


@pytest.fixture(scope="session")
def vae(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage 1 run on the sprites, for stage 2 to start from."""
    run = tmp_path_factory.mktemp("vae") / "vae"
    finish(train("vae", sprites, run, 5))
    return run
