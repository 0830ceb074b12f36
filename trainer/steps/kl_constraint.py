"""The kl_constraint variable of VGAN's bottleneck: what a nat of KL costs D, so that the KL stays at I_c."""

from __future__ import annotations

import torch
from torch import Tensor

from models import DiscriminatorOutput
from trainer.config.sections import BottleneckConfig
from trainer.distributed.world import World

from .running_means import Terms


class KLConstraint:
    """beta <- max(0, beta - beta_step * (I_c - KL)) after each D step, with the KL of the global batch (VGAN).

    beta: a 0-dim tensor on the device, training state like the weights. Without a bottleneck (config
    None) the penalty is 0 and there are no metrics.
    """

    def __init__(self, config: BottleneckConfig | None, world: World, dtype: torch.dtype) -> None:
        self.config, self.world = config, world
        self.names = ("kl", "beta") if config else ()
        self.beta = torch.full((), config.beta if config else 0.0, device=world.device, dtype=dtype)

    def penalty(self, judged: DiscriminatorOutput) -> Tensor | float:
        """The term in D's loss, half from the reals and half from the fakes."""
        return 0.0 if judged.kl is None else self.beta * judged.kl.mean() / 2

    def metrics(self, real: DiscriminatorOutput, fake: DiscriminatorOutput) -> dict[str, Tensor]:
        """The KL in nats, mean of real and fake."""
        return {} if real.kl is None or fake.kl is None else {"kl": (real.kl.mean() + fake.kl.mean()) / 2}

    def step(self, terms: Terms) -> None:
        """Move beta by the KL in terms; what beta was in this D step goes there too."""
        if self.config is None:
            return
        terms["beta"] = self.beta.clone()
        kl = self.world.all_reduce_mean_(terms["kl"].clone())
        self.beta.sub_(self.config.beta_step * (self.config.information - kl)).clamp_(min=0)
