"""What each strategy holds in a process and what it costs in time, on processes of this machine's CPU.

    python benchmarks/sharding.py [CONFIG] [key.path=value ...] [--processes 2] [--at PX] [--strategies LIST]

One process a strategy and rank trains two iterations with R1 on random images: bytes are those of living storages
(trainer/memory/tracker.py) at the worst moment of the second, beside what `trainer plan` says; seconds are those of a
third.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_shards.read.loader import CODE_RESOLUTION, Batch
from models import Encoder, freeze
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.config.sections import Strategy
from trainer.distributed.world import connect, disconnect
from trainer.memory.tracker import MemoryTracker
from trainer.plan import CHANNELS, STRATEGIES, Planner
from trainer.stages.gan import GanTraining
from trainer.steps.batches import micro
from trainer.steps.schedule import Now, Phase

Costs = dict[str, float]


def batch_of(count: int, side: int) -> Batch:
    numbers = torch.arange(count)
    images, encoder_images = (
        torch.randint(256, (count, CHANNELS, s, s), dtype=torch.uint8)
        for s in (max(side, CODE_RESOLUTION), CODE_RESOLUTION)
    )
    return Batch(numbers, numbers, numbers, images, images if side <= CODE_RESOLUTION else encoder_images)


def measure(config: GanConfig, phase: Phase, rank: int, processes: int, port: int, answers: Queue[Costs]) -> None:
    """One rank; the first answers."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in places.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world = connect("cpu", processes)
    encoder = freeze(Encoder(CHANNELS, config.c_dim)) if config.code_source == "posterior" else None
    pieces = micro(batch_of(phase.batch_size // processes, phase.resolution), config.micro_batch)
    now = Now(phase.resolution, phase.batch_size, 0.5 if phase.fades else None)
    with MemoryTracker() as tracker:
        training = GanTraining(config, world, CHANNELS, encoder)
        kept = tracker.now
        for _ in range(2):
            tracker.reset_peak()
            training.step([pieces], now, 0)
        peak = tracker.peak
    world.barrier()
    start = time.perf_counter()
    training.step([pieces], now, 0)
    world.barrier()
    if world.is_main:
        answers.put({"kept": kept, "peak": peak, "seconds": time.perf_counter() - start})
    disconnect()


def run(config: GanConfig, phase: Phase, strategy: Strategy, processes: int) -> Costs:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = config.model_copy(update={"strategy": strategy})
    ranks = [
        context.Process(target=measure, args=(config, phase, rank, processes, port, answers))
        for rank in range(processes)
    ]
    for one in ranks:
        one.start()
    costs: Costs = answers.get()
    for one in ranks:
        one.join()
    return costs


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=Path("configs/celeba_hq/1024.yaml"))
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--at", type=int, help="px of a phase of the growth; default: the last")
    parser.add_argument(
        "--strategies", default=",".join(STRATEGIES), help="the first is what the others are compared with"
    )
    options = parser.parse_args(argv)
    strategies: list[Strategy] = [s for s in STRATEGIES if s in options.strategies.split(",")]
    config = load_config(GanConfig, options.config, ["vae=none", *options.overrides])
    planner = Planner(config, options.processes)
    phase = next(p for p in planner.phases if p.resolution == (options.at or config.resolution))
    (needs,) = planner.estimator.needs(config, [phase], strategies)
    print(f"{options.config}, {phase.resolution} px, {options.processes} processes of one thread")
    print(
        f"{'':8} {'kept, GB':>9} {'peak, GB':>9} {'plan says':>10} {'of first':>9} {'s/iteration':>12} {'x first':>8}"
    )
    first: Costs = {}
    for strategy in strategies:
        costs = run(config, phase, strategy, options.processes)
        first = first or costs
        print(
            f"{strategy:8} {costs['kept'] / 1e9:9.3f} {costs['peak'] / 1e9:9.3f} {needs[strategy].bytes / 1e9:10.3f} "
            f"{costs['peak'] / first['peak']:9.0%} {costs['seconds']:12.2f} {costs['seconds'] / first['seconds']:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
