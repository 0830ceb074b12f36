"""Configs: what is refused, all at once, with key, value and remedy; and what the shipped ones say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import UserError
from trainer.config.changes import changes
from trainer.config.load import load_config
from trainer.config.schema import BetaConfig, GanConfig, VaeConfig, kind_of
from trainer.config.sections import DecayAverage, EmaConfig
from trainer.config.settings import fixed, to_yaml
from trainer.config.yaml_file import read_yaml
from trainer.steps import schedule

CONFIGS = Path("configs")
OTHERS = {"accelerate", "experiments"}  # no training configs


def needed(path: Path) -> list[str]:
    """The override without which a shipped config cannot run."""
    on_a_code = path.stem in ("cgan", "idgan", "idgan_no_distill") or path.stem.split("_")[0].isdigit()
    return ["vae=somewhere"] if on_a_code else []


def refusal(kind: type, path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as found:
        load_config(kind, path, overrides)
    return str(found.value)


def problems(kind: type, path: Path, *overrides: str) -> str:
    """What is wrong, or nothing."""
    try:
        load_config(kind, path, overrides)
    except UserError as error:
        return str(error)
    return ""


def test_every_problem_is_listed_at_once_with_key_value_and_remedy() -> None:
    message = refusal(
        GanConfig,
        CONFIGS / "dsprites/idgan.yaml",
        "batch_sise=32",
        "optimizer_g.lr=fast",
        "schedule.total_kimg=-1",
        "data.variant=colour",
        "ema.averages=[{decay: 1.5}]",
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
        "ema.averages.0.decay: found 1.5: input should be less than 1",
        "optimizer_d.momentum: unknown key",
        "batch_size: found 2.5",
        "vae: is missing",
        "set vae=RUN of",
        "'nonsense': an override reads key.path=value",
    ):
        assert words in message, message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "network.name=conv",
            "network.nf: found 16, but conv has no such setting; remove it, or replace the section: netw",
        ),
        (
            "optimizer_g.name=adam",
            "optimizer_g.alpha: found 0.9, but adam has no .*replace the section: optimizer_g={name: ",
        ),
        (
            "augment={kind: diffaugment, target: 0.5}",
            "augment.target: found 0.5, but diffaugment .*augment={kind: diffaug",
        ),
        ("augment=ada", 'augment: found "ada", but it is a section: set its keys, augment.kind, augment.transforms, '),
        ("schedule=5", "schedule: found 5, but it is a section: set its keys, schedule.total_kimg, "),
        ("augment={kind: ada, targt: 0.5}", "augment.targt: unknown key .* did you mean augment.target"),
    ],
)
def test_a_key_of_another_kind_of_section_is_not_called_unknown(override: str, words: str) -> None:
    assert re.search(words, refusal(GanConfig, CONFIGS / "faces/gan.yaml", override))


def test_a_missing_value_and_a_missing_vae_are_named() -> None:
    assert "vae: is missing, and code_source: posterior takes the code from its encoder" in refusal(
        GanConfig, CONFIGS / "dsprites/idgan.yaml"
    )


def test_files_that_are_no_config(tmp_path: Path) -> None:
    assert "no such config" in refusal(VaeConfig, tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    for text, words in (
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping"),
        ("seed: 1\nseed: 2", "'seed' appears twice"),
    ):
        broken.write_text(text)
        message = refusal(VaeConfig, broken)
        assert words in message
        assert str(broken) in message


def test_numbers_read_as_yaml_1_2_does() -> None:
    config = load_config(
        VaeConfig, CONFIGS / "dsprites/beta_vae.yaml", ["optimizer.lr=1e-3", "optimizer.betas=[0, .99]"]
    )
    assert config.optimizer.lr == 1e-3
    assert config.optimizer.betas == (0.0, 0.99)


def test_what_may_change_stands_outside_the_hash() -> None:
    path = CONFIGS / "dsprites/idgan.yaml"
    base = fixed(load_config(GanConfig, path, ["vae=a"]))
    free = ["vae=b", "run=x", "processes=2", "micro_batch=8", "device=cpu", "data.workers=3", "data.path=y"]
    free += [f"schedule.{key}=5" for key in ("total_kimg", "tick_kimg", "sample_kimg", "save_kimg", "keep_last")]
    assert fixed(load_config(GanConfig, path, free)) == base
    for override in ("seed=1", "batch_size=8", "r1=1", "data.flip=true", "optimizer_g.lr=1", "data.variant=color"):
        assert fixed(load_config(GanConfig, path, ["vae=a", override])) != base


@pytest.mark.parametrize("path", sorted(p for p in CONFIGS.glob("*/*.yaml") if p.parent.name not in OTHERS), ids=str)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    kind = VaeConfig if "vae" in path.stem else GanConfig
    assert kind_of(read_yaml(path)) is kind
    config = load_config(kind, path, needed(path))
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config))
    assert load_config(kind, saved) == config


def test_the_papers_settings() -> None:
    vae = load_config(VaeConfig, CONFIGS / "dsprites/beta_vae.yaml")
    assert (vae.beta.value, vae.beta.schedule, vae.c_dim, vae.batch_size, vae.init) == (8, (), 10, 64, "normal")
    assert (vae.optimizer.lr, vae.optimizer.betas) == (1e-4, (0.9, 0.999))
    assert vae.schedule.total_kimg * 1000 / vae.batch_size == 500_000
    gan = load_config(GanConfig, CONFIGS / "dsprites/idgan.yaml", ["vae=x"])
    assert (gan.s_dim, gan.c_dim, gan.code_weight, gan.r1, gan.batch_size) == (0, 10, 1e-4, 10, 64)
    assert (gan.optimizer_g.lr, gan.optimizer_d.lr, gan.ema.averages) == (1e-3, 1e-4, (DecayAverage(decay=0.999),))
    assert (gan.optimizer_g.name, gan.data.flip, gan.data.dequantise) == ("rmsprop", False, False)
    assert gan.schedule.total_kimg * 1000 / gan.batch_size == 300_000


def test_beta_follows_its_course_and_stays() -> None:
    config = BetaConfig(value=4, schedule=((10, 0), (30, 20), (40, 4)))
    found = [schedule.beta(config, n) for n in (0, 9_999, 10_000, 20_000, 30_000, 35_000, 40_000, 10**9)]
    assert found == [0, 0, 0, 10, 20, 12, 4, 4]
    assert schedule.beta(BetaConfig(value=8), 0) == 8


def test_intervals_are_whole_iterations_and_crossed_once() -> None:
    assert schedule.images(1, 64) == 1024
    assert schedule.images(0.048, 16) == 48
    crossings = [n for n in range(16, 200, 16) if schedule.crossed(n, n - 16, 48)]
    assert crossings == [48, 96, 144, 192]


def test_a_course_of_beta_that_cannot_be() -> None:
    path = CONFIGS / "dsprites/beta_vae.yaml"
    assert "the kimg of its points must rise" in refusal(VaeConfig, path, "beta.schedule=[[5, 0], [5, 8]]")
    assert "ends in 4.0, value is 8.0" in refusal(VaeConfig, path, "beta.schedule=[[0, 0], [5, 4]]")


AVERAGES = [
    ("ema.averages=[]", "ema.averages: found []: expected a list of one average or more, as in averages=[{decay"),
    ("trackers=[wandb, comet]", "trackers.1: found \"comet\": input should be 'tensorboard', 'wandb' or 'mlflow'"),
    ("trackers=[wandb, mlflow, wandb]", "listed twice: wandb; list each once"),
    ("trackers=null", "trackers: found null: input should be a valid tuple"),
    ("trackers=wandb", 'trackers: found "wandb": input should be a valid tuple'),
    ("ema.averages={decay: 0.9}", 'ema.averages: found {"decay": 0.9}: expected a list'),
    ("ema.averages.0.decay=0.9", "ema.averages: found {"),
    ("ema.averages=[0.9]", "ema.averages.0: found 0.9: an average has one key, {decay: 0.999}, {half_life_kimg: 10}"),
    ("ema.averages=[{}]", "ema.averages.0: found {}: an average has one key"),
    ("ema.averages=[{sigma: 0.1}]", 'ema.averages.0: found {"sigma": 0.1}: an average has one key'),
    ("ema.averages=[{decay: 0.9, sigma_rel: 0.1}]", "an average has one key"),
    ("ema.averages=[{decay: 1}]", "ema.averages.0.decay: found 1: input should be less than 1"),
    ("ema.averages=[{decay: 0.9}, {half_life_kimg: 0}]", "ema.averages.1.half_life_kimg: found 0"),
    ("ema.averages=[{sigma_rel: 0}]", "ema.averages.0.sigma_rel: found 0: input should be greater than 0"),
    ("ema.averages=[{sigma_rel: 0.281}]", "ema.averages.0.sigma_rel: found 0.281: input should be less than or equal"),
    (
        "ema.averages=[{sigma_rel: 0.1}, {decay: 0.9}, {sigma_rel: 0.10}]",
        "listed twice: sigma_rel_0.1; list each",
    ),
    ("ema={averages: [{sigma_rel: 0.1}], snapshot_kimg: 5}", "snapshot_kimg: 5 stores the averages with a sigma_rel"),
    ("ema.snapshot_kimg=5", "there are 0, and two are needed; add {sigma_rel: 0.05} and {sigma_rel: 0.1}"),
    ("ema.snapshot_kimg=0", "ema.snapshot_kimg: found 0"),
    ("ema.average=[{decay: 0.9}]", "ema.average: unknown key"),
    ("ema_decay=0.999", "ema_decay: unknown key (value 0.999); did you mean ema?"),
]


@pytest.mark.parametrize(("override", "words"), AVERAGES)
def test_averages_that_cannot_be(override: str, words: str) -> None:
    message = refusal(GanConfig, CONFIGS / "dsprites/idgan.yaml", "vae=x", override)
    assert words in message
    assert "1 problem\n" in message


def test_averages_are_part_of_the_hash_and_their_snapshots_are_not() -> None:
    path, two = CONFIGS / "dsprites/idgan.yaml", "ema.averages=[{decay: 0.997}, {sigma_rel: 0.05}, {sigma_rel: 0.1}]"
    flat = fixed(load_config(GanConfig, path, ["vae=a", two]))
    assert flat["ema.averages"] == [{"decay": 0.997}, {"sigma_rel": 0.05}, {"sigma_rel": 0.1}]
    assert fixed(load_config(GanConfig, path, ["vae=a", two, "ema.snapshot_kimg=5"])) == flat
    assert fixed(load_config(GanConfig, path, ["vae=a", "ema.averages=[{decay: 0.998}]"])) != flat
    assert load_config(GanConfig, path, ["vae=a"]).ema == EmaConfig(), "the paper's is the default"


SYSTEMS = {  # the paper's name, c from, code loss, D sees c, s_dim, c_dim
    "gan": ("GAN", "none", "none", False, 10, 0),
    "infogan": ("InfoGAN", "prior", "info", False, 0, 10),
    "cgan": ("cGAN", "posterior", "none", True, 0, 10),
    "idgan_no_distill": ("ID-GAN without distillation", "posterior", "none", False, 0, 10),
    "idgan": ("ID-GAN", "posterior", "distill", False, 0, 10),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_five_gans_are_settings_of_one_step(name: str) -> None:
    path = CONFIGS / f"dsprites/{name}.yaml"
    c = load_config(GanConfig, path, needed(path))
    assert (c.system, c.code_source, c.code_loss, c.d_sees_code, c.s_dim, c.c_dim) == SYSTEMS[name]
    assert (c.optimizer_q is not None) == (name == "infogan")
    assert c.code_weight == (1e-4 if name in ("infogan", "idgan") else 0)
    base = fixed(load_config(GanConfig, CONFIGS / "dsprites/idgan.yaml", ["vae=x"]))
    own = {"code_source", "code_loss", "code_weight", "d_sees_code", "s_dim", "c_dim"}
    differs = {change.key for change in changes(base, fixed(c))}
    assert {key.split(".")[0] for key in differs} <= own | {"optimizer_q"}, "everything else is the same"


def test_the_three_vaes_are_settings_of_one_step() -> None:
    found = {n: load_config(VaeConfig, CONFIGS / f"dsprites/{n}.yaml") for n in ("vae", "beta_vae", "factor_vae")}
    assert [c.system for c in found.values()] == ["VAE", "beta-VAE", "FactorVAE"]
    assert [(c.beta.value, c.gamma) for c in found.values()] == [(1, 0), (8, 0), (1, 10)]
    critic = found["factor_vae"].optimizer_critic
    assert critic is not None
    assert (critic.lr, critic.betas) == (1e-4, (0.5, 0.9))
    taken = {n: c.batch_size * (2 if c.gamma else 1) for n, c in found.items()}
    assert {c.schedule.total_kimg * 1000 / taken[n] for n, c in found.items()} == {500_000}


CONTRADICTIONS = [
    ("infogan", ["code_weight=0"], ["code_weight: 0, but code_loss is info", "joint q would be learnt in vain"]),
    ("infogan", ["optimizer_q=null"], ["optimizer_q: is missing", "set optimizer_q={name: rmsprop, lr: 1e-3}"]),
    ("infogan", ["vae=somewhere"], ["vae: somewhere is given, but code_source: prior", "set vae=null"]),
    ("infogan", ["d_sees_code=true"], ["d_sees_code: D judges pairs", "code_source is prior"]),
    ("infogan", ["code_loss=none", "code_weight=0", "optimizer_q=null"], ["code_loss: none", "set code_loss=info"]),
    ("cgan", ["c_dim=0", "vae=v"], ["c_dim: 0, but code_source is posterior", "s_dim: 0, and there is no code"]),
    ("cgan", ["code_source=none", "c_dim=0", "s_dim=3"], ["d_sees_code: D judges pairs", "d_sees_code=false"]),
    ("idgan", [], ["vae: is missing, and code_source: posterior", "set vae=RUN of `python -m trainer vae`"]),
    ("idgan", ["vae=v", "code_weight=0"], ["code_weight: 0, but code_loss is distill", "nothing would be distilled"]),
    ("idgan", ["code_source=prior"], ["code_loss: distill teaches G the frozen q of a VAE", "code_source is prior"]),
    ("idgan", ["vae=v", "optimizer_q={name: adam}"], ["optimizer_q: is for a joint q, but code_loss is distill"]),
    (
        "idgan",
        ["vae=v", "code_loss=info"],
        ["code_loss: info learns q on codes from the prior", "or code_loss=distill"],
    ),
    ("gan", ["c_dim=10"], ["c_dim: 10, but code_source is none; set c_dim=0"]),
    ("gan", ["s_dim=0"], ["s_dim: 0, and there is no code: G has no input; set s_dim=10"]),
    ("gan", ["code_weight=1"], ["code_weight: 1, but code_loss is none; set code_weight=0"]),
]


@pytest.mark.parametrize(("name", "overrides", "words"), CONTRADICTIONS)
def test_a_system_with_settings_that_contradict_it(name: str, overrides: list[str], words: list[str]) -> None:
    message = refusal(GanConfig, CONFIGS / f"dsprites/{name}.yaml", *overrides)
    for word in words:
        assert word in message, message


def test_a_critic_without_factor_vae_and_the_other_way_round() -> None:
    critic = "optimizer_critic={name: adam, lr: 1e-4}"
    message = refusal(VaeConfig, CONFIGS / "dsprites/beta_vae.yaml", critic)
    assert "optimizer_critic: a critic without FactorVAE (gamma is 0); set gamma=10" in message
    message = refusal(VaeConfig, CONFIGS / "dsprites/factor_vae.yaml", "optimizer_critic=null")
    assert "gamma: 10 is FactorVAE's, whose critic has no optimizer" in message


def test_stage_1_has_no_estimate_of_memory_to_choose_passes_by() -> None:
    message = refusal(VaeConfig, CONFIGS / "dsprites/beta_vae.yaml", "micro_batch=auto")
    assert "micro_batch: auto needs an estimate of the memory" in message
    assert "set micro_batch=null" in message
    for wrong in ("micro_batch=automatic", "micro_batch=0", "micro_batch=2.5"):
        message = refusal(GanConfig, CONFIGS / "dsprites/idgan.yaml", "vae=v", wrong)
        assert "micro_batch" in message
        assert "auto" in message


def test_a_watch_with_settings_that_contradict_it() -> None:
    path = CONFIGS / "dsprites/gan.yaml"
    for override, words in (
        ("watch.action=rewind", "watch.rewinds: is missing, and watch.action: rewind needs it; set watch.rewinds=3"),
        ("watch.rewinds=2", "watch.rewinds: 2, but watch.action is warn; set watch.action=rewind"),
        ("watch.bottleneck_beta=5", "watch.bottleneck_beta: 5.0, but there is no bottleneck; set"),
        ("watch.action=pause", 'watch.action: found "pause"'),
        ("watch.ticks=0", "watch.ticks: found 0"),
        ("watch.gradient_factor=1", "watch.gradient_factor: found 1"),
        ("watch.sample_spread=1", "watch.sample_spread: found 1"),
        ("watch.logit_gap=0", "watch.logit_gap: found 0"),
    ):
        assert words in refusal(GanConfig, path, override)
    assert problems(GanConfig, path, "watch.action=rewind", "watch.rewinds=3") == ""
    assert problems(GanConfig, path, "watch=null") == ""


def test_contradictions_are_listed_together_and_beside_wrong_values() -> None:
    overrides = ["vae=v", "d_sees_code=true", "code_weight=0", "c_dim=0", "r1=-1", "optimizer_q=null"]
    message = refusal(GanConfig, CONFIGS / "dsprites/infogan.yaml", *overrides)
    for word in ("7 problems", "r1: found -1", "vae: v", "d_sees_code:", "code_weight: 0", "c_dim: 0", "optimizer_q:"):
        assert word in message, message
    message = refusal(GanConfig, CONFIGS / "dsprites/infogan.yaml", "code_source=somewhere", "vae=v")
    assert "1 problem" in message, "what is read from a wrong value is not guessed at"


def test_every_remedy_mends_its_contradiction() -> None:
    """The first `set key=value` of each message, applied, removes that line."""
    for name, overrides, _ in CONTRADICTIONS:
        path = CONFIGS / f"dsprites/{name}.yaml"
        lines = [line for line in refusal(GanConfig, path, *overrides).splitlines() if line.startswith("  - ")]
        for line in lines:
            found = re.search(r"set (\w+=(?:\{.*?\}|[\w.-]+)) ?(?:and (\w+=\w+))?", line)
            assert found, line
            fixes = [fix for fix in found.groups() if fix]
            assert line not in problems(GanConfig, path, *overrides, *fixes), fixes


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("augment={kind: ada, transforms: []}", "augment.transforms: is empty, so that no image would be augmented"),
        ("augment={kind: ada, most: 2}", "augment.most: found 2"),
        ("augment={kind: diffaugment, transforms: [flip]}", 'augment.transforms.0: found "flip"'),
        ("augment.target=0.5", "does not say its kind; set augment.kind too"),
        ("augment.kind=blur", "augment: "),
    ],
)
def test_an_augmentation_that_does_nothing_or_is_none_is_refused(override: str, told: str) -> None:
    assert told in problems(GanConfig, Path("configs/dsprites/gan.yaml"), override)
