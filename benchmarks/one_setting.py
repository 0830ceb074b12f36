"""One setting of stage 2 on one device, in a process of its own: what benchmarks/gpu.py puts together to a table.

    python benchmarks/one_setting.py --resolution 64 --speed fast [--autocast bfloat16] [--compile] [--graph]

Prints one line of JSON: images/s of lazy R1 (every 16th iteration), peak memory, and the share of the best matrix
product of the same number format that was measured here. The networks are those of benchmarks/step.py.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.flops import Size, iteration_flops
from benchmarks.step import LAZY, R1, SIZES, Inputs, Ours, build, seconds
from common.provenance import hardware
from trainer.distributed.gpu_kernels import choose_kernels
from trainer.memory.allocator import keep_freed_memory
from trainer.steps.compilation import compile_passes
from trainer.steps.gan_step import Penalties

Iterations = tuple[Callable[[], object], Callable[[], object]]


def iterations(size: Size, device: torch.device, autocast: str, compiled: bool) -> tuple[Iterations, Ours]:
    """An iteration without R1 and one with it, and what trains in them."""
    plain, _, _ = build(size, device)
    ours = Ours(size, plain, device, autocast=autocast)
    if compiled:
        compile_passes([ours.G, ours.D, plain.q])
    reals = [Inputs(size, device).reals]
    return (
        lambda: ours.step(reals, Penalties(0.0), size.batch, size.batch),
        lambda: ours.step(reals, Penalties(R1 * LAZY), size.batch, size.batch),
    ), ours


def graphed(iterate: Callable[[], object], ours: Ours) -> Callable[[], object]:
    """The iteration as one CUDA graph. Raises RuntimeError where it cannot be recorded or does other than before.

    Each replay must move G's weights as the iteration itself does from the same place: to the bit.
    """
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # as torch asks for before a recording
        for _ in range(3):
            iterate()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iterate()
    weights = list(ours.G.parameters())
    states = [t for o in ours.optimizers.values() for s in o.state.values() for t in s.values()]
    start = [t.detach().clone() for t in (*weights, *ours.D.parameters(), *states)]
    graph.replay()
    replayed = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for tensor, value in zip((*weights, *ours.D.parameters(), *states), start, strict=True):
            tensor.copy_(value)
    iterate()
    if not all(torch.equal(a, b) for a, b in zip(replayed, weights, strict=True)):
        raise RuntimeError("a replay moves the weights elsewhere than the iteration does")
    return graph.replay


def best_product(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of large matrix products under the present settings, the best of ten."""
    side = 8192 if device.type == "cuda" else 256
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    F.relu(a @ b)
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def peak_gb(device: torch.device) -> float:
    """The most memory that this process has held: the GPU's by tensors, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run it, and return the line."""
    device = torch.device(options.device)
    if device.type == "cuda":
        choose_kernels(options.speed)
    else:
        keep_freed_memory()
    size = SIZES[options.resolution]
    size = replace(size, batch=options.batch or size.batch, nf=options.nf or size.nf, nf_max=options.nf or size.nf_max)
    (without, full), ours = iterations(size, device, options.autocast, options.compile)
    for iterate in (without, full, without):
        iterate()
    peak = peak_gb(device)
    if options.graph:
        without = graphed(without, ours)
    times = [
        statistics.median(seconds(iterate, device) for _ in range(n))
        for iterate, n in ((without, options.rounds), (full, 3))
    ]
    lazy = ((LAZY - 1) * times[0] + times[1]) / LAZY
    product = best_product(device, torch.bfloat16 if options.autocast == "bfloat16" else torch.float32)
    rate = iteration_flops(size)["ours, lazy"] / lazy
    return {
        "machine": hardware(device), "resolution": size.resolution, "batch": size.batch, "speed": options.speed,
        "autocast": options.autocast, "compile": options.compile, "graph": options.graph, "seconds": lazy,
        "images_per_second": size.batch / lazy, "peak_gb": peak, "flops_per_second": rate, "product": product,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, choices=sorted(SIZES), required=True)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--nf", type=int, help="channels of every layer, for a try-out")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--speed", default="exact", choices=["exact", "fast"])
    parser.add_argument("--autocast", default="none", choices=["none", "bfloat16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graph", action="store_true", help="iterations without R1 as a CUDA graph")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
