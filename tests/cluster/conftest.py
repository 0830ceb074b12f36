"""A real Slurm of four nodes, brought up once. These tests need root and Debian: `make test-cluster`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster, project, running_slurm


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find the cluster."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.exit("tests/cluster ran nothing: it brings up Slurm, which needs root on Debian", returncode=2)
    with running_slurm() as env:
        yield env


@pytest.fixture
def cluster(slurm: dict[str, str], tmp_path: Path) -> Iterator[Cluster]:
    """A project folder with links to the shipped files, and a site.env of its own."""
    place = tmp_path / "project"
    place.mkdir()
    yield project(place, slurm)
    subprocess.run(["scancel", "--user=root"], env=slurm, check=False)
