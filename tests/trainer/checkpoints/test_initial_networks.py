"""A run that starts from the networks of another run or of an export: what is taken, what is fresh, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

import trainer
from common.errors import UserError
from tests.reference import plain
from tests.support import data_sets, processes
from tests.support.evaluating import refused
from tests.support.training import CONFIGS, differences, finish, newest, tensors, train, train_system
from tests.trainer.distributed import contract
from trainer.checkpoints import initial_networks, published
from trainer.checkpoints.initial_networks import InitialNetworks
from trainer.checkpoints.state import State
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.distributed.world import connect, disconnect
from trainer.export import write
from trainer.steps.gan_step import Penalties
from trainer.steps.networks import generator, joint_q

SMALL: dict[str, Any] = {"resolution": 16, "network": "{name: resnet, nf: 4, nf_max: 8}", "s_dim": 3, "code_weight": 1}
LARGE = SMALL | {  # its widths up to 16 px are the same
    "resolution": 32,
    "network": "{name: resnet, nf: 2, nf_max: 8, nf_min: 4}",
    "growth": "{start_resolution: 16, phase_kimg: 0.016, fade_kimg: 0.032, warm_start: true}",
    "ema.averages": "[{decay: 0.999999}, {sigma_rel: 0.1}]",
}
NETWORKS = ("generator", "discriminator")


@pytest.fixture(scope="module")
def source(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of 16 px after three iterations, with two averages, and a bottleneck-less D."""
    run = tmp_path_factory.mktemp("source") / "run"
    finish(train("gan", sprites, run, 3, vae=vae, **SMALL, **{"ema.averages": "[{decay: 0.9}, {decay: 0.999999}]"}))
    return run


def at(run: Path, images_seen: int) -> dict[str, Tensor]:
    return tensors(published.folder(run) / published.name_of(images_seen))


def drawn(run: Path, state: dict[str, Tensor], kind: str, side: int) -> Tensor:
    G = generator(load_config(GanConfig, run / "config.yaml"), 1)
    G.load_state_dict({n.removeprefix(f"{kind}."): t for n, t in state.items() if n.startswith(f"{kind}.")})
    z = torch.randn(8, 13, generator=torch.Generator().manual_seed(0))
    return G(z, side)


def test_a_larger_network_goes_on_from_a_smaller_one(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """With a rate of 0 it still draws what the source draws, by its own averages; what it adds is untrained.

    Clock and optimizers are fresh, and a resume, for which the source may be gone, is that of an undisturbed run.
    """
    still = {"optimizer_g.lr": 1e-30, "optimizer_d.lr": 1e-30, "bottleneck": "{}", "vae": vae}
    first = finish(train("gan", sprites, tmp_path / "still", 1, init_from=source, **LARGE, **still))
    for words in (f"init_from: {source}: ", "generator.blocks.32", "discriminator.bottleneck start fresh"):
        assert words in first.err
    before, after = newest(source), at(tmp_path / "still", 16)
    for kind, of in (
        ("generator", "generator"),
        ("ema.decay_0.999999", "ema.decay_0.999999"),
        ("ema.sigma_rel_0.1", None),
    ):
        expected = drawn(source, before, of or "generator", 16)  # the first iteration of a power average copies G
        torch.testing.assert_close(drawn(tmp_path / "still", after, kind, 16), expected, rtol=0, atol=1e-5)
    assert not torch.equal(before["ema.decay_0.999999.fc.weight"], before["ema.decay_0.9.fc.weight"])
    assert int(after["images_seen"]) == 16
    assert not any(after[name].any() for name in after if ".square_avg." in name and ".blocks.32." in name)


def test_it_resumes_without_its_source(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    moved = tmp_path / "source"
    shutil.copytree(source, moved)
    more = LARGE | {"vae": vae, "init_from": moved}
    finish(train("gan", sprites, tmp_path / "straight", 6, **more))
    finish(train("gan", sprites, tmp_path / "run", 2, **more))
    moved.rename(tmp_path / "gone")
    finish(train("gan", sprites, tmp_path / "run", 6, **more))
    assert not differences(newest(tmp_path / "straight"), newest(tmp_path / "run"))
    step = published.newest(tmp_path / "run")
    assert step is not None
    assert published.read_manifest(step)["facts"]["init_from"] == initial_networks.load(source).sha256
    (tmp_path / "gone").rename(moved)
    export(tmp_path / "run", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("-m trainer gan") == 2, "the command of the source too"
    for other in ("null", source):
        refused(train("gan", sprites, tmp_path / "run", 7, **more | {"init_from": other}), "init_from: was ")


def test_an_export_gives_its_generator_to_all(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    export(source, tmp_path / "export")
    still = {"optimizer_g.lr": 1e-30, "optimizer_d.lr": 1e-30, "vae": vae, "init_from": tmp_path / "export"}
    told = finish(train("gan", sprites, tmp_path / "run", 1, **SMALL, **still)).err
    assert f"of generator; discriminator start fresh; the frozen encoder is that of vae: {vae}" in told
    weights = trainer.load(tmp_path / "export").generator.state_dict()
    for name, tensor in weights.items():
        for kind in ("generator", "ema.decay_0.999"):
            torch.testing.assert_close(at(tmp_path / "run", 16)[f"{kind}.{name}"], tensor, rtol=1e-6, atol=1e-7)


def test_an_export_with_d_gives_it_too_and_its_blocks_may_be_kept(
    source: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    """D is that of the checkpoint; with a rate of 0 the new run begins with it."""
    export(source, tmp_path / "export", "--discriminator")
    still = {"optimizer_g.lr": 1e-30, "optimizer_d.lr": 1e-30, "vae": vae, "init_from": tmp_path / "export"}
    told = finish(train("gan", sprites, tmp_path / "run", 1, freeze_d=1, **SMALL, **still)).err
    assert "of generator, discriminator; the frozen" in told
    before, after = newest(source), at(tmp_path / "run", 16)
    names = [name for name in before if name.startswith("discriminator.") and "square_avg" not in name]
    assert len(names) > 10
    for name in names:
        torch.testing.assert_close(after[name], before[name], rtol=1e-6, atol=1e-7)
    assert "discriminator" in (tmp_path / "export" / "README.md").read_text()
    assert trainer.load(tmp_path / "export").generator is not None
    damaged = tmp_path / "export" / "discriminator.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    refused(train("gan", sprites, tmp_path / "other", 1, **SMALL, **still), f"{damaged}: is missing or damaged")


def test_only_a_run_of_stage_2_is_exported_with_d(source: Path, vae: Path, tmp_path: Path) -> None:
    asked = [(vae, "is a run of stage 1, which has no D"), (Path("pretrained/faces-64-idgan"), "is an export, whose")]
    for path, words in asked:
        with pytest.raises(UserError, match=rf"--discriminator: {path}: {words}"):
            write.export(path, tmp_path / "out", with_d=True)


def test_an_infogan_exported_gives_its_q_too_to_a_run_on_other_images(sprites: Path, tmp_path: Path) -> None:
    """From coloured sprites to faces. With a rate of 0 codes and samples are those of the export; D starts fresh."""
    made = data_sets.run("make", "faces", "--out", tmp_path / "faces", "--count", 16, "--resolutions", "64")
    assert made.code == 0, made.err
    finish(train_system("infogan", sprites, tmp_path / "source", 2, data__variant="color", **SMALL))
    still = {f"optimizer_{network}.lr": 1e-30 for network in "gdq"} | {"init_from": tmp_path / "export"}
    export(tmp_path / "source", tmp_path / "export")
    told = finish(train_system("infogan", tmp_path / "faces", tmp_path / "run", 1, **SMALL, **still)).err
    assert "tensors of the networks are taken, of generator, q; discriminator start fresh\n" in told
    assert "frozen encoder" not in told
    export(tmp_path / "run", tmp_path / "taken")
    before, after = trainer.load(tmp_path / "export"), trainer.load(tmp_path / "taken")
    assert before.encoder is not None
    assert after.encoder is not None
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    untrained = joint_q(load_config(GanConfig, tmp_path / "run" / "config.yaml"), 3)
    for mine, theirs, fresh in zip(*(q(images) for q in (after.encoder, before.encoder, untrained)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
        assert not torch.allclose(theirs, fresh, rtol=0, atol=1e-3), "the source's q was trained"
    s, c = before.nuisance(8), before.codes(8)
    torch.testing.assert_close(after.generate(s, c), before.generate(s, c), rtol=1e-6, atol=1e-7)


def export(run: Path, out: Path, *more: str) -> None:
    finish(processes.command("trainer", ["export", run, out, *more], out.parent / "logs"))


def test_labels_are_added_to_networks_that_have_none(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """With a rate of 0 G draws what the source draws, whatever y is, which stands between s and c."""
    still = {"optimizer_g.lr": 1e-30, "optimizer_d.lr": 1e-30, "vae": vae, "init_from": source}
    told = finish(train("gan", sprites, tmp_path / "run", 1, labels="shape", **SMALL, **still)).err
    assert "discriminator.judge.label_projection start fresh" in told
    state = at(tmp_path / "run", 16)
    G = generator(load_config(GanConfig, tmp_path / "run" / "config.yaml"), 1, 3)
    G.load_state_dict({n.removeprefix("generator."): t for n, t in state.items() if n.startswith("generator.")})
    z = torch.randn(8, 13, generator=torch.Generator().manual_seed(0))
    y = torch.eye(3)[torch.arange(8) % 3]
    expected = drawn(source, newest(source), "generator", 16)
    torch.testing.assert_close(G(torch.cat((z[:, :3], y, z[:, 3:]), 1), 16), expected, rtol=0, atol=1e-5)
    more = SMALL | {"vae": vae, "init_from": tmp_path / "run"}
    refused(train("gan", sprites, tmp_path / "other", 1, labels="scale", **more), "its networks are told shape, those")
    refused(train("gan", sprites, tmp_path / "other", 1, **more), "those of this config no labels")


@pytest.mark.parametrize("exported", [False, True])
def test_the_decoder_of_stage_1_becomes_the_generator(exported: bool, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """With a rate of 0, G and its average draw the decodings, whatever s is, which they do not have; D starts fresh."""
    stage_1 = Path("pretrained/dsprites-beta_vae").absolute() if exported else vae
    still = {"optimizer_g.lr": 1e-30, "optimizer_d.lr": 1e-30, "vae": stage_1, "init_from": stage_1, "s_dim": 3}
    told = finish(train("gan", sprites, tmp_path / "run", 2, **still)).err
    assert "discriminator start fresh" in told
    export(tmp_path / "run", tmp_path / "gan")
    made = trainer.load(tmp_path / "gan")
    c = made.codes(16)
    torch.testing.assert_close(made.generate(made.nuisance(16), c), made.decode(c), rtol=1e-5, atol=1e-6)
    assert not exported or made.decode(c).std() > 0.1


def test_a_decoder_gets_columns_for_s_and_labels_before_those_of_its_code() -> None:
    weight = torch.arange(8.0).reshape(2, 4)
    decoder = InitialNetworks(Path("vae"), "", {"generator.layers.0.weight": weight}, "export", of_stage_1=True)
    config = load_config(GanConfig, CONFIGS / "infogan.yaml", ["s_dim=3", "c_dim=4"])
    found = initial_networks.with_inputs(decoder, config, 2).tensors["generator.layers.0.weight"]
    assert torch.equal(found, torch.cat((torch.zeros(2, 5), weight), 1))
    other = load_config(GanConfig, CONFIGS / "infogan.yaml", ["s_dim=3", "c_dim=5"])
    assert torch.equal(initial_networks.with_inputs(decoder, other, 2).tensors["generator.layers.0.weight"], weight)


def test_what_does_not_fit_is_listed_whole(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    def start(**more: Any) -> processes.Running:
        return train("gan", sprites, tmp_path / "run", 1, **SMALL | {"init_from": source, "vae": vae} | more)

    wide = "generator.blocks.4.conv_0.weight is 8 x 8 x 3 x 3 there, 8 x 9 x 3 x 3 in this config"
    remedy = f"init_from: {source}: set network, s_dim, c_dim and d_sees_code as in its config.yaml"
    narrow = start(network="{name: resnet, nf: 4, nf_max: 9}", s_dim=4)
    refused(narrow, wide, "generator.fc.weight is", "judge.linear", remedy)
    assert narrow.err.count("config.yaml") == 1
    refused(start(network="{name: conv}", resolution=64), "has no generator.layers.0.weight", "discriminator.layers")
    refused(start(init_from=vae), f"init_from: {vae}: has no generator.fc.weight, which this config's network has")
    refused(start(init_from=tmp_path), f"init_from: {tmp_path}: is no export and holds no usable checkpoint")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("content", ["", "[1]"])
def test_an_export_whose_metadata_are_damaged_is_refused(content: str, tmp_path: Path) -> None:
    shutil.copy("pretrained/dsprites-idgan/generator.safetensors", tmp_path)
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(UserError, match=r"export\.json: is missing or damaged .*; export the run again"):
        initial_networks.load(tmp_path)


@pytest.mark.parametrize(("there", "here"), [(3, 1), (1, 3)])
def test_other_channels_are_refused_with_one_remedy(there: int, here: int, sprites: Path, tmp_path: Path) -> None:
    """Decoders of grey and of coloured sprites, each into a run on the others."""
    variants, folder = {1: "plain", 3: "color"}, {1: "dsprites", 3: "color"}
    source, own = (Path(f"pretrained/{folder[channels]}-beta_vae").absolute() for channels in (there, here))
    run = train("gan", sprites, tmp_path / "run", 1, init_from=source, vae=own, data__variant=variants[here])
    remedy = (
        f"init_from: {source}: its networks are for images of {there} channel{'s' * (there > 1)}, those of data.path "
        f"(data.variant: {variants[here]}) have {here}; name another run, or other data in data.path, or for sprites "
        f"set data.variant={variants[there]}"
    )
    refused(run, remedy, f" x {there} x 4 x 4 there, ", f" x {here} x 4 x 4 in this config")
    assert run.err.count("its networks are for images") == 1


def child(strategy: str, folder: str) -> None:
    """Start a step from given tensors; leave what it then holds."""
    world = connect("cpu", 2)
    step = contract.step_of(contract.config_of(strategy), False, torch.float32, world)
    state = State()
    for part in (step.g, step.d, step.averages):
        state.add(part)
    given = torch.load(f"{folder}/given.pt")
    initial_networks.fill(state, InitialNetworks(Path("given"), "", given, "other"))
    held = {n: (t.full_tensor() if isinstance(t, DTensor) else t) for n, t in state.state_dict().items()}
    if world.rank == 0:
        torch.save({name: t.clone() for name, t in held.items()}, f"{folder}/held.pt")
    disconnect()


@pytest.mark.parametrize("strategy", contract.STRATEGIES)
def test_every_strategy_takes_whole_tensors(strategy: str, tmp_path: Path) -> None:
    """Those of G, D and an average of another name; the optimizers keep their zeros."""
    alone = contract.step_of(contract.config_of("ddp"), False, torch.float32, plain.ALONE)
    state = alone.g.state_dict() | alone.d.state_dict() | alone.averages.state_dict()
    (average,) = {name.rpartition(".fc.weight")[0] for name in state if name.startswith("ema.") and ".fc.w" in name}
    given = {n: torch.randn_like(t) for n, t in state.items() if n.partition(".")[0] in NETWORKS}
    ema = {n.replace(average, "ema.other"): torch.randn_like(t) for n, t in state.items() if n.startswith("ema.")}
    torch.save(given | ema, tmp_path / "given.pt")
    contract.run(child, tmp_path, strategy)
    held = torch.load(tmp_path / "held.pt")
    assert held.keys() == state.keys()
    for name, tensor in held.items():
        if name.startswith("optimizer."):
            assert not tensor.any(), name
        else:
            expected = given[name] if name in given else ema[name.replace(average, "ema.other")]
            assert torch.equal(tensor, expected), name


FIRST_TWO = (["discriminator", "blocks", "16"], ["discriminator", "blocks", "8"])


def frozen_child(strategy: str, folder: str) -> None:
    """Train with D's first two blocks frozen; leave what D was and is, and which of it was to stay."""
    world = connect("cpu", 2)
    config = contract.config_of(strategy, init_from="x", freeze_d=2, growth=None, objective="relativistic", r2=3)
    step = contract.step_of(config, False, torch.float32, world)
    before = {name: tensor.clone() for name, tensor in whole(step.d.state_dict()).items()}
    for i, batch in enumerate(plain.gan_batches(size=16)):
        piece = plain.pieces(batch, 2)[world.rank]
        images = [part if part is None or not part.is_floating_point() else part.float() for part in piece]
        step(plain.pieces(type(piece)(*images), 2), Penalties(10, 3), i * plain.BATCH, plain.BATCH)
    after = whole(step.d.state_dict())
    if world.rank == 0:
        torch.save((before, after), f"{folder}/held.pt")
    disconnect()


def whole(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: (t.full_tensor() if isinstance(t, DTensor) else t) for name, t in state.items()}


@pytest.mark.parametrize("strategy", contract.STRATEGIES)
def test_frozen_blocks_never_move_and_all_others_do(strategy: str, tmp_path: Path) -> None:
    """R1 and R2 in one pass under ddp, in two elsewhere. The logit's bias cancels in a relativistic loss."""
    contract.run(frozen_child, tmp_path, strategy)
    before, after = torch.load(tmp_path / "held.pt")
    for name, tensor in before.items():
        if name.startswith("discriminator.") and name != "discriminator.judge.linear.bias":
            kept = name.split(".")[1] == "from_rgb" or name.split(".")[:3] in FIRST_TWO
            assert torch.equal(after[name], tensor) == kept, name


def test_frozen_blocks_of_a_run_are_those_of_its_source(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    settings = SMALL | {"init_from": source, "vae": vae, "freeze_d": 1}
    finish(train("gan", sprites, tmp_path / "run", 3, **settings))
    resumed = finish(train("gan", sprites, tmp_path / "run", 6, **settings)).err
    assert "resuming" in resumed
    start, end = newest(source), newest(tmp_path / "run")
    moved = {name for name, t in start.items() if name.startswith("discriminator.") and not torch.equal(t, end[name])}
    kept = {name for name in start if name.startswith("discriminator.")} - moved
    assert {name.rpartition(".")[0] for name in kept} >= {"discriminator.from_rgb.16"}
    assert all(name.startswith(("discriminator.from_rgb.16", "discriminator.blocks.16")) for name in kept)
    assert not any(name.startswith(("discriminator.from_rgb.16", "discriminator.blocks.16")) for name in moved)


def test_what_would_stay_untrained_is_refused(source: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    def start(**more: Any) -> processes.Running:
        return train("gan", sprites, tmp_path / "run", 1, **SMALL | {"vae": vae} | more)

    refused(start(freeze_d=2), "freeze_d: 2 blocks of D would keep their untrained weights; set init_from=RUN")
    refused(start(freeze_d=4, init_from=source), "freeze_d: 4, but D has 3 ResBlocks; set at most 3")
    export(source, tmp_path / "export")
    refused(start(freeze_d=1, init_from=tmp_path / "export"), "would stay untrained", "its export with D")
