"""Train a shipped factor network: `python -m evaluation.factors.train_factor_net OUT.safetensors`.

Deterministic on one machine (one thread). Batches mix the four variants; with `--scream PICTURE ...` they are of Scream
alone, on the default texture, on many others and on these pictures. Some images are blurred and all are scaled in
contrast, since generated sprites have grey edges.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from common.atomic_writes import publish
from common.errors import UserError
from common.random_numbers import Purpose, integers, uniform
from data_shards.read.dsprites_variants import Painting, draw, load_painting
from data_shards.sources.sprites.renderer import COUNT, Factors, classes, factors_of, render
from models.factor_net import SYMMETRY, FactorNet, FactorPrediction
from trainer.config.feature_networks import sha256

from . import backgrounds
from .factor_network import FactorExtractor, load_factor_extractor
from .optimisation import report, step

BATCH, ITERATIONS, LEARNING_RATE, SEED = 128, 9_000, 1e-3, 0
TEXTURES = 256  # behind Scream's training images, beside about as many views of pictures
AT_ONCE = 16  # images of a batch that lie on the same picture
TESTED = 2048  # sprites of each kind of background
COMMAND = "python -m evaluation.factors.train_factor_net"
Batch = Callable[[int], tuple[Tensor, Factors]]  # of the number of an iteration


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


def _sprites(iteration: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the sprites of an iteration: (images uint8 [128, 1, 64, 64], dataset indices [128], positions [128])."""
    positions = torch.arange(iteration * 2 * BATCH, (iteration + 1) * 2 * BATCH)
    index = integers(SEED, Purpose.FACTOR_NET, positions, (), COUNT)
    keep = torch.nonzero(~held_out(index)).flatten()[:BATCH]
    index, positions = index[keep], positions[keep]
    return torch.from_numpy(render(index.numpy())).unsqueeze(1) * 255, index, positions


def family_batch(iteration: int, painting: Painting) -> tuple[Tensor, Factors]:
    """Make images [128, 3, 64, 64] in [0, 1] of the four variants and their factors, a function of the iteration."""
    sprites, index, positions = _sprites(iteration)
    parts = []
    for k, variant in enumerate(("plain", "color", "noisy", "scream")):
        rows = slice(k, None, 4)
        drawn = draw(variant, sprites[rows], index[rows], positions[rows], SEED, painting)  # type: ignore[arg-type]
        parts.append(drawn.expand(-1, 3, -1, -1))
    order = torch.cat([torch.arange(k, len(index), 4) for k in range(4)])
    return _softened(parts, index[order], positions[order])


def scream_batch(iteration: int, pictures: Sequence[Tensor]) -> tuple[Tensor, Factors]:
    """Make images [128, 3, 64, 64] in [0, 1] of Scream and their factors, on one picture for every 16 images.

    pictures: uint8 [3, H, W] each; the first lies behind the first 16 images, the others are drawn for each 16.
    """
    sprites, index, positions = _sprites(iteration)
    parts = []
    for start in range(0, len(index), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        number = 0
        if start:
            number = int(integers(SEED + 2, Purpose.FACTOR_NET, positions[rows][:1], (), len(pictures)))
        painting = Painting(pictures[number].float() / 255, "", "")
        parts.append(draw("scream", sprites[rows], index[rows], positions[rows], SEED, painting))
    return _softened(parts, index, positions)


def _softened(parts: list[Tensor], index: Tensor, positions: Tensor) -> tuple[Tensor, Factors]:
    images = soften(torch.cat(parts).float() / 255, positions).contiguous(memory_format=torch.channels_last)
    return images, factors_of(classes(index.numpy()))


def train(batch: Batch, iterations: int) -> FactorNet:
    """Train a network from scratch."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = FactorNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=iterations, pct_start=0.05)
    started = time.monotonic()
    for iteration in range(iterations):
        images, factors = batch(iteration)
        loss = loss_of(net(images), factors)
        step(loss, optimizer, schedule)
        report(iteration, iterations, loss, BATCH, started)
    return net


def accuracies(extractor: FactorExtractor, pictures: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Measure the accuracy on sprites that were held out, by background. pictures: those that were held out too."""
    index = integers(SEED + 3, Purpose.FACTOR_NET, torch.arange(60 * TESTED), (), COUNT)
    index = index[held_out(index)][:TESTED]
    found = {"default texture": backgrounds.accuracy(extractor, load_painting(None), index)}
    kinds = len(backgrounds.KINDS)
    first = -(-TEXTURES // kinds) * kinds  # the first one of the first kind that training did not see
    for k, kind in enumerate(backgrounds.KINDS):
        unseen = [backgrounds.texture(first + kinds * n + k).float() / 255 for n in range(8)]
        parts = [
            backgrounds.accuracy(extractor, Painting(pixels, "", ""), index[n::8]) for n, pixels in enumerate(unseen)
        ]
        found[kind] = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
    return found | {path.name: backgrounds.accuracy(extractor, load_painting(path), index) for path in pictures}


def write(net: FactorNet, out: Path, recipe: dict[str, Any]) -> None:
    """Write OUT, the weights in half precision, and beside it a .json file with their hash and recipe."""
    out.parent.mkdir(parents=True, exist_ok=True)
    weights = save({name: t.half().contiguous() for name, t in net.state_dict().items()})
    recipe = {"sha256": hashlib.sha256(weights).hexdigest(), **recipe, "torch": torch.__version__}
    publish(out.with_suffix(".json"), (json.dumps(recipe, indent=2) + "\n").encode())
    publish(out, weights)


def main() -> None:
    """Read the command line, train and write."""
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scream", type=Path, nargs="+", default=[], help="train for Scream, on these pictures too")
    parser.add_argument("--held-out", type=Path, nargs="+", default=[], help="pictures to test on, for Scream")
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    asked = parser.parse_args()
    if asked.held_out and not asked.scream:
        parser.error("--held-out: pictures to test on are for Scream; name pictures to train on with --scream")
    for path in (*asked.scream, *asked.held_out):  # those to test on are read an hour later
        try:
            load_painting(path)
        except UserError as error:
            parser.error(str(error).removeprefix("data.painting: "))
    length = "" if asked.iterations == ITERATIONS else f" --iterations {asked.iterations}"
    recipe = {
        "command": f"{COMMAND} evaluation/factors/weights/{asked.out.name}{length}",
        "seed": SEED,
        "iterations": asked.iterations,
        "batch_size": BATCH,
    }
    if asked.scream:
        for_scream(asked.out, asked.scream, asked.held_out, recipe)
    else:
        painting = load_painting(None)
        write(train(lambda iteration: family_batch(iteration, painting), asked.iterations), asked.out, recipe)


def for_scream(out: Path, pictures: Sequence[Path], unseen: Sequence[Path], recipe: dict[str, Any]) -> None:
    """Train for Scream, write OUT, and add its accuracies on what was held out. unseen: pictures to test on."""
    default = (load_painting(None).pixels * 255).round().to(torch.uint8)
    backs = [default, *backgrounds.pool(pictures, TEXTURES)]
    net = train(lambda iteration: scream_batch(iteration, backs), recipe["iterations"])
    options = {"--scream": pictures, "--held-out": unseen}
    named = [f"{option} {' '.join(path.name for path in paths)}" for option, paths in options.items() if paths]
    recipe = recipe | {
        "command": f"{recipe['command']} {' '.join(named)}",
        "textures": TEXTURES,
        "pictures": {path.name: sha256(path) for path in (*pictures, *unseen)},
    }
    write(net, out, recipe)
    write(net, out, recipe | {"held_out": accuracies(load_factor_extractor(out), unseen)})


if __name__ == "__main__":
    main()
