"""How often the class that a generator was told is the one that the network of the data set reads from the image."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from common.progress import progress_bar
from evaluation.factors.extractor import Extractor
from evaluation.inputs.choices import Codes
from evaluation.inputs.images import BLOCK, codes, nuisance, of_codes
from evaluation.inputs.run import Run
from trainer.labels.labels import Label

log = logging.getLogger(__name__)
COLUMNS = ("label", "class", "reals", "found", "found, codes of any class", "chance")


class Found(NamedTuple):
    """Shares of images, [0, 1], from which the network reads the class that was asked for.

    reals: of the class; own: with codes of reals of the class, as in training; any_code: with codes of all reals, so
    that what tells the class is the label alone; chance: of a guess.
    """

    reals: float
    own: float
    any_code: float
    chance: float


def measure(run: Run, extractor: Extractor, samples: int, source: Codes, seed: int) -> dict[str, dict[str, Found]]:
    """Measure every label that the network reads: {label: {class: Found}}, `samples` images of each class.

    Raises a UserError where the run has no such label.
    """
    found: dict[str, dict[str, Found]] = {}
    with progress_bar() as bar:
        for label, k in _with_images(run, readable(run, extractor)):
            task = bar.add_task(f"{label.name}={label.classes[k]}", total=samples)
            of_class = _of_class(run, extractor, label, k, samples, source, seed)
            found.setdefault(label.name, {})[label.classes[k]] = of_class
            bar.advance(task, samples)
    return found


def _with_images(run: Run, labels: Sequence[Label]) -> Iterator[tuple[Label, int]]:
    """Yield every class that the set has images of; of others say that they are left out."""
    assert run.labels is not None
    for label in labels:
        row = run.labels.rows[:, run.labels.labels.labels.index(label)]
        for k, name in enumerate(label.classes):
            if bool((row == k).any()):
                yield label, k
            else:
                log.warning("warning: %s=%s is left out: the set has no image of it", label.name, name)


def readable(run: Run, extractor: Extractor) -> list[Label]:
    """Return the labels of a run that the network reads."""
    if run.generator is None or run.labels is None:
        raise UserError(f"{run.path}: was trained without labels; name a run of stage 2 with `labels`")
    sizes = {name: part.shape[1] for name, part in extractor.readings(_first_real(run), run.data.variant).items()}
    labels = [label for label in run.labels.labels.labels if sizes.get(label.name) == len(label.classes)]
    if not labels:
        known = ", ".join(name for name, size in sizes.items() if size > 1)
        raise UserError(f"{run.path}: its labels are none that the network reads; it reads {known}")
    return labels


def _first_real(run: Run) -> Tensor:
    return run.reals.at(0, torch.arange(1))


@torch.no_grad()
def _of_class(run: Run, extractor: Extractor, label: Label, k: int, samples: int, source: Codes, seed: int) -> Found:
    """Measure one class."""
    of_class, counts = run.of_class(f"{label.name}={label.classes[k]}", "labels"), torch.zeros(3)
    for at in torch.arange(samples).split(BLOCK):
        s = nuisance(of_class, seed, at)
        own, any_code = (of_codes(run, "gan", codes(of, seed, at, source, 0), s) for of in (of_class, run))
        for place, images in enumerate((of_class.reals.at(seed, at), own, any_code)):
            read = extractor.readings(images.cpu(), run.data.variant)[label.name].argmax(1)
            counts[place] += (read == k).sum()
    reals, found, with_any_code = (counts / samples).tolist()
    return Found(reals, found, with_any_code, 1 / len(label.classes))


def table_rows(found: dict[str, dict[str, Found]]) -> list[list[str]]:
    """Format results as rows under COLUMNS, with the mean over the classes of each label."""
    rows = []
    for label, classes in found.items():
        rows += [[label, name, *(f"{share:.1%}" for share in each)] for name, each in classes.items()]
        means = (sum(column) / len(column) for column in zip(*classes.values(), strict=True))
        rows.append([label, "mean", *(f"{mean:.1%}" for mean in means)])
    return rows
