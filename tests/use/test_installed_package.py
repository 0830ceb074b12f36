"""Another working directory than the project's folder, as an installed package is used: what ships is found, what is
not there is named with its key and file.

tests/wheel has the same situations from a built wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.training import finish, overrides, train

ROOT = Path(__file__).parents[2]


def there(folder: Path, program: str, *argv: object) -> processes.Running:
    """Start `python -m PROGRAM ARGV` in another folder."""
    folder.mkdir(exist_ok=True)
    args = (str(folder), program, [str(a) for a in argv])
    return processes.start(processes.module_in, args, folder.parent / "logs")


def refused(running: processes.Running, *words: object) -> str:
    """The message of a command that ends with 2."""
    finish(running, 2)
    for word in words:
        assert str(word) in running.err, running.err
    assert "Traceback" not in running.err
    return running.err


@pytest.mark.parametrize("name", ["dsprites/beta_vae", "dsprites/beta_vae.yaml", "configs/dsprites/beta_vae.yaml"])
def test_a_shipped_config_has_one_name_everywhere(name: str, sprites: Path, tmp_path: Path) -> None:
    """The run's folder is named after the config, and lies where the command was given."""
    settings = [o for o in overrides(sprites, Path(), 1) if not o.startswith("run=")]
    done = finish(there(tmp_path / "work", "trainer", "vae", name, *settings))
    told = f"{name}: is not in {tmp_path / 'work'}; taken from what came with the program, {ROOT}"
    assert (told in done.err) == name.endswith(".yaml"), "one of the user's own was perhaps meant"
    assert (tmp_path / "work/runs/dsprites-beta_vae/exit.json").is_file()


def test_a_config_of_ones_own_goes_before_a_shipped_one(sprites: Path, tmp_path: Path) -> None:
    own = tmp_path / "work" / "dsprites" / "idgan"
    own.parent.mkdir(parents=True)
    own.write_text("mine: 1\n")
    refused(there(tmp_path / "work", "trainer", "gan", "dsprites/idgan"), "dsprites/idgan: ", "mine: unknown key")


def test_a_config_that_is_none_leads_to_those_that_are(tmp_path: Path) -> None:
    refused(
        there(tmp_path / "work", "trainer", "gan", "celeba/265"),
        "celeba/265: no such config; did you mean celeba/256? `python -m trainer shipped` lists",
    )
    listed = finish(there(tmp_path / "work", "trainer", "shipped")).out.split()
    assert {"configs/celeba/256.yaml", "pretrained/dsprites-beta_vae", "slurm/lib.sh"} <= set(listed)
    printed = finish(there(tmp_path / "work", "trainer", "shipped", "celeba/256")).out
    assert printed == f"{ROOT / 'configs/celeba/256.yaml'}\n"
    refused(there(tmp_path / "work", "trainer", "shipped", "slurm/lib"), "slurm/lib: nothing of that name is shipped")


def test_a_run_whose_data_path_is_relative_names_key_and_file_elsewhere(sprites: Path, tmp_path: Path) -> None:
    """Evaluated, exported and resumed from its own config; nothing is said of another data set than its own."""
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 1))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(sprites), "data/photos"))
    elsewhere = tmp_path / "elsewhere"
    missing = f"data/photos: no such folder in {elsewhere} (data.path in {config})"
    for argv in (("evaluation", "figures", run), ("trainer", "export", run, "out"), ("trainer", "vae", config)):
        assert "dsprites" not in refused(there(elsewhere, *argv), missing)
    typed = there(elsewhere, "trainer", "vae", config, "data.path=data/typed")
    assert str(config) not in refused(typed, f"data/typed: no such folder in {elsewhere} (data.path)")


def test_job_scripts_are_asked_for_before_the_run_starts(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """evaluation.submit calls slurm/eval_fid.sh, which is not in another folder until it is copied there."""
    work, program = tmp_path / "work", tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    argv = ["gan", "dsprites/idgan", *overrides(sprites, tmp_path / "run", 1), f"vae={vae}", "evaluation.submit=true"]
    args = (str(work), "trainer", argv)
    work.mkdir()
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    running = processes.start(processes.module_in, args, tmp_path / "logs", env)
    message = refused(running, "evaluation.command: 'sbatch slurm/eval_fid.sh': slurm/eval_fid.sh is not in")
    assert 'cp -r "$(python -m trainer shipped slurm)"' in message
    for folder in ("slurm", "configs"):
        shutil.copytree(ROOT / folder, work / folder)
    finish(processes.start(processes.module_in, args, tmp_path / "logs", env))


@pytest.mark.parametrize("script", ["train_vae", "train_1024", "eval_fid", "pipeline"])
def test_a_job_script_says_where_it_can_be_submitted_from(script: str, tmp_path: Path) -> None:
    done = subprocess.run(["bash", ROOT / f"slurm/{script}.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: slurm/lib.sh is not in {tmp_path}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
