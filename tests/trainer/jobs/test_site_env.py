"""slurm/site.env as slurm/lib.sh reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def load(site: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", '. slurm/lib.sh && load_site && echo "$DATA"']
    given = {"PATH": "/usr/bin:/bin", "HOME": "/home/me", "SITE_ENV": str(site), **env}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("data", ["/scratch/set", "s3://bucket/set"])
def test_the_set_may_be_a_folder_or_a_url(tmp_path: Path, data: str) -> None:
    (tmp_path / "site.env").write_text(f"DATA={data}\nDEVICE=cpu\n")
    done = load(tmp_path / "site.env")
    assert (done.returncode, done.stdout) == (0, f"{data}\n"), done.stderr


def test_a_folder_to_stage_to_is_refused_with_the_setting_that_replaces_it(tmp_path: Path) -> None:
    site = tmp_path / "site.env"
    site.write_text("DATA=/scratch/set\nDEVICE=cpu\nSTAGE_TO=/tmp/shards\n")
    for done in (load(site), load(Path("slurm/site.env"), STAGE_TO="/tmp/shards")):
        assert done.returncode == 2
        for words in ("STAGE_TO: /tmp/shards", "data.cache.path=/tmp/shards data.cache.gigabytes=NUMBER", "unset it"):
            assert words in done.stderr
