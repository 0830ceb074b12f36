"""Every shipped dSprites config really trains, on plain images and on another variant, and reports what its system has.

VAE and ID-GAN are run on every variant. The variant decides what the loader gives, the system what is done with it: of
the other systems, one coloured variant each.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from data_shards.read.variant_names import Variant
from tests.support import processes
from tests.support.training import BATCH, CONFIGS, TERMS, TIMING, batches_of, train_system, two_at_a_time
from trainer.checkpoints import published

STEPS = 2
VARIANTS = get_args(Variant)
SYSTEMS = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
ON_A_VAE = {"cgan", "idgan_no_distill", "idgan"}
COLOURED = [variant for variant in VARIANTS if variant != "plain"]
PAIRS = sorted(
    {(system, variant) for i, system in enumerate(SYSTEMS) for variant in ("plain", COLOURED[i % len(COLOURED)])}
    | {(system, variant) for system in ("vae", "idgan") for variant in VARIANTS}
)
Runs = dict[tuple[str, str], tuple[Path, processes.Running]]


@pytest.fixture(scope="module")
def runs(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All of them, two at a time; the VAE of a GAN is this module's own on the same variant.

    On plain images they start as for a user, with the estimate of memory.
    """
    root = tmp_path_factory.mktemp("systems")
    keys = sorted(PAIRS, key=lambda key: key[0] in ON_A_VAE)
    starts = []
    for system, variant in keys:
        more: dict[str, Any] = {"vae": root / variant / "vae"} if system in ON_A_VAE else {}
        more["estimate"] = variant == "plain"
        run = root / variant / system
        starts.append(partial(train_system, system, sprites, run, STEPS, data__variant=variant, **more))
    ended = two_at_a_time(starts)
    return {key: (root / key[1] / key[0], running) for key, running in zip(keys, ended, strict=True)}


def last_line(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "stats.jsonl").read_text().splitlines()[-1])
    return found


def test_the_table_of_systems_is_that_of_the_shipped_configs() -> None:
    assert TERMS.keys() == set(SYSTEMS)
    assert {s for s in SYSTEMS if "vae=RUN" in (CONFIGS / f"{s}.yaml").read_text()} == ON_A_VAE


def test_each_variant_is_trained_on_by_a_vae_and_by_a_gan() -> None:
    for variant in VARIANTS:
        stages = {system.endswith("vae") for system, other in PAIRS if other == variant}
        assert stages == {True, False}, variant


@pytest.mark.parametrize(("system", "variant"), PAIRS)
def test_the_config_trains_on_the_variant(system: str, variant: str, runs: Runs) -> None:
    run, running = runs[system, variant]
    assert running.wait(0) == 0, running.err
    step = published.newest(run)
    assert step is not None
    manifest = published.read_manifest(step)
    seen = STEPS * BATCH * batches_of(system)
    assert (manifest["iteration"], manifest["images_seen"]) == (STEPS, seen)
    assert step.name == f"step-{seen:012d}"
    assert manifest["facts"]["channels"] == (1 if variant == "plain" else 3)
    assert ("memory: about " in running.err) == (variant == "plain" and not system.endswith("vae"))
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["variant"] == variant


@pytest.mark.parametrize(("system", "variant"), PAIRS)
def test_the_last_line_has_the_terms_of_the_system(system: str, variant: str, runs: Runs) -> None:
    line = last_line(runs[system, variant][0])
    assert line.keys() - TIMING - {"images_seen", "resolution"} == TERMS[system]
    assert line["images_seen"] == STEPS * BATCH * batches_of(system)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_keeps_a_vae_only_where_its_code_comes_from_one(system: str, runs: Runs) -> None:
    for variant in [variant for other, variant in PAIRS if other == system]:
        assert (runs[system, variant][0] / "vae.safetensors").exists() == (system in ON_A_VAE)
