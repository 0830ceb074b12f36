"""Any power-function average of a run's generator, after the run, from the averages that it stored.

Source: Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", post-hoc EMA. An
average of a run's weights has a profile: how much the weights of each moment count in it, a function of time. The
wanted profile is approximated by a linear combination of the stored ones, by least squares; the wanted average is the
same combination of the stored averages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.arrays import Float64
from common.errors import UserError
from evaluation.inputs.run import Run
from trainer.checkpoints import ema_snapshots
from trainer.checkpoints.ema_snapshots import SnapshotMetadata
from trainer.config.schema import GanConfig
from trainer.config.sections import PowerAverage
from trainer.steps import ema

WIDEST = 0.28  # sigma_rel; at 0.2887 gamma is 0, which weighs all images alike
LIMIT = 0.1  # largest relative residual that is accepted
SHOWN = 3  # weights at each end
CUTOFF = 1e-12  # of singular values, relative: without it nearly equal snapshots would get huge opposite weights


class Profile(NamedTuple):
    """p(tau) = (gamma + 1) / t * (tau / t)^gamma on [0, t], with integral 1. t: images, gamma: arrays of one shape."""

    t: Float64
    gamma: Float64


def inner(a: Profile, b: Profile) -> Float64:
    """Return the integral of p_a p_b over all tau, in 1 / images, for every a (rows) and b (columns): [A, B]."""
    ta, ga, tb, gb = a.t[:, None], a.gamma[:, None], b.t[None], b.gamma[None]
    end = np.minimum(ta, tb)  # both are 0 after their own t
    return (ga + 1) * (gb + 1) / (ga + gb + 1) * end / (ta * tb) * (end / ta) ** ga * (end / tb) ** gb


def fit(stored: Profile, wanted: Profile) -> tuple[Float64, Float64]:
    """Return the weights [S, W] of the stored profiles for each wanted one, and the relative residuals [W].

    Least squares among weights with sum 1 (the paper leaves the sum free), so that a parameter that training has not
    moved, such as those of a later growth phase, stays what it is. The residual is ||p - sum w_i p_i|| / ||p||.
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
    """Write the average of width sigma_rel at `at` images (None: the last snapshot). Returns the record of it.

    Raises a UserError where the snapshots do not allow it, or where `out` is one of them.
    """
    if not 0 < sigma_rel <= WIDEST:
        raise UserError(f"--sigma-rel: {sigma_rel:g} is no width; choose one above 0 and up to {WIDEST}")
    snapshots = _snapshots(run)
    end = _end(snapshots, at)
    used = {path: snapshot for path, snapshot in snapshots.items() if snapshot.images_seen <= end}
    last = next(snapshot for snapshot in used.values() if snapshot.images_seen == end)
    gamma = ema.gamma(sigma_rel)
    weights, residual = _fit_snapshots(list(used.values()), end, sigma_rel)
    path = out or ema_snapshots.folder(run.path) / "reconstructed" / ema_snapshots.name_of(end, _name(sigma_rel))
    if path.resolve() in {snapshot.resolve() for snapshot in snapshots}:
        raise UserError(f"--out: {path} is a snapshot, which is never replaced; choose another name")
    average = combine(run, list(used), weights)
    metadata = SnapshotMetadata(end, sigma_rel, gamma, last.resolution, last.alpha, last.settings)
    content = ema_snapshots.write(path, average, metadata)
    return {
        "sigma_rel": sigma_rel,
        "gamma": gamma,
        "at": end,
        "snapshots": len(used),
        "stored": sorted({snapshot.sigma_rel for snapshot in used.values()}),
        "residual": residual,
        "weights": _extremes(list(used), weights),
        "file": str(path),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _fit_snapshots(used: Sequence[SnapshotMetadata], end: int, sigma_rel: float) -> tuple[Float64, float]:
    """Return the weights [S] of the snapshots and the relative residual. Raises a UserError above LIMIT."""
    stored = _profiles([snapshot.images_seen for snapshot in used], [snapshot.gamma for snapshot in used])
    weights, residuals = fit(stored, _profiles([end], [ema.gamma(sigma_rel)]))
    residual = float(residuals[0])
    if residual > LIMIT:
        raise UserError(_too_far(sigma_rel, end, stored, residual))
    return weights[:, 0], residual


def combine(run: Run, paths: Sequence[Path], weights: Float64) -> dict[str, Tensor]:
    """Return sum w_i * (weights in file i), summed in float64, in the files' precision. One file is loaded at once."""
    assert run.generator is not None
    like: dict[str, Tensor] = run.generator.network.state_dict()  # type: ignore[union-attr]
    total = {name: torch.zeros_like(t, dtype=torch.float64) for name, t in like.items()}
    dtypes: dict[str, torch.dtype] = {}
    for path, weight in zip(paths, weights.tolist(), strict=True):
        for name, tensor in ema_snapshots.read(path, like).items():
            total[name] += weight * tensor.double()
            dtypes[name] = tensor.dtype
    return {name: t.to(dtypes[name]) for name, t in total.items()}


def _snapshots(run: Run) -> dict[Path, SnapshotMetadata]:
    """Return the run's snapshots in the order of images seen. Raises UserError for a damaged one or other settings."""
    if not isinstance(run.config, GanConfig):
        raise UserError(
            f"{run.path}: is a run of stage 1, which averages nothing; name a run of `python -m trainer gan`"
        )
    settings = ema_snapshots.identity(run.manifest["config"], run.manifest["facts"])
    snapshots = {path: ema_snapshots.read_metadata(path, settings) for path in ema_snapshots.files(run.path)}
    if not snapshots:
        raise UserError(
            f"{ema_snapshots.folder(run.path)}: holds no snapshots; train with ema.snapshot_kimg=100 and "
            "'ema.averages=[{sigma_rel: 0.05}, {sigma_rel: 0.1}]'"
        )
    return snapshots


def _end(snapshots: dict[Path, SnapshotMetadata], at: int | None) -> int:
    """Return the images seen at the end of the average: `at`, or the last snapshot. Refuses where there is none."""
    times = sorted({snapshot.images_seen for snapshot in snapshots.values()})
    if at is None or at in times:
        return times[-1] if at is None else at
    near = ", ".join(map(str, sorted(sorted(times, key=lambda t: abs(t - at))[:2])))
    raise UserError(f"--at: {at}: no snapshot was written there, and the last one at {times[-1]}; the nearest: {near}")


def _profiles(times: Sequence[int], gammas: Sequence[float]) -> Profile:
    return Profile(np.array(times, np.float64), np.array(gammas, np.float64))


def _too_far(sigma_rel: float, end: int, stored: Profile, residual: float) -> str:
    """Say that a width cannot be made, and which ones can."""
    widths = np.geomspace(0.001, WIDEST, 200)
    _, residuals = fit(stored, _profiles([end] * len(widths), [ema.gamma(float(s)) for s in widths]))
    possible = widths[residuals <= LIMIT]
    between = f"choose one from {possible.min():.2g} to {possible.max():.2g}, or " if len(possible) else ""
    return (
        f"--sigma-rel: {sigma_rel:g} is too far from what {len(stored.t)} snapshots up to {end} images can give "
        f"(relative residual {residual:.0%}, at most {LIMIT:.0%}); {between}train with a smaller ema.snapshot_kimg"
    )


def _name(sigma_rel: float) -> str:
    return PowerAverage(sigma_rel=sigma_rel).name


def _extremes(paths: Sequence[Path], weights: Float64) -> dict[str, Any]:
    """Return the largest and smallest weights. sum_of_sizes: how much the snapshots' rounding errors are amplified."""
    order = np.argsort(weights)
    ends = {"largest": order[::-1][:SHOWN], "smallest": order[:SHOWN]}
    listed = {name: [{"file": paths[i].name, "weight": float(weights[i])} for i in at] for name, at in ends.items()}
    return {**listed, "sum": float(weights.sum()), "sum_of_sizes": float(np.abs(weights).sum())}
