"""Signs of a collapse in one tick, as pure functions of its means, the spread of samples and the ticks before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from trainer.config.schema import GanConfig, WatchConfig

LOGITS, SAMPLES, BETA = "logits", "samples", "beta"
GRADIENTS = {  # term: sign
    "grad_norm_d": "gradient_d",
    "grad_norm_g": "gradient_g",
    "grad_norm_q": "gradient_q",  # of InfoGAN's q, which learns with G
}
BOTTLENECK_BETA = 100.0  # what watch.bottleneck_beta: null stands for


class Sign(NamedTuple):
    """A sign in one tick. name: logits, samples, beta, or gradient_ and the network; text: value and threshold."""

    name: str
    value: float
    text: str
    remedy: str


def starts(config: WatchConfig, images_seen: int) -> bool:
    """Return whether a run is still in the stretch whose signs do not count."""
    return images_seen < config.from_kimg * 1000


def signs(
    config: GanConfig,
    watch: WatchConfig,
    images_seen: int,
    terms: Mapping[str, float],
    sample_spread: float,
    typical: Mapping[str, float],
) -> list[Sign]:
    """Return the signs of a tick.

    images_seen: at its end; terms: means over it; sample_spread: the samples' standard deviation as a part of the
    reals'; typical: norms of gradients as they are as a rule, by term, without those that are not known yet.
    """
    gap = terms["logit_real"] - terms["logit_fake"]
    found = [*_gradients(config, watch, images_seen, terms, typical)]
    if gap >= watch.logit_gap:
        text = f"D's logits for reals and fakes are {gap:.4g} apart (watch.logit_gap: {watch.logit_gap:g})"
        found.append(Sign(LOGITS, gap, text, "raise r1, or lower optimizer_d.lr"))
    if sample_spread <= watch.sample_spread:
        text = (
            f"samples differ from each other by {sample_spread:.3g} of what reals do (watch.sample_spread: "
            f"{watch.sample_spread:g})"
        )
        found.append(Sign(SAMPLES, sample_spread, text, _less_of_g(config)))
    limit = watch.bottleneck_beta or BOTTLENECK_BETA
    if config.bottleneck and terms["beta"] >= limit:
        text = f"the bottleneck's beta is {terms['beta']:.4g} (watch.bottleneck_beta: {limit:g})"
        found.append(Sign(BETA, terms["beta"], text, "lower bottleneck.beta_step, or raise bottleneck.information"))
    return found


def _gradients(
    config: GanConfig,
    watch: WatchConfig,
    images_seen: int,
    terms: Mapping[str, float],
    typical: Mapping[str, float],
) -> Iterator[Sign]:
    """Yield a sign for each gradient that has vanished or explodes.

    At the start of a run gradients rise from next to nothing: only one that vanishes is a sign there.
    """
    factor = watch.gradient_factor
    for term, name in GRADIENTS.items():
        if term not in terms:
            continue
        value, usual, network = terms[term], typical.get(term), name[-1]
        text = f"the norm of {network if network == 'q' else network.upper()}'s gradient is {value:.3g}"
        if usual is not None:
            text += f", as a rule {usual:.3g}"
        text += f" (watch.gradient_factor: {factor:g})"
        if value == 0 or (usual is not None and value * factor < usual):
            yield Sign(name, value, text, "lower optimizer_d.lr" if network == "d" else _less_of_g(config))
        elif usual is not None and value > usual * factor and not starts(watch, images_seen):
            yield Sign(name, value, text, f"lower optimizer_{network}.lr, or raise r1")


def _less_of_g(config: GanConfig) -> str:
    """Say what lets a generator live."""
    if config.code_loss == "info":
        return "lower code_weight and optimizer_q.lr, or optimizer_g.lr"
    return "lower optimizer_g.lr, or raise optimizer_d.lr"
