"""The demo: how long its training is, what it says beforehand, and that its commands are the ones that it announced."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from common.errors import UserError
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.demo import demos, run, timing
from trainer.demo.demos import Demo, Name, demo
from trainer.experiments.programs import Failed
from trainer.steps import autocast
from trainer.steps.schedule import phases

NAMES = get_args(Name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_trained_and_measured_lies_where_the_next_step_looks(name: Name) -> None:
    for own_vae in (False, True) if name == "sprites" else (False,):
        chosen = demo(name, own_vae)
        folder = chosen.data.argv[chosen.data.argv.index("--out") + 1]
        gan = chosen.trainings[-1]
        assert gan.encoder in demos.exports()
        assert f"run={gan.run}" in gan.settings
        measured = [argv for step in chosen.after for argv in step.argv]
        assert str(gan.run) in measured
        assert str(chosen.page.parent) in measured
        if own_vae:
            assert f"vae={chosen.trainings[0].run}" in gan.settings
        assert folder in " ".join([*gan.settings, Path(gan.settings[0]).read_text()])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_bf16", [True, False])
def test_where_bf16_is_emulated_the_demos_train_in_float32(
    name: Name, has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autocast, "has_bf16", lambda device: has_bf16)
    gan = demo(name).trainings[-1]
    config = load_config(GanConfig, Path(gan.settings[0]), [*gan.settings[1:], f"vae=pretrained/{gan.encoder}"])
    assert config.autocast == ("bfloat16" if has_bf16 else "none")


def test_the_last_training_is_as_long_as_the_time_allows() -> None:
    chosen = demo("sprites")
    speeds = [chosen.seconds_per_kimg]
    rest = sum(step.seconds for step in (chosen.data, *chosen.before, *chosen.after)) + timing.START_SECONDS
    (length,) = timing.lengths(chosen, speeds, rest + 100.4 * speeds[0])
    assert length.kimg == 100
    assert length.seconds == pytest.approx(100 * speeds[0] + timing.START_SECONDS)
    assert timing.lengths(chosen, speeds, 0)[0].kimg == chosen.trainings[-1].fewest
    assert timing.lengths(chosen, speeds, 1e6)[0].kimg == chosen.trainings[-1].most
    slower = timing.lengths(chosen, [2 * speeds[0]], 2 * (rest + 100.4 * speeds[0]))
    assert slower[0].kimg in (100, 101)  # only the start is not slower
    both = demo("sprites", own_vae=True)
    vae, gan = timing.lengths(both, [1.0, speeds[0]], rest + 100.4 * speeds[0] + 126)
    assert (vae.kimg, gan.kimg) == (120, 100)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that the demo runs in a new folder, without the timed ones; an iteration takes what it did there."""
    commands: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_program", lambda argv: commands.append(list(argv)) or 'a table\n{"command": 1}')
    monkeypatch.setattr(timing, "seconds_per_kimg", lambda chosen, training: chosen.seconds_per_kimg)
    return commands


def test_what_comes_is_announced_and_runs_and_what_it_took_is_told(
    ran: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    page = run.run("sprites", False, 10, time.time() - 100)
    chosen, (out, err) = demo("sprites"), capfd.readouterr()
    assert page == chosen.page
    kimg = json.loads(Path("runs/demo/sprites.json").read_bytes())["kimg"]
    assert f"from its first image: {kimg[0]},000 images" in err
    assert re.search(r"1:[45]\d until now", err)
    assert [argv[1] for argv in ran] == ["make", *(s.argv[1] for s in chosen.before), "gan", "beside"]
    assert f"schedule.total_kimg={kimg[0]}" in ran[-2]
    assert ran[-2][-1] == f"optimizer_d.lr_schedule=[[0, 1], [{0.6 * kimg[0]:g}, 1], [{kimg[0]}, 0.1]]"
    assert re.search(r"took \d:\d\d \(expected \d+:\d\d\), 1:[45]\d with the environment", err)
    assert out.count("a table") == len(ran)
    assert '"command"' not in out
    for name in demos.exports():
        assert (demos.SHIPPED / name / "export.json").is_file()


def test_a_later_call_keeps_the_lengths_and_a_damaged_plan_is_made_again(ran: list[list[str]]) -> None:
    run.run("sprites", False, 10, time.time())
    first = list(ran)
    run.run("sprites", False, 1, time.time())
    assert ran[len(first) :] == first
    Path("runs/demo/sprites.json").write_text("{")
    run.run("sprites", False, 0, time.time())
    assert f"schedule.total_kimg={demo('sprites').trainings[-1].fewest}" in ran[-2]


def test_other_demos_have_no_encoder_of_their_own() -> None:
    with pytest.raises(UserError, match="--vae own: the demo faces trains on a shipped encoder; leave --vae out"):
        demo("faces", own_vae=True)


def test_a_step_that_fails_is_named_without_a_traceback(ran: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str]) -> str:
        raise Failed("exit code 2 of python -m data_shards")

    monkeypatch.setattr(run, "run_program", fail)
    with pytest.raises(UserError, match="the demo stopped: exit code 2 of python -m data_shards; see above, then run"):
        run.run("sprites", False, 10, time.time())


def test_iterations_are_timed_at_the_size_of_every_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the images of the phases: here an iteration takes as many seconds as it has px."""
    commands: list[list[str]] = []

    def program(argv: list[str]) -> str:
        commands.append(argv)
        return ""

    def ticks(folder: Path) -> list[dict[str, float]]:
        size = [int(a.partition("=")[2]) for a in commands[-1] if a.startswith("growth.start_resolution=")]
        return [{"seconds_per_kimg": 1e9}, {"seconds_per_kimg": float(*(size or [128]))}]

    monkeypatch.setattr(timing, "run_program", program)
    monkeypatch.setattr(timing, "read_stats", ticks)
    chosen: Demo = demo("growth")
    training = replace(chosen.trainings[0], phases=((32, 1), (128, 3)))
    assert timing.seconds_per_kimg(chosen, training) == pytest.approx(0.25 * 32 + 0.75 * 128)
    assert commands[0][:3] == ["data_shards", "make", "dsprites"]
    trained = [command for command in commands if command[0] == "trainer"]
    for command, resolution in zip(trained, (32, 128), strict=True):  # of the network that grows to 128 px
        config = load_config(GanConfig, Path(command[2]), command[3:])
        assert (config.resolution, phases(128, 16, config.growth)[0].resolution) == (128, resolution)
    (total,) = [a for a in trained[0] if a.startswith("schedule.total_kimg=")]
    assert float(total.partition("=")[2]) * 1000 % timing.ITERATIONS == 0
