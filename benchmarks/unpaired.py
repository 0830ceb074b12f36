"""`python -m trainer gan ...`, but for one thing: each batch's codes are those of the batch before it.

The paper's step takes the codes of a batch's reals and shows D those reals beside the images of those codes. That
alone pulls an image towards the real that its code came from, distillation or not. This takes the pairing away:

    python benchmarks/unpaired.py gan configs/dsprites/idgan_no_distill.yaml vae=RUN run=runs/unpaired ...
    python -m evaluation alignment runs/unpaired

A resume starts with a batch's own codes.
"""

from __future__ import annotations

from torch import Tensor

from data_shards.cli import run
from trainer.__main__ import app
from trainer.batches import Reals
from trainer.gan_step import GanStep


def unpair() -> None:
    """Let every GanStep look at the reals of its last batch for the codes."""
    of_this_batch, last = GanStep.code, {}

    def of_the_last_batch(step: GanStep, reals: Reals) -> Tensor:
        before, last["twin"] = last.get("twin", reals.twin), reals.twin
        return of_this_batch(step, reals._replace(twin=before))

    GanStep.code = of_the_last_batch  # type: ignore[method-assign]


if __name__ == "__main__":
    unpair()
    run(app)
