"""`python -m trainer gan ...`, but for one thing: each batch's codes are those of the batch before it.

The paper's step takes the codes of a batch's reals and shows D those reals beside the images of those codes. That
alone pulls an image towards the real that its code came from, distillation or not. This takes the pairing away:

    python benchmarks/unpaired.py gan configs/dsprites/idgan_no_distill.yaml vae=RUN run=runs/unpaired ...
    python -m evaluation alignment runs/unpaired

A resume starts with a batch's own codes.
"""

from __future__ import annotations

import shlex
import sys

from torch import Tensor

from data_shards.cli import run
from trainer import __main__ as cli
from trainer.batches import Reals
from trainer.passes import Passes


def unpair() -> None:
    """Let the code of a batch come from the reals of the batch before."""
    of_this_batch = Passes.code
    last: dict[str, Tensor | None] = {}

    def of_the_last_batch(passes: Passes, reals: Reals) -> Tensor:
        before, last["twin"] = last.get("twin", reals.twin), reals.twin
        return of_this_batch(passes, reals._replace(twin=before))

    Passes.code = of_the_last_batch  # type: ignore[method-assign]


if __name__ == "__main__":
    if any(argument.startswith("micro_batch=") for argument in sys.argv):
        sys.exit("error: micro_batch: the batch before is one piece here; leave micro_batch out")
    unpair()
    cli._command = lambda: shlex.join(["python", "benchmarks/unpaired.py", *sys.argv[1:]])  # for RUN/exit.json
    run(cli.app)
