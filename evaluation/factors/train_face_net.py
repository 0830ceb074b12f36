"""Train the shipped face network: `python -m evaluation.factors.train_face_net DATA OUT.safetensors`.

DATA: a set of faces at 64 px, such as that of

    python -m data_shards make faces --out data/faces-50k --count 50000 --resolutions 64

Half of each batch is damaged in one of the ways of `damage.DAMAGES`. The faces of the test are drawn anew, and have
numbers that no set reaches. Deterministic on one machine (one thread).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from common.atomic_writes import publish
from common.errors import UserError
from common.random_numbers import Purpose, integers, uniform
from data_shards.read.loader import Level, open_dataset
from data_shards.sources.faces.factors import Continuous, classes_of, draw_values
from data_shards.sources.faces.render import render_values
from data_shards.sources.faces.styles import open_style
from models.face_net import DAMAGE, FaceNet, Head

from .damage import DAMAGES
from .face_network import COMMAND, heads_of, targets_of
from .optimisation import report, step

BATCH, ITERATIONS, LEARNING_RATE, SEED = 128, 7_000, 1.5e-3, 0
FIRST_HELD_OUT, HELD_OUT = 2**31, 4096  # numbers of the faces that the network is tested on
LOSS_OF_VALUES, LOSS_OF_DAMAGE = 40.0, 5.0


def losses_of(
    heads: tuple[Head, ...], prediction: dict[str, Tensor], targets: dict[str, Tensor], of_colour: Tensor
) -> Tensor:
    """Return the loss: cross-entropies of parts, squared errors of values and of the damage.

    of_colour: [B], 0 for images whose colours were changed, so that theirs are not asked for.
    """
    total = LOSS_OF_DAMAGE * F.mse_loss(prediction[DAMAGE], targets[DAMAGE])
    for head in heads:
        predicted, target = prediction[head.name], targets[head.name]
        if head.kind == "class":
            total = total + F.cross_entropy(predicted, target)
            continue
        error = (predicted - target).square()
        error = error.sum(1) / 4 if head.kind == "circular" else error
        coloured = head.kind == "circular" or head.name in ("skin", "hair_color")
        total = total + LOSS_OF_VALUES * (error * of_colour if coloured else error).mean()
    return total


def damaged(images: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Damage half of the images. Returns them, how much each is damaged [B] in [0, 1], and `of_colour` [B].

    images: [B, 3, 64, 64] in [0, 1]; positions: int64 [B], which decide all.
    """
    dice = uniform(SEED + 1, Purpose.FACE_NET, positions, (12,))
    kinds = (dice[:, 0] * 2 * len(DAMAGES)).long()  # those from len(DAMAGES) on are left alone
    strength = dice[:, 1].clamp_min(0.02)
    amount, of_colour = torch.zeros(len(images)), torch.ones(len(images))
    images = images.clone()
    for kind, (name, damage) in enumerate(DAMAGES.items()):
        rows = torch.nonzero(kinds == kind).flatten()
        if not len(rows):
            continue
        images[rows] = damage(images[rows], strength[rows], dice[rows, 2:10])
        amount[rows] = strength[rows]
        if name == "colour shift":
            of_colour[rows] = 0
    return images, amount, of_colour


def train(data: Path, out: Path, iterations: int = ITERATIONS) -> dict[str, Any]:
    """Train from scratch; write OUT and, beside it, a .json file with hash, recipe and held-out accuracies.

    Returns the contents of that file. Raises UserError where DATA is no set of faces.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    level = open_dataset(data, 64)
    if level.manifest.data_set != "faces":
        raise UserError(
            f"{data}: is a set of {level.manifest.data_set}; make one with `python -m data_shards make faces`"
        )
    images, targets = _load(level)
    net = FaceNet(heads_of(level.manifest.factors)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=iterations, pct_start=0.1)
    started = time.monotonic()
    for iteration in range(iterations):
        positions = torch.arange(iteration * BATCH, (iteration + 1) * BATCH)
        rows = integers(SEED, Purpose.FACE_NET, positions, (), len(images))
        batch, amount, of_colour = damaged(images[rows].float() / 255, positions)
        batch = batch.contiguous(memory_format=torch.channels_last)
        wanted = {name: target[rows] for name, target in targets.items()} | {DAMAGE: amount}
        with torch.autocast("cpu", torch.bfloat16):
            prediction = net(batch)
        prediction = {name: value.float() for name, value in prediction.items()}
        loss = losses_of(net.heads, prediction, wanted, of_colour)
        step(loss, optimizer, schedule)
        report(iteration, iterations, loss, BATCH, started)
    return _write(net, out, _described(level), iterations)


def _described(level: Level) -> dict[str, Any]:
    """What the network was trained on."""
    factors = [factor.model_dump(mode="json") for factor in level.manifest.factors]
    return {"faces": level.count, "recipe": level.manifest.recipe, "factors": factors}


def _load(level: Level) -> tuple[Tensor, dict[str, Tensor]]:
    """All images uint8 [N, 3, 64, 64] and what the network should predict for them."""
    ids = np.arange(level.count)
    images = torch.cat([level.read_samples(part) for part in np.array_split(ids, max(1, len(ids) // 512))])
    assert level.factors is not None
    assert level.factor_values is not None
    return images, targets_of(level.manifest.factors, level.factors, level.factor_values)


@torch.no_grad()
def accuracies(net: FaceNet, images: Tensor, targets: dict[str, Tensor]) -> dict[str, float]:
    """Return by factor the share of right classes, or R^2 (mean over cosine and sine where it is circular).

    images: uint8 [N, 3, 64, 64].
    """
    parts = [net(part.float().contiguous(memory_format=torch.channels_last) / 255) for part in images.split(256)]
    found = {head.name: torch.cat([part[head.name] for part in parts]) for head in net.heads}
    scores: dict[str, float] = {}
    for head in net.heads:
        predicted, target = found[head.name], targets[head.name]
        if head.kind == "class":
            scores[head.name] = float((predicted.argmax(1) == target).double().mean())
        else:
            residual = (predicted - target).double().square().sum(0) / (target - target.mean(0)).double().square().sum(
                0
            )
            scores[head.name] = float((1 - residual).mean())
    return scores


def test(net: FaceNet) -> dict[str, Any]:
    """Test on clean and on damaged held-out faces: accuracies by factor, and the damage that is read."""
    style = open_style()
    values = draw_values(style.factors, np.arange(FIRST_HELD_OUT, FIRST_HELD_OUT + HELD_OUT))
    images = torch.from_numpy(render_values(style, values, 64)).permute(0, 3, 1, 2).contiguous()
    continuous = [isinstance(factor, Continuous) for factor in style.factors]
    factors = [factor.described for factor in style.factors]
    targets = targets_of(factors, classes_of(style.factors, values), values[:, continuous])
    net.eval()
    scores: dict[str, Any] = {"faces": HELD_OUT, "clean": accuracies(net, images, targets)}
    dice = uniform(SEED + 2, Purpose.FACE_NET, torch.arange(HELD_OUT), (8,))
    half = torch.full((HELD_OUT,), 0.5)
    for name, damage in DAMAGES.items():
        changed = (damage(images.float() / 255, half, dice) * 255 + 0.5).to(torch.uint8)
        scores[name] = accuracies(net, changed, targets)
    return scores


def _write(net: FaceNet, out: Path, recipe: dict[str, Any], iterations: int) -> dict[str, Any]:
    """Write the weights in half precision; then test what was written, and write that with hash and recipe."""
    out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.half().contiguous() for name, t in net.state_dict().items()}
    weights = save(tensors)
    net.load_state_dict({name: t.float() for name, t in tensors.items()})
    record = {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "command": COMMAND,
        "seed": SEED,
        "iterations": iterations,
        "batch_size": BATCH,
        "data": recipe,
        "torch": torch.__version__,
        "held_out": test(net),
    }
    publish(out.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())
    publish(out, weights)
    return record


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m evaluation.factors.train_face_net DATA OUT.safetensors")
    train(Path(sys.argv[1]), Path(sys.argv[2]))
