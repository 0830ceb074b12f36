"""What benchmarks/gpu.sh runs: one iteration of stage 2 under every setting that a GPU has, part by part.

    python benchmarks/gpu.py --out FOLDER [--parts speed,tests,bf16,256px,compile] [--device cpu --tiny]

Each part prints its rows as they come and adds them to FOLDER/table.md, a table as docs/performance.md has it, and to
FOLDER/rates.yaml, a file for `trainer plan --rates`. So a machine that is taken away leaves what was measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import rates  # noqa: E402

PARTS = ("speed", "tests", "bf16", "256px", "compile")
BATCH = {64: 64, 256: 32, 1024: 8}
HEAD = (
    "| px | batch | speed | autocast | passes | images/s | s/iteration | peak memory, GB | of the best product |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


class Setting(NamedTuple):
    """What a row is of. more: flags of benchmarks/one_setting.py."""

    resolution: int
    speed: str = "exact"
    autocast: str = "none"
    more: tuple[str, ...] = ()

    def command(self, device: str, tiny: bool) -> list[str]:
        size = ["--batch", "2", "--nf", "8", "--rounds", "1"] if tiny else ["--batch", str(BATCH[self.resolution])]
        own = ["--resolution", str(self.resolution), "--speed", self.speed, "--autocast", self.autocast, *self.more]
        return [sys.executable, str(ROOT / "benchmarks" / "one_setting.py"), "--device", device, *own, *size]

    def __str__(self) -> str:
        return " ".join([f"{self.resolution} px, {self.speed}, autocast {self.autocast}", *self.more])


SETTINGS = {
    "speed": [Setting(r, speed) for r in (64, 1024) for speed in ("exact", "fast")],
    "bf16": [Setting(r, speed, "bfloat16") for r in (64, 1024) for speed in ("exact", "fast")],
    "256px": [Setting(256), Setting(256, "fast"), Setting(256, "fast", "bfloat16")],
    "compile": [
        Setting(64, "fast", "none", ("--compile",)),
        Setting(64, "fast", "bfloat16", ("--compile",)),
        Setting(64, "exact", "none", ("--graph",)),
    ],
}


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    passes = "compiled" if found["compile"] else "a CUDA graph" if found["graph"] else "as they are"
    share = found["flops_per_second"] / found["product"]
    return (
        f"| {found['resolution']} | {found['batch']} | {found['speed']} | {found['autocast']} | {passes} | "
        f"{found['images_per_second']:.1f} | {found['seconds']:.4f} | {found['peak_gb']:.2f} | {share:.0%} of "
        f"{found['product'] / 1e12:.3g} TFLOP/s |\n"
    )


def measure(setting: Setting, options: argparse.Namespace) -> None:
    """Run a setting in a process of its own; print and keep its row. One that fails costs its row only."""
    done = subprocess.run(setting.command(options.device, options.tiny), capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"failed: {setting}: {reason}", flush=True)
        return
    found = json.loads(done.stdout.splitlines()[-1])
    table = options.out / "table.md"
    if not table.exists():
        table.write_text(f"{found['machine']}, {time.strftime('%Y-%m-%d')}, lazy R1 (16):\n\n{HEAD}")
    with open(table, "a") as stream:
        stream.write(row(found))
    print(row(found), end="", flush=True)
    if setting.speed == "exact" and setting.autocast == "none" and not setting.more:  # what `trainer plan` plans with
        flops_per_second = {found["resolution"]: found["flops_per_second"]}
        rates.record(options.out / "rates.yaml", f"{found['machine']}, float32", flops_per_second, None)


def tests(options: argparse.Namespace) -> None:
    """Run tests/gpu; its last lines are printed, the rest is in FOLDER/tests.log."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/gpu"], capture_output=True, text=True, cwd=ROOT)
    (options.out / "tests.log").write_text(done.stdout + done.stderr)
    print(
        "\n".join([*(done.stdout + done.stderr).strip().splitlines()[-3:], f"exit code {done.returncode}"]), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the table, the rates and the log")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, in this order")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--tiny", action="store_true", help="small networks and batches, to try the script out")
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.device == "cuda" and shutil.which("nvidia-smi") is None:
        parser.error("--device cuda: this machine has no NVIDIA driver; --device cpu --tiny tries the script out")
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.parts.split(","):
        start = time.monotonic()
        print(f"--- {part}", flush=True)
        if part == "tests":
            tests(options)
        for setting in SETTINGS.get(part, []):
            measure(setting, options)
        print(f"{part} took {time.monotonic() - start:.0f} s", flush=True)
    print(f"table: {options.out / 'table.md'}, rates: {options.out / 'rates.yaml'}")


if __name__ == "__main__":
    main()
