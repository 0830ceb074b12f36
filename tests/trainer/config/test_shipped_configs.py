"""The shipped configs hold the paper's values. Each table here is written by hand from its appendix and code.

A.n is a table of ID-GAN's appendix; everything else is the authors' code, and where it has no such config its nearest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from tests.support.shipped_configs import FACES, GANS, PATHS, VAES, commands, header, literal, making, training
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.yaml_file import read_yaml
from trainer.steps import networks, schedule

RMSPROP = {"name": "rmsprop", "lr": 1e-4, "alpha": 0.99, "eps": 1e-8}
ALL_GANS: dict[str, Any] = {
    "code_source": "posterior",
    "code_loss": "distill",
    "d_sees_code": False,
    "s_dim": 256,
    "c_dim": 20,
    "network.name": "resnet",
    "network.nf": 64,
    "network.nf_max": 512,
    "network.generator_nf": None,
    "bottleneck": None,
    "growth": None,
    "checkpointing": None,
    "autocast": "none",
    "precision": "float32",
    "r1": 10,
    "r1_interval": 1,
    "batch_size": 64,
    "micro_batch": None,
    "ema.averages": [{"decay": 0.999}],
    "ema.snapshot_kimg": None,
    "compile": False,
    "data.variant": "plain",
    "data.flip": True,
    "data.dequantise": True,
    "schedule.total_kimg": 19_200,  # 300,000 iterations of 64
} | {f"optimizer_{network}.{key}": value for network in "gd" for key, value in RMSPROP.items()}
BOTTLENECK = {
    "bottleneck.information": 0.1,
    "bottleneck.beta": 0.1,
    "bottleneck.beta_step": 1e-5,
    "bottleneck.sample_in_g_step": True,
}
HQ = BOTTLENECK | {"network.nf": 16, "resolution": 1024, "code_weight": 1e-4, "batch_size": 1}
HQ |= {"schedule.total_kimg": 300}
GAN = {"code_source": "none", "code_loss": "none", "code_weight": 0, "s_dim": 276, "c_dim": 0, "resolution": 64}
INFOGAN = {f"optimizer_q.{key}": value for key, value in RMSPROP.items()}
INFOGAN |= {"code_source": "prior", "code_loss": "info", "resolution": 64}
A_5 = {"resolution": 128, "network.generator_nf": 128}  # G alone: D's nf is 64
LITERAL: dict[str, dict[str, Any]] = {
    "celeba/64": {"resolution": 64, "code_weight": 1e-3},
    "celeba/gan": GAN,
    "celeba/infogan": INFOGAN | {"code_weight": 1e-3},
    "celeba/128": A_5 | {"code_weight": 1e-3},
    "celeba/128_no_distill": A_5 | {"code_loss": "none", "code_weight": 0},
    "celeba/128_cgan": A_5 | {"code_loss": "none", "code_weight": 0, "d_sees_code": True},
    "celeba/256": {"resolution": 256, "code_weight": 1e-3, "batch_size": 24, "schedule.total_kimg": 7200},
    "celeba_hq/1024": HQ | {"vae": "runs/celeba-beta_vae"},
    "chairs/64": {"resolution": 64, "code_weight": 1e-4, "r1": 1000},
    "chairs/gan": GAN | {"r1": 1000},
    "chairs/infogan": INFOGAN | {"code_weight": 1e-4, "r1": 1000},
    "cars/64": {"resolution": 64, "code_weight": 1e-3},
    "cars/gan": GAN,
    "cars/infogan": INFOGAN | {"code_weight": 1e-3},
    "hd_dsprites/1024": HQ
    | {"c_dim": 10, "data.variant": "color", "data.flip": False, "data.dequantise": False},  # dSprites', A.2 and A.1
}
AT_1024 = {  # what departs
    "growth.start_resolution": 64,
    "growth.phase_kimg": 600,
    "growth.fade_kimg": 600,
    "growth.batch_size.64": 64,
    "growth.batch_size.128": 64,
    "growth.batch_size.256": 32,
    "batch_size": 32,
    "micro_batch": "auto",
    "r1_interval": 16,
    "checkpointing.from_resolution": 256,
    "schedule.total_kimg": 10500,
}
DEPARTURES: dict[str, dict[str, Any]] = {
    "celeba_hq/1024": AT_1024 | {"vae": "runs/celeba_hq-beta_vae"},
    "hd_dsprites/1024": AT_1024,
}


def flat(value: object, prefix: str = "") -> dict[str, Any]:
    """A config as {key.path: value}."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = [flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
    return {key: v for part in parts for key, v in part.items()}


def expected(*layers: dict[str, Any]) -> dict[str, Any]:
    """The layers on top of each other; a group that has settings is not also null."""
    merged = {key: value for layer in layers for key, value in layer.items()}
    return {key: v for key, v in merged.items() if not any(other.startswith(f"{key}.") for other in merged)}


def load_gan(name: str, *more: str) -> GanConfig:
    """As its header's command starts it."""
    _, path, *overrides = training(name)
    return load_config(GanConfig, Path(path), [*(o for o in overrides if o != "processes=8"), *more])


def only(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {key: found.get(key, "missing") for key in wanted}


def test_the_tables_are_about_all_of_them() -> None:
    assert set(GANS) == set(LITERAL)
    assert set(VAES) == set(STAGE_1)
    assert {path.parent.name for path in Path("configs").glob("*/*.yaml")} == {
        "accelerate", "demo", "dsprites", "experiments", "faces", "results", "stacked",
        *(name.split("/")[0] for name in PATHS),
    }  # fmt: skip


@pytest.mark.parametrize("name", GANS)
def test_with_the_headers_overrides_it_is_the_papers_setting(name: str) -> None:
    overrides = literal(name)
    assert overrides is not None
    assert bool(overrides) == (name in DEPARTURES)
    config = load_gan(name, *overrides)
    wanted = expected(ALL_GANS, LITERAL[name])
    assert only(flat(config), wanted) == wanted
    assert config.schedule.total_kimg * 1000 / config.batch_size == 300_000


@pytest.mark.parametrize("name", GANS)
def test_as_shipped_it_departs_in_what_is_listed_and_nothing_else(name: str) -> None:
    wanted = expected(ALL_GANS, LITERAL[name], DEPARTURES.get(name, {}))
    assert only(flat(load_gan(name)), wanted) == wanted


@pytest.mark.parametrize("name", ["celeba_hq/1024", "hd_dsprites/1024"])
def test_growth_takes_three_hundred_thousand_iterations_that_1_to_32_gpus_can_split(name: str) -> None:
    config = load_gan(name)
    plan = schedule.gan_phases(config)
    below = 600_000 // 64 + 1_200_000 // 64 + 2 * (1_200_000 // 32)
    assert below == 103_125
    assert below + 600_000 // 32 == 121_875
    first_at_1024 = next(phase.first for phase in plan if phase.resolution == 1024)
    assert schedule.iteration(plan, first_at_1024, 1) == below
    assert schedule.iteration(plan, plan[-1].first, 1) == 121_875
    assert schedule.iteration(plan, round(config.schedule.total_kimg * 1000), 1) == 300_000
    assert {phase.batch_size % 32 for phase in plan} == {0}
    for number in ("103,125", "121,875"):
        assert number in PATHS[name].read_text()


# Parameters

AUXILIARY_G = sum(3 * (9 * width + 1) for width in (128, 64, 32, 16))  # 3x3 to RGB at 64, 128, 256 and 512 px
AUXILIARY_D = sum(width * (9 * 3 + 1) for width in (128, 64, 32, 16))  # 3x3 from RGB
TEN_LESS = 10 * 512 * 4 * 4  # weights of G's FC when c has 10 dims instead of 20
SIZES = [
    ("celeba/64", [], 9_559_747, 7_299_265),
    ("chairs/64", [], 9_559_747, 7_299_265),
    ("cars/64", [], 9_559_747, 7_299_265),
    ("celeba/gan", [], 9_559_747, 7_299_265),
    ("celeba/infogan", [], 9_559_747, 7_299_265),
    ("celeba/128", ["network.generator_nf=64"], 14_279_363, 12_018_881),
    ("celeba/128", [], 19_103_107, 12_018_881),
    ("celeba/128_no_distill", [], 19_103_107, 12_018_881),
    ("celeba/256", [], 18_998_979, 16_738_497),
    ("celeba_hq/1024", ["growth=null"], 18_965_683, 17_230_513),
    ("celeba_hq/1024", [], 18_965_683 + AUXILIARY_G, 17_230_513 + AUXILIARY_D),
    ("hd_dsprites/1024", [], 18_965_683 - TEN_LESS + AUXILIARY_G, 17_230_513 + AUXILIARY_D),
]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "overrides", "of_g", "of_d"), SIZES)
def test_networks_at_full_size_have_the_authors_parameter_counts(
    name: str, overrides: list[str], of_g: int, of_d: int
) -> None:
    config = load_gan(name, *overrides)
    with torch.device("meta"):
        assert count(networks.generator(config, 3)) == of_g
        assert count(networks.discriminator(config, 3)) == of_d


# Stage 1 (A.2): c_dim, likelihood, beta, iterations

STAGE_1 = {  # and FactorVAE's gamma; Cars' is not known: CelebA's
    "celeba/vae": (20, "gaussian", 1, 1_000_000, 0),
    "celeba/factor_vae": (20, "gaussian", 1, 1_000_000, 6.4),
    "celeba/beta_vae": (20, "gaussian", 6.4, 1_000_000, 0),
    "celeba_hq/beta_vae": (20, "gaussian", 6.4, 1_000_000, 0),
    "chairs/vae": (20, "gaussian", 1, 1_000_000, 0),
    "chairs/factor_vae": (20, "gaussian", 1, 1_000_000, 3.2),
    "chairs/beta_vae": (20, "gaussian", 10, 1_000_000, 0),
    "cars/vae": (20, "gaussian", 1, 1_000_000, 0),
    "cars/factor_vae": (20, "gaussian", 1, 1_000_000, 6.4),
    "cars/beta_vae": (20, "gaussian", 5, 1_000_000, 0),
    "hd_dsprites/beta_vae": (10, "bernoulli", 8, 500_000, 0),
}


@pytest.mark.parametrize("name", VAES)
def test_stage_1_has_the_papers_settings(name: str) -> None:
    config = load_config(VaeConfig, PATHS[name])
    images = 2 * 64 if config.gamma else 64  # the total correlation is estimated on a second batch
    iterations = config.schedule.total_kimg * 1000 / images
    assert (config.c_dim, config.likelihood, config.beta.value, iterations, config.gamma) == STAGE_1[name]
    assert (config.beta.schedule, config.init, config.batch_size) == ((), "normal", 64)
    critic = config.optimizer_critic
    assert not config.gamma or (critic.lr, critic.betas) == (1e-5, (0.5, 0.9))
    assert (config.optimizer.lr, config.optimizer.betas, config.optimizer.eps) == (1e-4, (0.9, 0.999), 1e-8)
    assert config.data.variant == ("color" if name.startswith("hd") else "plain")


def test_the_papers_encoder_of_celeba_hq_is_that_of_celeba() -> None:
    one = load_config(VaeConfig, PATHS["celeba_hq/beta_vae"], literal("celeba_hq/beta_vae") or [])
    assert one == load_config(VaeConfig, PATHS["celeba/beta_vae"])


# What the comments say


@pytest.mark.parametrize("name", [*GANS, *VAES])
def test_the_headers_commands_are_about_this_config(name: str) -> None:
    """The shards it reads are those that are made, with every level that it needs and none above."""
    stage, path, *_ = training(name)
    assert stage == ("vae" if name in VAES else "gan")
    assert path == str(PATHS[name])
    made = making(name)
    config = load_gan(name) if name in GANS else load_config(VaeConfig, PATHS[name])
    assert made[made.index("--out") + 1] == str(config.data.path)
    levels = set(map(int, made[made.index("--resolutions") + 1].split(",")))
    if isinstance(config, GanConfig):
        plan = schedule.gan_phases(config)
        assert levels == {64, *(phase.resolution for phase in plan)}
    assert 64 in levels


def test_one_set_is_made_by_one_command_and_a_launch_starts_what_it_says() -> None:
    made = {" ".join(making(name)) for name in PATHS}
    assert len({argv.split()[argv.split().index("--out") + 1] for argv in made}) == len(made)
    launches = [args for name in GANS for args in commands(name) if "accelerate" in args]
    assert [args[args.index("--num_processes") + 1] for args in launches] == ["8", "8"]
    assert all("processes=8" in args for args in launches)


VALUES = {
    "vae": "c_dim likelihood beta optimizer batch_size",
    "gan": "code_source code_loss code_weight d_sees_code s_dim c_dim resolution network r1 optimizer_g optimizer_d "
    "batch_size data.flip data.dequantise",
    "1024": "autocast r1_interval bottleneck.information bottleneck.beta bottleneck.beta_step growth.start_resolution",
}


@pytest.mark.parametrize("name", [*GANS, *VAES])
def test_every_value_of_the_paper_stands_in_the_file(name: str) -> None:
    """Also where it is the default, which another config may have moved."""
    wanted = VALUES["vae" if name in VAES else "gan"].split()
    wanted += ["gamma", "optimizer_critic"] if name.endswith("factor_vae") else []
    wanted += ["optimizer_q"] if name.endswith("infogan") else []
    wanted += VALUES["1024"].split() if name.endswith("/1024") else []
    groups = read_yaml(PATHS[name])
    keys = set(flat(groups)) | set(groups)
    assert not set(wanted) - keys


@pytest.mark.parametrize("name", [*GANS, *VAES])
def test_every_value_of_the_paper_names_its_source(name: str) -> None:
    """A table or the authors' code, or the config that it was taken from; the second rate has that of the first."""
    lines = PATHS[name].read_text().splitlines()
    told = "s_dim c_dim likelihood beta gamma code_weight network bottleneck r1 r1_interval growth checkpointing "
    told += "autocast optimizer_critic optimizer optimizer_g ema batch_size"
    source = r"Table A\.\d|authors' code|CelebA|dSprites'|that of 64 px|those of 64 px|paper: |iterations of"
    for line in lines:
        key, _, rest = line.partition(":")
        if key in told.split() or key == "  total_kimg":
            assert re.search(f"# .*({source})", rest), line
    assert "The paper" in " ".join(header(name))


def test_the_table_of_the_docs_has_a_line_for_each() -> None:
    page = Path("docs/training_reference.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| `python -m trainer ([^`]+)` \|$", page, re.MULTILINE)
    found = {re.sub(r".*configs/(\S+)\.yaml.*", r"\1", command): (int(px), command) for px, command in rows}
    assert len(found) == len(rows)
    assert set(found) == set(PATHS | FACES)
    for name, (px, command) in found.items():
        assert px == (64 if name.endswith("vae") else load_gan(name).resolution)
        assert command.split() == [a for a in training(name) if a != "processes=8"]
