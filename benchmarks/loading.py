"""Images per second from shards, against plain webdataset pipelines, in one run and alternating.

    python benchmarks/loading.py [--workers 2] [--rounds 5] [--seconds 3] [--cache DIR]

(a) decodes the 1024 px tars and resizes; (b) shuffles and decodes the SAME tars. Both sides deliver
uint8 batches [B, 3, R, R] with the same number of workers. To reach: 20 x (a) at 64 px, 1.0 x (b) everywhere.

The last rows read the same tars from an HTTP server on this machine that takes 50 ms for each request, sample by sample
and with every shard in the node's cache, beside the rate from the disk and that of one request after the other.

The photos come from scikit-image's wheel (pip install scikit-image), else from drawn, textured sprites.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image
from torch import Tensor

from common.paths import Location, Url
from data_shards.read.loader import batches, open_dataset
from data_shards.remote.shard_cache import ShardCache
from data_shards.sources.sprites.renderer import render

RESOLUTIONS = (64, 128, 256, 512, 1024)
COUNT, PER_SHARD = 192, 12
BATCH = {64: 64, 128: 64, 256: 32, 512: 16, 1024: 8}
PREFETCH = 4
LATENCY = 0.05  # seconds from a request to its answer, as an object store takes


def photos(folder: Path) -> str:
    """Write COUNT pictures of 1024 px to `folder`; returns where they come from."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.find_spec("skimage")
    rng = np.random.default_rng(0)
    if spec is None or spec.origin is None:
        for i in range(COUNT):
            Image.fromarray(_textured_sprite(rng)).save(folder / f"{i:04d}.png", compress_level=1)
        return "drawn sprites with texture (pip install scikit-image for real photos)"
    data = Path(spec.origin).parent / "data"
    pictures = [Image.open(data / name).convert("RGB") for name in ("retina.jpg", "hubble_deep_field.jpg")]
    large = [p.resize((p.width * 1408 // min(p.size), p.height * 1408 // min(p.size))) for p in pictures]
    for i in range(COUNT):
        picture = large[i % len(large)]
        left, top = (int(rng.integers(0, side - 1024 + 1)) for side in picture.size)
        crop = picture.crop((left, top, left + 1024, top + 1024))
        crop.rotate(90 * int(rng.integers(4))).save(folder / f"{i:04d}.png", compress_level=1)
    return "scikit-image's retina and hubble_deep_field, random 1024 px crops"


def _textured_sprite(rng: np.random.Generator) -> np.ndarray:
    """uint8 [1024, 1024, 3]: a sprite on noise of every scale, which compresses as a photo does."""
    picture = np.zeros((1024, 1024, 3))
    for size in (4, 16, 64, 256, 1024):
        noise = rng.normal(size=(size, size, 3))
        picture += noise.repeat(1024 // size, 0).repeat(1024 // size, 1) * 40 / size**0.3
    sprite = render([int(rng.integers(737_280))], 1024)[0, :, :, None] / 255
    return (sprite * 220 + (1 - sprite) * (picture + 128)).clip(0, 255).astype(np.uint8)


def make_set(cache: Path) -> Path:
    """The benchmark's set: made by `make folder` unless it is there."""
    if not (cache / "set" / "manifest.json").exists():
        print("photos:", photos(cache / "photos"))
    levels = ",".join(map(str, RESOLUTIONS))
    command = [
        sys.executable,
        "-m",
        "data_shards",
        "make",
        "folder",
        str(cache / "photos"),
        "--resolutions",
        levels,
    ]
    subprocess.run([*command, "--out", str(cache / "set"), "--samples-per-shard", str(PER_SHARD)], check=True)
    return cache / "set"


def ours(root: Location, resolution: int, workers: int) -> Iterator[Tensor]:
    level = open_dataset(root, resolution)
    stream = batches(level, seed=0, start=0, batch_size=BATCH[resolution], workers=workers)
    try:
        for batch in stream:
            yield batch.images
    finally:
        stream.close()  # type: ignore[attr-defined]


def shuffled(root: Path, resolution: int, workers: int) -> Iterator[Tensor]:
    """(b): a plain shuffled webdataset pipeline on the same tars."""
    return _webdataset(root, resolution, BATCH[resolution], workers, "torchrgb8", None)


def resized(root: Path, resolution: int, workers: int) -> Iterator[Tensor]:
    """(a): decode 1024 px, resize."""

    def resize(image: Image.Image) -> Tensor:
        small = image.resize((resolution, resolution), Image.Resampling.BOX)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)

    return _webdataset(root, 1024, BATCH[1024], workers, "pilrgb", resize)


def _webdataset(
    root: Path, stored: int, batch: int, workers: int, decoder: str, change: Callable[[Any], Tensor] | None
) -> Iterator[Tensor]:
    urls = sorted(str(path) for path in (root / str(stored)).glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=100).repeat().shuffle(1000).decode(decoder, only=["png"])
    data = data.to_tuple("png")
    if change is not None:
        data = data.map_tuple(change)
    loader = webdataset.WebLoader(
        data.batched(batch),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
    )
    for (images,) in loader:
        yield images


def cached(url: Url, resolution: int, workers: int, folder: Path) -> Iterator[Tensor]:
    """Ours, from a cache that holds all shards before the clock starts."""
    cache = ShardCache(folder, 10**12)
    cache.prepare()
    level = open_dataset(url, resolution)
    stream = batches(level, seed=0, start=0, batch_size=BATCH[resolution], workers=workers, cache=cache)
    while len(list(folder.glob(f"*/{resolution}/*.tar"))) < COUNT // PER_SHARD:
        next(stream)
    try:
        for batch in stream:
            yield batch.images
    finally:
        stream.close()  # type: ignore[attr-defined]


@contextmanager
def slow_server(root: Path) -> Iterator[Url]:
    """Serve the set in a process of its own, with LATENCY."""
    command = [sys.executable, "-m", "tests.support.file_server", str(root), str(LATENCY)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        assert process.stdout is not None
        yield Url(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


def remote_rates(root: Path, url: Url, resolution: int, options: argparse.Namespace) -> list[float]:
    """Images per second over HTTP, from a full cache, and from the disk, one after the other."""
    with TemporaryDirectory() as folder:
        streams = (
            ours(url, resolution, options.workers),
            cached(url, resolution, options.workers, Path(folder)),
            ours(root, resolution, options.workers),
        )
        return [rate(stream, resolution, options.workers, options.seconds) for stream in streams]


def print_remote_rows(root: Path, options: argparse.Namespace) -> None:
    """Print the rates over HTTP at the VAE's 64 px and at 256 px."""
    print(f"   px   over HTTP, {LATENCY * 1000:.0f} ms a request   cached   disk   over HTTP / disk   one by one")
    with slow_server(root) as url:
        for resolution in (64, 256):
            rounds = [remote_rates(root, url, resolution, options) for _ in range(options.rounds)]
            http, kept, disk = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{resolution:5} {http:30,.0f} {kept:8,.0f} {disk:6,.0f} {http / disk:18.2f} {1 / LATENCY:12,.0f}",
                flush=True,
            )


def rate(stream: Iterator[Tensor], resolution: int, workers: int, seconds: float) -> float:
    """Images per second in the steady state: what was prefetched before the clock starts is thrown away."""
    for _ in range(2 * PREFETCH * max(1, workers)):
        images = next(stream)
    assert images.dtype == torch.uint8
    assert images.shape[1:] == (3, resolution, resolution), images.shape
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += len(next(stream))
    elapsed = time.perf_counter() - began
    stream.close()  # type: ignore[attr-defined]
    return count / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/idgan-benchmark-loading"))
    options = parser.parse_args()
    root = make_set(options.cache)
    print(f"{COUNT} images of 1024 px, {options.workers} workers, median of {options.rounds} alternating rounds")
    print("   px   images/s   (a) resize   ratio   (b) same tars   ratio   [least, most of (b)'s ratio]")
    for resolution in RESOLUTIONS:
        rounds = [
            [rate(f(root, resolution, options.workers), resolution, options.workers, options.seconds)
             for f in (ours, resized, shuffled)]
            for _ in range(options.rounds)
        ]  # fmt: skip
        mine, a, b = (statistics.median(column) for column in zip(*rounds, strict=True))
        to_a = statistics.median(r[0] / r[1] for r in rounds)
        to_b = [r[0] / r[2] for r in rounds]
        print(
            f"{resolution:5} {mine:10,.0f} {a:12,.0f} {to_a:6.1f}x {b:15,.0f} {statistics.median(to_b):6.2f}x"
            f"   [{min(to_b):.2f}, {max(to_b):.2f}]",
            flush=True,
        )
    print_remote_rows(root, options)


if __name__ == "__main__":
    main()
