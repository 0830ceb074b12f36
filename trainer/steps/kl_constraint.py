"""The dual variable beta of VGAN's bottleneck: the weight of the KL in D's loss, which moves to hold the KL at I_c."""

from __future__ import annotations

import torch
from torch import Tensor

from models import DiscriminatorOutput
from trainer.config.sections import BottleneckConfig
from trainer.distributed.world import World

from .running_means import Terms


class KLConstraint:
    """beta <- max(0, beta - beta_step * (I_c - KL)) after each D step, with the KL of the global batch (VGAN).

    beta is a 0-dim tensor on the device, and training state as the weights are. Without a bottleneck (config None) the
    penalty is 0 and there are no metrics.
    """

    def __init__(self, config: BottleneckConfig | None, world: World, dtype: torch.dtype) -> None:
        self.config, self.world = config, world
        self.names = ("kl", "beta") if config else ()
        self.beta = torch.full((), config.beta if config else 0.0, device=world.device, dtype=dtype)

    def penalty(self, output: DiscriminatorOutput) -> Tensor | float:
        """Return the term in D's loss for reals or fakes, each half of it."""
        return 0.0 if output.kl is None else self.beta * output.kl.mean() / 2

    def metrics(self, real: DiscriminatorOutput, fake: DiscriminatorOutput) -> dict[str, Tensor]:
        """Return the KL in nats, the mean of real and fake."""
        if real.kl is None or fake.kl is None:
            return {}
        return {"kl": (real.kl.mean() + fake.kl.mean()) / 2}

    def step(self, terms: Terms) -> None:
        """Move beta by the KL in terms, and add the beta that this D step used to them."""
        if self.config is None:
            return
        terms["beta"] = self.beta.clone()
        kl = self.world.all_reduce_mean_(terms["kl"].clone())
        self.beta.sub_(self.config.beta_step * (self.config.information - kl)).clamp_(min=0)
