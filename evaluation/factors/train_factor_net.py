"""Train the shipped factor network: `python -m evaluation.factors.train_factor_net OUT.safetensors`.

Deterministic on one machine (one thread). Batches mix the four variants. Some images are blurred and all are scaled in
contrast, since generated sprites have grey edges.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from common.atomic_writes import publish
from common.random_numbers import Purpose, integers, uniform
from data_shards.read.dsprites_variants import Painting, draw, load_painting
from data_shards.sources.sprites.renderer import COUNT, Factors, classes, factors_of, render
from models.factor_net import SYMMETRY, FactorNet, FactorPrediction

from .optimisation import report, step

BATCH, ITERATIONS, LEARNING_RATE, SEED = 128, 9_000, 1e-3, 0


def held_out(index: Tensor) -> Tensor:
    """Choose the dataset indices that are kept for the test and never trained on: one in 36.

    Orientations 0 and 39 are the same image: both are held out, or none. index: int64 [N] -> bool [N].
    """
    same_image = torch.where(index // 1024 % 40 == 39, index - 39 * 1024, index)
    return integers(SEED, Purpose.HELD_OUT, same_image, (), 36) == 0


def loss_of(prediction: FactorPrediction, factors: Factors) -> Tensor:
    """Return the cross-entropy of the shape plus scaled squared errors; the angle's is that of the true shape."""
    shape = torch.from_numpy(factors.shape)
    target = [torch.from_numpy(f).float() for f in (factors.scale, factors.x, factors.y)]
    theta = torch.from_numpy(factors.theta).float() * torch.tensor(SYMMETRY)[shape]
    angle = prediction.angle[torch.arange(len(shape)), shape]
    terms = [
        F.cross_entropy(prediction.shape, shape),
        30 * F.mse_loss(prediction.scale, target[0]),
        60 * F.mse_loss(prediction.x, target[1]),
        60 * F.mse_loss(prediction.y, target[2]),
        F.mse_loss(angle, torch.stack((theta.cos(), theta.sin()), 1)),
    ]
    return torch.stack(terms).sum()


def soften(images: Tensor, positions: Tensor) -> Tensor:
    """Blur a third of the images and scale the contrast of all by 0.7 to 1. images: [B, 3, 64, 64] in [0, 1]."""
    dice = uniform(SEED + 1, Purpose.FACTOR_NET, positions, (3,))
    amount = (dice[:, 0] * 3 - 2).clamp_min(0)[:, None, None, None]
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), "replicate"), 3, 1)
    return (images * (1 - amount) + blurred * amount) * (0.7 + 0.3 * dice[:, 1, None, None, None])


def batch(iteration: int, painting: Painting) -> tuple[Tensor, Factors]:
    """Make images [128, 3, 64, 64] in [0, 1] and their factors, a pure function of the iteration."""
    positions = torch.arange(iteration * 2 * BATCH, (iteration + 1) * 2 * BATCH)
    index = integers(SEED, Purpose.FACTOR_NET, positions, (), COUNT)
    keep = torch.nonzero(~held_out(index)).flatten()[:BATCH]
    index, positions = index[keep], positions[keep]
    sprites = torch.from_numpy(render(index.numpy())).unsqueeze(1) * 255
    parts = []
    for k, variant in enumerate(("plain", "color", "noisy", "scream")):
        rows = slice(k, None, 4)
        drawn = draw(variant, sprites[rows], index[rows], positions[rows], SEED, painting)  # type: ignore[arg-type]
        parts.append(drawn.expand(-1, 3, -1, -1))
    order = torch.cat([torch.arange(k, len(index), 4) for k in range(4)])
    images = soften(torch.cat(parts).float() / 255, positions[order])
    images = images.contiguous(memory_format=torch.channels_last)
    return images, factors_of(classes(index[order].numpy()))


def train(out: Path) -> None:
    """Train from scratch and write OUT and, beside it, a .json file with its hash and recipe."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = FactorNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=ITERATIONS, pct_start=0.05)
    painting = load_painting(None)
    started = time.monotonic()
    for iteration in range(ITERATIONS):
        images, factors = batch(iteration, painting)
        loss = loss_of(net(images), factors)
        step(loss, optimizer, schedule)
        report(iteration, ITERATIONS, loss, BATCH, started)
    _write(net, out)


def _write(net: FactorNet, out: Path) -> None:
    """Write the weights in half precision, and their hash and recipe."""
    out.parent.mkdir(parents=True, exist_ok=True)
    weights = save({name: t.half().contiguous() for name, t in net.state_dict().items()})
    recipe = {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "command": "python -m evaluation.factors.train_factor_net evaluation/factors/weights/factor_net.safetensors",
        "seed": SEED,
        "iterations": ITERATIONS,
        "batch_size": BATCH,
        "torch": torch.__version__,
    }
    publish(out.with_suffix(".json"), (json.dumps(recipe, indent=2) + "\n").encode())
    publish(out, weights)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m evaluation.factors.train_factor_net OUT.safetensors")
    train(Path(sys.argv[1]))
