"""Every system on two processes, half a batch each, against the plain re-derivation on the whole batch, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.reference import plain
from tests.support import processes
from trainer.distributed.world import World, connect, disconnect
from trainer.steps.gan_step import Penalties
from trainer.steps.running_means import Terms


def on_two(target: Callable[..., None], folder: Path, *args: object) -> dict[str, Tensor]:
    """Run target(*args, folder) as two ranks. Returns what rank 0 wrote, bit for bit what rank 1 wrote."""
    port = str(processes.free_port())
    both = [
        processes.start(target, (*args, folder), folder / f"logs{rank}", processes.rank_env(rank, 2, port))
        for rank in range(2)
    ]
    for rank in both:
        assert rank.wait(60) == 0, rank.err
    files = [folder / f"rank{rank}.safetensors" for rank in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()
    return load_file(files[0])


def write(world: World, folder: Path, networks: Mapping[str, nn.Module], terms: Terms) -> None:
    """This rank's parameters, and the means over the ranks of what it reported last."""
    tensors = {f"{key}.{name}": p.detach() for key, n in networks.items() for name, p in n.named_parameters()}
    tensors |= {f"terms.{name}": world.all_reduce_sum_(value.clone()) / world.size for name, value in terms.items()}
    save_file(tensors, folder / f"rank{world.rank}.safetensors")
    disconnect()


def train_gan(system: str, objective: str, r2: float, folder: Path) -> None:
    world, gan = connect("cpu", 2), plain.gan_networks(system)
    step = plain.gan_step(plain.gan_config(system, objective=objective, r2=r2), gan, world)
    for batch in plain.gan_batches():
        terms = step([plain.pieces(batch, 2)[world.rank]], Penalties(10, r2), 0, plain.BATCH)
    write(world, folder, gan.trained(system), terms)


def train_vae(system: str, count: int, folder: Path) -> None:
    """count: micro-batches of each rank."""
    world, (vae, critic) = connect("cpu", 2), plain.vae_networks(system)
    step = plain.vae_step(plain.vae_config(system), vae, critic, world)
    for i, pair in enumerate(plain.vae_batches()):
        first, second = [plain.pieces(plain.pieces(batch, 2)[world.rank], count) for batch in pair]
        terms = step(first, second if critic else [], i * plain.BATCH)
    write(world, folder, {"vae": vae} | ({"critic": critic} if critic else {}), terms)


def assert_same(found: dict[str, Tensor], networks: Mapping[str, nn.Module], terms: plain.Found) -> None:
    """Parameters and last terms, to a relative 1e-9."""
    expected = {f"{key}.{name}": p for key, network in networks.items() for name, p in network.named_parameters()}
    expected |= {f"terms.{name}": value for name, value in terms.items()}
    assert found.keys() - {"terms.active_latents"} == expected.keys()
    for name, value in expected.items():
        assert plain.gap(found[name], value) < 1e-9, name


@pytest.mark.parametrize(
    ("system", "objective", "r2"),
    [*((system, "logistic", 0.0) for system in plain.GANS), ("cGAN", "relativistic", 3.0)],
)
def test_a_gan_on_two_processes_equals_the_plain_whole_batch(
    system: str, objective: str, r2: float, tmp_path: Path
) -> None:
    found = on_two(train_gan, tmp_path, system, objective, r2)
    gan = plain.gan_networks(system)
    rederived = plain.PlainGan(system, gan, r2=r2, relativistic=objective == "relativistic")
    terms = [rederived.iterate(batch) for batch in plain.gan_batches()]
    assert_same(found, gan.trained(system), terms[-1])


@pytest.mark.parametrize(("system", "count"), [("VAE", 1), ("beta-VAE", 1), ("FactorVAE", 1), ("FactorVAE", 2)])
def test_a_vae_on_two_processes_equals_the_plain_whole_batch(system: str, count: int, tmp_path: Path) -> None:
    """FactorVAE's latents are permuted over the whole batch: a permutation within each half would differ."""
    found = on_two(train_vae, tmp_path, system, count)
    vae, critic = plain.vae_networks(system)
    rederived = plain.PlainVae(vae, critic)
    betas = plain.BETAS[system]
    terms = [rederived.iterate(*pair, beta) for pair, beta in zip(plain.vae_batches(), betas, strict=True)]
    assert_same(found, {"vae": vae} | ({"critic": critic} if critic else {}), terms[-1])
