"""How much an image tells of the code that made it, in nats: the paper's R_ID(G) (A.13) and R_Info(G, q) (A.10).

R = H(c) - E[-log q(c|G(s, c))], a lower bound of the mutual information of code and image. ID-GAN: c ~ q(c), the
aggregated posterior of a frozen q, and what distillation maximises; a cGAN maximises it as well, if its D is optimal
(A.20). InfoGAN: c ~ N(0, I), and q is its own. R falls without bound where q finds another code in the image, or is too
sure of the right one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.arrays import Float64
from common.progress import progress_bar
from evaluation.inputs.choices import Codes, Kind
from evaluation.inputs.images import BLOCK, codes, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run
from trainer.steps.losses import code_nll_of_each

POSTERIORS = 50_000  # of the aggregated posterior at most
_AT_ONCE = 2**22  # densities, 32 MB
EXACT = "closed form"  # of N(0, I)
MIXTURE = "mixture of all posteriors"  # by as many samples as there are codes
STRATIFIED = "minibatch stratified sampling, equal weights of the others"  # see `log_aggregated`


class Estimate(NamedTuple):
    """A mean over samples and its standard error, nats."""

    mean: float
    error: float


def estimate(values: Float64) -> Estimate:
    """Return the mean of values [N], N > 1, with its standard error."""
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


def entropy_of_prior(c_dim: int) -> Estimate:
    """Return the entropy of N(0, I), which is exact."""
    return Estimate(c_dim / 2 * math.log(2 * math.pi * math.e), 0.0)


def log_aggregated(c: Tensor, means: Tensor, logvars: Tensor, count: int) -> Float64:
    """Return log q(c_i) of the aggregated posterior q(c) = sum_j q(c|x_j) / count, where c_i is a sample of q(c|x_i).

    c: [N, D]; means, logvars: [K, D], N <= K <= count, float64, of the images x_1, ..., x_K -> [N]. Exact for
    K = count, for the images as they were drawn. Else q(c_i|x_i) has its weight 1 / count, and the K - 1 others stand
    for all others (minibatch stratified sampling, Chen et al. 2018, "Isolating Sources of Disentanglement in VAEs",
    appendix C.1, whose formula gives one of the others less weight; here they have the same): without it a narrow
    posterior's own sample would seem to lie where nothing is. log q(c_i) is then too small in the mean, by Jensen.
    """
    precisions = (-logvars).exp()
    constant = (math.log(2 * math.pi) + logvars + means.square() * precisions).sum(1)
    found = []
    for rows in torch.arange(len(c)).split(max(1, _AT_ONCE // len(means))):
        part = c[rows]
        densities = -0.5 * (part.square() @ precisions.T - 2 * part @ (means * precisions).T + constant)
        own = densities[torch.arange(len(rows)), rows].clone()
        densities[torch.arange(len(rows)), rows] = -math.inf
        others = densities.logsumexp(1) - math.log(len(means) - 1)
        found.append(torch.logaddexp(own - math.log(count), others + math.log1p(-1 / count)))
    return torch.cat(found).numpy()


def entropy_of_aggregated(run: Run, c: Tensor, seed: int) -> tuple[Estimate, int]:
    """Estimate the entropy of the aggregated posterior from samples.

    c: [N, D], drawn at the evaluation's positions 0, ..., N - 1. Returns it with the number of posteriors.
    """
    q, count = run.require_encoder(), run.reals.count
    posteriors = min(count, max(POSTERIORS, len(c)))
    means, logvars = [], []
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("posteriors", total=posteriors)
        for positions in torch.arange(posteriors).split(BLOCK):
            mean, logvar = q(signed(run.reals.at(seed, positions).to(run.device)))
            means.append(mean.double().cpu())
            logvars.append(logvar.double().cpu())
            bar.advance(task, len(positions))
    log_q = log_aggregated(c.double().cpu(), torch.cat(means), torch.cat(logvars), count)
    return estimate(-log_q), posteriors


def information(run: Run, samples: int, seed: int, source: Codes, known: dict[str, Any] | None) -> dict[str, Any]:
    """Estimate R of a run's images, in nats, with its parts. source: of the codes, see `evaluation.inputs.images`.

    samples: codes, at least 2 and at most one for every image of the set. known: "entropy" of an earlier result for the
    same encoder, images, samples and seed, which is not estimated again. Kinds: "reals", where codes are posterior
    samples: of the image that a code is from, the mutual information that q finds in the data; "vae": the decodings,
    where a GAN has a VAE; the run's own images.
    """
    drawn, nll = _codes_and_nll(run, samples, seed, source)
    entropy = named(known or _entropy(run, drawn, seed, source))
    return {
        "codes": source,
        "samples": samples,
        "entropy": entropy,
        "kinds": {kind: _r(entropy, estimate(values)) for kind, values in nll.items()},
    }


def named(entropy: dict[str, Any]) -> dict[str, Any]:
    """Return an entropy with the name of how it was estimated. Records of earlier versions lack it."""
    if "posteriors" not in entropy:
        return entropy | {"estimate": EXACT}
    return entropy | {"estimate": MIXTURE if entropy["posteriors"] == entropy["images"] else STRATIFIED}


def _entropy(run: Run, drawn: Tensor, seed: int, source: Codes) -> dict[str, Any]:
    if source != "posterior":
        return entropy_of_prior(run.c_dim)._asdict()
    entropy, posteriors = entropy_of_aggregated(run, drawn, seed)
    return entropy._asdict() | {"posteriors": posteriors, "images": run.reals.count}


def _r(entropy: dict[str, Any], nll: Estimate) -> dict[str, Any]:
    """Return R. Its error adds both parts' as if they were independent: the entropy may be an earlier result's."""
    error = math.hypot(entropy["error"], nll.error)
    return {"nats": entropy["mean"] - nll.mean, "error": error, "code_nll": nll._asdict()}


def _codes_and_nll(run: Run, samples: int, seed: int, source: Codes) -> tuple[Tensor, dict[Kind, Float64]]:
    """Draw codes, and find -log q(c|x) of the images that are made of them, by kind."""
    q = run.require_encoder()
    kinds: list[Kind] = ["reals"] if source == "posterior" else []
    if run.generator is not None and run.vae is not None:
        kinds.append("vae")
    kinds.append(own_kind(run))
    drawn: list[Tensor] = []
    nll: dict[Kind, list[float]] = {kind: [] for kind in kinds}
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("information", total=samples)
        for positions in torch.arange(samples).split(BLOCK):
            c, s = codes(run, seed, positions, source, 0), nuisance(run, seed, positions)
            for kind in kinds:
                made = run.reals.at(seed, positions).to(run.device) if kind == "reals" else of_codes(run, kind, c, s)
                mean, logvar = q(signed(made))
                nll[kind] += code_nll_of_each(c, mean, logvar).tolist()
            drawn.append(c)
            bar.advance(task, len(positions))
    return torch.cat(drawn), {kind: np.array(values) for kind, values in nll.items()}
