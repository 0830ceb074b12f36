"""`stage` of slurm/lib.sh: node-local copies of the shards, on nodes that jobs share and that may die."""

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    (folder / "64").mkdir(parents=True)
    for i in range(20):
        (folder / "64" / f"{i:06}.tar").write_bytes(os.urandom(100_000))
    (folder / "manifest.json").write_text("{}")
    return folder


def stage(source: Path, target: Path, tools: Path | None = None) -> subprocess.Popen[str]:
    """Starts it; `tools` is a folder of programs that come before the machine's own."""
    path = f"{tools}:{os.environ['PATH']}" if tools else os.environ["PATH"]
    script = f". slurm/lib.sh && stage '{source}' '{target}'"
    return subprocess.Popen(["bash", "-c", script], env={**os.environ, "PATH": path}, stderr=subprocess.PIPE, text=True)


def cp_that(tmp_path: Path, does: str) -> Path:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cp").write_text(f"#!/bin/bash\n{does}\n")
    (tools / "cp").chmod(0o755)
    return tools


def same(source: Path, target: Path) -> bool:
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    return all(
        (target / file).is_file() and (target / file).read_bytes() == (source / file).read_bytes() for file in files
    )


def test_jobs_of_one_node_stage_into_one_folder_at_once(shards: Path, tmp_path: Path) -> None:
    jobs = [stage(shards, tmp_path / "local") for _ in range(4)]
    assert [(job.wait(), job.communicate()[1]) for job in jobs] == [(0, "")] * 4
    assert same(shards, tmp_path / "local")


def test_a_job_killed_in_a_copy_leaves_no_half_shard(shards: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    third = f'test "$(ls {local}/64 | wc -l)" -lt 3'
    half = 'head -c 1000 "${@: -2:1}" > "${@: -1}"'
    tools = cp_that(tmp_path, f'{third} || {{ {half}; kill -9 $PPID; }}\n/bin/cp "$@"')
    assert stage(shards, local, tools).wait() != 0
    copied = sorted(local.rglob("*.tar"))
    assert len(copied) == 3
    assert all(tar.read_bytes() == (shards / "64" / tar.name).read_bytes() for tar in copied)
    assert stage(shards, local).wait() == 0
    assert same(shards, local)


def test_another_set_takes_the_place_of_the_one_before(shards: Path, tmp_path: Path) -> None:
    """Equal names and sizes, and older than the copies."""
    local = tmp_path / "local"
    assert stage(shards, local).wait() == 0
    for tar in shards.rglob("*.tar"):
        tar.write_bytes(os.urandom(100_000))
        os.utime(tar, (1_000_000_000, 1_000_000_000))
    assert not same(shards, local)
    assert stage(shards, local).wait() == 0
    assert same(shards, local)


def test_what_is_there_is_not_copied_again(shards: Path, tmp_path: Path) -> None:
    assert stage(shards, tmp_path / "local").wait() == 0
    assert stage(shards, tmp_path / "local", cp_that(tmp_path, "exit 1")).wait() == 0


def test_a_failed_copy_fails(shards: Path, tmp_path: Path) -> None:
    job = stage(shards, tmp_path / "local", cp_that(tmp_path, "echo disk full >&2; exit 1"))
    assert job.wait() != 0
    assert job.communicate()[1] == "disk full\n"


def test_shards_that_are_not_there_fail(tmp_path: Path) -> None:
    assert stage(tmp_path / "nothing", tmp_path / "local").wait() != 0
