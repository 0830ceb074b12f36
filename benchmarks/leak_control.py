"""Positive control of `evaluation leaks`: train stage 2 with an augmentation that must leak, then look for it.

    python benchmarks/leak_control.py CONFIG KEY=VALUE ...
    python -m evaluation leaks RUN

It is `python -m trainer gan`, but D sees its reals augmented and generated images as they are, so that G must draw
shifts, cuts and colours which no real image has. No config can ask for that.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import cli
from common.errors import UserError
from common.random_numbers import Purpose
from trainer import run
from trainer.__main__ import app
from trainer.steps.augment.augmenter import Augmentation, Augmenter

COMMAND = "python benchmarks/leak_control.py"
OF_FAKES = (Purpose.AUGMENT_FAKE, Purpose.AUGMENT_G)
augmentation = Augmenter.augmentation


def of_reals_alone(augmenter: Augmenter, purpose: Purpose, positions: Tensor, images: Tensor) -> Augmentation:
    """Return what acts on the images of a pass: nothing where they are generated.

    Raises a UserError without an augmentation.
    """
    if augmenter.config is None:
        raise UserError(f"augment: is not set, so nothing could leak; {COMMAND} needs augment.kind=diffaugment or ada")
    if purpose in OF_FAKES:
        return Augmentation()
    return augmentation(augmenter, purpose, positions, images)


if __name__ == "__main__":
    Augmenter.augmentation = of_reals_alone  # type: ignore[method-assign]
    run.typed_command = lambda: shlex.join([*COMMAND.split(), *sys.argv[2:]])  # what the run folder records
    sys.argv[1:1] = ["gan"]
    cli.run(app)
