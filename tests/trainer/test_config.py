"""Configs: what is refused, all at once, with key, value and remedy; and what the shipped ones say."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_shards.errors import UserError
from trainer import schedule, settings
from trainer.config import BetaConfig, GanConfig, VaeConfig

CONFIGS = Path("configs")


def refusal(kind: type, path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as found:
        settings.load(kind, path, overrides)
    return str(found.value)


def test_every_problem_is_listed_at_once_with_key_value_and_remedy() -> None:
    message = refusal(
        GanConfig,
        CONFIGS / "dsprites/idgan.yaml",
        "batch_sise=32",
        "optimizer_g.lr=fast",
        "schedule.total_kimg=-1",
        "data.variant=colour",
        "ema_decay=1.5",
        "optimizer_d.momentum=0.9",
        "batch_size=2.5",
        "nonsense",
    )
    for words in (
        "9 problems",
        "batch_sise: unknown key (value 32); did you mean batch_size?",
        'optimizer_g.lr: found "fast"',
        "schedule.total_kimg: found -1",
        'data.variant: found "colour"',
        "'plain', 'color', 'noisy' or 'scream'",
        "ema_decay: found 1.5: input should be less than 1",
        "optimizer_d.momentum: unknown key",
        "batch_size: found 2.5",
        "vae: is missing",
        "'nonsense': an override reads key.path=value",
    ):
        assert words in message, message


def test_a_missing_value_and_a_missing_vae_are_named() -> None:
    assert "vae: is missing; set it in the file or as vae=..." in refusal(GanConfig, CONFIGS / "dsprites/idgan.yaml")


def test_files_that_are_no_config(tmp_path: Path) -> None:
    assert "no such config" in refusal(VaeConfig, tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    for text, words in (
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping"),
        ("seed: 1\nseed: 2", "'seed' stands twice"),
    ):
        broken.write_text(text)
        message = refusal(VaeConfig, broken)
        assert words in message
        assert str(broken) in message


def test_numbers_read_as_yaml_1_2_does() -> None:
    config = settings.load(
        VaeConfig, CONFIGS / "dsprites/beta_vae.yaml", ["optimizer.lr=1e-3", "optimizer.betas=[0, .99]"]
    )
    assert config.optimizer.lr == 1e-3
    assert config.optimizer.betas == (0.0, 0.99)


def test_what_may_change_stands_outside_the_hash() -> None:
    path = CONFIGS / "dsprites/idgan.yaml"
    base = settings.fixed(settings.load(GanConfig, path, ["vae=a"]))
    free = ["vae=b", "run=x", "processes=2", "micro_batch=8", "device=cpu", "data.workers=3", "data.path=y"]
    free += [f"schedule.{key}=5" for key in ("total_kimg", "tick_kimg", "sample_kimg", "save_kimg", "keep_last")]
    assert settings.fixed(settings.load(GanConfig, path, free)) == base
    for override in ("seed=1", "batch_size=8", "r1=1", "data.flip=true", "optimizer_g.lr=1", "data.variant=color"):
        assert settings.fixed(settings.load(GanConfig, path, ["vae=a", override])) != base


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=str)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    if path.parts[1] == "accelerate":
        pytest.fail("accelerate files are not configs of ours")
    kind = VaeConfig if "vae" in path.stem else GanConfig
    config = settings.load(kind, path, [] if kind is VaeConfig else ["vae=somewhere"])
    saved = tmp_path / "config.yaml"
    saved.write_text(settings.to_yaml(config))
    assert settings.load(kind, saved) == config


def test_the_papers_settings() -> None:
    vae = settings.load(VaeConfig, CONFIGS / "dsprites/beta_vae.yaml")
    assert (vae.beta.value, vae.beta.course, vae.c_dim, vae.batch_size, vae.init) == (8, (), 10, 64, "normal")
    assert (vae.optimizer.lr, vae.optimizer.betas) == (1e-4, (0.9, 0.999))
    assert vae.schedule.total_kimg * 1000 / vae.batch_size == 500_000
    gan = settings.load(GanConfig, CONFIGS / "dsprites/idgan.yaml", ["vae=x"])
    assert (gan.s_dim, gan.c_dim, gan.code_weight, gan.r1, gan.batch_size) == (0, 10, 1e-4, 10, 64)
    assert (gan.optimizer_g.lr, gan.optimizer_d.lr, gan.ema_decay) == (1e-3, 1e-4, 0.999)
    assert (gan.optimizer_g.name, gan.data.flip, gan.data.dequantise) == ("rmsprop", False, False)
    assert gan.schedule.total_kimg * 1000 / gan.batch_size == 300_000


def test_beta_follows_its_course_and_stays() -> None:
    config = BetaConfig(value=4, course=((10, 0), (30, 20), (40, 4)))
    found = [schedule.beta(config, n) for n in (0, 9_999, 10_000, 20_000, 30_000, 35_000, 40_000, 10**9)]
    assert found == [0, 0, 0, 10, 20, 12, 4, 4]
    assert schedule.beta(BetaConfig(value=8), 0) == 8


def test_intervals_are_whole_iterations_and_crossed_once() -> None:
    assert schedule.images(1, 64) == 1024
    assert schedule.images(0.048, 16) == 48
    crossings = [n for n in range(16, 200, 16) if schedule.crossed(n, 16, 48)]
    assert crossings == [48, 96, 144, 192]


def test_a_course_of_beta_that_cannot_be() -> None:
    path = CONFIGS / "dsprites/beta_vae.yaml"
    assert "the kimg of its points must rise" in refusal(VaeConfig, path, "beta.course=[[5, 0], [5, 8]]")
    assert "ends in 4.0, value is 8.0" in refusal(VaeConfig, path, "beta.course=[[0, 0], [5, 4]]")
