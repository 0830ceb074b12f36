"""Words that YAML takes for something else: run folders that look like numbers, dates and booleans, 016 for 16."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support import processes
from tests.support.evaluating import refused
from tests.support.training import VAE, finish, overrides

WORDS = ("20240501", "001", "2024-05-01", "1e3", "no")


def start(place: Path, config: Path | str, *settings: str) -> processes.Running:
    return processes.start(
        processes.module_in, (str(place), "trainer", ["vae", str(config), *settings]), place / "logs"
    )


def without(settings: list[str], *keys: str) -> list[str]:
    return [text for text in settings if text.partition("=")[0] not in keys]


@pytest.mark.parametrize("word", WORDS)
def test_a_run_folder_may_have_any_name_in_a_file_and_as_an_override(word: str, sprites: Path, tmp_path: Path) -> None:
    settings = without(overrides(sprites, tmp_path, 2), "run")
    config = tmp_path / "mine.yaml"
    config.write_text(f"{Path(VAE).read_text()}\nrun: {word}\n")
    finish(start(tmp_path, config, *settings))
    assert yaml.safe_load((tmp_path / word / "config.yaml").read_text())["run"] == str(tmp_path / word)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["logs", "mine.yaml", word])
    done = finish(start(tmp_path, VAE, *settings, f"run={word}"))
    assert f"{word} is complete: 32 images" in done.err


def test_a_number_with_a_leading_zero_is_decimal(sprites: Path, tmp_path: Path) -> None:
    settings = without(overrides(sprites, tmp_path / "run", 3), "batch_size")
    config = tmp_path / "mine.yaml"
    config.write_text(Path(VAE).read_text().replace("batch_size: 64", "batch_size: 016"))
    finish(start(tmp_path, config, *settings))
    seen = [json.loads(line)["images_seen"] for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert seen == [16, 32, 48]


def test_other_numbers_than_decimal_ones_are_refused_all_at_once(sprites: Path, tmp_path: Path) -> None:
    settings = ["seed=0x10", "batch_size=0b1000", "beta.value=1:30", "optimizer.lr=on", "c_dim=2024-05-01"]
    running = start(tmp_path, VAE, *overrides(sprites, tmp_path / "run", 2), *settings)
    refused(running, "5 problems", *(f'{s.partition("=")[0]}: found "{s.partition("=")[2]}"' for s in settings))
    assert not (tmp_path / "run").exists()
