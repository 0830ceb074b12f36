"""The configs of drawn faces are those of CelebA, small: each departure is marked with CelebA's own value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.shipped_configs import ALL, FACES, commands, making, training
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.config.yaml_file import read_yaml
from trainer.steps import schedule

BASES = {
    "faces/beta_vae": "celeba/beta_vae",
    "faces/vae": "celeba/beta_vae",
    "faces/factor_vae": "celeba/beta_vae",
    "faces/64": "celeba/64",
    "faces/gan": "celeba/64",
    "faces/infogan": "celeba/64",
    "faces/256": "celeba/256",
    "faces/1024": "celeba_hq/1024",
}
SYSTEMS = {
    "faces/beta_vae": "beta-VAE",
    "faces/vae": "VAE",
    "faces/factor_vae": "FactorVAE",
    "faces/64": "ID-GAN",
    "faces/gan": "GAN",
    "faces/infogan": "InfoGAN",
    "faces/256": "ID-GAN",
    "faces/1024": "ID-GAN",
}
OWN = {"run", "vae", "data.path"}  # names of folders, which tell nothing of a setting


def load(name: str) -> RunConfig:
    """As its header's command starts it."""
    stage, path, *overrides = training(name)
    kept = [o for o in overrides if o != "processes=8"]
    return load_config(VaeConfig if stage == "vae" else GanConfig, Path(path), kept)


def settings(config: RunConfig) -> dict[str, Any]:
    """By the key that stands on a line of the file: the groups `data` and `schedule` have a line for each setting."""
    found: dict[str, Any] = {}
    for key, value in config:
        group = isinstance(value, BaseModel) and key in ("data", "schedule")
        found |= {f"{key}.{inner}": v for inner, v in value} if group else {key: value}
    return {key: value for key, value in found.items() if key not in OWN}


def comments(path: Path) -> dict[str, str]:
    """The comment on each setting's line; of a group on several lines those of all."""
    found: dict[str, str] = {}
    group = ""
    for line in path.read_text().splitlines():
        match = re.match(r"( *)(\w+):[^#]*#?(.*)", line)
        if match is None:
            continue
        indented, key, comment = match.groups()
        group = key if not indented else group
        name = f"{group}.{key}" if indented and group in ("data", "schedule") else group
        found[name] = found.get(name, "") + comment
    return found


def test_all_of_them_are_here() -> None:
    assert set(FACES) == set(BASES)
    assert {name: load(name).system for name in FACES} == SYSTEMS


@pytest.mark.parametrize("name", FACES)
def test_each_departure_from_celebas_settings_is_marked(name: str) -> None:
    """And nothing else is: `CelebA: ` stands where a setting differs, `CelebA's` where it is the same."""
    ours, base, told = settings(load(name)), settings(load(BASES[name])), comments(FACES[name])
    mark = "CelebA-HQ: " if BASES[name].startswith("celeba_hq") else "CelebA: "
    departures = {key for key in ours | base if ours.get(key) != base.get(key)}
    assert departures == {key for key, comment in told.items() if mark in comment}
    assert {"data.flip", "network"} <= departures or name.endswith("vae")
    groups = read_yaml(FACES[name])
    assert departures <= set(groups) | {f"{g}.{key}" for g in ("data", "schedule") for key in groups[g]}


@pytest.mark.parametrize("name", FACES)
def test_the_headers_commands_are_about_this_config(name: str) -> None:
    """The shards that it reads are those that are made, with every level that it needs and none above."""
    stage, path, *_ = training(name)
    assert (stage, path) == ("vae" if name.endswith("vae") else "gan", str(FACES[name]))
    made, config = making(name), load(name)
    assert made[made.index("--out") + 1] == str(config.data.path)
    levels = set(map(int, made[made.index("--resolutions") + 1].split(",")))
    phases = schedule.gan_phases(config) if isinstance(config, GanConfig) else []
    assert levels == {64, *(phase.resolution for phase in phases)}
    assert "vae=runs/faces-beta_vae" in training(name) or not getattr(config, "vae", None)


def test_one_set_is_made_by_one_command() -> None:
    made = {" ".join(making(name)) for name in ALL}
    assert len({argv.split()[argv.split().index("--out") + 1] for argv in made}) == len(made)


def test_growth_ends_where_the_comments_say_and_eight_gpus_can_split_it() -> None:
    for name in ("faces/256", "faces/1024"):
        config = load(name)
        assert isinstance(config, GanConfig)
        phases = schedule.gan_phases(config)
        (told,) = re.findall(r"The last fade ends at (\d+)", FACES[name].read_text())
        assert round(phases[-1].first / 1000) == int(told)
        assert [phase.resolution for phase in phases][::2] == [2**k for k in range(6, len(phases) // 2 + 7)]
    assert {phase.batch_size % 8 for phase in phases} == {0}
    (launch,) = [args for args in commands("faces/1024") if "accelerate" in args]
    assert launch[launch.index("--num_processes") + 1] == "8"
