"""The threshold of the samples' spread beside what healthy networks have: trained ones, and those of a start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import trainer
from data_shards.read.loader import open_dataset
from tests.support import data_sets
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, WatchConfig, kind_of
from trainer.config.sections import ResNetConfig
from trainer.config.yaml_file import read_yaml
from trainer.steps import networks
from trainer.watch.sample_spread import IMAGES, spread

WATCH = WatchConfig()


def reals(data: Path) -> Tensor:
    return open_dataset(data, 64).read_samples(np.arange(IMAGES)).float() / 127.5 - 1


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faces") / "set"
    made = data_sets.run("make", "faces", "--out", out, "--count", IMAGES, "--resolutions", "64", "--workers", 1)
    assert made.code == 0, made.err
    return out


def test_trained_generators_differ_as_much_as_reals(sprites: Path, faces: Path) -> None:
    """Those of the shipped exports, in four times as many samples as the watch takes: 50 times the threshold."""
    for name, data in (("dsprites-idgan", sprites), ("faces-64-idgan", faces)):
        model = trainer.load(Path("pretrained") / name)
        samples = model.generate(model.nuisance(4 * IMAGES), model.codes(4 * IMAGES)) * 2 - 1
        for part in samples.split(IMAGES):
            assert 0.5 < spread(part) / spread(reals(data)) < 2, name
    assert WATCH.sample_spread * 50 <= 0.5


def test_only_resnets_differ_enough_at_the_start(sprites: Path, faces: Path) -> None:
    """Untrained generators of every shipped config of at most 64 px, with c ~ N(0, I).

    Those of Table A.3 are at the threshold or below, so every config has a stretch whose signs do not count.
    """
    of_reals = {1: spread(reals(sprites)), 3: spread(reals(faces))}
    shares: dict[bool, dict[str, float]] = {True: {}, False: {}}  # ResNets, those of Table A.3; one of each network
    for path, config in small_gans():
        assert config.watch is not None
        assert config.watch.from_kimg >= 20, path
        channels = 1 if "dsprites" in str(config.data.path) else 3
        side = config.growth.start_resolution if config.growth else config.resolution
        network = f"{networks.generator_arguments(config, channels)} at {side} px"
        of_kind = shares[isinstance(config.network, ResNetConfig)]
        if network not in of_kind:
            of_kind[network] = spread(untrained(config, channels, side)) / of_reals[channels]
    assert len(shares[False]) >= 2
    assert len(shares[True]) >= 2
    assert max(shares[False].values()) < 2 * WATCH.sample_spread, shares
    assert min(shares[True].values()) > 5 * WATCH.sample_spread, shares


def small_gans() -> Iterator[tuple[Path, GanConfig]]:
    """The shipped configs of stage 2 of at most 64 px."""
    for path in sorted(Path("configs").glob("*/*.yaml")):
        if path.parent.name in ("accelerate", "experiments") or kind_of(read_yaml(path)) is not GanConfig:
            continue
        has_frozen = read_yaml(path).get("code_source", "posterior") == "posterior"
        config = load_config(GanConfig, path, ["vae=some"] if has_frozen else [])
        if config.resolution <= 64:
            yield path, config


@torch.no_grad()
def untrained(config: GanConfig, channels: int, side: int) -> Tensor:
    z = torch.randn(IMAGES, config.s_dim + config.c_dim, generator=torch.Generator().manual_seed(0))
    images: Tensor = networks.generator(config, channels)(z, side)
    return images
