"""Peak memory of a D step and of a G step of stage 2 (ID-GAN) against the plain baseline of benchmarks/step.py.

    python benchmarks/memory.py [--resolution 1024] [--batch 4] [--where] [--time ROUNDS]

Counted on fake tensors (trainer/memory/tracker.py), which take no memory: bytes of storages that are alive at the worst
moment of the second iteration, without weights, gradients, optimizer state and averages, which stand apart. Every D
step has R1, and its image gradient counts. What a kernel takes and frees within itself is in no row.

--where: the largest storages at the peak; --time: real seconds of each step at batch 1, alternating.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import step
from benchmarks.flops import Size
from trainer.memory.fake_tensors import fake_tensors
from trainer.memory.tracker import Alive, MemoryTracker, exclude_gradients
from trainer.steps.batches import Reals
from trainer.steps.gan_step import Penalties

CPU = torch.device("cpu")
BLOCK = {"checkpointing": {"from_resolution": 128}}
ROWS: dict[str, tuple[dict[str, Any], bool]] = {
    "ours": ({}, False),
    "ours, R1 in two passes": ({}, False),
    "ours, a checkpoint a block": (BLOCK, False),
    "ours, micro_batch 1": ({}, True),
    "ours, micro_batch 1, a checkpoint a block": (BLOCK, True),
}
"""Settings, and whether each image is a micro-batch of its own."""


class Counted(MemoryTracker):
    """MemoryTracker, where numbers that the host asks for (plain's beta) are zero: a fake tensor has none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0
        return super().__torch_dispatch__(func, types, args, kwargs)


@dataclass
class Side:
    """One variant: its iteration and its parts."""

    iterate: Callable[[], object]
    G: nn.Module
    D: nn.Module
    optimizers: dict[str, Optimizer]  # D's first


@dataclass(frozen=True)
class Peaks:
    """steps: bytes of activations by "D" and "G"; alive: what they were; apart: bytes of what stays."""

    steps: dict[str, int]
    alive: dict[str, list[Alive]]
    apart: dict[str, int]


def side(name: str, size: Size) -> Side:
    """plain, tuned or a row of ROWS."""
    inputs = step.Inputs(size, CPU)
    plain, tuned, ours = step.build(size, CPU)
    if name in ("plain", "tuned"):
        one = plain if name == "plain" else tuned
        return Side(
            lambda: one.iterate(inputs.x, inputs.encoder_images, inputs.draw),
            one.G, one.D, one.optimizers,
        )  # fmt: skip
    settings, single = ROWS[name]
    ours = step.Ours(size, plain, CPU, **settings)
    ours.step.d.adds_gradients = name != "ours, R1 in two passes"
    pieces = _singles(inputs.reals) if single else [inputs.reals]
    return Side(lambda: ours.step(pieces, Penalties(step.R1), size.batch, size.batch), ours.G, ours.D, ours.optimizers)


def _singles(reals: Reals) -> list[Reals]:
    assert reals.encoder_images is not None
    parts = (reals.positions.split(1), reals.images.split(1), reals.encoder_images.split(1))
    return [Reals(*part, None) for part in zip(*parts, strict=True)]


def peaks(name: str, size: Size, listing: bool = False) -> Peaks:
    """Of the second iteration: the first makes what stays."""
    with fake_tensors(), Counted(listing) as tracker:
        measured = side(name, size)
        measured.iterate()
        steps, alive = dict[str, int](), dict[str, list[Alive]]()
        parameters = [p for network in (measured.G, measured.D) for p in network.parameters()]
        states = [t for o in measured.optimizers.values() for s in o.state.values() for t in s.values()]
        weights, state = _bytes(parameters), _bytes(t for t in states if isinstance(t, Tensor))
        stays = tracker.now

        def at_end(of: str) -> Callable[..., None]:
            def note(*_: object) -> None:
                steps[of], alive[of] = tracker.peak - stays, tracker.at_peak
                tracker.reset_peak()

            return note

        for of, optimizer in measured.optimizers.items():
            optimizer.register_step_post_hook(at_end(of))
        exclude_gradients(tracker, parameters)
        tracker.reset_peak()
        measured.iterate()
    apart = {"weights": weights, "gradients": weights, "optimizer": state}
    return Peaks(steps, alive, apart)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def seconds(size: Size, names: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Real seconds of the "D" and the "G" step over those of the first name: medians of alternating rounds after a
    first one."""
    sides = {name: side(name, size) for name in names}
    ends = {name: _ends(one) for name, one in sides.items()}
    times: dict[str, dict[str, list[float]]] = {name: {"D": [], "G": []} for name in names}
    for _ in range(rounds + 1):
        for name, one in sides.items():
            start = time.perf_counter()
            one.iterate()
            for of, steps in times[name].items():
                steps.append(ends[name][of] - start)
                start = ends[name][of]
    base = times[names[0]]
    return {name: {of: _median_ratio(each, base[of]) for of, each in steps.items()} for name, steps in times.items()}


def _ends(one: Side) -> dict[str, float]:
    """When each optimizer has last stepped, kept up to date."""
    ended: dict[str, float] = {}
    for of, optimizer in one.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, of=of: ended.__setitem__(of, time.perf_counter()))
    return ended


def _median_ratio(times: list[float], base: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times[1:], base[1:], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, choices=sorted(step.SIZES), default=1024)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--where", action="store_true")
    parser.add_argument("--time", type=int, default=0, metavar="ROUNDS")
    options = parser.parse_args()
    size = replace(step.SIZES[options.resolution], batch=options.batch)
    print(f"{size.resolution} px, nf {size.nf}, batch {size.batch}, fp32; MB of activations at the peak")
    print(f"{'':42} {'D step':>8} {'x plain':>8} {'x tuned':>8} {'G step':>8} {'x plain':>8}")
    base = {name: peaks(name, size).steps for name in ("plain", "tuned")}
    for name in ("plain", "tuned", *ROWS):
        measured = peaks(name, size, options.where)
        d, g = measured.steps["D"], measured.steps["G"]
        ratios = d / base["plain"]["D"], d / base["tuned"]["D"], g / base["plain"]["G"]
        print(f"{name:42} {d / 1e6:8.0f} {ratios[0]:8.2f} {ratios[1]:8.2f} {g / 1e6:8.0f} {ratios[2]:8.2f}")
        for of, alive in measured.alive.items():
            for one in sorted(alive, reverse=True)[:12]:
                print(f"    {of} {one.bytes / 1e6:8.1f} MB {list(one.shape)} {one.maker}")
    print("apart, of both networks:", ", ".join(f"{name} {n / 1e6:.0f} MB" for name, n in measured.apart.items()))
    if options.time:
        names = [name for name, (_, single) in ROWS.items() if not single]
        ratios = seconds(replace(size, batch=1), names, options.time)
        lines = [f"{name}: D x {ratio['D']:.2f}, G x {ratio['G']:.2f}" for name, ratio in ratios.items()]
        print(f"time, batch 1: {'; '.join(lines)}")


if __name__ == "__main__":
    main()
