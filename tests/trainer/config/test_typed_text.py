"""What was typed and what YAML makes of it: text and paths stay what they are, numbers are decimal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from trainer.config.load import load_config
from trainer.config.overrides import value_of
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.settings import to_yaml, with_absolute_paths, with_relative_paths
from trainer.config.yaml_file import parse
from trainer.experiments.experiment_file import Experiment

VAE, GAN = Path("configs/dsprites/beta_vae.yaml"), Path("configs/celeba/128.yaml")
WORDS = ("20240501", "001", "2024-05-01", "1e3", "no", "On", "1_000", "1:30", "0x10", ".5", "=", "0b1", "1.", "inf")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16), ("016", 16), ("-08", -8), ("+7", 7), ("1_000", 1000), ("0", 0), ("00", 0),
        ("1e3", 1e3), ("1e-4", 1e-4), ("-1.5E+2", -150.0), (".5", 0.5), ("1.", 1.0), ("0777.5", 777.5),
        ("0x10", "0x10"), ("0o17", "0o17"), ("0b11", "0b11"), ("1:30", "1:30"), ("1:30.5", "1:30.5"),
        ("2024-05-01", "2024-05-01"), ("=", "="), ("１６", "１６"), ("1-2", "1-2"), ("1e", "1e"),
        ("true", True), ("off", False), ("null", None), ("~", None), ("'016'", "016"), ("[016, 1e1]", [16, 10.0]),
    ],
)  # fmt: skip
def test_numbers_are_decimal_and_nothing_is_a_date(text: str, value: Any) -> None:
    found = parse(text)
    assert (found, type(found)) == (value, type(value))


def test_infinity_and_no_number() -> None:
    assert parse("-.inf") == -math.inf
    assert math.isnan(parse(".nan"))


@pytest.mark.parametrize("word", WORDS)
def test_a_path_and_text_are_what_was_typed(word: str, tmp_path: Path) -> None:
    """In a file, as an override, in a group, and again from the file that a run keeps."""
    file = tmp_path / "mine.yaml"
    text = VAE.read_text().replace("data:", f"run: {word}\ninception: {{clean_sha256: {word}}}\ndata:", 1)
    file.write_text(text)
    in_file = load_config(VaeConfig, file)
    as_override = load_config(VaeConfig, VAE, [f"run={word}", f"inception.clean_sha256={word}"])
    in_group = load_config(VaeConfig, VAE, [f"run='{word}'", f"inception={{clean_sha256: {word}, clean: {word}}}"])
    for config in (in_file, as_override, in_group):
        assert (config.run, config.inception.clean_sha256) == (Path(word), word)
    assert in_group.inception.clean == Path(word)
    file.write_text(to_yaml(in_file))
    assert load_config(VaeConfig, file) == in_file


@pytest.mark.parametrize("text", ["a #1", "a: b", "[a]", "{a", "*a", "@a", "%a", "- a", "!a", "it's", "a, b"])
def test_an_override_of_a_path_needs_no_quotes(text: str) -> None:
    assert load_config(VaeConfig, VAE, [f"run={text}"]).run == Path(text)
    assert value_of(f" {text}\r", (Path,)) == text


def test_null_is_null_and_quoted_it_is_a_word() -> None:
    assert [value_of(text, (Path, type(None))) for text in ("null", "", "'null'")] == [None, None, "null"]


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("batch_size=0x10", '"0x10"'), ("batch_size=1e1", "10.0"), ("seed=2024-05-01", '"2024-05-01"'),
        ("schedule.total_kimg=1:30", '"1:30"'), ("beta.value=on", '"on"'), ("optimizer.lr=yes", '"yes"'),
        ("gamma=no", '"no"'), ("device=no", '"no"'), ("likelihood=1", '"1"'), ("run=[", None),
    ],
)  # fmt: skip
def test_what_is_no_decimal_number_is_refused_as_it_was_typed(override: str, found: str | None) -> None:
    if found is None:
        assert load_config(VaeConfig, VAE, [override]).run == Path("[")
        return
    with pytest.raises(UserError) as error:
        load_config(VaeConfig, VAE, [override])
    assert f"{override.partition('=')[0]}: found {found}" in str(error.value)


def test_keys_are_decimal_numbers_or_words() -> None:
    growth = "growth={start_resolution: 064, phase_kimg: 1, fade_kimg: 1, batch_size: {064: 016, 128: 8}}"
    config = load_config(GanConfig, GAN, ["vae=x", growth])
    assert config.growth is not None
    assert (config.growth.start_resolution, config.growth.batch_size) == (64, {64: 16, 128: 8})
    cells = parse("{cells: {01: {stage: vae, vae: 007, overrides: [run=1e3, 010]}}}", (Experiment,))
    assert cells == {"cells": {"01": {"stage": "vae", "vae": "007", "overrides": ["run=1e3", "010"]}}}


def test_a_file_of_another_system_is_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    """With a mark of its encoding, in UTF-16, with the ends of lines of Windows."""
    file, text = tmp_path / "a.yaml", VAE.read_text().replace("\n", "\r\n") + "\r\nrun: é\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_bytes(text.encode(encoding))
        assert load_config(VaeConfig, file).run == Path("é")
    for content in (b"run: \xff\xfe", b"seed: !!int x", b"run: !!python/name:os.system"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.yaml: not valid YAML"):
            load_config(VaeConfig, file)
    with pytest.raises(UserError, match="is a folder; name a YAML file"):
        load_config(VaeConfig, tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=f"is a folder; name its config, {tmp_path}/config.yaml"):
        load_config(VaeConfig, tmp_path)


def test_paths_are_made_absolute_for_the_run_and_relative_for_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(GanConfig, GAN, ["vae=runs/a", "init_from=/b", "data.path=c", "run=d"])
    kept = with_absolute_paths(config)
    here = Path.cwd()
    assert (kept.vae, kept.init_from, kept.data.path, kept.run) == (here / "runs/a", Path("/b"), here / "c", here / "d")
    assert kept.inception.clean == here / "weights/inception-2015-12-05.pt"
    assert with_relative_paths(kept, here) == config
    assert yaml.safe_load(to_yaml(kept))["data"]["path"] == str(here / "c")
    monkeypatch.chdir("/")
    shipped = load_config(GanConfig, here / GAN, ["vae=pretrained/dsprites-beta_vae"])
    assert with_absolute_paths(shipped).vae == Path("pretrained/dsprites-beta_vae")  # the same in every folder
