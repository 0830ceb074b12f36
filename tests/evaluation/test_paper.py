"""`evaluation paper` against the commands that it puts together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fid import network
from tests.support import processes, replicas
from tests.support.evaluating import answer, lines, quick_by_few_features, quickly, refused, unmeasured
from tests.support.training import finish, train_system

COUNT = 32
SAMPLES = ("--samples", COUNT, "--information-samples", COUNT)


def with_entropy(run: Path, command: str, nats: float) -> None:
    """Write another H(c) into all records of a command: who takes it over has it, who estimates it has not."""
    records = lines(run, command)
    changed = [json.loads(line) for line in records]
    for record in changed:
        record["information"]["entropy"]["mean"] = nats
    (run / "evaluation" / f"{command}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in changed))


def entropy(record: dict[str, Any]) -> float:
    return float(record["information"]["entropy"]["mean"])


def ask(folder: Path, *argv: object) -> dict[str, Any]:
    return answer(finish(quickly(folder, *argv)))


@pytest.mark.parametrize("system", ["idgan", "infogan"])
def test_it_is_what_the_commands_say_one_by_one_and_measures_nothing_twice(
    system: str, systems: dict[str, Path], tmp_path: Path
) -> None:
    run, other = unmeasured(systems[system], tmp_path / "run"), unmeasured(systems[system], tmp_path / "other")
    record = ask(tmp_path, "paper", run, *SAMPLES)
    own = "prior" if system == "infogan" else "posterior"
    assert list(record["fid"]) == [source for source in ("prior", "posterior") if source != own] + [own]
    for source, found in record["fid"].items():
        alone = ask(tmp_path, "fid", other, "--samples", COUNT, "--codes", source)
        assert found == alone["kinds"]["gan"]
        assert (record["protocol"], record["extractor"]) == (alone["protocol"], alone["extractor"])
    scores = ask(tmp_path, "disentanglement", other)
    assert scores["fvm"]["protocol"] == "paper"
    assert record["disentanglement"] == {name: scores[name] for name in record["disentanglement"]}
    assert {"fvm", "mig"} <= record["disentanglement"].keys()
    assert record["information"] == ask(tmp_path, "alignment", other, "--samples", COUNT)["information"]
    kept = {command: lines(run, command) for command in ("fid", "disentanglement", "paper")}
    assert [len(kept[command]) for command in kept] == [2, 1, 1]
    with_entropy(run, "paper", 123)
    again = finish(quickly(tmp_path, "paper", run, *SAMPLES))
    assert entropy(answer(again)) == 123
    assert entropy(ask(tmp_path, "alignment", run, "--samples", COUNT)) == 123
    with_entropy(other, "alignment", 456)
    assert entropy(ask(tmp_path, "paper", other, *SAMPLES)) == 456
    assert [lines(run, command) for command in ("fid", "disentanglement")] == [kept["fid"], kept["disentanglement"]]
    name = "R_Info of gan, nats" if system == "infogan" else "R_ID of gan, nats"
    shown = " ".join(again.out.split())
    for word in (name, "FID, codes: prior", "FID, codes: posterior", "FVM, train accuracy", "MIG", "H(c)"):
        assert word in shown


def test_of_a_gan_without_a_code_there_is_fid_alone_and_of_a_vae_the_decodings(
    systems: dict[str, Path], tmp_path: Path
) -> None:
    gan = ask(tmp_path, "paper", unmeasured(systems["gan"], tmp_path / "gan"), *SAMPLES)
    assert list(gan["fid"]) == ["none"]
    assert (gan["encoder"], gan["disentanglement"], gan["information"]) == (None, None, None)
    vae = ask(tmp_path, "paper", unmeasured(systems["factor_vae"], tmp_path / "vae"), *SAMPLES)
    assert list(vae["fid"]) == ["prior", "posterior"]
    assert list(vae["information"]["kinds"]) == ["reals", "vae"]


def test_of_photographs_it_takes_pytorch_fids_network_and_says_what_has_no_factors(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / "photos").mkdir(exist_ok=True)
        replicas.picture(80, 80, i).save(tmp_path / "photos" / f"{i:02d}.png")
    argv = ("make", "folder", tmp_path / "photos", "--out", tmp_path / "set", "--resolutions", "64", "--workers", 1)
    finish(processes.command("data_shards", argv, tmp_path))
    finish(train_system("infogan", tmp_path / "set", tmp_path / "run", 1))
    few = ("--samples", 16, "--information-samples", 16)
    refused(quickly(tmp_path, "paper", tmp_path / "run", *few), "the weights of Inception legacy_pytorch are not there")
    weights = network(tmp_path, 32)
    asked = ["paper", *map(str, (tmp_path / "run", *few, "--weights", weights))]
    record = answer(finish(processes.start(quick_by_few_features, (asked,), tmp_path)))
    assert record["protocol"] == "legacy_pytorch"
    assert record["extractor"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert set(record["fid"]) == {"prior", "posterior"}
    assert record["disentanglement"] is None
    assert "has no known factors" in record["not_measured"]
    assert record["information"]["codes"] == "prior"
