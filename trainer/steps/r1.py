"""R1 together with D's loss on the reals (R2: the fakes), by one forward and one backward pass through D's trunk.

losses.image_gradient and losses.gradient_penalty need D twice: for the gradient at the image, and for its tangent with
a backward pass of its own. But the trunk is piecewise linear, so the backward pass to the image has found all that the
weights' gradients need (models/recorded_pass.py). What it cannot say is done by the head, which is small, and by a
second backward pass where D has a bottleneck: its KL and its noise are not linear in the features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import record_function

from models import ConvDiscriminator, Discriminator, DiscriminatorOutput
from models.recorded_pass import RecordedPass

from .augment.augmenter import Augmentation


def add_gradients(
    d: ConvDiscriminator | Discriminator,
    x: Tensor,
    loss: Callable[[DiscriminatorOutput], Tensor],
    weight: float,
    augmentation: Augmentation,
    *,
    noise: Tensor | None,
    c: Tensor | None,
    y: Tensor | None,
    alpha: Tensor | None,
) -> tuple[DiscriminatorOutput, Tensor]:
    """Add the gradients of loss(D(x)) + weight * R1 to D's parameters, and return D(x) and R1.

    R1 is mean_b ||grad_x D(x_b)||^2, at the image before the augmentation. x: [B, C, R, R]; loss: a scalar; noise, c,
    y, alpha: D's other inputs. D has a trunk, piecewise linear in the image, and a head:
    D(x) = head(*trunk(augmentation(x), tangent, alpha), noise, c, y).
    """
    with record_function("R1 pass 1"):
        with torch.no_grad():
            images = augmentation(x)
        trunk = RecordedPass(d, lambda x: d.trunk(x, None, alpha)[0], images)
        assert trunk.output is not None
        features = trunk.output.detach().requires_grad_()
        seen = d.head(features, None, noise, c, y)
        (adjoint,) = torch.autograd.grad(seen.logits.sum(), features, retain_graph=True)
        gradient = augmentation.back(trunk.input_gradient(adjoint, retain_graph=seen.kl is not None))

    with record_function("R1 pass 2"):
        # Without a bottleneck the loss's gradient is the adjoint's times that in the image's logit, at every layer.
        share = None if seen.kl is not None else torch.autograd.grad(loss(seen), seen.logits)[0]
        direction = augmentation.along(gradient * (2 * weight / len(x)))  # d ||g||^2 = 2 g . dg
        tangent = trunk.tangent(direction, share)
        output = d.head(features, tangent, noise, c, y)
        assert output.tangent is not None
        (loss(output) + output.tangent.sum()).backward()
        if trunk.output is not None:
            trunk.output.backward(features.grad, inputs=[p for p in d.parameters() if p.requires_grad])
    return output, gradient.square().flatten(1).sum(1).mean()
