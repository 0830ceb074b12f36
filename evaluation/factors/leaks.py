"""Do augmentations leak: does a generator draw what they do to images, such as shifted or recoloured ones?

A detector is trained on the reals of the run, each of them changed or not by each transform of its `augment`, to tell
which of them changed an image. Of held-out reals, of the same reals changed by one transform, and of samples it then
says how many it takes for changed. What real images show by themselves is counted alike on both sides.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.progress import progress_bar
from common.random_numbers import Purpose, uniform
from evaluation.inputs.choices import Codes, Kind
from evaluation.inputs.images import BLOCK, Maker, maker, signed
from evaluation.inputs.run import Run
from trainer.config.schema import AdaConfig, DiffAugmentConfig, GanConfig
from trainer.distributed.world import ALONE
from trainer.steps.augment.augmenter import Augmenter

from .optimisation import step

BATCH, LEARNING_RATE, GATE = 64, 2e-3, 0.3  # images; of AdamW; how often each transform changes a training image
MOST_REALS = 20_000  # that the detector learns from
KINDS: tuple[Kind, Kind] = ("reals", "gan")
TOLD_APART = 0.2  # below it a transform cannot be seen in an image of this set
DEVIATIONS, LEAST = 3.0, 0.01  # a leak is beyond so many standard errors, and more than this share of the samples
COLUMNS = ("transform", "changed reals found", "reals", "samples", "leak", "")
Augment = DiffAugmentConfig | AdaConfig


class Leak(NamedTuple):
    """Shares of images that the detector takes for changed by one transform.

    changed: of reals that it did change; reals, samples: of images as they are; leak: the share of samples that this
    says are changed, with its standard error, None where changed reals cannot be told from others.
    """

    changed: float
    reals: float
    samples: float
    leak: float | None
    error: float | None

    @property
    def is_leak(self) -> bool:
        """Whether more samples than reals are taken for changed, beyond what chance gives."""
        return self.leak is not None and self.error is not None and self.leak > max(DEVIATIONS * self.error, LEAST)


def leak(changed: float, reals: float, samples: float, count: int) -> Leak:
    """Return the share of samples that are changed, by the shares of `count` images of each kind that are detected."""
    power = changed - reals
    if power < TOLD_APART:
        return Leak(changed, reals, samples, None, None)
    spread = math.sqrt(sum(max(share * (1 - share), 1 / count) for share in (reals, samples)) / count)
    return Leak(changed, reals, samples, (samples - reals) / power, spread / power)


class Changes:
    """Changes images by single transforms of an augmentation, each at its full strength."""

    def __init__(self, augment: Augment, names: list[str], seed: int) -> None:
        self.names, self.seed = names, seed
        self.augmenters: list[Augmenter] = []
        for k, name in enumerate(names, start=1):
            single = type(augment).model_validate(augment.model_dump() | {"transforms": [name]})
            made = Augmenter(single, (seed + k) % 2**32, ALONE, torch.float32)
            if made.probability:
                made.probability.p.fill_(1)
            self.augmenters.append(made)

    def by(self, k: int, images: Tensor, positions: Tensor) -> Tensor:
        """Change images [B, C, R, R] in [-1, 1] by the k-th transform."""
        return self.augmenters[k].augmentation(Purpose.LEAKS, positions, images)(images)

    def some(self, images: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Change each image by some of the transforms. Returns the images, and float [B, K]: 1 where one did."""
        gates = uniform(self.seed, Purpose.LEAKS, positions, (len(self.names),)) < GATE
        for k in range(len(self.names)):
            images = torch.where(gates[:, k, None, None, None], self.by(k, images, positions), images)
        return images, gates.float()


def detector(channels: int, count: int) -> nn.Module:
    """Return an untrained network from images [B, channels, 64, 64] in [-1, 1] to a logit for each transform."""
    widths = [channels, 16, 32, 48, 64]
    layers: list[nn.Module] = []
    for fin, fout in pairwise(widths):
        layers += [nn.Conv2d(fin, fout, 4, 2, 1), nn.GroupNorm(8, fout), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * widths[-1], 128), nn.ReLU(), nn.Linear(128, count))


def train(changes: Changes, reals: Tensor, iterations: int, seed: int) -> nn.Module:
    """Train a detector on reals, uint8 [N, C, 64, 64]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = detector(reals.shape[1], len(changes.names))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=iterations, pct_start=0.1)
    with progress_bar() as bar:
        task = bar.add_task("detector", total=iterations)
        for i in range(iterations):
            positions = torch.arange(i * BATCH, (i + 1) * BATCH)
            rows = (uniform(seed, Purpose.LEAKS, positions + 2**40, ()) * len(reals)).long()
            images, changed = changes.some(signed(reals[rows]), positions)
            step(F.binary_cross_entropy_with_logits(network(images), changed), optimizer, schedule)
            bar.advance(task)
    return network.eval()


@torch.no_grad()
def detected(network: nn.Module, images: Tensor) -> Tensor:
    """Return the share of images that is taken for changed by each transform, [K]. images: [N, C, 64, 64], signed."""
    return torch.cat([network(part) > 0 for part in images.split(BLOCK)]).double().mean(0)


@torch.no_grad()
def shares(network: nn.Module, changes: Changes, held_out: Tensor, samples: Tensor) -> dict[str, Leak]:
    """Measure the leak of each transform. held_out, samples: uint8 [N, C, 64, 64], as many of each."""
    reals, positions = signed(held_out), torch.arange(len(held_out)) + 2**41
    as_they_are, of_samples = detected(network, reals), detected(network, signed(samples))
    found = {}
    for k, name in enumerate(changes.names):
        changed = detected(network, changes.by(k, reals, positions))[k]
        found[name] = leak(float(changed), float(as_they_are[k]), float(of_samples[k]), len(reals))
    return found


def measure(run: Run, augment: Augment, samples: int, source: Codes, seed: int, iterations: int) -> dict[str, Leak]:
    """Train a detector on half of the run's reals, and measure the leaks on the other half and on samples."""
    names, half = transforms_of(run, augment), run.reals.count // 2
    count = min(samples, half)
    reals, generated = (maker(run, kind, seed, source, 0) for kind in KINDS)
    kept = _images(reals, 0, min(half, MOST_REALS))
    held_out, made = _images(reals, half, count), _images(generated, 0, count)
    changes = Changes(augment, names, seed)
    return shares(train(changes, kept, iterations, seed), changes, held_out, made)


def _images(make: Maker, first: int, count: int) -> Tensor:
    """Make images at positions from the first on, pooled to 64 px: uint8 [count, C, 64, 64]."""
    blocks = (make(positions).cpu() for positions in torch.arange(first, first + count).split(BLOCK))
    return torch.cat([F.avg_pool2d(b.float(), b.shape[-1] // 64).round().to(torch.uint8) for b in blocks])


def augment_of(run: Run, kind: str | None) -> Augment:
    """Return the augmentation of a run, or of a kind with all its transforms, for a run without one."""
    config = run.config
    if not isinstance(config, GanConfig):
        raise UserError(f"{run.path}: is a run of stage 1, which augments nothing; name one of stage 2")
    if config.augment is not None and kind in (None, config.augment.kind):
        return config.augment
    if kind == "diffaugment":
        return DiffAugmentConfig()
    if kind == "ada":
        return AdaConfig(transforms=("flip", "turn", "translation", "scale", "color", "cutout"))
    raise UserError(
        f"{run.path}: was trained without `augment`; name what to look for with --augment ada or diffaugment"
    )


def transforms_of(run: Run, augment: Augment) -> list[str]:
    """Return the transforms whose work in an image would be a fault: with data.flip, mirrored images are none."""
    flips = cast(GanConfig, run.config).data.flip
    names: list[str] = [name for name in augment.transforms if not (flips and name == "flip")]
    if not names:
        raise UserError(f"{run.path}: data.flip mirrors its reals too, so that mirrored samples are no leak")
    return names


def table_rows(found: dict[str, Leak]) -> list[list[str]]:
    """Format leaks as rows under COLUMNS."""
    return [
        [
            name,
            *(f"{share:.1%}" for share in (each.changed, each.reals, each.samples)),
            "" if each.leak is None or each.error is None else f"{each.leak:.1%} ± {each.error:.1%}",
            "cannot be told" if each.leak is None else "LEAK" if each.is_leak else "none found",
        ]
        for name, each in found.items()
    ]
