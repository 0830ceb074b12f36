"""Growth: the schedule as a function of the clock, what each phase reads, resumes in a fade, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from data_shards.read.loader import Batch
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.training import differences, finish, largest_gap, newest, overrides, tensors, train
from tests.trainer.config.test_config import refusal
from trainer.checkpoints import published
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.config.sections import DataConfig, GanDataConfig, GrowthConfig
from trainer.distributed.world import World
from trainer.stages.data import open_data
from trainer.steps import schedule
from trainer.steps.batches import reals
from trainer.steps.networks import discriminator, generator
from trainer.steps.schedule import Now

ALONE = World(0, 1, torch.device("cpu"), None)
GROWTH = GrowthConfig(start_resolution=16, phase_kimg=0.1, fade_kimg=0.05, batch_size={32: 20, 64: 8})
SHAPE = {  # 16 -> 32 -> 64 px in 0.35 kimg
    "network": "{name: resnet, nf: 2, nf_max: 8}",
    "growth": "{start_resolution: 16, phase_kimg: 0.048, fade_kimg: 0.064, batch_size: {64: 8}}",
    "bottleneck": "{}",
    "s_dim": 3,
}


def test_the_schedule_by_hand() -> None:
    plan = schedule.phases(64, 16, GROWTH)
    found = [(p.resolution, p.batch_size, p.fades, p.first, p.last) for p in plan]
    assert found == [
        (16, 16, False, 0, 112),  # 100 images are 7 iterations of 16
        (32, 20, True, 112, 172),  # 50 are 3 of 20
        (32, 20, False, 172, 272),
        (64, 8, True, 272, 328),
        (64, 8, False, 328, None),
    ]
    assert schedule.now(plan, 0) == Now(16, 16, None)
    assert schedule.now(plan, 111) == Now(16, 16, None)
    assert [schedule.now(plan, n).alpha for n in (112, 132, 152)] == [0, 1 / 3, 2 / 3]
    assert schedule.now(plan, 172) == Now(32, 20, None)
    assert schedule.now(plan, 272) == Now(64, 8, 0.0)
    assert schedule.now(plan, 10**9) == Now(64, 8, None)


def test_a_stage_may_have_a_length_of_its_own() -> None:
    growth = GrowthConfig(start_resolution=16, phase_kimg=0.1, phase_kimg_at={16: 0.3}, fade_kimg=0.05)
    plan = schedule.phases(64, 16, growth)
    assert [(p.resolution, p.first, p.last) for p in plan] == [
        (16, 0, 304),  # 300 images are 19 iterations of 16
        (32, 304, 368),
        (32, 368, 480),  # phase_kimg's 100 are 7
        (64, 480, 544),
        (64, 544, None),
    ]


def test_iterations_are_counted_through_all_phases() -> None:
    plan = schedule.phases(64, 16, GROWTH)
    clock, steps = 0, 0
    while clock < 500:
        assert schedule.iteration(plan, clock, 1) == steps
        clock += schedule.now(plan, clock).batch_size
        steps += 1


def test_without_growth_there_is_one_phase() -> None:
    (phase,) = schedule.phases(256, 24, None)
    assert (phase.resolution, phase.batch_size, phase.fades, phase.first, phase.last) == (256, 24, False, 0, None)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 dSprites at 256, 128 and 64 px."""
    return make_dsprites(tmp_path_factory.mktemp("data") / "set", count=64, resolutions="256,128,64", per_shard=64)


@pytest.mark.parametrize(
    ("resolution", "with_encoder", "levels"),
    [
        (256, True, {"256", "64"}),
        (256, False, {"256"}),
        (128, True, {"128", "64"}),
        (64, True, {"64"}),
        (32, False, {"64"}),
    ],
)
def test_a_phase_reads_its_own_bytes_and_the_encoders(
    resolution: int, with_encoder: bool, levels: set[str], pyramid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the system call, and every image's bytes exactly once."""
    data = open_data(DataConfig(path=pyramid), 0, [64, 128, 256], with_encoder)
    read: Counter[str] = Counter()
    pread = os.pread

    def counting(handle: int, size: int, offset: int) -> bytes:
        read[Path(os.readlink(f"/proc/self/fd/{handle}")).parent.name] += size
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", counting)
    config = load_config(GanConfig, Path("configs/dsprites/gan.yaml"))
    stream = data.batches(config, Now(resolution, 16, None), 0, ALONE)
    for _ in range(4):
        batch = next(stream)
    assert (batch.encoder_images is not None) == with_encoder
    stored = {level: sum(len(png(pyramid, level, i)) for i in range(64)) for level in levels}
    assert read == stored


def png(root: Path, level: str, sample: int) -> bytes:
    """A sample's image by another reader."""
    import tarfile

    with tarfile.open(next((root / level).glob("*.tar"))) as tar:
        names = [name for name in tar.getnames() if not name.endswith(".json")]
        member = tar.extractfile(names[sample])
        assert member is not None
        return member.read()


def test_reals_in_a_fade_are_blended_as_the_generators_images_are() -> None:
    x = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8)
    batch = Batch(torch.arange(3), torch.arange(3), torch.zeros(3, dtype=torch.int64), x, x)
    plain = GanDataConfig(path=Path("x"), flip=False, dequantise=False)
    found = reals(batch, plain, None, 0, Now(32, 3, 0.25), ALONE.device, torch.float64)
    signed = x.double() / 127.5 - 1
    at_32 = signed.reshape(3, 1, 32, 2, 32, 2).mean((3, 5))
    at_16 = at_32.reshape(3, 1, 16, 2, 16, 2).mean((3, 5)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(found.images, 0.75 * at_16 + 0.25 * at_32)
    torch.testing.assert_close(found.encoder_images, signed)
    assert float(found.alpha) == 0.25


def test_a_resume_anywhere_in_the_growth_is_bit_for_bit(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Killed at will: in a phase that holds, in both fades, and at their ends. 22 is the clock in iterations of 16.

    Takes more than ten seconds: 44 iterations in nine starts.
    """
    more = SHAPE | {"vae": vae}
    finish(train("gan", sprites, tmp_path / "straight", 22, **more))
    for steps in (2, 3, 5, 7, 10, 12, 14, 22):
        finish(train("gan", sprites, tmp_path / "run", steps, **more))
    assert not differences(newest(tmp_path / "straight"), newest(tmp_path / "run"))
    told = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert {tick["resolution"] for tick in told} == {16, 32, 64}
    assert {tick["images_seen"]: tick["alpha"] for tick in told if "alpha" in tick and tick["images_seen"] <= 112} == {
        64: 0.0, 80: 0.25, 96: 0.5, 112: 0.75
    }  # fmt: skip


WARM = {"growth.warm_start": "true", "augment": "{kind: ada, target: -0.9, interval: 3, kimg: 0.2}"}


def test_a_warm_start_resumes_anywhere_and_no_picture_jumps(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Where a fade begins (at 48 images) and, with its layers untrained, at its end, for G and both averages.

    With ADA, whose p moves every third iteration, and what it counts in between.
    """
    more = SHAPE | WARM | {"vae": vae, "ema.averages": "[{decay: 0.9}, {half_life_kimg: 0.02}]"}
    straight = finish(train("gan", sprites, tmp_path / "straight", 22, **more))
    for steps in (3, 5, 22):
        finish(train("gan", sprites, tmp_path / "run", steps, schedule__keep_last=9, **more))
    assert not differences(newest(tmp_path / "straight"), newest(tmp_path / "run"))
    assert float(newest(tmp_path / "run")["augment.p"]) > 0.1
    told = [json.loads(line) for line in (tmp_path / "straight" / "stats.jsonl").read_text().splitlines()]
    p = [round(tick["augment_p"], 4) for tick in told[:9]]  # of one iteration of 16 images each
    assert p == [0, 0, 0, 0.24, 0.24, 0.24, 0.48, 0.48, 0.48], "48 images are 0.24 of 0.2 kimg"
    shown = [line.split(" augment_p ")[1] for line in straight.err.splitlines() if "s/kimg" in line]
    assert [float(rest.split()[0]) for rest in shown[:9]] == p, "the status line of each"
    state = tensors(tmp_path / "run" / "checkpoints" / published.name_of(48))
    config = load_config(GanConfig, tmp_path / "run" / "config.yaml")
    z = torch.randn(256, config.s_dim + config.c_dim)
    for kind in ("generator", "ema.decay_0.9", "ema.half_life_0.02kimg"):
        G = generator(config, 1)
        G.load_state_dict(
            {name.removeprefix(f"{kind}."): t for name, t in state.items() if name.startswith(f"{kind}.")}
        )
        enlarged = G(z, 16).repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert float(enlarged.std()) > 0.05, "it shows something"
        for alpha in (torch.tensor(0.0), torch.tensor(1.0), None):
            assert float((G(z, 32, alpha) - enlarged).abs().max()) < 1e-5, "far above 30 dB"
    D = discriminator(config, 1)
    D.load_state_dict({n.removeprefix("discriminator."): t for n, t in state.items() if n.startswith("discriminator.")})
    x = torch.rand(64, 1, 32, 32) * 2 - 1
    before = D(x.reshape(64, 1, 16, 2, 16, 2).mean((3, 5)), noise=None).logits
    torch.testing.assert_close(D(x, noise=None).logits, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("warm", [{}, WARM], ids=["blended", "warm start, augmented"])
def test_two_processes_grow_as_one(warm: dict[str, str], sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: sixteen iterations in float64, by one process and by two."""
    more = SHAPE | {"vae": vae, "precision": "float64"} | warm
    finish(train("gan", sprites, tmp_path / "one", 16, **more))
    argv = ["gan", "configs/dsprites/idgan.yaml", *overrides(sprites, tmp_path / "two", 16, processes=2, **more)]
    for rank in processes.ranks(2, "trainer", argv, tmp_path / "logs"):
        assert rank.wait() == 0, rank.err
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "two"))
    assert gap < 1e-9, name
    betas = [float(newest(tmp_path / run)["bottleneck.beta"]) for run in ("one", "two")]
    assert betas[0] == pytest.approx(betas[1], rel=1e-9)
    assert betas[0] != 0.1


def test_layers_of_a_phase_to_come_have_not_moved(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Neither they nor their optimizer state, at the end of the first phase; later they have. Averages copy them."""
    states, more = [], SHAPE | {"ema.averages": "[{decay: 0.9}, {half_life_kimg: 0.02}, {sigma_rel: 0.1}]"}
    for steps in (1, 3, 22):
        finish(train("gan", sprites, tmp_path / "run", steps, vae=vae, schedule__keep_last=9, **more))
        states.append(newest(tmp_path / "run"))
    late = [name for name in states[0] if (".32." in name or ".64." in name) and not name.startswith("ema")]
    assert late
    for name in late:
        if ".step." in name:  # an optimizer counts its steps for all parameters alike
            continue
        assert torch.equal(states[0][name], states[1][name]), name
        assert not torch.equal(states[1][name], states[2][name]), name
        if name.startswith("optimizer"):
            assert not states[1][name].any()
        kind, _, key = name.partition(".")
        for average in ("decay_0.9", "half_life_0.02kimg", "sigma_rel_0.1") if kind == "generator" else ():
            assert torch.equal(states[1][f"ema.{average}.{key}"], states[1][name]), name
            assert not torch.equal(states[2][f"ema.{average}.{key}"], states[2][name]), name


IMPOSSIBLE = [
    (["resolution=96"], "resolution: resolution 96 is not 4 * 2^k"),
    (["resolution=128", "network={name: conv}", "growth=null", "bottleneck=null"], "network conv (Table A.3) is 64 px"),
    (["network={name: conv}"], "bottleneck: network conv (Table A.3) has none; set bottleneck=null"),
    (["network={name: conv}"], "growth: network conv (Table A.3) does not grow; set growth=null"),
    (
        ["growth.start_resolution=64"],
        "growth.start_resolution: 64 is no resolution of the network below 64; choose 4, 8, 16, 32",
    ),
    (["growth.start_resolution=24"], "growth.start_resolution: 24 is no resolution of the network below 64"),
    (["growth.batch_size={128: 4}"], "growth.batch_size: 128 px is no resolution from 16 to 64 px"),
    (["growth.phase_kimg_at={128: 4}"], "growth.phase_kimg_at: 128 px is no resolution from 16 to 64 px"),
    (["growth.phase_kimg_at={64: 4}"], "growth.phase_kimg_at: 64 px holds to the end; set schedule.total_kimg instead"),
    (["growth.phase_kimg_at={32: 0}"], "growth.phase_kimg_at.32: found 0"),
    (["bottleneck.beta=-1"], "bottleneck.beta: found -1"),
    (["checkpointing={}"], "checkpointing.from_resolution: 128 is above resolution 64, so nothing is checkpointed"),
    (["r1=0", "r1_interval=16"], "r1_interval: 16, but r1 and r2 are 0; set r1_interval=1"),
    (["network.nf=16"], "network.nf: 16 is above nf_max 8"),
    (["network.generator_nf=16"], "network.generator_nf: 16 is above nf_max 8"),
    (["network.nf_min=16"], "network.nf_min: 16 is above nf_max 8"),
    (["autocast=bfloat16", "precision=float64"], "autocast: bfloat16 and precision: float64 contradict each other"),
    (["ema.averages=[{decay: 2}]"], "ema.averages.0.decay: found 2"),
    (["network.nff=8"], "network.nff: unknown key (value 8); did you mean network.nf?"),
    (["network={nf: 8}"], 'network: found {"nf": 8}, which does not say its name; set network.name too'),
]


@pytest.mark.parametrize(("wrong", "words"), IMPOSSIBLE)
def test_what_cannot_grow_is_refused(wrong: list[str], words: str) -> None:
    shape = [f"{key}={value}" for key, value in SHAPE.items()]
    assert words in refusal(GanConfig, Path("configs/dsprites/idgan.yaml"), "vae=x", *shape, *wrong)


def test_what_shapes_the_networks_cannot_be_accepted_as_a_change(sprites: Path, vae: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("gan", sprites, run, 3, vae=vae, **SHAPE))
    for more, word in (
        ({"bottleneck": "null"}, "bottleneck"),
        ({"code_loss": "none", "code_weight": 0}, 'code_loss: was "distill", now "none"'),
        ({"network": "{name: resnet, nf: 3, nf_max: 8}"}, "network.nf: was 2, now 3"),
        ({"bottleneck": "{beta: 0.5}"}, "bottleneck.beta: was "),
    ):
        argv = ["gan", "configs/dsprites/idgan.yaml", "--accept-changes"]
        argv += overrides(sprites, run, 5, **{**SHAPE, "vae": vae, **more})
        running = finish(processes.command("trainer", argv, tmp_path / "logs"), 2)
        assert "a checkpoint holds these; set them back" in running.err, running.err
        assert word in running.err
        assert "was null, now null" not in running.err
    argv = ["gan", "configs/dsprites/idgan.yaml", "--accept-changes", *overrides(sprites, run, 5, vae=vae, **SHAPE)]
    finish(processes.command("trainer", [*argv, "r1=5", "bottleneck.information=0.2"], tmp_path / "logs"))


def test_what_is_ahead_by_hand() -> None:
    plan = schedule.phases(64, 16, GROWTH)
    assert schedule.ahead(plan, 0, 10**6) == plan
    assert schedule.ahead(plan, 111, 10**6) == plan
    assert schedule.ahead(plan, 112, 10**6) == plan[1:]
    assert schedule.ahead(plan, 0, 172) == plan[:2]
    assert schedule.ahead(plan, 0, 173) == plan[:3]
    assert schedule.ahead(plan, 500, 400) == plan[4:], "a run that is complete"


def test_phases_that_a_run_does_not_come_to_need_no_shards(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """The small part of a large run, on a machine that has no 128 px."""
    more = SHAPE | {"resolution": 128}
    finish(train("gan", sprites, tmp_path / "run", 3, vae=vae, **more))
    running = finish(train("gan", sprites, tmp_path / "run", 100, vae=vae, **more), 2)
    assert f"data.path: {sprites} has no 128 px" in running.err


def test_a_phase_that_is_over_need_not_split_over_the_processes_of_today(
    sprites: Path, vae: Path, tmp_path: Path
) -> None:
    """Batches of 16 at 16 and 32 px, 6 at 64 px, where it goes on with 3 processes. A damaged checkpoint there leads
    back to the one of 32 px, which one process can take."""
    run = tmp_path / "run"
    growth = "{start_resolution: 16, phase_kimg: 0.016, fade_kimg: 0.016, batch_size: {64: 6}}"
    more = SHAPE | {"growth": growth, "schedule__save_kimg": 0.016}
    finish(train("gan", sprites, run, 3, vae=vae, **more))  # 48 images: the phases below 64 px are over
    argv = [
        "gan",
        "configs/dsprites/idgan.yaml",
        *overrides(sprites, run, 4, vae=vae, **more),
        "schedule.total_kimg=0.06",
    ]
    for one in processes.ranks(3, "trainer", argv, tmp_path / "logs"):
        finish(one)
    assert [path.name for path in published.steps(run)] == [published.name_of(60), published.name_of(48)]
    for step in published.steps(run):
        (step / ".metadata").write_bytes(b"\0" * (step / ".metadata").stat().st_size)
    finish(train("gan", sprites, tmp_path / "short", 2, vae=vae, **more))
    shutil.copytree(published.steps(tmp_path / "short")[0], published.folder(run) / published.name_of(32))
    running = finish(processes.command("trainer", argv, tmp_path / "logs"))
    assert running.err.count("warning: skipped checkpoint") >= 2
    assert f"resuming {run} at 32 images" in running.err
    assert published.steps(run)[0].name == published.name_of(60)


def test_shards_and_batches_that_fit_no_stage_are_listed_at_once(sprites: Path, vae: Path, tmp_path: Path) -> None:
    more = SHAPE | {"vae": vae, "resolution": 256, "strategy": "fsdp2", "batch_size": 12}
    running = finish(train("gan", sprites, tmp_path / "run", 100, **more), 2)
    for words in (
        "2 problems",
        "strategy: fsdp2 splits over processes, and there is one",
        f"data.path: {sprites} has no 128 px, 256 px; make the set again with --resolutions 256,128,64",
    ):
        assert words in running.err, running.err
    assert "Traceback" not in running.err
