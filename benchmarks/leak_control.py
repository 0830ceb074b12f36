"""Positive control of `evaluation leaks`: train stage 2 with an augmentation that must leak, then look for it.

    python benchmarks/leak_control.py CONFIG KEY=VALUE ...
    python -m evaluation leaks RUN

It is `python -m trainer gan`, but D sees its reals augmented and generated images as they are, so that G must draw
shifts, cuts and colours which no real image has. No config can ask for that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import cli
from common.random_numbers import Purpose
from trainer.__main__ import app
from trainer.steps.augment.augmenter import Augmentation, Augmenter

OF_FAKES = (Purpose.AUGMENT_FAKE, Purpose.AUGMENT_G)
augmentation = Augmenter.augmentation


def of_reals_alone(augmenter: Augmenter, purpose: Purpose, positions: Tensor, images: Tensor) -> Augmentation:
    """Return what acts on the images of a pass: nothing where they are generated."""
    if purpose in OF_FAKES:
        return Augmentation()
    return augmentation(augmenter, purpose, positions, images)


if __name__ == "__main__":
    Augmenter.augmentation = of_reals_alone  # type: ignore[method-assign]
    sys.argv = ["python -m trainer", "gan", *sys.argv[1:]]
    cli.run(app)
