"""Seconds and MB of the commands that answer at once, and of a training up to its first iteration.

    python benchmarks/startup.py [--rounds 5] [--imports 12]

Each command is a process of its own. Wall seconds are medians, `cpu` is user + system time, MB the largest resident
set. The training is stage 2 on a tiny set and a tiny network, until its first line of stats.jsonl: what it takes is
imports, checks and set-up. --imports: below each, so many packages with the seconds that their modules took to import
(their own time, without what they import from other packages); 0 for none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
HELP = {
    "trainer --help": ["trainer", "--help"],
    "trainer gan --help": ["trainer", "gan", "--help"],
    "data_shards --help": ["data_shards", "--help"],
    "evaluation --help": ["evaluation", "--help"],
}
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)")  # own microseconds, module


@dataclass(frozen=True)
class Cost:
    """Of one process. megabytes: its largest resident set."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def run(words: Sequence[str], until: Callable[[], bool] | None = None) -> Cost:
    """Run `python -m WORDS` to its end; the wall clock stops where `until` first holds, if it is given."""
    command = [sys.executable, "-m", *words]
    with tempfile.TemporaryFile() as errors:  # a pipe that nobody reads would fill, and stop the process
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, env=environment())
        stopped, status, usage = wait(process.pid, until)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"python -m {' '.join(words)} failed:\n{errors.read().decode()}")
    return Cost(stopped - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def wait(pid: int, until: Callable[[], bool] | None) -> tuple[float, int, resource.struct_rusage]:
    """Wait for the end of a process. Returns when `until` first held, or else when it ended; its status and usage."""
    ended, status, usage = os.wait4(pid, os.WNOHANG if until else 0)
    while until and not ended and not until():
        time.sleep(0.005)
        ended, status, usage = os.wait4(pid, os.WNOHANG)
    stopped = time.perf_counter()
    if not ended:
        _, status, usage = os.wait4(pid, 0)
    return stopped, status, usage


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def imports(words: Sequence[str]) -> Counter[str]:
    """Seconds of the imports of `python -m WORDS` by top-level package."""
    command = [sys.executable, "-X", "importtime", "-m", *words]
    said = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stderr
    seconds: Counter[str] = Counter()
    for microseconds, module in IMPORT_LINE.findall(said):
        seconds[module.split(".")[0]] += int(microseconds) / 1e6  # type: ignore[assignment]  # Counter adds floats too
    return seconds


def training(folder: Path, number: int) -> tuple[list[str], Callable[[], bool]]:
    """One iteration of stage 2, in a run folder of its own, and whether it is over."""
    run_folder = folder / f"run{number}"
    words = ["trainer", "gan", "configs/dsprites/gan.yaml", f"run={run_folder}", f"data.path={folder / 'set'}"]
    words += ["batch_size=2", "schedule.total_kimg=0.002", "schedule.tick_kimg=0.002", "schedule.save_kimg=1"]
    stats = run_folder / "stats.jsonl"
    return words, lambda: stats.is_file() and stats.stat().st_size > 0


def report(name: str, costs: Sequence[Cost], words: Sequence[str], shown: int) -> None:
    """Print the medians of a command's costs, and the imports of `python -m WORDS`."""
    seconds, cpu = (
        statistics.median(values) for values in zip(*((c.seconds, c.cpu_seconds) for c in costs), strict=True)
    )
    megabytes = max(cost.megabytes for cost in costs)
    print(f"{name:34} {seconds:6.2f} s   cpu {cpu:6.2f} s   {megabytes:6.0f} MB")
    if shown:
        packages = imports(words)
        listed = ", ".join(f"{package} {seconds:.2f}" for package, seconds in packages.most_common(shown))
        print(f"    imports: {packages.total():.2f} s: {listed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--imports", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(["data_shards", "make", "dsprites", "--out", str(folder / "set"), "--count", "32"])
        commands = HELP | {"data_shards info": ["data_shards", "info", str(folder / "set")]}
        for title, words in commands.items():
            costs = [run(words) for _ in range(options.rounds)]
            report(title, costs, words, options.imports)
        costs = [run(*training(folder, i)) for i in range(options.rounds)]
        last, _ = training(folder, options.rounds)
        report("trainer gan, to its first iteration", costs, last, options.imports)
    print(json.dumps({"cores": os.cpu_count(), "python": sys.version.split()[0]}))


if __name__ == "__main__":
    main()
