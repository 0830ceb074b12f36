"""Who controls what in a generated image: the code c or the nuisance vector s.

ID-GAN wants c to hold what the VAE has found and s to hold the rest. Every code of a sample meets every s of a sample;
for a scalar f of the image, such as the x of its sprite or face, the analysis of variance over that full grid says how
much of Var f each of the two explains (first-order Sobol indices: Sobol, 2001, section 3).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.arrays import Float64
from common.errors import UserError
from common.progress import progress_bar
from evaluation.inputs.choices import Codes
from evaluation.inputs.images import codes, generate, nuisance
from evaluation.inputs.run import Run
from trainer.pictures.traversals import COLLAPSED

from .extractor import Extractor
from .latents import kl

GRID = 64  # codes, and as many nuisance vectors: every pair is one image
CONSTANT = 1e-4  # a smaller standard deviation counts as none: 1/300 px of a position, 1/40 of a grey level
COLUMNS = ("factor", "R2 of q's means", "share of c", "share of s", "total std", "of a range")
OLDER_UNITS = {"scale": "0.5 to 1", "shape": "3 probabilities"}  # of records without units; all others: 0 to 1


class Shares(NamedTuple):
    """Shares of a factor's variance that c and s control, in [0, 1]; None where it does not vary.

    std: standard deviation over all images, in the factor's units.
    """

    c: float | None
    s: float | None
    std: float


def shares(values: Float64) -> Shares:
    """Return how much of the variance of f(c, s) each argument controls.

    values: f on a full grid of codes (rows) and nuisance vectors (columns), [C, S], or [C, S, K] where f has K
    components, whose variances are summed. With the variances of the grid itself (1/N) and Var f over all its pairs,

        share of c = 1 - E_c[Var_s f] / Var f = Var_c(E_s f) / Var f        share of s = 1 - E_s[Var_c f] / Var f

    The second form is the law of total variance, exact on a full grid. An f of c alone has shares 1 and 0, and those
    of a(c) + b(s) sum to 1. In general they sum to less: the rest is interaction, what c and s decide only together
    (all of a(c) * b(s) where both have mean 0). Noise that neither decides still has about 1/C and 1/S.
    """
    f = values.reshape(*values.shape[:2], -1)
    total = float(f.var((0, 1)).sum())
    if total**0.5 < CONSTANT:
        return Shares(None, None, total**0.5)
    share_c, share_s = (max(0.0, 1 - float(f.var(axis).mean(0).sum()) / total) for axis in (1, 0))
    return Shares(share_c, share_s, total**0.5)


@torch.no_grad()
def control(run: Run, extractor: Extractor, source: Codes, seed: int) -> dict[str, Shares]:
    """Measure the shares by factor over GRID x GRID pairs.

    What is read from an image is the extractor's `readings`. Collapsed latents of c, which say nothing of the image
    that was encoded, are drawn with s.
    """
    check(run)
    assert run.generator is not None
    at = torch.arange(GRID)
    s, drawn, noise = nuisance(run, seed, at), codes(run, seed, at, source, 0), collapsed(run, seed)
    rows: list[dict[str, Tensor]] = []
    with progress_bar() as bar:
        task = bar.add_task("control", total=GRID**2)
        for code in drawn:
            c = code.repeat(GRID, 1)
            c[:, noise] = drawn[:, noise]
            images = generate(run.generator, s, c)
            rows.append(extractor.readings(images, run.data.variant))
            bar.advance(task, GRID)
    return {name: shares(torch.stack([row[name] for row in rows]).double().numpy()) for name in rows[0]}


def collapsed(run: Run, seed: int) -> list[int]:
    """Return the latents of c whose posteriors are the prior's; none where there is no encoder."""
    if run.q is None:
        return []
    return [j for j, nats in enumerate(kl(run, seed).tolist()) if nats < COLLAPSED]


def check(run: Run) -> None:
    """Refuse a run that lacks c or s."""
    if run.generator is None:
        raise UserError(f"{run.path}: is a run of stage 1, which has no s; name a run of stage 2 with s_dim > 0")
    if not run.c_dim:
        raise UserError(
            f"{run.path}: a {run.config.system} without a code, so that s controls everything; name a run of another "
            "system with s_dim > 0"
        )
    if not run.s_dim:
        raise UserError(
            f"{run.path}: s_dim is 0: the code is all that the generator sees, so that c controls everything; name a "
            "run with s_dim > 0"
        )


def table_rows(record: dict[str, Any]) -> list[list[str]]:
    """Format a record as the rows of a table under COLUMNS."""
    rows, units = [], record.get("units", OLDER_UNITS)
    for name, factor in record["factors"].items():
        both = ["constant", "constant"] if factor["c"] is None else [f"{factor[by]:.1%}" for by in ("c", "s")]
        held = record.get("means_r2", {}).get(name)
        rows.append(
            [name, "" if held is None else f"{held:.3f}", *both, f"{factor['std']:.3f}", units.get(name, "0 to 1")]
        )
    return rows
