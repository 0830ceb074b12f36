"""--dry-run says what a run would do and whether it could start, and leaves no trace."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.support import processes
from tests.support.data_sets import hashes
from tests.support.training import GAN, VAE, finish, overrides, train
from trainer.config.load import load_config
from trainer.config.schema import VaeConfig
from trainer.jobs import startup_agreement

GROWING = {
    "resolution": 64,
    "network": "{name: resnet, nf: 4, nf_max: 8}",
    "growth": "{start_resolution: 16, phase_kimg: 0.048, fade_kimg: 0.032, batch_size: {64: 8}}",
}


def dry_run(folder: Path, stage: str, config: str, settings: list[str], *options: str) -> processes.Running:
    """Start the command in an empty folder, which must stay empty but for what it prints."""
    return processes.command("trainer", [stage, config, *settings, "--dry-run", *options], folder, estimate=True)


def rows(printed: str) -> list[list[str]]:
    """The cells of the table of phases, without its head."""
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.parametrize("stage", ["vae", "gan"])
def test_the_config_is_that_of_the_run(stage: str, sprites: Path, vae: Path, tmp_path: Path) -> None:
    more: dict[str, object] = {"vae": vae, "s_dim": 4} if stage == "gan" else {}
    run, config = tmp_path / "run", VAE if stage == "vae" else GAN
    done = finish(dry_run(tmp_path / "logs", stage, config, overrides(sprites, run, 3, **more)))
    assert not run.exists()
    assert f"the checks found no problem: {run} can start" in done.out
    assert rows(done.out) == [["64", "hold", "0", "48", "0.048", "16"]]
    assert ("memory: about " in done.err) == (stage == "gan")
    finish(train(stage, sprites, run, 3, **more))
    assert yaml.safe_load(done.out.partition("\n\n")[0]) == yaml.safe_load((run / "config.yaml").read_text())


def test_the_phases_of_growth_end_with_the_run(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """16 px for 48 images, a fade of 32, 32 px for 48, a fade of 32, at a batch size of its own; then 64 px for 32."""
    settings = overrides(sprites, tmp_path / "run", 12, vae=vae, s_dim=4, bottleneck="null", **GROWING)
    done = finish(dry_run(tmp_path / "logs", "gan", GAN, settings))
    assert rows(done.out) == [
        ["16", "hold", "0", "48", "0.048", "16"],
        ["32", "fade", "48", "80", "0.032", "16"],
        ["32", "hold", "80", "128", "0.048", "16"],
        ["64", "fade", "128", "160", "0.032", "8"],
        ["64", "hold", "160", "192", "0.032", "8"],
    ]


def test_everything_that_is_wrong_is_one_error(sprites: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    settings = overrides(missing, tmp_path / "run", 3, vae=missing, strategy="fsdp2")
    done = finish(dry_run(tmp_path / "logs", "gan", GAN, settings), 2)
    assert "error: the run cannot start: 3 problems" in done.err
    for problem in ("strategy: fsdp2", f"{missing}: no such folder", f"vae: {missing}: no such file"):
        assert f"  - {problem}" in done.err
    assert "can start" not in done.out
    assert not (tmp_path / "run").exists()


def without_deepspeed(name: str, argv: list[str]) -> None:
    sys.modules["deepspeed"] = None  # type: ignore[assignment]
    processes.module(name, argv)


def test_programs_that_the_settings_need_are_looked_for(sprites: Path, vae: Path, tmp_path: Path) -> None:
    settings = overrides(sprites, tmp_path / "run", 3, vae=vae, s_dim=4, compile="true", strategy="zero1")
    argv = ("trainer", ["gan", GAN, *settings, "--dry-run"])
    done = finish(processes.start(without_deepspeed, argv, tmp_path, {"PATH": ""}), 2)
    assert "error: the run cannot start: 3 problems\n  - strategy: zero1 splits over processes" in done.err
    assert "  - compile: true needs a C++ compiler on the CPU; install g++, or set compile=false" in done.err
    assert "  - strategy: zero1 needs DeepSpeed, which cannot be imported (" in done.err
    assert (
        "set another strategy, or in the project's folder: pip install -c constraints.txt -e '.[deepspeed]'" in done.err
    )
    assert "Traceback" not in done.err


def test_a_pinned_run_is_checked_against_its_first_start(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    settings = overrides(sprites, run, 3)
    startup_agreement.pin(run, load_config(VaeConfig, Path(VAE), settings), accept_changes=False)
    before = hashes(run)
    other = [*settings, "optimizer.lr=0.5"]
    nowhere = tmp_path / "nowhere"
    done = finish(dry_run(tmp_path / "a", "vae", VAE, [*other, f"data.path={nowhere}"], "--pinned"), 2)
    assert f"error: the run cannot start: 2 problems\n  - {nowhere}: no such folder" in done.err
    assert f"  - {run} was started with other code or settings: optimizer.lr: was 0.0001, now 0.5; set" in done.err
    for name, argv in (("b", settings), ("c", [*other, "--accept-changes"])):
        done = finish(dry_run(tmp_path / name, "vae", VAE, argv, "--pinned"))
        assert f"the checks found no problem: {run} can start" in done.out
    assert hashes(run) == before


def test_a_run_that_would_go_on_is_checked_against_its_checkpoint(sprites: Path, vae: Path, tmp_path: Path) -> None:
    before = hashes(vae)
    nowhere = tmp_path / "nowhere"
    settings = [*overrides(sprites, vae, 10), f"data.path={nowhere}"]
    done = finish(dry_run(tmp_path / "a", "vae", VAE, [*settings, "seed=9"]), 2)
    assert "error: the run cannot start: 2 problems" in done.err
    assert f"  - {nowhere}: no such folder" in done.err
    assert f"  - {vae} holds a checkpoint that differs from the config and its inputs: seed: was 0, now 9; " in done.err
    assert done.err.count("  - ") == 2, "no list within the list"
    done = finish(dry_run(tmp_path / "b", "vae", VAE, [*overrides(sprites, vae, 10), "seed=9"]), 2)
    assert f"{vae} holds a checkpoint that differs" in done.err
    done = finish(dry_run(tmp_path / "c", "vae", VAE, [*overrides(sprites, vae, 10), "seed=9"], "--accept-changes"))
    assert f"{vae} resumes from its checkpoint at 80 images" in done.out
    assert f"the checks found no problem: {vae} can resume" in done.out
    assert hashes(vae) == before


def test_two_processes_say_it_once(sprites: Path, tmp_path: Path) -> None:
    argv = ["vae", VAE, *overrides(sprites, tmp_path / "run", 3, device="cpu", processes=2), "--dry-run"]
    both = [finish(rank) for rank in processes.ranks(2, "trainer", argv, tmp_path / "logs")]
    assert [rank.out.count("can start") for rank in both] == [1, 0]
    assert not (tmp_path / "run").exists()


def test_processes_of_other_settings_are_found(sprites: Path, tmp_path: Path) -> None:
    settings = overrides(sprites, tmp_path / "run", 3, device="cpu", processes=2)
    port = str(processes.free_port())
    both = [
        processes.start(
            processes.module,
            ("trainer", ["vae", VAE, *settings, f"optimizer.lr={lr}", "--dry-run"]),
            tmp_path / f"rank{rank}",
            processes.rank_env(rank, 2, port),
        )
        for rank, lr in enumerate((0.25, 0.5))
    ]
    for running in both:
        assert "optimizer.lr: 0.25 on process 0, here 0.5" in finish(running, 2).err
        assert "can start" not in running.out
