"""Plant each fault of planted.yaml in a copy of the code, alone, and see whether the tests named for it fail.

python tests/planted/run.py [NAME ...]    those faults or all, one after the other; 0 where every one was caught
python tests/planted/run.py --unbroken    the same tests on the copy as it is: all must pass
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("planted.yaml")
CAUGHT, SECONDS, TOLD = "caught", 600, 15  # for a fault; lines of pytest's output where it is not caught
MEANING = {0: "MISSED", 1: CAUGHT, 2: "broken off (an import?)", 4: "no such test", 5: "no tests ran"}


class Fault(NamedTuple):
    """A mistake of one line. find: text that stands once in `file`; tests: node ids, of which one must fail."""

    name: str
    why: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]


def read(path: Path = LIST) -> list[Fault]:
    return [Fault(**entry | {"tests": tuple(entry["tests"])}) for entry in yaml.safe_load(path.read_text())]


def copy_of(root: Path, folder: Path) -> Path:
    """What git tracks and what is new, without what it ignores; all below `folder`, which is returned."""
    listed = subprocess.check_output(["git", "ls-files", "-zco", "--exclude-standard"], cwd=root, text=True)
    for name in listed.split("\0"):
        if name and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


def run_tests(copy: Path, tests: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """pytest's exit code and output; None where it took too long. No bytecode: a fault may be as long as the truth."""
    argv = [sys.executable, "-m", "pytest", "-x", "-n0", "-p", "no:cacheprovider", *tests]
    env = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out:
        pytest = subprocess.Popen(argv, cwd=copy, env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            with suppress(subprocess.TimeoutExpired):
                pytest.wait(seconds)
        finally:
            code = pytest.returncode
            with suppress(ProcessLookupError):  # with all that its tests have started and left behind
                os.killpg(pytest.pid, signal.SIGKILL)
            pytest.wait()
        out.seek(0)
        return code, out.read()


def plant(fault: Fault, copy: Path) -> tuple[str, str]:
    """(verdict, pytest's output) with the fault; the file is as before afterwards."""
    path = copy / fault.file
    text = path.read_text() if path.is_file() else ""
    if text.count(fault.find) != 1:
        return f"text stands {text.count(fault.find)} times in {fault.file}", ""
    try:
        path.write_text(text.replace(fault.find, fault.replace))
        code, output = run_tests(copy, fault.tests, SECONDS)
    finally:
        path.write_text(text)
    return "took too long" if code is None else MEANING.get(code, f"exit code {code}"), output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="faults; none is all")
    parser.add_argument("--unbroken", action="store_true", help="run their tests without any fault")
    parser.add_argument("--list", type=Path, default=LIST, help="another file of faults")
    asked = parser.parse_args()
    faults = [fault for fault in read(asked.list) if not asked.names or fault.name in asked.names]
    assert len(faults) >= len(set(asked.names)), "no such fault"
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = copy_of(ROOT, Path(folder))
        if asked.unbroken:
            tests = dict.fromkeys(test for fault in faults for test in fault.tests)
            code, output = run_tests(copy, list(tests), SECONDS * len(faults))
            print(output)
            return 0 if code == 0 and "skipped" not in output.splitlines()[-1] else 1
        return table(faults, copy)


def table(faults: Sequence[Fault], copy: Path) -> int:
    """A line for each fault, as it comes. 0 where all were caught."""
    caught, start = 0, time.monotonic()
    for fault in faults:
        began = time.monotonic()
        verdict, output = plant(fault, copy)
        caught += verdict == CAUGHT
        print(f"{fault.name:<36} {fault.file:<50} {time.monotonic() - began:6.1f} s  {verdict}", flush=True)
        print("".join(f"    {line}\n" for line in output.splitlines()[-TOLD:] if verdict != CAUGHT), end="")
    print(f"{caught} of {len(faults)} caught in {time.monotonic() - start:.0f} s")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
