"""A real Slurm of four nodes on this machine, and what jobs are submitted to it from."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("cluster.sh")
SHIPPED = ("slurm", "configs", "common", "models", "data_shards", "trainer", "evaluation")


@dataclass(frozen=True)
class Cluster:
    """place: a project folder as users have it, in which jobs are submitted; env: with SLURM_CONF."""

    place: Path
    env: dict[str, str]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.place, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done

    def submit(self, *arguments: object, nodes: int = 2) -> str:
        """sbatch a shipped script, byte for byte; flags of sbatch first. Returns the job's number."""
        flags = [f"--nodes={nodes}", f"--output={self.place}/%x-%j.out", "--parsable"]
        return self.run("sbatch", *flags, *map(str, arguments)).stdout.strip()

    def field(self, job: str, name: str) -> str:
        shown = self.run("scontrol", "show", "job", job, check=False).stdout
        found = [word for word in shown.split() if word.startswith(f"{name}=")]
        return found[0].partition("=")[2] if found else ""

    def wait(self, job: str, *states: str, seconds: float = 240) -> None:
        """Until the job is in one of the states."""
        deadline = time.monotonic() + seconds
        while self.field(job, "JobState") not in states:
            assert time.monotonic() < deadline, f"{self.field(job, 'JobState')}: {self.output(job)}"
            time.sleep(0.3)

    def code(self, job: str, seconds: float = 240) -> int:
        """Wait for its end; its exit code."""
        self.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", seconds=seconds)
        return int(self.field(job, "ExitCode").partition(":")[0])

    def output(self, job: str) -> str:
        return "".join(path.read_text() for path in self.place.glob(f"*-{job}.out"))


@contextmanager
def running_slurm() -> Iterator[dict[str, str]]:
    """Bring the cluster up; the environment in which Slurm's commands find it. It needs root on Debian."""
    folder = Path(tempfile.mkdtemp(prefix="idgan-slurm-"))
    folder.chmod(0o755)  # munged runs as another user, who cannot look into pytest's folders
    done = subprocess.run(["bash", SCRIPT, "up", folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    binaries = ROOT / ".venv" / "bin"
    path = f"{binaries}:{os.environ['PATH']}"
    here = {key: value for key, value in os.environ.items() if not key.endswith("_SOCKET_IFNAME")}  # site.env's to set
    try:
        yield here | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path, "OMP_NUM_THREADS": "1"}
    finally:
        subprocess.run(["bash", SCRIPT, "down", folder], capture_output=True, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def project(place: Path, env: dict[str, str]) -> Cluster:
    """A project folder with links to the shipped files, and a site.env of its own."""
    for name in SHIPPED:
        (place / name).symlink_to(ROOT / name)
    return Cluster(place, env | {"SITE_ENV": str(place / "site.env")})


def site(cluster: Cluster, **more: object) -> None:
    """Write the site's settings: CPU, one process a node."""
    values = {"DEVICE": "cpu", "PROCESSES_PER_NODE": 1, "JOIN_SECONDS": 60, "SAVE_SECONDS": 30} | more
    (cluster.place / "site.env").write_text("".join(f"{key}='{value}'\n" for key, value in values.items()))
