"""Small sets, and the command line run in this process."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common import cli
from data_shards import __main__ as commands
from data_shards.format import manifest
from data_shards.read.loader import open_dataset


class Outcome(NamedTuple):
    """Exit code and printed output of a command."""

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


def deep_png(side: int) -> bytes:
    """A 16-bit RGB PNG, written by hand: Pillow cannot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + bytes(side * 6)) * side)
    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def mounted(path: Path, kib: int) -> bool:
    """Make a small disk at `path`, where this process may."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(path)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


class Made:
    """A set that a command made: what it printed, and its pixels, names and labels."""

    def __init__(self, out: Path, *args: object) -> None:
        outcome = run("make", *args, "--out", out, "--workers", 1)
        assert outcome.code == 0, outcome.err
        self.root, self.out, self.manifest = out, outcome.out, manifest.load(out)
        self.size = self.manifest.resolutions[0]

    def pixels(self, size: int | None = None) -> NDArray[np.uint8]:
        """uint8 [N, R, R, 3]."""
        level = open_dataset(self.root, size or self.size)
        return level.read_samples(np.arange(level.count)).permute(0, 2, 3, 1).numpy()

    @property
    def labels(self) -> dict[str, list[int]]:
        return {name: values.tolist() for name, values in open_dataset(self.root, self.size).labels.items()}

    @property
    def names(self) -> list[str]:
        found = []
        for path in sorted((self.root / str(self.size)).glob("*.tar")):
            with tarfile.open(path) as tar:
                members = [m for m in tar if m.name.endswith(".json")]
                found += [json.load(tar.extractfile(m))["name"] for m in members]  # type: ignore[arg-type]
        return found

    def classes(self, label: str) -> tuple[str, ...] | None:
        return next(found.classes for found in self.manifest.labels if found.name == label)


def box_mean(images: NDArray[Any], size: int) -> NDArray[Any]:
    """By numpy's floats: means of squares, rounded half up. [N, R, R, 3] -> [N, size, size, 3]."""
    n, side, _, c = images.shape
    k = side // size
    return np.floor(images.astype(np.float64).reshape(n, size, k, size, k, c).mean((2, 4)) + 0.5)


def cropped(path: Path, box: tuple[int, int, int, int], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB").crop(box).resize((size, size), Image.Resampling.LANCZOS))


def attempt(kind: str, source: Path, *more: object, size: int = 64) -> Outcome:
    """`make KIND SOURCE`, which leaves nothing behind where it fails."""
    out = source.parent / "out"
    outcome = run("make", kind, source, "--out", out, "--resolutions", size, "--workers", 1, *more)
    assert out.exists() == (outcome.code == 0)
    return outcome


def lines_of(outcome: Outcome, name: str) -> str:
    (line,) = [text for text in outcome.err.splitlines() if name in text]
    return line
