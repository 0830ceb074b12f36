"""One full iteration of stage 2 (ID-GAN) against a plain baseline, in one run and alternating.

    python benchmarks/step.py --resolution 64 [--rounds 5] [--batch N] [--threads N] [--keep-freed] [--device cuda]
        [--profile]

plain: what a straightforward port of the paper does. Contiguous memory, fp32, R1 in every step by double backward, a
backward call of its own with retained graph for each of D(real), D(fake) and R1, then the G step, then the average.
tuned: the same networks and losses with channels_last memory and one backward call for all of D's loss.
ours: trainer.steps.gan_step with the same mathematics (R1 in every step), and with lazy R1 (every 16th step). R1 in two
passes: as fsdp2, zero, checkpointing and compile need it.

Networks, batch and bottleneck are those of the paper at that size (Tables A.4 to A.7); every variant does the same
optimizer step on the same images. Ratios are plain's seconds over the variant's, medians over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rates
from benchmarks.flops import Size, iteration_flops
from common.random_numbers import Purpose, normal
from models import CodeEncoder, Encoder, freeze
from trainer.config.schema import GanConfig
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.gpu_kernels import make_repeatable
from trainer.distributed.world import World
from trainer.memory.allocator import keep_freed_memory
from trainer.reporting.profiler import operation_table, pass_table
from trainer.steps import ema, networks
from trainer.steps.augment.augmenter import Augmenter
from trainer.steps.batches import Reals
from trainer.steps.forward_passes import ForwardPasses
from trainer.steps.gan_step import GanStep, Penalties
from trainer.steps.kl_constraint import KLConstraint

S, C, R1, LAZY = 256, 20, 10.0, 16
CODE_WEIGHT, LR, DECAY, BETA = 1e-3, 1e-4, 0.999, 0.1


SIZES = {r: Size(r, 64, 512, b, False) for r, b in ((64, 8), (128, 2), (256, 1))} | {1024: Size(1024, 16, 512, 1, True)}


class PlainBlock(nn.Module):
    """A pre-activation ResBlock out of torch's own layers."""

    def __init__(self, fin: int, fout: int) -> None:
        super().__init__()
        hidden = min(fin, fout)
        self.conv_0 = nn.Conv2d(fin, hidden, 3, padding=1)
        self.conv_1 = nn.Conv2d(hidden, fout, 3, padding=1)
        self.shortcut = nn.Conv2d(fin, fout, 1, bias=False) if fin != fout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_0(F.leaky_relu(x, 0.2))
        h = self.conv_1(F.leaky_relu(h, 0.2))
        return self.shortcut(x) + 0.1 * h


class PlainGenerator(nn.Module):
    """The paper's G, with growth off."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        levels = int(math.log2(size.resolution // 4))
        widths = [min(size.nf * 2**i, size.nf_max) for i in range(levels, -1, -1)]
        self.fc = nn.Linear(S + C, widths[0] * 16)
        self.blocks = nn.ModuleList(PlainBlock(a, b) for a, b in zip(widths, [*widths[1:], size.nf], strict=True))
        self.conv = nn.Conv2d(size.nf, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.fc(z).view(len(z), -1, 4, 4)
        for i, block in enumerate(self.blocks):
            h = F.interpolate(h, scale_factor=2) if i else h
            h = block(h)
        return torch.tanh(self.conv(F.leaky_relu(h, 0.2)))


class PlainDiscriminator(nn.Module):
    """The paper's D, with growth off -> (logits, KL or None)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        levels = int(math.log2(size.resolution // 4))
        widths = [min(size.nf * 2**i, size.nf_max) for i in range(levels + 1)]
        self.conv = nn.Conv2d(3, size.nf, 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(a, b) for a, b in zip([size.nf, *widths[:-1]], widths, strict=True))
        self.heads = nn.ModuleList(nn.Conv2d(widths[-1], widths[-1], 1) for _ in range(2 * size.bottleneck))
        self.fc = nn.Linear(widths[-1] * 16, 1)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        h, kl = self.conv(x), None
        for i, block in enumerate(self.blocks):
            h = F.avg_pool2d(h, 3, 2, 1) if i else h
            h = block(h)
        if self.heads:
            mean, log_std = (head(h) for head in self.heads)
            std = torch.exp(log_std)
            kl = (0.5 * (mean**2 + std**2 - 1) - log_std).sum(1).mean()
            h = mean + std * noise
        return self.fc(F.leaky_relu(h, 0.2).flatten(1))[:, 0], kl


class Plain:
    """The baseline. draw: random numbers of a purpose, [batch, *shape]; tuned: see the module's docstring."""

    def __init__(self, size: Size, q: CodeEncoder, tuned: bool, device: torch.device) -> None:
        layout = torch.channels_last if tuned else torch.contiguous_format
        self.size, self.q, self.tuned, self.beta = size, q, tuned, BETA
        self.G = PlainGenerator(size).to(device, memory_format=layout)
        self.D = PlainDiscriminator(size).to(device, memory_format=layout)
        self.average = copy.deepcopy(self.G).requires_grad_(False)
        self.opt_g, self.opt_d = (torch.optim.RMSprop(n.parameters(), lr=LR) for n in (self.G, self.D))
        self.optimizers: dict[str, Optimizer] = {"D": self.opt_d, "G": self.opt_g}

    def iterate(self, x: Tensor, encoder_images: Tensor, draw: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            mean, logvar = self.q(encoder_images)
            c = mean + torch.exp(0.5 * logvar) * draw(Purpose.CODE, C)
        self._discriminator(x, c, draw)
        self._generator(c, draw)
        with torch.no_grad():
            for average, p in zip(self.average.parameters(), self.G.parameters(), strict=True):
                average.mul_(DECAY).add_(p, alpha=1 - DECAY)

    def _discriminator(self, x: Tensor, c: Tensor, draw: Callable[..., Tensor]) -> None:
        trunk = (self.size.nf_max, 4, 4) if self.size.bottleneck else (0,)
        with torch.no_grad():
            fake = self.G(torch.cat((draw(Purpose.NUISANCE_D, S), c), 1))
        self.opt_d.zero_grad()
        x = x.detach().requires_grad_()
        logits, kl_real = self.D(x, draw(Purpose.BOTTLENECK_REAL, *trunk))
        real = F.softplus(-logits).mean() + (0 if kl_real is None else self.beta * kl_real / 2)
        if not self.tuned:
            real.backward(retain_graph=True)
        (g,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        penalty = R1 * g.pow(2).sum((1, 2, 3)).mean()
        if not self.tuned:
            penalty.backward(retain_graph=True)
        logits, kl_fake = self.D(fake, draw(Purpose.BOTTLENECK_FAKE, *trunk))
        wrong = F.softplus(logits).mean() + (0 if kl_fake is None else self.beta * kl_fake / 2)
        (real + penalty + wrong if self.tuned else wrong).backward()
        self.opt_d.step()
        if kl_real is not None and kl_fake is not None:
            self.beta = max(0.0, self.beta - 1e-5 * (0.1 - float((kl_real + kl_fake).detach()) / 2))

    def _generator(self, c: Tensor, draw: Callable[..., Tensor]) -> None:
        trunk = (self.size.nf_max, 4, 4) if self.size.bottleneck else (0,)
        self.opt_g.zero_grad()
        self.D.requires_grad_(False)
        fake = self.G(torch.cat((draw(Purpose.NUISANCE_G, S), c), 1))
        logits, _ = self.D(fake, draw(Purpose.BOTTLENECK_G, *trunk))
        mean, logvar = self.q(fake)
        squared = (c - mean) ** 2 / (torch.exp(logvar) + 1e-8)
        nll = (0.5 * (math.log(2 * math.pi) + logvar + squared)).sum(1).mean()
        (F.softplus(-logits).mean() + CODE_WEIGHT * nll).backward()
        self.D.requires_grad_(True)
        self.opt_g.step()


class Ours:
    """trainer.steps.gan_step, set up as the trainer does, from the weights of a Plain. more: settings of the config."""

    def __init__(self, size: Size, plain: Plain, device: torch.device, **more: object) -> None:
        config = GanConfig.model_validate(
            {
                "data": {"path": "none"}, "vae": "none", "schedule": {"total_kimg": 1}, "seed": 0,
                "batch_size": size.batch, "resolution": size.resolution, "s_dim": S, "c_dim": C,
                "network": {"name": "resnet", "nf": size.nf, "nf_max": size.nf_max}, "r1": R1,
                "bottleneck": {"beta": BETA} if size.bottleneck else None, "code_weight": CODE_WEIGHT,
                "optimizer_g": {"name": "rmsprop", "lr": LR}, "optimizer_d": {"name": "rmsprop", "lr": LR},
                **more,
            }
        )  # fmt: skip
        world = World(0, 1, device, None)
        networks_of = (networks.generator(config, 3), networks.discriminator(config, 3))
        self.G, self.D = (n.to(device, memory_format=torch.channels_last) for n in networks_of)
        copy_in_order(plain.G, self.G)
        copy_in_order(plain.D, self.D)
        g, d = (
            Replicated(name, n, partial(networks.optimizer, o), world)
            for name, n, o in (("G", self.G, config.optimizer_g), ("D", self.D, config.optimizer_d))
        )
        averages = ema.Averages(g, config.ema.averages)
        kl_constraint = KLConstraint(config.bottleneck, world, torch.float32)
        passes = ForwardPasses(self.G, self.D, plain.q, config, Augmenter(None, config.seed, world, torch.float32))
        self.step = GanStep(g, d, plain.q, None, averages, kl_constraint, passes, config)
        self.optimizers = {"D": d.optimizer, "G": g.optimizer}


def gradients_of(side: Plain | Ours) -> dict[str, Tensor]:
    """Filled by the side's next iteration: the gradient of each network, in one vector."""
    gradients: dict[str, Tensor] = {}

    def keep(name: str, optimizer: Optimizer) -> None:
        parameters = optimizer.param_groups[0]["params"]
        gradients[name] = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])

    for name, optimizer in side.optimizers.items():
        optimizer.register_step_pre_hook(lambda of, *_, name=name: keep(name, of))
    return gradients


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Both sides have their layers in the same order, under other names."""
    with torch.no_grad():
        for a, b in zip(source.parameters(), target.parameters(), strict=True):
            assert a.shape == b.shape, f"{tuple(a.shape)} is not {tuple(b.shape)}"
            b.copy_(a)


@dataclass
class Inputs:
    """The same images for every variant, and random numbers: torch's, or those that the trainer draws."""

    size: Size
    device: torch.device
    exact: bool = False

    def __post_init__(self) -> None:
        noise = torch.Generator().manual_seed(1)
        r, b = self.size.resolution, self.size.batch
        self.x, self.encoder_images = (
            (torch.rand(b, 3, s, s, generator=noise) * 2 - 1).to(self.device) for s in (r, min(r, 64))
        )
        self.reals = Reals(
            torch.arange(b, device=self.device), self.x.to(memory_format=torch.channels_last), self.encoder_images, None
        )

    def draw(self, purpose: Purpose, *shape: int) -> Tensor:
        if self.exact:
            return normal(0, purpose, self.reals.positions, shape)
        return torch.randn(self.size.batch, *shape, device=self.device)


def build(size: Size, device: torch.device) -> tuple[Plain, Plain, Ours]:
    """plain, tuned, ours: the same weights."""
    torch.manual_seed(0)
    q = CodeEncoder(Encoder(3, C)).to(device)
    freeze(q)
    plain, tuned = (Plain(size, q, tuned, device) for tuned in (False, True))
    copy_in_order(plain.G, tuned.G)
    copy_in_order(plain.D, tuned.D)
    return plain, tuned, Ours(size, plain, device)


def variants(size: Size, device: torch.device) -> dict[str, Callable[[], object]]:
    """One iteration of each, by name; "ours, no R1" is what 15 of 16 lazy steps are."""
    inputs = Inputs(size, device)
    plain, tuned, ours = build(size, device)
    two_passes = Ours(size, plain, device)
    two_passes.step.d.adds_gradients = False
    return {
        "plain": lambda: plain.iterate(inputs.x, inputs.encoder_images, inputs.draw),
        "tuned": lambda: tuned.iterate(inputs.reals.images, inputs.encoder_images, inputs.draw),
        "ours, R1 in two passes": lambda: two_passes.step([inputs.reals], Penalties(R1), size.batch, size.batch),
        "ours": lambda: ours.step([inputs.reals], Penalties(R1), size.batch, size.batch),
        "ours, no R1": lambda: ours.step([inputs.reals], Penalties(0.0), size.batch, size.batch),
    }


def gradient_gaps(size: Size, device: torch.device) -> dict[tuple[str, str], float]:
    """||gradient - plain's|| / ||plain's|| in the first iteration, by variant and network."""
    inputs = Inputs(size, device, exact=True)
    plain, tuned, ours = build(size, device)
    right, *others = (gradients_of(side) for side in (plain, tuned, ours))
    for baseline in (plain, tuned):
        baseline.iterate(inputs.x, inputs.encoder_images, inputs.draw)
    ours.step([inputs.reals], Penalties(R1), size.batch, size.batch)
    return {
        (side, name): float((gradients[name] - right[name]).norm() / right[name].norm())
        for side, gradients in zip(("tuned", "ours"), others, strict=True)
        for name in right
    }


def seconds(iterate: Callable[[], object], device: torch.device) -> float:
    """Of one iteration."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    iterate()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(size: Size, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each variant in each round, after one that warms up; a lazy step is the mean of 16, one with R1."""
    iterations = variants(size, device)
    for iterate in iterations.values():
        iterate()
    times: dict[str, list[float]] = {name: [] for name in iterations}
    for _ in range(rounds):
        for name, iterate in iterations.items():
            times[name].append(seconds(iterate, device))
    without, full = times.pop("ours, no R1"), times["ours"]
    times["ours, lazy"] = [((LAZY - 1) * a + b) / LAZY for a, b in zip(without, full, strict=True)]
    return times


def peak(device: torch.device) -> float:
    """FLOP/s of large fp32 matrix products, the best of ten, as torch's product or as a 1x1 convolution's."""
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    image = a.view(1, 32, 64, 2048).permute(0, 3, 1, 2)
    products: list[Callable[[], object]] = [lambda: a @ b, lambda: F.conv2d(image, b[:, :, None, None])]
    return 2 * 2048**3 / min(seconds(product, device) for product in products for _ in range(10))


def profiled(size: Size, device: torch.device, steps: int = 3) -> list[str]:
    """Return where the time of ours goes, with R1 in every step, by passes and by operations."""
    iterate = variants(size, device)["ours"]
    iterate()
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with torch.profiler.profile() as profile:
        for _ in range(steps):
            iterate()
    events = profile.key_averages()
    return [*pass_table(events, steps), "", *operation_table(events, steps)]


def report(size: Size, times: dict[str, list[float]], top: float) -> None:
    """A line for each variant."""
    work = iteration_flops(size)
    print(f"{'':22} {'s/iteration':>12} {'images/s':>9} {'x plain':>8} {'x tuned':>8} {'of peak':>8}")
    for name, own in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times[base], own, strict=True)) for base in ("plain", "tuned")
        ]
        middle = statistics.median(own)
        share = work[name] / middle / top
        print(f"{name:22} {middle:12.3f} {size.batch / middle:9.2f} {ratios[0]:8.2f} {ratios[1]:8.2f} {share:8.0%}")


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, choices=sorted(SIZES), required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep-freed", action="store_true", help="for all variants, as the trainer does on a CPU")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rates", type=Path, help="a file for `trainer plan`, to which the rate of lazy R1 is added")
    parser.add_argument("--profile", action="store_true", help="also print where the time of ours goes")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.keep_freed:
        keep_freed_memory()
    size = SIZES[options.resolution]
    size = replace(size, batch=options.batch or size.batch)
    device = torch.device(options.device)
    if device.type == "cuda":
        make_repeatable()  # as a run does it
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} threads"
    top = peak(device)
    print(
        f"{size.resolution} px, nf {size.nf}, batch {size.batch}, {where}, peak {top / 1e9:.0f} GFLOP/s (fp32 product)"
    )
    gaps = gradient_gaps(size, device)
    print("gradients against plain's:", ", ".join(f"{side} {name} {gap:.0e}" for (side, name), gap in gaps.items()))
    times = measure(size, options.rounds, device)
    report(size, times, top)
    if options.profile:
        print("\n".join(profiled(size, device)))
    if options.rates:
        rate = iteration_flops(size)["ours, lazy"] / statistics.median(times["ours, lazy"])
        rates.record(options.rates, f"{where}, float32", {size.resolution: rate}, None)


if __name__ == "__main__":
    main()
