"""What each latent moves in the generated image, and what all hold of a real one, as the data set's extractor sees it.

The latents are those of c; in a GAN without a code they are those of s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from evaluation.inputs.images import BLOCK, code_source, codes, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run
from trainer.pictures.traversals import COLLAPSED, largest_kl_first
from trainer.pictures.walks import traversal_codes
from trainer.steps.losses import kl_per_latent

from .extractor import Extractor

BASES = 64
MEANS = 4096  # reals behind R^2 of the encoder's means, half of which the regression is fitted to
MOVED = 0.2  # of a factor's full range: less than this is no movement
HELD = "The last row: what all latents hold of a factor, R^2 of boosted trees on the means of q, on held-out reals."
Decode = Callable[[Tensor], Tensor]
"""latents [B, K, dim] -> uint8 images [B, K, C, R, R]."""


def names(run: Run) -> list[str]:
    """Return the names of the latents: c1, c2, ... or, without a code, s1, s2, ..."""
    return [f"c{j + 1}" for j in range(run.c_dim)] or [f"s{j + 1}" for j in range(run.s_dim)]


@torch.no_grad()
def bases(run: Run, seed: int, count: int) -> Tensor:
    """Draw the latents that traversals start from, as in training: [count, dim]."""
    at = torch.arange(count)
    return codes(run, seed, at, code_source(run, None), 0) if run.c_dim else nuisance(run, seed, at)


@torch.no_grad()
def decoded(run: Run, c: Tensor, size: int) -> Tensor:
    """Decode codes [B, c_dim] by the VAE and enlarge the images to `size` px (nearest): uint8 [B, C, size, size]."""
    images = of_codes(run, "vae", c, c[:, :0])
    return torch.nn.functional.interpolate(images, size=size)


def decoder(run: Run, seed: int) -> Decode:
    """Return the averaged generator with one s for each base, or in stage 1 the VAE, as a function of latents."""

    def decode(latents: Tensor) -> Tensor:
        """Make uint8 images [B, K, C, R, R] of latents [B, K, dim]."""
        count, steps = latents.shape[:2]
        flat = latents.flatten(0, 1)
        s = nuisance(run, seed, torch.arange(count)).repeat_interleave(steps, 0)
        c, s = (flat, s) if run.c_dim else (flat[:, :0], flat)
        return of_codes(run, own_kind(run), c, s).unflatten(0, (count, steps))

    return decode


@torch.no_grad()
def movement(run: Run, extractor: Extractor, seed: int) -> dict[str, Any]:
    """Measure for each latent the share of its full range that each factor moves over, mean of 64 base codes.

    "clear" lists the latents under which one factor moves over at least MOVED, and over twice the share of the others.
    """
    base, decode = bases(run, seed, BASES), decoder(run, seed)
    matrix = [extractor.shares_of_range(decode(traversal_codes(base, j))) for j in range(len(names(run)))]
    clear = []
    for latent, row in enumerate(matrix):
        best, second = sorted(row, reverse=True)[:2]
        if best >= MOVED and best >= 2 * second:
            clear.append({"latent": latent, "factor": extractor.movable[row.index(best)]})
    return {"latents": names(run), "factors": list(extractor.movable), "share_of_range": matrix, "clear": clear}


def columns(record: dict[str, Any]) -> list[str]:
    """Return the titles of a record's table."""
    return ["latent", *record["factors"], "moves alone"]


def table_rows(record: dict[str, Any]) -> list[list[str]]:
    """Format a record as the rows of a table under `columns`."""
    clear = {entry["latent"]: entry["factor"] for entry in record["clear"]}
    named = zip(record["latents"], record["share_of_range"], strict=True)
    rows = [[name, *(f"{share:.0%}" for share in row), clear.get(j, "")] for j, (name, row) in enumerate(named)]
    held = record.get("means_r2")
    return [*rows, ["R2 of q's means", *(f"{held[name]:.3f}" for name in record["factors"]), ""]] if held else rows


@torch.no_grad()
def posteriors(run: Run, seed: int, count: int = 2048) -> tuple[Tensor, Tensor]:
    """Return mean and logvar of q for reals: [count, c_dim] each."""
    mean, logvar = run.require_encoder()(signed(run.reals.at(seed, torch.arange(count))))
    return mean, logvar


def kl(run: Run, seed: int) -> Tensor:
    """Return the KL of each latent's posterior from the prior in nats, mean over reals: [c_dim]; 0 if collapsed."""
    return kl_per_latent(*posteriors(run, seed))


@torch.no_grad()
def means_r2(run: Run, extractor: Extractor, seed: int) -> dict[str, float]:
    """Return R^2 of each reading of reals by boosted trees on q's means: what c holds of it.

    {} without q, and of a set of one image.

    A latent may wind: a hue that goes around once along it is all there, and a linear regression finds none of it. Half
    of MEANS reals are fitted, the other half predicted; variances of a reading's components are summed.
    """
    if run.q is None or run.reals.count < 2:
        return {}
    means, readings = [], []
    for positions in torch.arange(min(MEANS, run.reals.count)).split(BLOCK):  # more would repeat the first ones
        reals = run.reals.at(seed, positions)
        means.append(run.q(signed(reals.to(run.device)))[0].cpu())
        readings.append(extractor.readings(reals, run.data.variant))
    return {
        name: predicted_share(torch.cat(means).double(), torch.cat([part[name] for part in readings]).double())
        for name in readings[0]
    }


def predicted_share(x: Tensor, y: Tensor) -> float:
    """Return R^2 of y [N, K] on the second half of the rows, by trees on x [N, D] fitted to the first half.

    It is 0 where the trees predict worse than the mean does, as they may where x tells nothing of y.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # takes two seconds to import

    half = len(x) // 2
    first, second = x[:half].numpy(), x[half:].numpy()
    trees = (HistGradientBoostingRegressor(random_state=0).fit(first, column[:half].numpy()) for column in y.T)
    predicted = torch.stack([torch.from_numpy(fitted.predict(second)) for fitted in trees], 1)
    spread = (y[half:] - y[half:].mean(0)).square().sum()
    return max(0.0, float(1 - (y[half:] - predicted).square().sum() / spread)) if spread > 0 else 0.0


class Row(NamedTuple):
    """A traversal. name: c1 or s1; note: KL for a reader; images: uint8 [7, C, R, R]; c: codes [7, dim]."""

    name: str
    note: str
    images: Tensor
    c: Tensor


@dataclass(frozen=True)
class Chosen:
    """Which latents a figure traverses, in this order, under which names, and from which base.

    titles: a name for each latent, such as {"c3": "azimuth"}, or empty: all of them, the largest KL first; base_seed:
    draws the base and s, None is the figure's own seed.
    """

    titles: dict[str, str] = field(default_factory=dict)
    base_seed: int | None = None


ALL = Chosen()


def choose(run: Run, latents: str | None, titles: str | None, base_seed: int | None) -> Chosen:
    """Read comma-separated latents and their names. Raises UserError where a latent is unknown or named twice."""
    if latents is None:
        if titles is not None:
            raise UserError("--names: needs --latents, which says whose names they are")
        return Chosen({}, base_seed)
    wanted, known = [name.strip() for name in latents.split(",")], names(run)
    given = wanted if titles is None else [name.strip() for name in titles.split(",")]
    wrong = [name for name in wanted if name not in known]
    if wrong:
        raise UserError(f"--latents: {', '.join(map(repr, wrong))} is none of this run's; it has {', '.join(known)}")
    if len(set(wanted)) != len(wanted):
        raise UserError(f"--latents: {latents} has one of them twice; leave it out")
    if len(given) != len(wanted):
        raise UserError(f"--names: has {len(given)} names for {len(wanted)} latents; give one for each of {latents}")
    return Chosen(dict(zip(wanted, given, strict=True)), base_seed)


def traversal_rows(run: Run, seed: int, chosen: Chosen = ALL) -> list[Row]:
    """Traverse latents over linspace(-3, 3, 7) from one base (Figures A.2, A.3; A.8 and A.9 where some are chosen)."""
    base_seed = seed if chosen.base_seed is None else chosen.base_seed
    base, decode = bases(run, base_seed, 1), decoder(run, base_seed)
    codes_of = {name: traversal_codes(base, j) for j, name in enumerate(names(run))}
    notes = {names(run)[j]: note for j, note in by_kl(run, seed)}
    titles = chosen.titles or {name: name for name in notes}
    rows = []
    for name, title in titles.items():
        note = notes[name] if title == name else ", ".join(part for part in (name, notes[name]) if part)
        rows.append(Row(title, note, decode(codes_of[name])[0], codes_of[name][0]))
    return rows


def by_kl(run: Run, seed: int) -> list[tuple[int, str]]:
    """Return (latent, note on its KL), the largest KL first; without an encoder in their own order, without notes."""
    if run.q is None:
        return [(j, "") for j in range(len(names(run)))]
    return [
        (j, "collapsed" if nats < COLLAPSED else f"KL {nats:.2f} nats")
        for j, nats in largest_kl_first(posteriors(run, seed))
    ]
