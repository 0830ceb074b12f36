"""Settings of older run folders under today's names; tests/compatibility has the runs themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from trainer.config import older_versions
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig

FILE = Path("runs/old/config.yaml")
CONFIG = Path(__file__).parents[3] / "configs" / "dsprites" / "vae.yaml"
VAE: dict[str, Any] = {"likelihood": "bernoulli", "beta.value": 4.0, "beta.course": [], "optimizer.lr_course": []}
GAN: dict[str, Any] = {"s_dim": 8, "growth.stage_kimg": 3.0, "growth.stage_kimg_at": {"64": 1.0}, "bottleneck": None}


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that a later version might add: a single one, one of a new group, one of a group that may be null."""
    keys = {"objective": "logistic", "augment.target": 0.0, "bottleneck.floor": 0.0}
    monkeypatch.setattr(older_versions, "ADDED", {VaeConfig: {"capacity": None}, GanConfig: keys})


def test_flat_settings_get_the_names_of_today() -> None:
    assert older_versions.today(VAE) == {
        "likelihood": "bernoulli",
        "beta.value": 4.0,
        "beta.schedule": [],
        "optimizer.lr_schedule": [],
        "autocast": "none",
    }
    assert older_versions.today(GAN) == {
        "s_dim": 8,
        "growth.phase_kimg": 3.0,
        "growth.phase_kimg_at": {"64": 1.0},
        "growth.warm_start": False,
        "bottleneck": None,
        "objective": "logistic",
        "r2": 0.0,
        "init_from": None,
        "freeze_d": 0,
        "augment": None,
        "labels": None,
    }
    without = {"s_dim": 8, "growth": None}
    assert older_versions.today(without) == without | {
        "objective": "logistic",
        "r2": 0.0,
        "init_from": None,
        "freeze_d": 0,
        "augment": None,
        "labels": None,
    }


def test_a_setting_of_one_kind_of_network_is_given_to_that_kind_alone() -> None:
    conv, resnet = (
        {
            "network.name": name,
            "growth": None,
            "objective": "logistic",
            "r2": 0.0,
            "init_from": None,
            "freeze_d": 0,
            "augment": None,
            "labels": None,
        }
        for name in ("conv", "resnet")
    )
    assert older_versions.today(conv) == conv
    assert older_versions.today(resnet) == resnet | {"network.nf_min": 1}
    for name, more in (("conv", {}), ("resnet", {"nf_min": 1})):
        told = older_versions.today_nested({"s_dim": 8, "network": {"name": name}, "growth": None}, FILE)
        assert told["network"] == {"name": name} | more


@pytest.mark.parametrize("text", ["data.local=/tmp/set", "data.local=null"])
def test_the_copy_on_each_node_is_refused_with_the_cache_that_replaces_it(text: str) -> None:
    """A run folder's own data.local is null, and it goes on."""
    with pytest.raises(UserError, match=r"data.local: unknown key .*; it is now data.cache=\{path: FOLDER, gigab"):
        load_config(VaeConfig, CONFIG, [text])
    assert older_versions.today_nested({"data": {"path": "set", "local": None}}, FILE)["data"] == {
        "path": "set",
        "cache": None,
    }


def test_no_other_key_is_renamed() -> None:
    for key in ("schedule.total_kimg", "growth.fade_kimg", "lr_course", "beta.course_of", "q.beta.course", "beta"):
        assert older_versions.new_name(key) is None


@pytest.mark.usefixtures("added")
def test_an_added_setting_is_given_to_runs_of_its_stage_alone() -> None:
    assert older_versions.today(VAE)["capacity"] is None
    assert "objective" not in older_versions.today(VAE)
    assert older_versions.today(GAN)["objective"] == "logistic"
    assert "capacity" not in older_versions.today(GAN)


@pytest.mark.usefixtures("added")
def test_a_new_group_is_filled_in_and_a_null_one_is_not() -> None:
    flat = older_versions.today(GAN)
    assert flat["augment.target"] == 0.0
    assert "bottleneck.floor" not in flat
    nested = older_versions.today_nested({"s_dim": 8, "bottleneck": None}, FILE)
    assert nested == {"s_dim": 8, "bottleneck": None, "objective": "logistic", "augment": {"target": 0.0}}


@pytest.mark.usefixtures("added")
def test_what_a_run_says_itself_stays() -> None:
    said = {"s_dim": 8, "objective": "relativistic", "augment": {"target": 0.5}, "bottleneck": {"floor": 1.0}}
    assert older_versions.today_nested(said, FILE) == said
    flat = {"s_dim": 8, "objective": "relativistic", "augment": None, "bottleneck.floor": 1.0}
    assert older_versions.today(flat) == flat


@pytest.mark.usefixtures("added")
def test_what_is_derived_from_settings_does_not_change_with_their_names() -> None:
    for flat in (VAE, GAN):
        assert older_versions.as_first_written(older_versions.today(flat)) == flat
    other = older_versions.today(GAN) | {"objective": "relativistic"}
    assert older_versions.as_first_written(other) == GAN | {"objective": "relativistic"}


def test_both_names_of_a_setting_are_refused() -> None:
    growth = {"stage_kimg": 3.0, "phase_kimg": 4.0}
    with pytest.raises(UserError, match=r"runs/old/config.yaml: growth.stage_kimg: an older name of growth.phase_kimg"):
        older_versions.today_nested({"growth": growth}, FILE)


def test_a_config_is_a_runs_own_where_it_lies_beside_what_was_trained(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    (tmp_path / "exit.json").touch()  # a start that was refused leaves that much
    assert not older_versions.in_run_folder(config)
    (tmp_path / "stats.jsonl").touch()
    assert older_versions.in_run_folder(config)
    assert not older_versions.in_run_folder(tmp_path / "mine.yaml")
    (tmp_path / "stats.jsonl").unlink()
    (tmp_path / "checkpoints").mkdir()
    assert older_versions.in_run_folder(config)
