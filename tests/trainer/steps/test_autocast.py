"""autocast: which passes compute in bf16, that the gradients point where fp32's do, and where it pays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import Discriminator, Generator
from tests.reference import plain
from trainer.config.schema import GanConfig
from trainer.steps import losses
from trainer.steps.autocast import has_bf16, warn_if_emulated
from trainer.steps.batches import Reals
from trainer.steps.gan_step import Penalties


def flat_gradient(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def in_fp32(batch: Reals) -> Reals:
    return batch._replace(images=batch.images.float(), encoder_images=batch.encoder_images.float())


FP32, BF16 = torch.float32, torch.bfloat16


def one_step(
    config: GanConfig, precision: torch.dtype
) -> tuple[list[tuple[torch.dtype, bool]], plain.Gan, dict[str, Tensor]]:
    """An iteration; what came out of D's 16 px block, in turn, and whether a tangent did; the networks; the terms."""
    gan = plain.grown_networks(config)
    for network in (gan.G, gan.D, gan.q, gan.average):
        network.to(precision)
    seen: list[tuple[torch.dtype, bool]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor | None]) -> None:
        seen.append((output[0].dtype, output[1] is not None))

    gan.D.blocks["16"].register_forward_hook(look)
    step = plain.gan_step(config, gan, plain.ALONE)
    (batch,) = list(plain.gan_batches(size=16))[:1]
    batch = batch._replace(images=batch.images.to(precision), encoder_images=batch.encoder_images.to(precision))
    return seen, gan, step([batch], Penalties(10), 0, plain.BATCH)


def test_autocast_computes_blocks_in_bf16_and_r1_in_full_precision() -> None:
    seen, gan, terms = one_step(plain.grown_config("ID-GAN", autocast="bfloat16"), torch.float32)
    assert seen == [(FP32, False)] * 2 + [(BF16, False)] * 2, "the pass with R1, its tangent alone, fakes, G's step"
    again = {"from_resolution": 8}  # R1 then takes two passes; the last pass of D is computed again in G's step
    passes, _, _ = one_step(plain.grown_config("ID-GAN", autocast="bfloat16", checkpointing=again), torch.float32)
    assert [kind for kind in passes if kind[1]] == [(FP32, True)]
    assert (FP32, False) in passes
    exact, _, reference = one_step(plain.grown_config("ID-GAN"), torch.float32)
    assert exact == [(FP32, False)] * 4
    assert float(terms["r1"]) == pytest.approx(float(reference["r1"]), rel=1e-6)
    assert {p.dtype for network in (gan.G, gan.D) for p in network.parameters()} == {torch.float32}
    for name in ("loss_d_real", "loss_d_fake", "loss_g", "code_nll", "kl"):
        assert float(terms[name]) == pytest.approx(float(reference[name]), rel=0.02), name


def test_bf16_gradients_point_where_fp32_gradients_do() -> None:
    torch.manual_seed(0)
    G, D = Generator(32, 8, 32, 5), Discriminator(32, 8, 32, bottleneck=True)
    z = torch.randn(8, 5)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            images = G(z)
            out = D(images)
        assert images.dtype == out.logits.dtype == out.kl.dtype == torch.float32
        (losses.generator(out.logits) + 0.1 * out.kl.mean()).backward()
        found.append([flat_gradient(network) for network in (G, D)])
        for network in (G, D):
            network.zero_grad()
    for exact, reduced in zip(*found, strict=True):
        assert float(torch.cosine_similarity(exact, reduced, dim=0)) > 0.99


def test_the_networks_of_table_a3_compute_in_bf16_but_for_r1_and_the_logits() -> None:
    """An iteration without R1 and one with it: terms near those of fp32, and R1 the same."""
    found = {}
    for kind in ("none", "bfloat16"):
        gan = plain.gan_networks("ID-GAN")
        for network in (gan.G, gan.D, gan.q, gan.average):
            network.float()
        seen: list[torch.dtype] = []
        gan.D.layers[0].register_forward_hook(lambda m, x, out, seen=seen: seen.append(out[0].dtype))
        step = plain.gan_step(plain.gan_config("ID-GAN", autocast=kind), gan, plain.ALONE)
        first, second = list(plain.gan_batches())[:2]
        found[kind] = [
            step([in_fp32(batch)], Penalties(weight), 0, plain.BATCH) for batch, weight in ((first, 10), (second, 0))
        ]
        reduced = BF16 if kind == "bfloat16" else FP32
        assert seen == [FP32] * 2 + [reduced] * 2 + [reduced] * 3, "with R1, whose passes are exact, and without"
    for exact, reduced in zip(found["none"], found["bfloat16"], strict=True):
        assert {term.dtype for term in reduced.values()} == {torch.float32}
        assert exact["loss_g"] != reduced["loss_g"]
        for name in ("loss_d_real", "loss_d_fake", "loss_g", "code_nll"):
            assert float(reduced[name]) == pytest.approx(float(exact[name]), rel=0.02), name
    assert float(found["bfloat16"][0]["r1"]) == pytest.approx(float(found["none"][0]["r1"]), rel=1e-6)


@pytest.mark.parametrize("system", plain.VAES)
def test_stage_1_computes_in_bf16_and_sums_its_losses_in_fp32(system: str) -> None:
    terms, found = [], []
    for kind in ("none", "bfloat16"):
        vae, critic = (None if network is None else network.float() for network in plain.vae_networks(system))
        assert vae is not None
        kinds: set[torch.dtype] = set()
        vae.decoder[-1].register_forward_hook(lambda m, x, out, kinds=kinds: kinds.add(out.dtype))
        step = plain.vae_step(plain.vae_config(system, autocast=kind), vae, critic, plain.ALONE)
        step.engine.optimizer.register_step_pre_hook(lambda *_, vae=vae: found.append(flat_gradient(vae)))
        first, second = (batch._replace(x=batch.x.float()) for batch in next(plain.vae_batches()))
        terms.append(step([first], [second] if critic else [], 0))
        assert kinds == {torch.bfloat16 if kind == "bfloat16" else torch.float32}
        assert {term.dtype for term in terms[-1].values()} == {torch.float32}
    exact, reduced = terms
    assert exact["loss"] != reduced["loss"]
    for name in ("loss", "reconstruction", "kl"):
        assert float(reduced[name]) == pytest.approx(float(exact[name]), rel=0.02), name
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.99


def test_a_processor_that_only_emulates_bf16_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    cpu, config = torch.device("cpu"), plain.vae_config("VAE", autocast="bfloat16")
    flags = tmp_path / "cpuinfo"
    for text, has in (
        ("flags\t: avx512f avx512bw", False),
        ("flags\t: avx512_bf16 sse", True),
        ("Features\t: fp asimd bf16 i8mm", True),
    ):
        flags.write_text(text)
        assert has_bf16(cpu, flags) == has
    assert has_bf16(cpu, tmp_path / "none"), "nothing says so"
    flags.write_text("flags: avx512_bf16")
    for allowed, has in (("AVX2", False), ("avx512_core_vnni", False), ("AVX512_CORE_BF16", True), ("", True)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
        assert has_bf16(cpu, flags) == has, "oneDNN uses no more than this"
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    flags.write_text("flags\t: avx2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.steps.autocast.has_bf16", lambda device: has_bf16(device, flags))
        warn_if_emulated(config, cpu)
        warn_if_emulated(plain.vae_config("VAE"), cpu)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "autocast=none is faster here" in caplog.text
