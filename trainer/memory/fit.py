"""Whether a run fits into the memory that is free, and which settings would make it fit."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from trainer.config.schema import GanConfig
from trainer.config.sections import CheckpointingConfig, ResNetConfig
from trainer.steps.batches import pass_size
from trainer.steps.schedule import Phase

from .estimate import Estimator, Need, gb

# Times the need. glibc keeps 24 to 44 % more than is alive (2 to 5 % with MALLOC_MMAP_THRESHOLD_=65536):
# docs/performance.md. The GPU's allocator rounds up, and cuDNN has scratch space; nothing was measured there.
MARGIN = {"cpu": 1.3, "cuda": 1.1}
CHECKPOINTED = CheckpointingConfig(from_resolution=32)


def problem(estimator: Estimator, config: GanConfig, need: Need, free: int) -> str | None:
    """Return why a run does not fit into `free` bytes and what would, or None where it fits."""
    room = with_margin(estimator, need)
    if room <= free:
        return None
    return (
        f"micro_batch: {need.images} images a pass at {need.resolution} px need {gb(need.bytes)} per process "
        f"({gb(room)} with what allocators waste), {gb(free)} is free; " + _remedy(estimator, config, need, free)
    )


def with_margin(estimator: Estimator, need: Need) -> float:
    """Return the bytes that a need takes of the device, with what its allocator wastes."""
    return need.bytes * MARGIN.get(estimator.world.device.type, 1.1)


def _remedy(estimator: Estimator, config: GanConfig, need: Need, free: int) -> str:
    """Name the first that fits: the largest smaller micro-batch; checkpointed single images; narrower networks."""
    for size in _sizes(estimator.phases(config), estimator.world.size, need.images):
        if _fits(estimator, config.model_copy(update={"micro_batch": size}), free):
            return f"set micro_batch={size}, the largest that fits"
    single = config.model_copy(update={"micro_batch": 1, "checkpointing": CHECKPOINTED})
    if isinstance(config.network, ResNetConfig):
        if _fits(estimator, single, free):
            return "set micro_batch=1 and checkpointing='{from_resolution: 32}', which fit"
        for network in _narrower(config.network):
            if _fits(estimator, single.model_copy(update={"network": network}), free):
                least = "" if config.network.nf_min == 1 else " network.nf_min=1"
                return (
                    "no micro_batch fits; with micro_batch=1, checkpointing='{from_resolution: 32}' and "
                    f"network.nf={network.nf} network.nf_max={network.nf_max}{least} it does"
                )
    return "no micro_batch fits; choose a smaller network or another machine"


def _narrower(network: ResNetConfig) -> Iterator[ResNetConfig]:
    """Yield networks of half the width, again and again, down to nf = 1."""
    while network.nf > 1:
        halves = {"nf": network.nf // 2, "nf_max": max(network.nf_max // 2, 1), "nf_min": 1}
        if network.generator_nf:
            halves["generator_nf"] = max(network.generator_nf // 2, 1)
        network = network.model_copy(update=halves)
        yield network


def _sizes(phases: Sequence[Phase], processes: int, below: int) -> list[int]:
    """Return the sizes of passes smaller than `below` that a phase can have, the largest first."""
    shares = {phase.batch_size // processes for phase in phases}
    return sorted({pass_size(share, most) for share in shares for most in range(1, below)}, reverse=True)


def largest_passes(estimator: Estimator, config: GanConfig, free: int) -> dict[int, Need]:
    """Return the need of the largest passes that fit into `free` bytes, by resolution; of single images where none do.

    What a resolution needs is that of its fade, or of the start of the run, as in a plan.
    """
    first = {phase.resolution: phase for phase in reversed(estimator.phases(config))}
    return {resolution: _largest_pass(estimator, config, phase, free) for resolution, phase in sorted(first.items())}


def _largest_pass(estimator: Estimator, config: GanConfig, phase: Phase, free: int) -> Need:
    """Try the whole share first, then halve the range of what may fit: a larger pass needs more."""
    sizes = _sizes([phase], estimator.world.size, phase.batch_size // estimator.world.size + 1)

    @functools.cache
    def need(size: int) -> Need:
        (needs,) = estimator.needs(config.model_copy(update={"micro_batch": size}), [phase], [config.strategy])
        return needs[config.strategy]

    def fits(size: int) -> bool:
        return with_margin(estimator, need(size)) <= free

    if fits(sizes[0]):
        return need(sizes[0])
    return need(sizes[min(bisect_left(sizes, True, lo=1, key=fits), len(sizes) - 1)])


def _fits(estimator: Estimator, config: GanConfig, free: int) -> bool:
    return with_margin(estimator, estimator.need(config)) <= free
