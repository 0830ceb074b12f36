"""Runs that earlier versions began go on to what those would have come to, under the settings' names of today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from tests.support.training import TIMING, differences, newest, tensors

from .fixture_files import (
    FIXTURES,
    LAST,
    MIDWAY,
    STAGES,
    Resume,
    apart,
    at,
    command,
    made_with,
    read_manifest,
    unpack,
    unpack_run,
    went_on_to,
)

RENAMED = {
    "growth.stage_kimg": "growth.phase_kimg",
    "growth.stage_kimg_at": "growth.phase_kimg_at",
    "beta.course": "beta.schedule",
    "optimizer.lr_course": "optimizer.lr_schedule",
    "optimizer_critic.lr_course": "optimizer_critic.lr_schedule",
    "optimizer_g.lr_course": "optimizer_g.lr_schedule",
    "optimizer_d.lr_course": "optimizer_d.lr_schedule",
    "optimizer_q.lr_course": "optimizer_q.lr_schedule",
    "data.local": "data.cache",
}
"""Names of v0.1, and those of later. In a run folder of v0.1 the old ones go on to be read, elsewhere they are not."""


class Meaning(NamedTuple):
    """means: what runs without the key did; other: another valid value, which a resume refuses; None: it may change.

    also: an override that the other value needs. refused: how the refusal begins, where the key is a group.
    """

    means: object
    other: object | None
    also: tuple[str, ...] = ()
    refused: str = ""


# A setting that v0.1 did not have: its run folders mean what was done before it existed, whatever its default is today.
# A change that adds a setting adds it here, by the command that has it.
BOTH = {
    **{"data.timeout_minutes": Meaning(10.0, None), "timeout_minutes": Meaning(60.0, None)},
    **{"speed": Meaning("exact", None), "profile": Meaning(None, None)},
    **{"schedule.mirror": Meaning(None, None), "trackers": Meaning(["tensorboard"], None)},
}
ADDED_KEYS: dict[str, dict[str, Meaning]] = {
    "vae": {"autocast": Meaning("none", "bfloat16", ("precision=float32",)), **BOTH},
    "gan": {
        **BOTH,
        "init_from": Meaning(None, "runs/vae"),
        "labels": Meaning(None, ["shape"]),
        "augment": Meaning(None, {"kind": "diffaugment"}, refused="augment.kind: was null"),
        "freeze_d": Meaning(0, 1, ("init_from=runs/vae", "growth=null")),
        "objective": Meaning("logistic", "relativistic"),
        "r2": Meaning(0.0, 1.0),
        "growth.warm_start": Meaning(False, True),
        "network.nf_min": Meaning(1, 2),
        **{"watch.action": Meaning("warn", None), "watch.rewinds": Meaning(None, None)},
        **{"watch.ticks": Meaning(3, None), "watch.from_kimg": Meaning(20, None)},
        **{"watch.logit_gap": Meaning(20, None), "watch.sample_spread": Meaning(0.01, None)},
        **{"watch.gradient_factor": Meaning(300, None), "watch.bottleneck_beta": Meaning(None, None)},
    },
}
# A setting that v0.1 had, which is tested alike: whatever ADDED_KEYS holds.
HAD_KEYS = {"vae": {"likelihood": Meaning("bernoulli", "gaussian")}, "gan": {}}
SHORT = {"vae": "vae", "gan": "idgan"}  # a run of each command; that of stage 2 grows


def today(values: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of v0.1, nested or flat, under their present names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        new = RENAMED.get(path, path)[len(prefix) :]
        found[new] = today(value, f"{path}.") if isinstance(value, dict) else value
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {key.path: value}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        deeper = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{name}.") if deeper else {f"{prefix}{name}": value}
    return found


@pytest.mark.parametrize("name", STAGES)
def test_a_run_goes_on_to_the_numbers_of_before(name: str, resume: Resume) -> None:
    """Networks, averages, states of the optimizers, the bottleneck's beta and the clock, by their old names."""
    found = newest(resume(name) / "runs" / name)
    assert not apart(found, went_on_to(name))
    assert int(found["images_seen"]) == LAST[name]


@pytest.mark.parametrize("name", STAGES)
def test_and_bit_for_bit_where_all_is_as_it_was(name: str, resume: Resume) -> None:
    run, made = resume(name) / "runs" / name, made_with(name)
    here = read_manifest(run / "checkpoints" / f"step-{LAST[name]:012d}")
    here["hardware"] = here["hardware"].rpartition(" (")[0]  # of the time of the fixtures: without what comes next
    here |= {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    of = ("hardware", "cpu_capability", "threads")
    differs = [f"{n} {made[n]}, here {here[n]}" for n in of if made[n] != here[n]]
    differs += [f"{n} {made['versions'][n]}" for n in ("torch", "numpy") if made["versions"][n] != here["versions"][n]]
    if differs:
        pytest.skip(f"the fixtures were made with {'; '.join(differs)}")
    assert not differences(newest(run), went_on_to(name))


@pytest.mark.parametrize("name", STAGES)
def test_the_ticks_of_before_and_of_now_are_one_row(name: str, resume: Resume) -> None:
    lines = (resume(name) / "runs" / name / "stats.jsonl").read_text().splitlines()
    added = {*TIMING, "sample_spread"}  # which the watch looks at
    found = [{k: v for k, v in json.loads(line).items() if k not in added} for line in lines]
    wanted = made_with(name)["ticks"]
    assert len(found) == len(wanted) >= 3
    for a, b in zip(found, wanted, strict=True):
        assert a == pytest.approx(b, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("name", STAGES)
def test_every_part_of_a_run_moved_on_the_way(name: str, resume: Resume) -> None:
    """Of what v0.1 itself went on to: so that a resume which loads nothing, or does nothing, is seen."""
    before, after = tensors(at(resume(name), name)), went_on_to(name)
    moved = {part_of(key) for key in apart(before, after)}
    assert moved >= {part_of(key) for key in after if not key.startswith("stats.")}
    assert before["images_seen"] < after["images_seen"]


def part_of(key: str) -> str:
    """A network, one of its averages, or one kind of an optimizer's states; of a plain tensor, its name."""
    words = {"optimizer": 3, "ema": 2}.get(key.partition(".")[0], 1)
    return ".".join(key.replace("_0.", "_0,").split(".")[:words])  # an average's name has a point: sigma_rel_0.1


def test_a_change_of_one_number_would_be_seen() -> None:
    for name, tensor in went_on_to("gan").items():
        other = tensor.clone().flatten()
        other[-1] += 1 if tensor.dtype == torch.int64 else float(tensor.abs().max()) * 1e-6 + 1e-12
        assert apart({name: other.view_as(tensor)}, {name: tensor}) == [name]


@pytest.mark.parametrize("name", STAGES)
def test_the_new_checkpoint_says_the_settings_of_the_old_one(name: str, resume: Resume) -> None:
    """Under their present names; a setting that v0.1 did not have, as v0.1 behaved (see ADDED_KEYS).

    It fails where a setting is added, or renamed, without a word on what it means for the runs that users have.
    """
    place = resume(name)
    old = read_manifest(at(place, name))
    null = {key for key, value in old["config"].items() if value is None}  # a group that is null has no settings
    added = {key: m for key, m in ADDED_KEYS[STAGES[name]].items() if key.partition(".")[0] not in null}
    new = read_manifest(at(place, name).with_name(f"step-{LAST[name]:012d}"))
    assert new["config"] == today(old["config"]) | {k: m.means for k, m in added.items() if m.other is not None}
    assert new["facts"] == old["facts"]
    texts = [(p / f"runs/{name}/config.yaml").read_text() for p in (FIXTURES, place)]
    before, now = (yaml.safe_load(text.replace(f"{place}/", "")) for text in texts)  # v0.1 left paths relative
    assert flat(now) == flat(today(before)) | {k: m.means for k, m in added.items()}


def again(place: Path, name: str, config: str, *overrides: str, code: int = 0) -> str:
    """The command for a run that is asked to go no further than it is; what it tells."""
    argv = (STAGES[name], config, f"schedule.total_kimg={MIDWAY[name] / 1000}", *overrides)
    return command(place, "trainer", *argv, code=code).err


@pytest.mark.parametrize("name", ["vae", "idgan"])
def test_a_users_own_file_in_the_names_of_today_goes_on_too(name: str, tmp_path: Path) -> None:
    place = unpack_run(tmp_path, name)
    values = yaml.safe_load((place / f"settings/{name}.yaml").read_text())
    (place / "mine.yaml").write_text(yaml.safe_dump(today(values), sort_keys=False))
    assert f"runs/{name} is complete: {MIDWAY[name]} images" in again(place, name, "mine.yaml")


@pytest.mark.parametrize("name", ["vae", "idgan"])
def test_a_run_that_went_on_holds_checkpoints_of_either_version(name: str, resume: Resume) -> None:
    """And its config.yaml, written anew, is found to fit both."""
    place, argv = resume(name), ("trainer", STAGES[name], f"runs/{name}/config.yaml")
    assert f"is complete: {LAST[name]} images" in command(place, *argv).err
    listed = command(place, "trainer", "checkpoints", f"runs/{name}").out
    for clock in (MIDWAY[name], LAST[name]):
        assert f"step-{clock:012d}" in listed
    assert listed.count(" valid") == 2
    assert "not usable" not in listed


KEYS = [(stage, key) for table in (HAD_KEYS, ADDED_KEYS) for stage, of in table.items() for key in of]


@pytest.mark.parametrize(("stage", "key"), KEYS)
def test_what_a_run_of_v0_1_means_may_be_said_and_nothing_else(stage: str, key: str, tmp_path: Path) -> None:
    """By an override of its own config.yaml, where an added key does not stand."""
    name, meaning = SHORT[stage], (HAD_KEYS[stage] | ADDED_KEYS[stage])[key]
    place, config = unpack_run(tmp_path, name), f"runs/{name}/config.yaml"
    again(place, name, config, f"{key}={json.dumps(meaning.means)}")
    if meaning.other is None:
        return
    (place / config).write_bytes((FIXTURES / config).read_bytes())  # the start before wrote all keys into it
    told = again(place, name, config, f"{key}={json.dumps(meaning.other)}", *meaning.also, code=2)
    assert (meaning.refused or f"{key}: was {json.dumps(meaning.means)}, now {json.dumps(meaning.other)}") in told


@pytest.mark.parametrize("name", ["vae", "factor_vae", "idgan"])
def test_a_users_own_file_in_old_names_is_refused_with_the_new_ones(name: str, tmp_path: Path) -> None:
    """Only a run folder's config.yaml may have them: nobody wrote it by hand."""
    place = unpack(tmp_path, "settings")
    values = yaml.safe_load((place / f"settings/{name}.yaml").read_text())
    used = [key for key in RENAMED if key in nested(values)]
    assert len(used) >= 2
    told = again(place, name, f"settings/{name}.yaml", code=2)
    for key in used:
        assert key in told
        assert RENAMED[key] in told
    assert "Traceback" not in told


def nested(values: dict[Any, Any], prefix: str = "") -> set[str]:
    """Every key.path of nested settings, of groups too."""
    found = {f"{prefix}{name}" for name in values}
    for name, value in values.items():
        found |= nested(value, f"{prefix}{name}.") if isinstance(value, dict) else set()
    return found


@pytest.mark.parametrize("config", ["settings/gan.yaml", "runs/gan/config.yaml"])
def test_an_override_in_an_old_name_is_refused_with_the_new_one(config: str, tmp_path: Path) -> None:
    """Even on top of a config.yaml that may have it."""
    keys = [key for key in RENAMED if key.startswith(("growth.", "optimizer_g.", "optimizer_d."))]
    values = {"stage_kimg": "1", "stage_kimg_at": "{64: 1}", "lr_course": "[]"}
    overrides = [f"{key}={values[key.rpartition('.')[2]]}" for key in keys]
    told = again(unpack_run(tmp_path, "gan"), "gan", config, *overrides, code=2)
    for key in keys:
        assert key in told
        assert RENAMED[key] in told
