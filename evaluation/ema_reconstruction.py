"""Any power-function average of a run's generator, after the run, from the averages that it stored.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", post-hoc EMA: an average over
the weights of a run is a function of time, how much each weight counts in it. The wanted function is a linear
combination of the stored ones, by least squares, and the wanted average is the same combination of the stored averages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from evaluation.inputs.run import Run
from trainer.checkpoints import ema_snapshots
from trainer.checkpoints.ema_snapshots import Facts
from trainer.config.schema import GanConfig
from trainer.config.sections import PowerAverage
from trainer.steps import ema

Float = NDArray[np.float64]
WIDEST = 0.28  # gamma reaches 0, which weighs all images alike, at 0.2887
LIMIT = 0.1  # relative residual of what still goes by a profile's name
TOLD = 3  # weights at each end
CUTOFF = 1e-12  # of the singular values: without it snapshots that are nearly alike would get huge opposite weights


class Profile(NamedTuple):
    """p(tau) = (gamma + 1) / t * (tau / t)^gamma on [0, t], with integral 1. t: images, gamma: arrays of one shape."""

    t: Float
    gamma: Float


def inner(a: Profile, b: Profile) -> Float:
    """The integral of p_a p_b over all tau, in 1 / images, for every a (rows) and b (columns): [A, B]."""
    ta, ga, tb, gb = a.t[:, None], a.gamma[:, None], b.t[None], b.gamma[None]
    end = np.minimum(ta, tb)  # both are 0 after their own t
    return (ga + 1) * (gb + 1) / (ga + gb + 1) * end / (ta * tb) * (end / ta) ** ga * (end / tb) ** gb


def fit(stored: Profile, wanted: Profile) -> tuple[Float, Float]:
    """Weights [S, W] of the stored profiles for each wanted one, and the relative residuals [W].

    Least squares among weights with sum 1 (the paper leaves the sum free): so a parameter that no average moved, as
    those of a stage to come, is that parameter again. The residual is ||p - sum w_i p_i|| / ||p||.
    """
    gram, right = inner(stored, stored), inner(stored, wanted)
    own = inner(wanted, wanted).diagonal()
    scale = gram.diagonal() ** -0.5  # to unit norm
    border = (scale / scale.mean())[:, None]
    system = np.block([[gram * scale[:, None] * scale, border], [border.T, np.zeros((1, 1))]])
    one = np.full((1, right.shape[1]), 1 / scale.mean())
    solved = np.linalg.lstsq(system, np.vstack([right * scale[:, None], one]), rcond=CUTOFF)[0]
    weights = solved[:-1] * scale[:, None]
    square = own - 2 * (weights * right).sum(0) + (weights * (gram @ weights)).sum(0)
    return weights, np.sqrt(np.maximum(square, 0) / own)


def reconstruct(run: Run, sigma_rel: float, at: int | None, out: Path | None) -> dict[str, Any]:
    """Write the average of width sigma_rel at `at` images (None: the last snapshot); the record of how it was made.

    Raises a UserError where the snapshots do not allow it.
    """
    if not 0 < sigma_rel <= WIDEST:
        raise UserError(f"--sigma-rel: {sigma_rel:g} is no width; choose one above 0 and up to {WIDEST}")
    found = _snapshots(run)
    end = _end(found, at)
    used = {path: facts for path, facts in found.items() if facts.images_seen <= end}
    last = next(facts for facts in used.values() if facts.images_seen == end)
    stored = _profiles([facts.images_seen for facts in used.values()], [facts.gamma for facts in used.values()])
    gamma = ema.gamma(sigma_rel)
    weights, residuals = fit(stored, _profiles([end], [gamma]))
    if residuals[0] > LIMIT:
        raise UserError(_too_far(sigma_rel, end, stored, float(residuals[0])))
    path = out or ema_snapshots.folder(run.path) / "reconstructed" / ema_snapshots.name_of(end, _name(sigma_rel))
    if path.resolve() in {snapshot.resolve() for snapshot in found}:
        raise UserError(f"--out: {path} is a snapshot, which is never replaced; choose another name")
    mixed = combine(run, list(used), weights[:, 0])
    facts = Facts(end, sigma_rel, gamma, last.resolution, last.alpha, last.settings)
    content = ema_snapshots.write(path, mixed, facts)
    return {
        "sigma_rel": sigma_rel,
        "gamma": gamma,
        "at": end,
        "snapshots": len(used),
        "stored": sorted({facts.sigma_rel for facts in used.values()}),
        "residual": float(residuals[0]),
        "weights": _told(list(used), weights[:, 0]),
        "file": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def combine(run: Run, paths: Sequence[Path], weights: Float) -> dict[str, Tensor]:
    """sum w_i * (weights in file i), in float64, then in the generator's precision. One file at a time is in memory."""
    assert run.generator is not None
    like: dict[str, Tensor] = run.generator.network.state_dict()  # type: ignore[union-attr]
    total = {name: torch.zeros_like(t, dtype=torch.float64) for name, t in like.items()}
    kinds: dict[str, torch.dtype] = {}
    for path, weight in zip(paths, weights.tolist(), strict=True):
        for name, tensor in ema_snapshots.read(path, like).items():
            total[name] += weight * tensor.double()
            kinds[name] = tensor.dtype
    return {name: t.to(kinds[name]) for name, t in total.items()}


def _snapshots(run: Run) -> dict[Path, Facts]:
    """The run's, by the clock. One that is truncated or of other settings is refused by its name."""
    if not isinstance(run.config, GanConfig):
        raise UserError(
            f"{run.path}: is a run of stage 1, which averages nothing; name a run of `python -m trainer gan`"
        )
    settings = ema_snapshots.identity(run.manifest["config"], run.manifest["facts"])
    found = {path: ema_snapshots.read_facts(path, settings) for path in ema_snapshots.files(run.path)}
    if not found:
        raise UserError(
            f"{ema_snapshots.folder(run.path)}: holds no snapshots; train with ema.snapshot_kimg=100 and "
            "'ema.averages=[{sigma_rel: 0.05}, {sigma_rel: 0.1}]'"
        )
    return found


def _end(found: dict[Path, Facts], at: int | None) -> int:
    times = sorted({facts.images_seen for facts in found.values()})
    if at is None or at in times:
        return times[-1] if at is None else at
    near = ", ".join(map(str, sorted(sorted(times, key=lambda t: abs(t - at))[:2])))
    raise UserError(f"--at: {at}: no snapshot was written there, and the last one at {times[-1]}; the nearest: {near}")


def _profiles(times: Sequence[int], gammas: Sequence[float]) -> Profile:
    return Profile(np.array(times, np.float64), np.array(gammas, np.float64))


def _too_far(sigma_rel: float, end: int, stored: Profile, residual: float) -> str:
    """Why not, and which widths could be."""
    widths = np.geomspace(0.001, WIDEST, 200)
    _, residuals = fit(stored, _profiles([end] * len(widths), [ema.gamma(float(s)) for s in widths]))
    can = widths[residuals <= LIMIT]
    between = f"choose one from {can.min():.2g} to {can.max():.2g}, or " if len(can) else ""
    return (
        f"--sigma-rel: {sigma_rel:g} is too far from what {len(stored.t)} snapshots up to {end} images can give "
        f"(relative residual {residual:.0%}, at most {LIMIT:.0%}); {between}train with a smaller ema.snapshot_kimg"
    )


def _name(sigma_rel: float) -> str:
    return PowerAverage(sigma_rel=sigma_rel).name


def _told(paths: Sequence[Path], weights: Float) -> dict[str, Any]:
    """The extremes: float32 noise of the snapshots counts sum_of_sizes times in the sum."""
    order = np.argsort(weights)
    ends = {"largest": order[::-1][:TOLD], "smallest": order[:TOLD]}
    listed = {name: [{"file": paths[i].name, "weight": float(weights[i])} for i in at] for name, at in ends.items()}
    return {**listed, "sum": float(weights.sum()), "sum_of_sizes": float(np.abs(weights).sum())}
