"""slurm/experiments.sh, byte for byte: arrays in their order, an element that is killed, one that is requeued."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .cluster import Cluster, site

TINY = ["batch_size=16", "schedule.tick_kimg=0.016", "schedule.save_kimg=0.016", "schedule.sample_kimg=1000"]


def experiment(cluster: Cluster) -> None:
    """Write mine.yaml: an encoder and another VAE, both long enough to be caught, and a GAN on the encoder."""
    cell: dict[str, Any] = {"stage": "vae", "config": "configs/dsprites/vae.yaml", "set": "sprites", "hours": 1}
    gan = cell | {"stage": "gan", "config": "configs/dsprites/idgan.yaml", "vae": "vae"}
    gan |= {"overrides": ["schedule.total_kimg=0.032"], "measure": ["fid --samples 48"]}
    content = {
        "runs": "runs/mine",
        "budgets": {"tiny": {"overrides": TINY, "stage_1": ["schedule.total_kimg=3.2"]}},
        "sets": {"sprites": "dsprites --count 64 --workers 1"},
        "cells": {"other": cell, "vae": cell | {"measure": ["fid --samples 48"]}, "gan": gan},
    }
    (cluster.place / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def submitted(cluster: Cluster) -> list[str]:
    """Submit it; the numbers of the arrays and of the job of the table, once the first job has ended."""
    job = cluster.submit("slurm/experiments.sh", "mine.yaml", nodes=1)
    assert cluster.code(job) == 0, cluster.output(job)
    return re.findall(r"(?:stage \d+|table): job (\d+)", cluster.output(job))


def until(done: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def trainings(override: str) -> list[int]:
    """The processes of this cluster's runs with an override on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if override.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def rows(cluster: Cluster) -> dict[str, dict[str, str]]:
    with open(cluster.place / "results/mine/tiny/table.csv", newline="") as stream:
        return {row["system"]: row for row in csv.DictReader(stream)}


def test_a_killed_element_stops_no_other_a_requeued_one_goes_on_and_the_same_command_ends_it(cluster: Cluster) -> None:
    """Takes more than ten seconds: eight jobs, most of which train."""
    site(cluster)
    experiment(cluster)
    first, second, table = submitted(cluster)
    runs = cluster.place / "runs/mine/tiny"
    for name in ("vae", "other"):
        until((runs / name / "stats.jsonl").exists)
    for pid in trainings("run=runs/mine/tiny/other"):
        os.kill(pid, signal.SIGKILL)
    cluster.run("scancel", "--signal=USR1", "--batch", f"{first}_1")  # the last one has the array's own number
    assert cluster.code(table) == 0, "the table waits for the GAN, and that for both VAEs"
    assert json.loads((runs / "vae" / "exit.json").read_text())["reason"] == "complete"
    told = "".join(path.read_text() for path in cluster.place.glob(f"slurm-{first}_*.out"))
    assert "other: failed: exit code -9" in told
    assert "stopped; the same command goes on from here" in told
    assert "resuming runs/mine/tiny/vae" in told
    assert told.count("other: failed") == 1, "the requeue of one element starts no other again"
    found = rows(cluster)
    assert (found["ID-GAN"]["seeds"], found["other"]["seeds"]) == ("1", "0 of 1")
    assert found["ID-GAN"]["FID"]
    assert not found["other"]["FID"]
    assert cluster.field(second, "JobState") == "COMPLETED"

    before = (cluster.place / "results/mine/tiny/gan.json").read_bytes()
    *_, table = submitted(cluster)
    assert cluster.code(table) == 0
    assert (cluster.place / "results/mine/tiny/other.json").exists()
    assert (cluster.place / "results/mine/tiny/gan.json").read_bytes() == before
