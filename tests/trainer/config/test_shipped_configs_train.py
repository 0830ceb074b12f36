"""Every shipped config trains with few channels, on shards that its header's command makes of a replica of its data."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import processes, replicas
from tests.support.launchers import launched
from tests.support.shipped_configs import GANS, PATHS, VAES, commands, making, training
from tests.support.training import (
    STAGE_1,
    STAGE_2,
    TERMS,
    TIMING,
    differences,
    finish,
    largest_gap,
    newest,
    tensors,
    two_at_a_time,
)
from trainer.checkpoints import published
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.distributed.world import World
from trainer.memory import free_memory
from trainer.preflight import gan_inputs
from trainer.resume import FROM_SCRATCH

ROOT = Path(__file__).parents[3]
QUIET = ["schedule.save_kimg=0.006", "schedule.sample_kimg=1000", "schedule.keep_last=9"]
STEPS_OF_2 = ["batch_size=2", "schedule.total_kimg=0.006", "schedule.tick_kimg=0.002"]
SMALL = ["network.nf=1", "network.nf_max=8", "data.workers=0", "processes=null"]
GROWN = [  # two images at 64 px, then two in each fade and one in each hold: 13 iterations
    "batch_size=1", "growth.batch_size={64: 2}", "growth.phase_kimg=0.001", "growth.fade_kimg=0.002",
    "r1_interval=4", "schedule.total_kimg=0.014", "schedule.tick_kimg=0.001",
]  # fmt: skip
CODE = STAGE_2 | {"code_nll"}
TO_128 = [  # of celeba_hq/1024; hd_dsprites/1024 goes on to 1024 px
    "resolution=128", "checkpointing.from_resolution=128", "schedule.total_kimg=0.005",
]  # fmt: skip
# These start with the estimate of memory, as they do for a user: one of one size, one that grows.
ESTIMATED = ("celeba/64", "hd_dsprites/1024")


def start(place: Path, module: str, argv: list[str], estimate: bool = False) -> processes.Running:
    return processes.start(processes.module_in, (str(place), module, argv), place / "logs", estimate=estimate)


def make(place: Path, argv: list[str]) -> processes.Running:
    """The header's command; of dSprites eight instead of all."""
    few = " ".join(argv).replace("--all", "--count 8").split()
    return start(place, "data_shards", [*few, "--workers", "1"])


def train(place: Path, name: str, *more: str, estimate: bool = False) -> processes.Running:
    """The header's command at a small size. estimate: see processes.start."""
    size = [] if name in VAES else SMALL
    size = [*size, "network.generator_nf=2"] if name.startswith("celeba/128") else size
    length = GROWN if name.endswith("/1024") else STEPS_OF_2
    length = [*length, *TO_128] if name == "celeba_hq/1024" else length
    length = [*length, "schedule.total_kimg=0.012"] if name.endswith("factor_vae") else length  # 2 x 2 an iteration
    return start(place, "trainer", [*training(name), *QUIET, *size, *length, *more], estimate)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configs, like a fresh clone, where all header commands have been run in their order."""
    place = tmp_path_factory.mktemp("place")
    (place / "configs").symlink_to(ROOT / "configs")
    replicas.celeba(place / "CELEBA", 4)
    replicas.celeba_hq(place / "CELEBA_HQ", 2)
    replicas.chairs(place, 1)
    replicas.cars(place / "CARS", 6)
    sets = {" ".join(making(name)): making(name) for name in PATHS}
    for group in (
        [partial(make, place, argv) for argv in sets.values()],
        [partial(train, place, name) for name in VAES],
        [partial(train, place, name, estimate=name in ESTIMATED) for name in GANS],
    ):
        for running in two_at_a_time(group):
            finish(running)
    return place


def ticks(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def run_of(place: Path, name: str) -> Path:
    return place / "runs" / name.replace("/", "-")


@pytest.mark.parametrize("name", VAES)
def test_stage_1_trains(name: str, place: Path) -> None:
    step = published.newest(run_of(place, name))
    assert step is not None
    assert published.read_manifest(step)["iteration"] == 3
    terms = TERMS[name.split("/")[1]]
    assert ticks(run_of(place, name))[-1].keys() - TIMING - {"images_seen", "resolution"} == terms


@pytest.mark.parametrize("name", [name for name in GANS if not name.endswith("/1024")])
def test_stage_2_trains(name: str, place: Path) -> None:
    run = run_of(place, name)
    step = published.newest(run)
    assert step is not None
    manifest = published.read_manifest(step)
    assert (manifest["iteration"], manifest["facts"]["channels"]) == (3, 3)
    told = ticks(run)
    size, _, system = name.split("/")[1].partition("_")
    assert {tick["resolution"] for tick in told} == {int(size) if size.isdigit() else 64}
    terms = TERMS[{"no_distill": "idgan_no_distill", "": "idgan" if size.isdigit() else size}.get(system, system)]
    assert told[-1].keys() - TIMING - {"images_seen", "resolution"} == terms
    assert all(tick["r1"] > 0 for tick in told), "in every iteration"


@pytest.mark.parametrize(
    ("name", "grown_to"), [("celeba_hq/1024", (128,)), ("hd_dsprites/1024", (128, 256, 512, 1024))]
)
def test_a_growing_one_passes_every_stage_and_fade(name: str, grown_to: tuple[int, ...], place: Path) -> None:
    told = ticks(run_of(place, name))
    assert [(tick["resolution"], tick.get("alpha")) for tick in told] == [
        (64, None),
        *[(px, alpha) for px in grown_to for alpha in (0.0, 0.5, None)],
    ]
    assert all(tick.keys() - TIMING - {"images_seen", "resolution", "alpha"} == CODE | {"kl", "beta"} for tick in told)
    assert [i for i, tick in enumerate(told) if tick["r1"]] == list(range(0, len(told), 4)), (
        "lazily, and at 1024 px too"
    )
    assert told[-1]["beta"] != 0.1


@pytest.mark.parametrize("processes", [1, 2, 8, 32])
def test_the_flagship_may_start_on_any_usual_number_of_gpus(
    processes: int, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As it stands, at its full width, with 24 GB free: all checks before the first step, by the first of so many.

    On 4 and 16 a pass has fewer images than on 2, and a share more than on 32.
    """
    monkeypatch.chdir(place)
    monkeypatch.setattr(free_memory, "free_bytes", lambda world: 24 * 10**9)
    _, path, *overrides = training("celeba_hq/1024")
    config = load_config(GanConfig, Path(path), [*(o for o in overrides if o != "processes=8"), "data.workers=0"])
    with caplog.at_level("INFO"):
        inputs = gan_inputs(config, World(0, processes, torch.device("cpu"), None), FROM_SCRATCH)
    share = {64: 64, 128: 64, 256: 32, 512: 32, 1024: 32}
    assert all(share[px] // processes % size == 0 for px, size in inputs.pass_sizes.items())
    assert inputs.pass_sizes.keys() == share.keys()
    assert (inputs.pass_sizes[1024] == 32 // processes) == (processes > 1), "one GPU takes its batch in several passes"
    assert "micro_batch: auto: " in caplog.text


def test_resumed_in_the_middle_of_the_fade_into_1024_px_it_ends_as_the_unbroken_run(place: Path) -> None:
    """Takes more than ten seconds: iterations at 1024 px, after an estimate of their memory."""
    whole, run = place / "runs/hd_dsprites-1024/checkpoints", place / "runs/resumed"
    shutil.copytree(whole.parent, run, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(whole / published.name_of(12), run / "checkpoints" / published.name_of(12))
    running = finish(train(place, "hd_dsprites/1024", f"run={run}", estimate=True))
    assert f"resuming {run} at 12 images" in running.err
    assert re.search("memory: about .* at 1024 px", running.err), "of the phases that are ahead"
    assert not differences(tensors(whole / published.name_of(14)), newest(run))


SHORT = [  # 64 px, two iterations of a fade, 128 px, on the VAE of a CelebA run
    "vae=runs/celeba-beta_vae", "batch_size=2", "growth.batch_size={}", "resolution=128", "precision=float64",
    "checkpointing={from_resolution: 128}", "growth.phase_kimg=0.002", "growth.fade_kimg=0.004",
    "schedule.total_kimg=0.008",
]  # fmt: skip


def test_celeba_hq_on_celebas_encoder_is_the_same_on_two_processes(place: Path) -> None:
    """The command that the header's launch would start on eight GPUs, as two processes of this machine.

    At 128 px, in float64: how many processes there are and how large the images are does not hang together. The
    launcher itself, with the shipped configs/accelerate/cpu.yaml, runs in tests/trainer/distributed/test_two_nodes.py.
    """
    finish(train(place, "celeba_hq/1024", "run=runs/one", *SHORT))
    (launch,) = [args for args in commands("celeba_hq/1024") if args[0] == "accelerate"]
    small = [*QUIET, *SMALL, "r1_interval=4", "schedule.tick_kimg=0.002", *SHORT, "run=runs/two", "processes=2"]
    started = launched([*launch, *small])
    assert (started.count, started.module) == (8, "trainer")
    for rank in processes.ranks(2, started.module, started.argv, place / "logs", place):
        finish(rank)
    step = published.newest(place / "runs/two")
    assert step is not None
    assert published.read_manifest(step)["world_size"] == 2
    one, two = newest(place / "runs/one"), newest(place / "runs/two")
    gap, name = largest_gap(one, two)
    assert gap < 1e-9, f"{name}: {gap}"
    of_celeba = published.newest(run_of(place, "celeba/64"))
    assert of_celeba is not None
    assert published.read_manifest(step)["facts"]["vae"] == published.read_manifest(of_celeba)["facts"]["vae"]


GROWS = ["resolution=128", "data.path=data/celeba-128", "growth={phase_kimg: 0.002, fade_kimg: 0.002}", "bottleneck={}"]
FACTOR = ["beta.value=1", "gamma=6.4", "optimizer_critic={name: adam, lr: 1e-5, betas: [0.5, 0.9]}"]
SYSTEMS = {  # the paper's eight, from the two configs of CelebA at 64 px
    "VAE": ["beta.value=1"],
    "beta-VAE": [],
    "FactorVAE": FACTOR,
    "GAN": ["code_source=none", "code_loss=none", "code_weight=0", "c_dim=0", "vae=null"],
    "InfoGAN": ["code_source=prior", "code_loss=info", "optimizer_q={name: rmsprop, lr: 1e-4}", "vae=null"],
    "cGAN": ["code_loss=none", "code_weight=0", "d_sees_code=true"],
    "ID-GAN without distillation": ["code_loss=none", "code_weight=0"],
    "ID-GAN": [],
}
OWN_TERMS = {
    "FactorVAE": {"total_correlation", "loss_critic", "grad_norm_critic"},
    "InfoGAN": {"code_nll", "grad_norm_q"},
    "ID-GAN": {"code_nll"},
}


def test_all_eight_systems_train_on_celeba_with_the_resnets_growth_and_bottleneck(place: Path) -> None:
    """Stage 1's have the networks of Table A.2 everywhere; stage 2's grow from 64 to 128 px."""
    starts, expected = [], {}
    for system, overrides in SYSTEMS.items():
        first = system.endswith("VAE")
        name, shape = ("celeba/beta_vae", []) if first else ("celeba/64", GROWS)
        run = f"runs/eight/{system.replace(' ', '_')}"
        starts.append(partial(train, place, name, f"run={run}", *shape, *overrides))
        expected[run] = (STAGE_1 if first else STAGE_2 | {"kl", "beta"}) | OWN_TERMS.get(system, set())
    for running in two_at_a_time(starts):
        finish(running)
    for run, terms in expected.items():
        told = ticks(place / run)
        assert told[-1].keys() - TIMING - {"images_seen", "resolution", "alpha"} == terms, run
        grows = [64, 128, 128] if "kl" in terms and "reconstruction" not in terms else None
        assert grows is None or [tick["resolution"] for tick in told] == grows
