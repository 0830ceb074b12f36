"""compile: true makes one graph of every pass, R1's tangent included, and gives the same numbers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters

from models import Discriminator
from models.resnet import ResBlock
from tests.reference import plain
from tests.support.training import GAN, overrides
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.preflight import gan_stage
from trainer.steps import compilation, losses, schedule
from trainer.steps.gan_step import GanStep, Penalties

SMALL = ["resolution=16", "network={name: resnet, nf: 2, nf_max: 4}", "s_dim=3"]
Sizes = tuple[tuple[int, float | None], ...]  # px and alpha
FADE = (16, 0.3)


TRACED: list[int] = []  # inputs of each graph


@torch._dynamo.register_backend(name="counted")  # type: ignore[arg-type]
def counted(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
    """Run the graphs that torch traces, forwards and backwards, as they are."""
    TRACED.append(len(inputs))
    return aot_eager(graph, inputs)


def iterations(config: GanConfig, sizes: Sizes, backend: str | None) -> tuple[plain.Gan, list[dict[str, Tensor]]]:
    """An iteration with R1 and one without at each size; compiled by a backend, or not."""
    gan = plain.grown_networks(config)
    step: GanStep = plain.gan_step(config, gan, plain.ALONE)
    assert isinstance(step.q, nn.Module)
    if backend is not None:
        compilation.compile_passes([gan.G, gan.D, step.q], backend)
    terms = []
    for size, alpha in sizes:
        for r1, batch in zip((10.0, 0.0), plain.gan_batches(size=size, alpha=alpha), strict=True):
            terms.append(dict(step([batch], Penalties(r1), 0, plain.BATCH)))
    return gan, terms


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpointing", "sizes"),
    [(None, ((8, None), FADE, (16, None))), ({"from_resolution": 8}, (FADE,))],
    ids=["before, in and after a fade", "checkpointed in a fade"],
)
def test_compiled_passes_are_whole_graphs_with_the_same_numbers(
    checkpointing: dict[str, int] | None, sizes: Sizes
) -> None:
    """Takes more than ten seconds: torch traces eight passes at each size, forwards and backwards.

    Checkpointed in a fade alone, which passes through every block.
    """
    config = plain.grown_config("ID-GAN", checkpointing=checkpointing)
    expected, reference = iterations(config, sizes, None)
    torch._dynamo.reset()
    counters.clear()
    TRACED.clear()
    found, terms = iterations(config, sizes, "counted")
    passes = {"G with and without gradients": 2, "q": 2, "D frozen, of reals and of fakes, tangent and none": 4}
    assert len(TRACED) >= sum(passes.values())
    assert not counters["graph_break"]
    plain.assert_same_parameters(found.trained("ID-GAN"), expected.trained("ID-GAN"))
    for ours, theirs in zip(terms, reference, strict=True):
        plain.assert_same_terms(ours, theirs)


def test_the_switch_compiles_every_network_of_the_stage(sprites: Path, vae: Path, tmp_path: Path) -> None:
    for switch in ("false", "true"):
        argv = [*overrides(sprites, tmp_path / "run", 1, vae=vae, compile=switch), *SMALL]
        stage = gan_stage(load_config(GanConfig, Path(GAN), argv), plain.ALONE)
        found = [stage.g.network, stage.d.network, stage.q]
        assert [n is not None and hasattr(n.forward, "_torchdynamo_orig_callable") for n in found] == [
            switch == "true"
        ] * 3


def test_r1_through_the_compiler_that_users_get() -> None:
    """Inductor builds the image's gradient and the tangent pass, forward and backward, of a small D."""
    torch.manual_seed(0)
    found = []
    eager = Discriminator(8, 2, 4, bottleneck=True)
    for compiled in (False, True):
        D = copy.deepcopy(eager)
        if compiled:
            compilation.compile_passes([D])
        noise, x = torch.ones(2, *D.noise_shape), torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
        D.requires_grad_(False)
        g = losses.image_gradient(D, x, noise=noise)
        D.requires_grad_(True)
        losses.gradient_penalty(D(x, noise=noise, tangent=g).tangent).backward()
        found.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in D.parameters()]))
    assert plain.gap(found[1], found[0]) < 1e-4


def test_every_image_inside_is_channels_last(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """In the stage that a run trains with: every ResBlock, in every pass; G's first, of a Linear's rows, apart."""
    argv = [*overrides(sprites, tmp_path / "run", 1, vae=vae), *SMALL]
    stage = gan_stage(load_config(GanConfig, Path(GAN), argv), plain.ALONE)
    seen: list[bool] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, Tensor | None]) -> None:
        images = [t for t in (*inputs, *outputs) if t is not None and t.shape[-1] > 4]
        seen.extend(t.is_contiguous(memory_format=torch.channels_last) for t in images)

    for network in (stage.g.network, stage.d.network):
        for module in network.modules():
            if isinstance(module, ResBlock):
                module.register_forward_hook(look)
    now = schedule.now(stage.phases, 0)
    batch = next(iter(stage.data.batches(stage.config, now, 0, plain.ALONE)))
    stage.step([[batch]], now, 0)
    assert len(seen) > 15
    assert all(seen)
