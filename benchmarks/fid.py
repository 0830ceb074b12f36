"""FID of given images: our pass over them against writing PNG files and calling clean-fid on the two folders.

    python benchmarks/fid.py [--count 10000] [--rounds 3] [--memory]

Both take the same uint8 images of 64 px in memory and the same small TorchScript network of 2,048 features, which
stands in for Inception: the pipelines are compared, not the network. Both use two processor cores, each time in a
process of its own, in turns. --memory prints the peak memory of our pass alone at --count and at four times as many
images, made as they are needed. Needs the `dev` extra, which has clean-fid.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from cleanfid.fid import compute_fid
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from evaluation.fid import frechet
from evaluation.fid.partial_sums import Extracted, FeaturesAt, Store, Sums, pass_over
from evaluation.published_networks import inception
from trainer.distributed.world import ALONE
from trainer.memory.allocator import keep_freed_memory

SIDE, CORES = 64, 2


class Layers(nn.Module):
    """One linear layer on coarse images: cheap."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.seen = nn.AdaptiveAvgPool2d(26)
        self.linear = nn.Linear(3 * 26**2, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.seen(x).flatten(1)).relu()


class Small(nn.Module):
    """The stand-in for Inception, with its features under the name that clean-fid expects."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = Layers(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def network(folder: Path, features: int = inception.FEATURES) -> Path:
    """Write the network's file, which both load."""
    torch.manual_seed(0)
    path = folder / "inception-2015-12-05.pt"
    torch.jit.script(Small(features)).save(str(path))
    return path


def images(positions: Tensor, brightness: int) -> Tensor:
    """Make images uint8 [b, 3, 64, 64], each a function of its position: coarse squares, which PNG compresses."""
    rng = [np.random.default_rng([int(i), brightness]) for i in positions]
    coarse = np.stack([r.integers(brightness, 256, (3, 8, 8), np.uint8) for r in rng])
    return torch.from_numpy(coarse.repeat(8, 2).repeat(8, 3))


def ours(sets: list[Tensor], weights: Path) -> float:
    """Compute the FID of two sets of images by our pass."""
    keep_freed_memory()  # as `python -m evaluation fid` does
    features = inception.clean(weights)
    with tempfile.TemporaryDirectory() as folder:
        sums = [
            one_pass(len(given), lambda at, given=given: Extracted(features(given[at])), Path(folder) / str(i))  # type: ignore[misc]
            for i, given in enumerate(sets)
        ]
    return frechet.distance(sums[0].moments, sums[1].moments)


def one_pass(count: int, features_at: FeaturesAt, folder: Path) -> Sums:
    """Sum the features of `count` images, and keep them on the disk as a job does."""
    return pass_over(count, features_at, inception.FEATURES, Store(folder, {}, None), ALONE)


def clean_fid(sets: list[Tensor], weights: Path) -> float:
    """Compute the FID of two sets of images by PNG files and clean-fid."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / str(i) for i in range(2)]
        for given, place in zip(sets, folders, strict=True):
            place.mkdir()
            for i, image in enumerate(given.permute(0, 2, 3, 1).numpy()):
                Image.fromarray(image).save(place / f"{i:06d}.png")
        model = InceptionV3W(str(weights.parent), download=False)
        more = {"num_workers": CORES, "batch_size": 64, "device": torch.device("cpu"), "verbose": False}
        return float(compute_fid(*map(str, folders), custom_feat_extractor=model, use_dataparallel=False, **more))


SIDES = {"ours": ours, "clean-fid": clean_fid}


def peak_of_a_pass(count: int) -> None:
    """Print this process's peak memory, in bytes, before and after a pass."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        features = inception.clean(network(Path(folder)))
        features(images(torch.arange(64), 0))
        before = _peak()
        one_pass(count, lambda at: Extracted(features(images(at, 0))), Path(folder) / "sums")
    print(json.dumps([before, _peak()]))


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def side(name: str, count: int) -> None:
    """Print seconds and FID of one side, alone in its process as its users run it."""
    sets = [images(torch.arange(count), brightness) for brightness in (0, 40)]
    with tempfile.TemporaryDirectory() as folder:
        weights = network(Path(folder))
        start = time.perf_counter()
        value = SIDES[name](sets, weights)
        print(json.dumps([time.perf_counter() - start, value]))


def compare(count: int, rounds: int) -> None:
    """Time both sides in turns and print medians, FIDs and the ratio."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, runs in measured.items():
            runs.append(again("--side", name, "--count", str(count)))
    times = {name: statistics.median(t for t, _ in runs) for name, runs in measured.items()}
    for name, runs in measured.items():
        every = ", ".join(f"{t:.1f}" for t, _ in runs)
        print(f"{name:10} {times[name]:8.1f} s, median of {every}; FID {runs[0][1]:.6f}")
    ours_fid, theirs = measured["ours"][0][1], measured["clean-fid"][0][1]
    print(f"{times['clean-fid'] / times['ours']:.2f}x; the two FIDs differ by {abs(ours_fid - theirs) / theirs:.1e}")


def again(*options: str) -> tuple[float, float]:
    """Return the two numbers that this file prints with these options, in a process of its own."""
    command = [sys.executable, __file__, *options]
    first, second = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return first, second


def main() -> None:
    """Read the options and run what they name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(CORES)
    if options.peak:
        peak_of_a_pass(options.count)
    elif options.side:
        side(options.side, options.count)
    elif options.memory:
        for count in (options.count, 4 * options.count):
            before, after = again("--peak", "--count", str(count))
            print(f"{count:8,} images: peak {after / 1e6:,.0f} MB, {before / 1e6:,.0f} MB before the pass")
    else:
        compare(options.count, options.rounds)


if __name__ == "__main__":
    main()
