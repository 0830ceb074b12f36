"""A long run of two nodes with a fault every minute, which must end with the bits of an undisturbed one: `make soak`.

    python -m tests.cluster.soak --minutes 60 [--seed 0]

The run grows from 16 to 64 px on the test cluster, by slurm/train_1024.sh as it is. The undisturbed run, which no
launcher and no Slurm starts, goes beside it on this machine. Alone it would take 0.3 of the
minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support import processes
from tests.support.data_sets import make_dsprites, mounted
from tests.support.training import GAN, VAE, differences, finish, newest, overrides, train
from trainer.checkpoints import published

from .cluster import Cluster, project, running_slurm, site

SHARE = 0.3  # of the minutes, for a run alone: two of them share this machine, and every fault costs a start
BETWEEN = 60.0  # seconds from fault to fault, more where no checkpoint was published meanwhile
FULL_SECONDS = 5.0
SAVE_SECONDS = 5.0  # between two checkpoints of a run alone
DISK_KIB = 400_000
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
NODES = ("n1", "n2")


class Soak:
    """One disturbed run.

    steps: its iterations; rate: iterations a second of a run alone; beside: the ranks of the undisturbed one.
    """

    def __init__(
        self,
        cluster: Cluster,
        inputs: tuple[Path, Path],
        steps: int,
        rate: float,
        beside: Sequence[processes.Running],
    ) -> None:
        self.beside = beside
        self.cluster, self.run = cluster, cluster.place / "disk" / "run"
        self.inputs, self.steps, self.rate = inputs, steps, rate
        self.jobs: list[str] = []
        self.faults: Counter[str] = Counter()

    def submit(self) -> None:
        """Start the run, or go on with it: as its user does where a job is not started again by itself."""
        found = settings(*self.inputs, self.run, self.steps, self.rate)
        argv = [text for text in found if not text.startswith(("data.path=", "run=", "vae=", "processes="))]
        self.jobs.append(self.cluster.submit("slurm/train_1024.sh", GAN, *argv))

    def done(self) -> bool:
        """Whether it has ended well. A job that failed is submitted again."""
        state = self.cluster.field(self.jobs[-1], "JobState")
        if state == "COMPLETED":
            return True
        if state in OVER:
            assert len(self.jobs) < self.faults.total() + 5, self.cluster.output(self.jobs[-1])
            print(f"{clock()} job {self.jobs[-1]} is {state}: submitted again", flush=True)
            self.submit()
        return False

    def clock(self) -> int:
        """Images seen of the newest checkpoint that can be used; -1 without one."""
        step = published.newest(self.run)
        return published.clock_of(step) if step else -1

    def disturb(self, kinds: Iterator[str], between: float) -> None:
        """Let it run to its end with a fault every so many seconds, if it published something meanwhile."""
        kind, last, last_clock = next(kinds, None), time.monotonic(), -1
        while not self.done():
            time.sleep(0.5)
            ended = [rank for rank in self.beside if rank.process.exitcode]
            assert not ended, f"the undisturbed run failed:\n{ended[0].err}"
            at = self.clock()
            is_due = kind is not None and time.monotonic() - last >= between and at > last_clock
            if not is_due or self.cluster.field(self.jobs[-1], "JobState") != "RUNNING":
                continue
            assert kind is not None
            if getattr(self, kind)():
                self.faults[kind] += 1
                print(f"{clock()} {kind.replace('_', ' ')} at {at} of {self.steps * 16} images", flush=True)
                kind, last, last_clock = next(kinds, None), time.monotonic(), at

    def kill_rank(self) -> bool:
        """Kill one training process."""
        return kill(pids[:1]) if (pids := self._of_node(random.choice(NODES), "LOCAL_RANK=0")) else False

    def kill_node(self) -> bool:
        """Kill all processes of a node."""
        return kill(self._of_node(random.choice(NODES)))

    def usr1(self) -> bool:
        """Send what Slurm sends before a job's time limit."""
        self.cluster.run("scancel", "--signal=USR1", "--batch", self.jobs[-1], check=False)
        return True

    def requeue(self) -> bool:
        """As the scheduler does for a job of a higher priority."""
        return self.cluster.run("scontrol", "requeue", self.jobs[-1], check=False).returncode == 0

    def full_disk(self) -> bool:
        """Fill the disk of RUN for a while."""
        filler = self.run.parent / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(2**20))
        time.sleep(FULL_SECONDS)
        filler.unlink()
        return True

    def truncated_checkpoint(self) -> bool:
        """Cut the newest checkpoint, and kill a node, so that it is looked at."""
        steps = [step for step in published.steps(self.run) if published.problem(step) is None]
        if len(steps) < 2:  # a run with no other is refused, and nothing is to be gone on from
            return False
        largest = max(steps[0].iterdir(), key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)
        return self.kill_node()

    def _of_node(self, node: str, *more: str) -> list[int]:
        return processes_with(f"SLURM_JOB_ID={self.jobs[-1]}", f"SLURMD_NODENAME={node}", "SLURM_STEP_ID=0", *more)


KINDS = ("kill_rank", "kill_node", "usr1", "requeue", "full_disk", "truncated_checkpoint")


def clock() -> str:
    return time.strftime("%T")


def kill(pids: Sequence[int]) -> bool:
    """Whether there was one to be killed."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def processes_with(*wanted: str) -> list[int]:
    """By what Slurm, or the launcher, put in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if all(word.encode() in words for word in wanted):
            found.append(int(path.parent.name))
    return found


def settings(data: Path, vae: Path, run: Path, steps: int, rate: float) -> list[str]:
    """Overrides of a run that grows: a seventh of it in each of two phases and two fades, the rest at 64 px."""
    phase = max(16 * steps // 7, 16) / 1000
    growth = f"{{start_resolution: 16, phase_kimg: {phase}, fade_kimg: {phase}}}"
    return overrides(
        data, run, steps, vae=vae, s_dim=3, processes=2, growth=growth, network="{name: resnet, nf: 2, nf_max: 8}",
        r1_interval=2, bottleneck="{}", schedule__keep_last=3, schedule__tick_kimg=0.8,
        schedule__save_kimg=max(round(SAVE_SECONDS * rate), 2) * 16 / 1000,
    )  # fmt: skip


def undisturbed(argv: Sequence[str], folder: Path) -> list[processes.Running]:
    """Start to train on two processes of this machine."""
    return processes.ranks(2, "trainer", ["gan", GAN, *argv], folder)


def end(ranks: Sequence[processes.Running]) -> None:
    """Kill what still runs, and wait until it is gone: it may be writing."""
    for rank in ranks:
        rank.kill()
        rank.process.join()


def iterations_per_second(data: Path, vae: Path, folder: Path, seconds: float) -> float:
    """Of the run at 64 px, from two checkpoints of a trial."""
    run = folder / "trial"
    trial = [*settings(data, vae, run, 100_000, 1), "growth=null"]
    both = undisturbed(trial, folder / "logs")
    try:
        time.sleep(seconds)
        for rank in both:
            rank.kill(signal.SIGTERM)
        for rank in both:
            finish(rank, 75)
    finally:
        end(both)
    steps = sorted((published.clock_of(step), step.stat().st_mtime) for step in published.steps(run))
    (first, start), (last, stop) = steps[0], steps[-1]
    return (last - first) / 16 / (stop - start)


def soak(
    cluster: Cluster, minutes: float, kinds: Callable[[], Iterator[str]], between: float = BETWEEN, trial: float = 40
) -> Counter[str]:
    """Run all of it. Returns the faults by kind. Raises AssertionError where the bits differ."""
    data = make_dsprites(cluster.place / "data", count=256, per_shard=64)
    finish(train("vae", data, cluster.place / "vae", 5, config=VAE))
    both: list[processes.Running] = []
    inputs = (data, cluster.place / "vae")
    rate = iterations_per_second(*inputs, cluster.place, trial)
    steps = int(rate * minutes * 60 * SHARE)
    print(f"{clock()} undisturbed: {rate:.1f} iterations a second at 64 px, {steps} iterations in all", flush=True)
    assert mounted(cluster.place / "disk", DISK_KIB), "a disk of its own can be made by root only"
    try:
        straight = cluster.place / "straight"
        both = undisturbed(settings(*inputs, straight, steps, rate), cluster.place / "logs")
        disturbed = Soak(cluster, inputs, steps, rate, both)
        site(cluster, DATA=inputs[0], VAE=inputs[1], RUN=disturbed.run)
        start = time.monotonic()
        disturbed.submit()
        disturbed.disturb(kinds(), between)
        took = (time.monotonic() - start) / 60
        assert disturbed.faults, "the run ended before its first fault; give it more minutes"
        for rank in both:
            finish(rank, seconds=minutes * 60)
        different = [n for n in differences(newest(straight), newest(disturbed.run)) if not n.startswith("stats.")]
        assert not different, f"these tensors differ: {different}"
    finally:
        end(both)
        subprocess.run(["umount", "--lazy", str(cluster.place / "disk")], check=False)
    listed = ", ".join(f"{count} x {kind.replace('_', ' ')}" for kind, count in sorted(disturbed.faults.items()))
    print(
        f"{disturbed.faults.total()} faults in {took:.0f} minutes ({listed}), {len(disturbed.jobs)} jobs: the last "
        f"checkpoint, at {steps * 16} images, is the undisturbed run's to the bit",
        flush=True,
    )
    return disturbed.faults


def at_random() -> Iterator[str]:
    """Kinds of faults without end: every kind once before any comes again."""
    while True:
        yield from random.sample(KINDS, len(KINDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="decides which faults come, and on which node")
    options = parser.parse_args()
    random.seed(options.seed)
    with running_slurm() as env, tempfile.TemporaryDirectory(prefix="idgan-soak-") as folder:
        try:
            soak(project(Path(folder), env), options.minutes, at_random)
        except AssertionError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
