"""Small sets, and the command line run in this process."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_shards import cli, commands


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def run(*args: object) -> Outcome:
    """`python -m data_shards ARGS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(commands.app, [str(a) for a in args])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(outcome: Outcome, *words: object) -> None:
    """Exit code 2, every word (file or key, value, remedy) on standard error, and no traceback."""
    assert outcome.code == 2, outcome
    for word in words:
        assert str(word) in outcome.err, (word, outcome.err)
    assert "Traceback" not in outcome.err


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def make_dsprites(out: Path, count: int = 48, resolutions: str = "64", per_shard: int = 16, workers: int = 1) -> Path:
    outcome = run(
        "make", "dsprites", "--out", out, "--count", count, "--resolutions", resolutions,
        "--samples-per-shard", per_shard, "--workers", workers,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return out


def photos(folder: Path, count: int = 6, size: tuple[int, int] = (150, 140)) -> Path:
    """Smooth random colour images in two classes."""
    for i in range(count):
        rng = np.random.default_rng(i)
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        path = folder / ("cats" if i % 2 else "dogs") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize(size, Image.Resampling.BICUBIC).save(path)
    return folder


def mounted(path: Path, kib: int) -> bool:
    """Make a small disk at `path`, where this process may."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(path)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
