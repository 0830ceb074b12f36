"""What must hold on any device, as functions of one: tests/gpu/ calls them with cuda, tests/trainer/ with the CPU.

The switches (autocast, compile, checkpointing) are compared through the trainer's own stage, which decides where each
of them acts, with the same batch on the same device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from benchmarks import step as benchmark
from benchmarks.flops import Size
from models.resnet import ResBlock
from tests.support.training import differences, finish, newest, train
from tests.trainer.encoders.test_own_encoder import own
from tests.trainer.test_resume import logged
from trainer.config.rules import contradictions
from trainer.config.schema import GanConfig
from trainer.distributed.gpu_kernels import choose_kernels
from trainer.distributed.world import World
from trainer.encoders import frozen, own_encoder
from trainer.preflight import gan_stage
from trainer.stages.base import LAYOUT
from trainer.steps import schedule

from .exact import Gradients, flat, gradients_of_steps

SHAPES = {"cpu": {"nf": 8, "nf_max": 64}, "cuda": {"nf": 64, "nf_max": 512}}  # wide enough for tensor cores to be used
BATCH = {"cpu": 4, "cuda": 16}
STILL = 1e-12  # a learning rate of D: G's gradient is then of the same D on both sides, whatever the rounding
GROWTH = {  # 16 -> 32 -> 64 px in 12 iterations: q enlarges images, and both networks blend
    "network": "{name: resnet, nf: 4, nf_max: 16}",
    "growth": "{start_resolution: 16, phase_kimg: 0.048, fade_kimg: 0.064}",
    "bottleneck": "{}",
}
RESUMED = ("vae", "gan", "gan in bf16")
UNREPEATABLE = "does not have a deterministic implementation"  # torch's words


@dataclass
class Iteration:
    """What one iteration of the stage left: gradients of D and G, terms, peak in bytes, what its ResBlocks gave."""

    gradients: Gradients = field(default_factory=list)
    terms: dict[str, Tensor] = field(default_factory=dict)
    memory: int = 0
    features: list[Tensor] = field(default_factory=list)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Bytes at the peak of what is allocated within, beyond what was before."""
    found: list[int] = []
    if device.type == "cpu":  # counts no peak itself
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            yield found
        changes = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        changes.sort(key=lambda e: e.start_ns())
        found.append(max(accumulate(e.nbytes() for e in changes)))
        return
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield found
    torch.cuda.synchronize(device)
    found.append(torch.cuda.max_memory_allocated(device) - before)


@contextmanager
def looking(features: list[Tensor], wanted: bool) -> Iterator[None]:
    """Keep what comes out of every ResBlock, of whichever network."""

    def look(module: nn.Module, inputs: object, output: object) -> None:
        if wanted and isinstance(module, ResBlock) and isinstance(output, tuple):
            features.append(output[0].detach())

    handle = register_module_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


def iterate(device: torch.device, data: Path, vae: Path, look: bool = False, **switches: object) -> Iteration:
    """One iteration of ID-GAN with a bottleneck at 64 px from the same weights and batch, set up by the trainer."""
    settings = {
        "data": {"path": data, "flip": False, "dequantise": False}, "vae": vae, "schedule": {"total_kimg": 1},
        "seed": 5, "batch_size": BATCH[device.type], "s_dim": 4, "c_dim": 10, "code_weight": 0.1, "bottleneck": {},
        "network": {"name": "resnet", **SHAPES[device.type]}, "optimizer_d": {"name": "rmsprop", "lr": STILL},
    }  # fmt: skip
    config = GanConfig.model_validate(settings | switches)
    assert contradictions(config) == []
    world = World(0, 1, device, None)
    stage = gan_stage(config, world)
    now = schedule.now(stage.phases, 0)
    batch = next(stage.data.batches(config, now, 0, world))
    found = Iteration()

    with gradients_of_steps() as found.gradients, peak_memory(device) as peak, looking(found.features, look):
        found.terms = dict(stage.step([[batch]], now, 0))
    found.memory = peak[0]
    return found


def gaps(found: Iteration, expected: Iteration) -> dict[str, float]:
    """||a - b|| / ||b|| of the gradient of each whole network."""
    pairs = zip(("D", "G"), found.gradients, expected.gradients, strict=True)
    return {name: float((flat(a) - flat(b)).norm() / flat(b).norm()) for name, a, b in pairs}


def autocast_points_where_fp32_does(device: torch.device, data: Path, vae: Path) -> None:
    """Without R1, whose fp32 gradient would be most of D's; then R1's value, which stays in fp32."""
    exact, reduced = (iterate(device, data, vae, r1=0, autocast=kind) for kind in ("none", "bfloat16"))
    for name, a, b in zip(("D", "G"), reduced.gradients, exact.gradients, strict=True):
        cosine = float(torch.cosine_similarity(flat(a), flat(b), dim=0))
        assert cosine >= 0.99, f"{name}: cosine {cosine:.4f} of the bf16 gradient to fp32's"
    assert max(gaps(reduced, exact).values()) > 1e-4, "the gradients are fp32's: autocast did nothing"
    exact, reduced = (iterate(device, data, vae, autocast=kind) for kind in ("none", "bfloat16"))
    r1, expected = float(reduced.terms["r1"]), float(exact.terms["r1"])
    assert expected > 0
    assert abs(r1 - expected) <= 1e-3 * expected, f"R1 is {r1} under autocast, {expected} in fp32"


def compiled_gradients_are_eager_ones(device: torch.device, data: Path, vae: Path) -> None:
    eager, compiled = (iterate(device, data, vae, compile=wanted) for wanted in (False, True))
    found = gaps(compiled, eager)
    assert max(found.values()) <= 1e-4, found


def checkpointing_leaves_the_gradients(device: torch.device, data: Path, vae: Path) -> None:
    """With R1 the two sides take different passes to the same gradients (trainer/steps/r1.py)."""
    for r1, limit in ((0, 1e-6), (10, 1e-5)):
        plain, less = (iterate(device, data, vae, r1=r1, checkpointing=c) for c in (None, {"from_resolution": 8}))
        found = gaps(less, plain)
        assert max(found.values()) <= limit, (r1, found)


def checkpointing_lowers_the_peak(device: torch.device, data: Path, vae: Path) -> None:
    """A block at a time, in an iteration without R1: with it each side takes other passes (docs/performance.md)."""
    every = {"from_resolution": 8}
    plain, less = (iterate(device, data, vae, r1=0, checkpointing=c).memory for c in (None, every))
    assert less < 0.97 * plain, f"{less} bytes at the peak, {plain} without"


def activations_are_channels_last(device: torch.device, data: Path, vae: Path) -> None:
    """Channels next to each other in memory, in every pass; but for G's 4 px block, which gets rows of a Linear."""
    features = iterate(device, data, vae, look=True).features
    assert len(features) == 2 * 5 + 4 * 5, "G twice and D four times, 4 to 64 px"
    others = [x for x in features if x.device.type != device.type or not x.is_contiguous(memory_format=LAYOUT)]
    assert len(others) <= 2, [(tuple(x.shape), x.stride(), x.device) for x in others]
    assert all(x.shape[-1] == 4 for x in others)
    assert all(x.stride(1) == 1 for x in features if x.shape[-1] > 4 and x.shape[1] > 1)  # G's last gives the image


def an_own_encoder_moves(device: torch.device, place: Path) -> None:
    """An exported program on the device gives what it gives in float64 on the CPU, with the image's gradient."""
    own_encoder.export(own(), place / "mine.pt2", channels=1)
    loaded = frozen.load(place / "mine.pt2")
    x = torch.rand(5, 1, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sides = []
    for where, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        seen = x.to(where, dtype).requires_grad_()
        mean, logvar = loaded.to(where, dtype)(seen)
        (gradient,) = torch.autograd.grad(mean.square().sum() + logvar.sum(), seen)
        sides.append([t.detach().to("cpu", torch.float64) for t in (mean, logvar, gradient)])
    for expected, found in zip(*sides, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def fast_is_exact_to_rounding(device: torch.device, data: Path, vae: Path) -> None:
    """The same iteration under both speeds: the same bits on a CPU, and on a GPU what TF32 makes of them."""
    try:
        choose_kernels("fast")
        fast = iterate(device, data, vae)
    finally:
        choose_kernels("exact")
    exact = iterate(device, data, vae)
    found = gaps(fast, exact)
    if device.type == "cpu":
        assert max(found.values()) == 0, found
        assert all(torch.equal(fast.terms[name], value) for name, value in exact.terms.items())
        return
    assert max(found.values()) > 1e-6, "the gradients are those of exact: fast did nothing"
    for name, a, b in zip(("D", "G"), fast.gradients, exact.gradients, strict=True):
        cosine = float(torch.cosine_similarity(flat(a), flat(b), dim=0))
        assert cosine >= 0.999, f"{name}: cosine {cosine:.5f} of the gradient under speed=fast to that under exact"
    nll, expected = float(fast.terms["code_nll"]), float(exact.terms["code_nll"])
    assert abs(nll - expected) <= 1e-2 * abs(expected), "another code was drawn, or TF32 is coarser than it should be"


def a_fast_run_resumes(device: torch.device, data: Path, vae: Path, place: Path) -> None:
    """8 = 4 + 4 iterations, and what the run says of itself: the same bits on a CPU, and on a GPU to rounding.

    There weights are compared by how far they moved since image 0, and RMSprop's state is that of all eight gradients.
    """
    more: dict[str, object] = {"device": device.type, "vae": vae, "s_dim": 4, "speed": "fast"}
    finish(train("gan", data, place / "a", 8, **more))
    assert all("speed: fast" in finish(train("gan", data, place / "b", steps, **more)).err for steps in (4, 8)), (
        "the start line"
    )
    a, b = (newest(place / name) for name in "ab")
    assert len(logged(place / "b")) == 8
    if device.type == "cpu":
        assert not differences(a, b)
        return
    for name in (key for key in a if key.startswith("optimizer.") and a[key].is_floating_point()):
        gap = float((a[name] - b[name]).norm()) / max(float(a[name].norm()), 1e-12)
        assert gap < 0.2, f"{name}: {gap:.2f} apart; four of eight squared gradients lost would be about 0.5"


def a_resume_is_bit_for_bit(stage: str, device: torch.device, data: Path, vae: Path, place: Path) -> None:
    """12 = 4 + 4 + 4 iterations of the trainer itself; stage 2 grows and fades meanwhile."""
    more: dict[str, object] = {"device": device.type}
    if stage != "vae":
        more |= GROWTH | {"vae": vae, "s_dim": 4, "autocast": "bfloat16" if stage == "gan in bf16" else "none"}
    command = stage.split()[0]
    whole = finish(train(command, data, place / "a", 12, **more))
    for steps in (4, 8, 12):
        finish(train(command, data, place / "b", steps, **more))
    assert UNREPEATABLE not in whole.err, whole.err
    assert not differences(newest(place / "a"), newest(place / "b"))
    assert logged(place / "a") == logged(place / "b")
    assert len(logged(place / "b")) == 12
    last, again = (max((place / name / "samples").iterdir()).read_bytes() for name in "ab")
    assert last == again, "the images of the average"


def speed(size: Size, device: torch.device, rounds: int) -> float:
    """Images/s of an iteration of ours with R1; prints the benchmark's table."""
    found = benchmark.measure(size, rounds, device)
    print(f"\n{size.resolution} px, nf {size.nf}, batch {size.batch}, {device}:")
    benchmark.report(size, found, benchmark.peak(device))
    return size.batch / min(found["ours"])
