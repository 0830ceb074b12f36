"""Seconds of a checkpoint of stage 2, against the interval between two.

    python benchmarks/saving.py [CONFIG] [--folder DIR] [--rounds 5] [--rates FILE]

DIR: on the file system that a run would have; a temporary folder by default. The networks of CONFIG
(configs/celeba_hq/1024.yaml) with optimizer state and averages are saved as a run saves them: processes compared,
written, flushed to the disk, hashed, published. Under `accelerate launch` every process writes its part.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rates
from trainer.checkpoints.retention import Retention
from trainer.checkpoints.save import save_checkpoint
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.distributed import divergence
from trainer.distributed.world import World, connect, disconnect
from trainer.plan import CHANNELS
from trainer.stages.gan import GanTraining

IMAGES_PER_SECOND = 200  # of the eight GPUs that a save must not hold up


def seconds(training: GanTraining, folder: Path, rounds: int, world: World) -> list[float]:
    """Of each save, after one that warms up."""
    times = []
    for i in range(rounds + 1):
        world.barrier()
        start = time.perf_counter()
        divergence.check(training.state.replicated(), world)
        save_checkpoint(folder, i, training.state, {}, world, Retention(1, None))
        world.barrier()
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=Path("configs/celeba_hq/1024.yaml"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", type=Path)
    options = parser.parse_args()
    config = load_config(GanConfig, options.config, ["vae=none"])
    world = connect(config.device, None)
    training = GanTraining(config, world, CHANNELS, None)
    size = sum(tensor.nbytes for tensor in training.state.state_dict().values())
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        times = seconds(training, Path(world.broadcast(folder)), options.rounds, world)
    middle, interval = statistics.median(times), config.schedule.save_kimg * 1000 / IMAGES_PER_SECOND
    if world.is_main:
        print(
            f"{size / 1e6:.0f} MB, {world.size} processes: {middle:.2f} s ({min(times):.2f} to {max(times):.2f}), "
            f"{size / middle / 1e6:.0f} MB/s; {middle / interval:.2%} of the {interval:.0f} s between two saves "
            f"at {IMAGES_PER_SECOND} images/s"
        )
        if options.rates:
            machine = (
                torch.cuda.get_device_name()
                if world.device.type == "cuda"
                else f"CPU, {torch.get_num_threads()} threads"
            )
            rates.record(options.rates, machine, {}, size / middle / world.size)
    disconnect()


if __name__ == "__main__":
    main()
