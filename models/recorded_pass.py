"""One forward pass through a piecewise linear network, from which all that R1 needs can be had without another one.

A chain of linear layers, leaky ReLUs and means is linear in its input as long as no activation changes sign. So, with
h_l the input of layer l, t_l the tangent there, and b_l the gradient of the output (times a fixed adjoint) at what
layer l gives: the output has the gradient b_l h_l in the layer's weight, and the derivative of the output along t has
the gradient b_l t_l. Both need the same b_l. A backward pass to the input finds them all, whoever asks for the gradient
in the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .layers import Conv2d, LeakyReLU, Linear, masked

Weighted = Conv2d | Linear


@dataclass
class Record:
    """Of a layer with weights: its input and, after `input_gradient`, the gradient at its output.

    Of an activation: its output. Nothing else, so that little is alive that the backward pass does not keep anyway.
    """

    kept: Tensor
    adjoint: Tensor | None = None


class RecordedPass:
    """The forward pass output = run(x), in which each layer of models.layers is called at most once.

    network: the one whose layers `run` calls. x: [B, ...]; run must be piecewise linear in it.
    """

    def __init__(self, network: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.run, self.x = run, x.detach().requires_grad_()
        self.records: dict[nn.Module, Record] = {}
        self._noting: list[RemovableHandle] = []  # of gradients
        layers = [m for m in network.modules() if isinstance(m, (Conv2d, Linear, LeakyReLU))]
        hooks = [layer.register_forward_hook(self._record) for layer in layers]
        try:
            self.output: Tensor | None = run(self.x)
        finally:
            for hook in hooks:
                hook.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, None]) -> None:
        assert layer not in self.records, "a layer that is called twice has two gradients"
        if isinstance(layer, LeakyReLU):
            self.records[layer] = Record(outputs[0].detach())
            return
        record = self.records[layer] = Record(inputs[0].detach())
        self._noting.append(outputs[0].register_hook(partial(_keep, record)))

    def input_gradient(self, adjoint: Tensor, retain_graph: bool = False) -> Tensor:
        """Return the gradient of (output * adjoint).sum() in x; it is kept at every layer, too, for `tangent`.

        retain_graph: whether output will take part in another backward pass; else it is dropped.
        """
        assert self.output is not None
        (gradient,) = torch.autograd.grad(self.output, self.x, adjoint, retain_graph=retain_graph)
        for hook in self._noting:  # they would keep the records alive as long as the graph
            hook.remove()
        self._noting.clear()
        if not retain_graph:
            self.output = None
        return gradient

    @torch.no_grad()
    def tangent(self, t: Tensor, share: Tensor | None = None) -> Tensor:
        """Return the derivative of output along t, and add to the gradients of the weights.

        They gain those of (derivative * adjoint).sum(), and with a share [B] also those of the sum over b of
        share_b * (output_b * adjoint_b).sum(). t: of x's shape. It can be called once: records are dropped on the way.
        """
        with self._linear(share):
            return self.run(t)

    @contextmanager
    def _linear(self, share: Tensor | None) -> Iterator[None]:
        """Let each recorded layer act as the linear map that it was in the pass."""
        layers = list(self.records)
        try:
            for layer in layers:
                layer.forward = _Along(layer, self.records.pop(layer), share)
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)


def _keep(record: Record, gradient: Tensor) -> None:
    record.adjoint = gradient


class _Along:
    """A layer's forward in `tangent`: (t, None) -> (its linear map of t, None). It forgets its record."""

    def __init__(self, layer: nn.Module, record: Record, share: Tensor | None) -> None:
        self.layer, self.record, self.share = layer, record, share

    def __call__(self, t: Tensor, _: None = None) -> tuple[Tensor, None]:
        layer, record = self.layer, self.record
        del self.record
        if isinstance(layer, LeakyReLU):
            return masked(t, record.kept, layer.slope, layer.in_place), None
        assert isinstance(layer, Weighted)
        assert record.adjoint is not None
        _add_weight_gradients(layer, record.kept, record.adjoint, t, self.share)
        return layer.along(t), None


def _add_weight_gradients(layer: Weighted, x: Tensor, adjoint: Tensor, t: Tensor, share: Tensor | None) -> None:
    """Add those of the derivative along t, and with a share [B] its part of those of the outputs.

    A frozen layer gets none.
    """
    if not layer.weight.requires_grad:
        return
    if share is not None:
        t = torch.addcmul(t, x, share.view(-1, *(1 for _ in x.shape[1:])))
        if layer.bias is not None:
            per_image = adjoint.flatten(2).sum(2) if adjoint.dim() > 2 else adjoint
            _add_gradient(layer.bias, per_image.T @ share)
    _add_gradient(layer.weight, layer.weight_gradient(t, adjoint))


def _add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
