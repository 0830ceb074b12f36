"""The shipped job scripts, byte for byte, on a real Slurm of four nodes, at a tiny size on the CPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.support import processes
from tests.support.data_sets import make_dsprites, photos, run
from tests.support.training import TIMING, differences, finish, largest_gap, newest, overrides, train
from trainer.checkpoints import evaluation_holds, published

from .cluster import Cluster, site
from .soak import processes_with

VAE_CONFIG, GAN_CONFIG = "configs/dsprites/beta_vae.yaml", "configs/dsprites/idgan.yaml"
LONG = 4000  # iterations that nobody waits for


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Shards and a trained VAE."""
    root = tmp_path_factory.mktemp("inputs")
    data = make_dsprites(root / "data", count=256, per_shard=64)
    finish(train("vae", data, root / "vae", 5))
    return data, root / "vae"


def settings(cluster: Cluster, inputs: tuple[Path, Path], steps: int, **more: object) -> list[str]:
    """Write site.env; the overrides of a run of `steps` iterations."""
    data, vae = inputs
    site(cluster, DATA=data, VAE=vae, RUN=cluster.place / "run")
    found = overrides(data, cluster.place / "run", steps, s_dim=4, **more)
    return [text for text in found if not text.startswith(("data.path=", "run="))]


def run_of(cluster: Cluster) -> Path:
    return cluster.place / "run"


def wait_for_steps(cluster: Cluster, job: str, count: int = 1, seconds: float = 120) -> None:
    """Until so many checkpoints have been published by it."""
    run, deadline = run_of(cluster), time.monotonic() + seconds
    while len(published.steps(run)) < count:
        assert time.monotonic() < deadline, cluster.output(job)
        time.sleep(0.2)


def test_two_nodes_train_one_run(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    argv = settings(cluster, inputs, 6, precision="float64")
    job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv)
    assert cluster.code(job) == 0, cluster.output(job)
    run = run_of(cluster)
    manifest = published.read_manifest(published.steps(run)[0])
    assert manifest["world_size"] == 2
    attempt = run / "nodes" / f"{job}-0"
    assert {path.name for path in (attempt / "joined").iterdir()} == {"n1", "n2"}
    assert json.loads((attempt / "exit.json").read_text())["code"] == 0
    assert all((run / "nodes" / f"{node}.log").stat().st_size for node in ("n1", "n2"))
    finish(train("gan", inputs[0], cluster.place / "one", 6, vae=inputs[1], s_dim=4, precision="float64"))
    gap, name = largest_gap(newest(cluster.place / "one"), newest(run))
    assert gap < 1e-9, name


FLAGSHIP = "configs/celeba_hq/1024.yaml"
TINY = ["resolution=128", "checkpointing.from_resolution=128", "growth.batch_size={64: 64, 128: 64}"]
TINY += ["network.nf=1", "network.nf_max=8", "data.workers=0", "precision=float64"]


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the flagship needs, at 128 px: shards of photos and a trained VAE."""
    root = tmp_path_factory.mktemp("portraits")
    made = run("make", "folder", photos(root / "photos", 64), "--out", root / "data", "--resolutions", "128,64")
    assert made.code == 0, made
    finish(train("vae", root / "data", root / "vae", 1, config="configs/celeba_hq/beta_vae.yaml"))
    return root / "data", root / "vae"


def test_the_flagship_trains_alike_on_1_2_and_4_nodes(cluster: Cluster, portraits: tuple[Path, Path]) -> None:
    """Its own batches of 64 in three iterations, bottleneck and all, in as many passes as the memory needs.

    sbatch's own flag alone says how many nodes.
    """
    schedule = ["schedule.total_kimg=0.192", "schedule.tick_kimg=0.064", "schedule.save_kimg=0.192"]
    runs = {nodes: cluster.place / f"run-{nodes}" for nodes in (1, 2, 4)}
    for nodes, place in runs.items():
        site(cluster, DATA=portraits[0], VAE=portraits[1], RUN=place)
        job = cluster.submit("slurm/train_1024.sh", FLAGSHIP, *TINY, *schedule, nodes=nodes)
        assert cluster.code(job) == 0, cluster.output(job)
        manifest = published.read_manifest(published.steps(place)[0])
        assert (manifest["world_size"], manifest["iteration"]) == (nodes, 3)
        assert manifest["pass_sizes"]["64"] == 64 // nodes
    one, *others = [ticks(place) for place in runs.values()]
    assert len(one) == 3
    for other in others:
        for tick, same in zip(one, other, strict=True):
            for name in tick.keys() - TIMING - {"processes"}:
                assert same[name] == pytest.approx(tick[name], rel=1e-6), name
    gap, name = largest_gap(newest(runs[1]), newest(runs[4]))
    assert gap < 1e-9, name


def ticks(place: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (place / "stats.jsonl").read_text().splitlines()]


def test_nodes_with_different_numbers_of_gpus_are_refused(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    """As `sbatch --gpus=3` may give 1 and 2: torch would wait in vain for the processes that are missing."""
    argv = settings(cluster, inputs, 6)
    with open(cluster.place / "site.env", "a") as stream:
        stream.write("PROCESSES_PER_NODE=$((${SLURM_NODEID:-0} + 1))\n")
    job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv)
    assert cluster.code(job) != 0
    assert "error: GPUs: the nodes have different numbers (n1:1 n2:2)" in cluster.output(job)
    assert "--gpus-per-node=N" in cluster.output(job)


def test_what_is_not_set_is_named_at_once(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    site(cluster, DATA=inputs[0])
    job = cluster.submit("slurm/train_1024.sh")
    assert cluster.code(job) == 2
    assert "error: VAE RUN: not set; set them in" in cluster.output(job)


INTERRUPTED = 40  # iterations of a run that is stopped after its first five


@pytest.fixture(scope="module")
def straight(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without a break: two processes of this machine, which no launcher and no Slurm started."""
    data, vae = inputs
    run = tmp_path_factory.mktemp("straight") / "run"
    argv = ["gan", GAN_CONFIG, *overrides(data, run, INTERRUPTED, vae=vae, s_dim=4, processes=2)]
    for rank in processes.ranks(2, "trainer", argv, run.parent / "logs"):
        finish(rank)
    return run


@pytest.mark.parametrize("how", ["usr1", "requeue", "node"])
def test_an_interrupted_job_goes_on_and_ends_the_same(
    how: str, cluster: Cluster, inputs: tuple[Path, Path], straight: Path
) -> None:
    """Told by USR1 before its limit; by the scheduler; and after the death of all processes of a node.

    Takes more than ten seconds: two launchers and two ranks import torch, twice, and a requeued job waits.
    """
    argv = settings(cluster, inputs, INTERRUPTED)
    job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv)
    wait_for_steps(cluster, job)
    if how == "usr1":
        cluster.run("scancel", "--signal=USR1", "--batch", job)
    elif how == "requeue":
        cluster.run("scontrol", "requeue", job)
    else:
        for pid in processes_of(job, "n2"):
            os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    while cluster.field(job, "Restarts") != "1":
        assert time.monotonic() - started < 60, cluster.output(job)
        time.sleep(0.2)
    assert cluster.code(job) == 0, cluster.output(job)
    run = run_of(cluster)
    attempts = json.loads((run / "attempts.json").read_text())
    assert attempts[-1]["code"] == 0
    if how == "usr1":
        assert attempts[0]["code"] == 75
        assert attempts[0]["reason"].startswith("SIGUSR1 at ")
    assert [n for n in differences(newest(straight), newest(run)) if not n.startswith("stats.")] == []


def processes_of(job: str, node: str) -> list[int]:
    """Of a job's step on a node."""
    return processes_with(f"SLURM_JOB_ID={job}", f"SLURMD_NODENAME={node}", "SLURM_STEP_ID=0")


def tiny_config(cluster: Cluster, path: str, name: str, **more: object) -> str:
    """A shipped config with a schedule of three iterations, as a file of the project."""
    found = yaml.safe_load((cluster.place / path).read_text())
    found |= {"batch_size": 16, "schedule": {"total_kimg": 0.048, "tick_kimg": 0.016, "save_kimg": 0.032}} | more
    (cluster.place / name).write_text(yaml.safe_dump(found))
    return name


def pipeline(cluster: Cluster, vae: str, gan: str) -> list[str]:
    """Submit it; the numbers of its three jobs."""
    printed = cluster.run("bash", "slurm/pipeline.sh", vae, gan).stdout
    return re.findall(r"(?:vae|gan|fid) (\d+)", printed)


def test_the_pipeline_keeps_its_order(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    """VAE, then GAN, then evaluation, each after the one before."""
    run = run_of(cluster)
    site(cluster, DATA=inputs[0], VAE=cluster.place / "vae", RUN=run, EVALUATION="--samples 48")
    vae, gan, fid = pipeline(
        cluster, tiny_config(cluster, VAE_CONFIG, "vae.yaml"), tiny_config(cluster, GAN_CONFIG, "gan.yaml")
    )
    assert (cluster.field(gan, "JobState"), cluster.field(fid, "JobState")) == ("PENDING", "PENDING")
    for job in (vae, gan, fid):
        assert cluster.code(job) == 0, cluster.output(job)
    ends = [json.loads((folder / "attempts.json").read_text())[-1]["code"] for folder in (cluster.place / "vae", run)]
    assert ends == [0, 0]
    assert published.steps(run)[0].stat().st_mtime > published.steps(cluster.place / "vae")[0].stat().st_mtime
    (record,) = (run / "evaluation").glob("fid*")
    assert json.loads(record.read_text().splitlines()[-1])["samples"] == 48


def test_nothing_starts_after_a_stage_that_failed(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    site(cluster, DATA=inputs[0], VAE=cluster.place / "vae", RUN=run_of(cluster))
    wrong = tiny_config(cluster, VAE_CONFIG, "vae.yaml", c_dmi=3)
    vae, gan, fid = pipeline(cluster, wrong, tiny_config(cluster, GAN_CONFIG, "gan.yaml"))
    assert cluster.code(vae) == 2
    assert "c_dmi: unknown key" in cluster.output(vae)
    for job in (gan, fid):
        cluster.wait(job, "PENDING")
        assert cluster.field(job, "Reason") in ("DependencyNeverSatisfied", "Dependency")
    assert not run_of(cluster).exists()


def test_an_evaluation_job(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    run = run_of(cluster)
    site(cluster)
    finish(train("gan", inputs[0], run, 2, vae=inputs[1], s_dim=4))
    job = cluster.submit("slurm/eval_fid.sh", run, "--samples", "48", nodes=1)
    assert cluster.code(job) == 0, cluster.output(job)
    assert json.loads(cluster.output(job).splitlines()[-1])["kinds"]["gan"]["count"] == 48


def records_of(run: Path) -> list[dict[str, Any]]:
    path = run / "evaluation" / "fid.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_an_evaluation_told_by_usr1_goes_on_from_its_sums(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    """Takes more than ten seconds: two interpreters import torch, and a requeued job waits."""
    run, straight = run_of(cluster), cluster.place / "straight"
    site(cluster)
    finish(train("gan", inputs[0], run, 2, vae=inputs[1], s_dim=4))
    shutil.copytree(run, straight)
    job = cluster.submit("slurm/eval_fid.sh", run, "--samples", 3200, nodes=1)
    cluster.wait(job, "RUNNING")
    while blocks_done(run) < 8:
        assert not records_of(run), "too late to stop it"
        time.sleep(0.02)
    cluster.run("scancel", "--signal=USR1", "--batch", job)
    assert cluster.code(job) == 0, cluster.output(job)
    assert cluster.field(job, "Restarts") == "1"
    (record,) = records_of(run)
    (whole,) = records_of(evaluated(straight, 3200))
    numbers = [[r["kinds"]["gan"][name] for name in ("fid", "kid", "fidelity")] for r in (record, whole)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)
    assert record["kinds"]["gan"]["count"] == 3200


def blocks_done(run: Path) -> int:
    """Of the images that are generated; the reference's sums are gone by then."""
    files = list((run / "evaluation" / "partial").glob("*.safetensors"))
    return max((int(load_file(file)["blocks"]) for file in files), default=0)


def evaluated(run: Path, samples: int) -> Path:
    finish(processes.command("evaluation", ("fid", run, "--samples", samples), run / "logs"))
    return run


def test_a_run_submits_its_evaluations(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    """From within its job, with the shipped script; each is a job of its own and evaluates one checkpoint."""
    argv = settings(cluster, inputs, 6, schedule__save_kimg=0.032, evaluation__submit="true")
    with open(cluster.place / "site.env", "a") as stream:
        stream.write("EVALUATION='--samples 48'\n")
    job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv)
    assert cluster.code(job) == 0, cluster.output(job)
    run, deadline = run_of(cluster), time.monotonic() + 120
    while len(records_of(run)) < 3:
        assert time.monotonic() < deadline, (run / "evaluation" / "submit.log").read_text() + cluster.output(job)
        time.sleep(0.5)
    assert {record["step"] for record in records_of(run)} == {published.name_of(images) for images in (32, 64, 96)}
    while evaluation_holds.waiting(run) or published.pointed(run, "best") is None:  # both follow the record
        assert time.monotonic() < deadline, evaluation_holds.waiting(run)
        time.sleep(0.5)
    assert published.pointed(run, "best") in (32, 64, 96)


def test_a_cancelled_job_stays_cancelled(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    """It saves, as after any signal, and Slurm would take it back even then."""
    job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *settings(cluster, inputs, LONG), nodes=1)
    wait_for_steps(cluster, job)
    cluster.run("scancel", job)
    deadline = time.monotonic() + 60
    while "was cancelled: it does not start again" not in cluster.output(job):
        assert time.monotonic() < deadline, cluster.output(job)
        time.sleep(0.3)
    cluster.wait(job, "CANCELLED")
    assert cluster.field(job, "Restarts") == "0"


def test_a_second_job_on_a_run_fails_and_spoils_nothing(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    argv = settings(cluster, inputs, LONG)
    first = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv, nodes=1)
    wait_for_steps(cluster, first)
    second = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv, nodes=1)
    assert cluster.code(second) == 2
    assert f"fails with code 2: {run_of(cluster)}: is in use by Slurm job {first}" in cluster.output(second)
    assert cluster.field(first, "JobState") == "RUNNING"
    cluster.run("scancel", first)


def test_a_site_with_its_own_ways(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    """Set-up, container and network interface as site.env says, and shards kept on the nodes.

    A set-up that talks and reads what is not set, as module scripts do, in a job that gets nothing of the environment
    that it was submitted in.
    """
    kept = cluster.place / "kept"
    argv = [*settings(cluster, inputs, 2), f"data.cache.path={kept}", "data.cache.gigabytes=1"]
    box = cluster.place / "box"
    box.write_text(f'#!/bin/sh\necho "$@" >> {cluster.place}/boxed\nexec "$@"\n')
    box.chmod(0o755)
    with open(cluster.place / "site.env", "a") as stream:
        stream.write(f"CONTAINER='{box}'\nNETWORK=lo\n")
        paths = "".join(f"export {name}={cluster.env[name]}; " for name in ("PATH", "SLURM_CONF", "OMP_NUM_THREADS"))
        talk = "echo Loading cuda; : $NEVER_SET_BY_ANYBODY; "
        stream.write(f"SETUP='{paths}{talk}env > {cluster.place}/set-up-$$'\n")
        stream.write(f"export SLURM_CONF={cluster.env['SLURM_CONF']}\n")
    job = cluster.submit("--export=SITE_ENV", "slurm/train_1024.sh", GAN_CONFIG, *argv)
    assert cluster.code(job) == 0, cluster.output(job)
    assert yaml.safe_load((run_of(cluster) / "config.yaml").read_text())["data"]["path"] == str(inputs[0])
    assert (kept / ".lock").is_file()
    boxed = (cluster.place / "boxed").read_text()
    assert boxed.count("accelerate launch --config_file configs/accelerate/cpu.yaml") == 2
    assert boxed.count(f" data.cache.path={kept} ") == 2
    assert "python -m trainer settle" in boxed
    environments = [path.read_text().splitlines() for path in cluster.place.glob("set-up-*")]
    on_nodes = [env for env in environments if any(line.startswith("SLURM_STEP_ID=") for line in env)]
    assert len(environments) == 3, cluster.output(job)
    assert len(on_nodes) == 2
    for environment in on_nodes:
        assert "GLOO_SOCKET_IFNAME=lo" in environment
        assert "NCCL_SOCKET_IFNAME=lo" in environment
        assert "SLURM_CPUS_PER_TASK=32" in environment, "the step has the CPUs that the job asked for"


def test_a_port_in_use_is_named(cluster: Cluster, inputs: tuple[Path, Path]) -> None:
    argv = settings(cluster, inputs, 2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open(cluster.place / "site.env", "a") as stream:
            stream.write(f"PORT={port}\n")
        job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv)
        assert cluster.code(job) == 2
    assert f"error: PORT: {port} is in use on n1; set another one in" in cluster.output(job)


def test_a_node_that_cannot_see_the_run_folder_is_named_and_after_three_starts_the_job_fails(
    cluster: Cluster, inputs: tuple[Path, Path]
) -> None:
    """n2 alone writes its presence elsewhere, as on a folder that is not shared."""
    argv = settings(cluster, inputs, 3)
    run = run_of(cluster)
    elsewhere = "SETUP='true'\nif [ \"${SLURMD_NODENAME:-}\" = n2 ]; then SLURMD_NODENAME=n3; fi\n"
    with open(cluster.place / "site.env", "a") as stream:
        stream.write(elsewhere + "JOIN_SECONDS=3\n")
    job = cluster.submit("slurm/train_1024.sh", GAN_CONFIG, *argv)
    assert cluster.code(job) == 1, cluster.output(job)
    assert f"n2 did not appear in {run}/nodes/{job}-0/joined; not started, or RUN is not shared" in cluster.output(job)
    assert "fails with code 1: 3 attempts in a row got no further than 0 images" in cluster.output(job)
    assert cluster.field(job, "Restarts") == "2"
