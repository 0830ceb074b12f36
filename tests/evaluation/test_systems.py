"""Every command on tiny runs of the other systems: which encoder and which codes it says, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation.inputs.run import open_run
from tests.support import processes
from tests.support.evaluating import answer, evaluate, quickly, refused, self_contained
from tests.support.training import finish, newest, two_at_a_time
from trainer.config.schema import GanConfig
from trainer.steps import networks

ENCODERS = {
    "factor_vae": "the FactorVAE of this run",
    "infogan": "InfoGAN's own q, learnt with its generator",
    "cgan": "the frozen VAE of this run (vae.safetensors)",
    "idgan": "the frozen VAE of this run (vae.safetensors)",
}
NAMES = {"gan": "GAN", "infogan": "InfoGAN", "cgan": "cGAN", "idgan": "ID-GAN", "factor_vae": "FactorVAE"}
CODES = {"gan": "none", "infogan": "prior", "cgan": "posterior", "idgan": "posterior", "factor_vae": "posterior"}
ARGV = {
    "fid": ("--samples", 64),
    "latents": (),
    "figures": (),
    "alignment": ("--samples", 64),
    "disentanglement": ("--protocol", "short"),
}
OF_AN_ENCODER = ("alignment", "disentanglement")
Asked = dict[tuple[str, str], processes.Running]


@pytest.fixture(scope="module")
def asked(systems: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Every command on every system that it applies to, then the reports."""
    logs = tmp_path_factory.mktemp("logs")
    keys = [(s, c) for s, c in product(NAMES, ARGV) if s in ENCODERS or c not in OF_AN_ENCODER]
    starts = [partial(quickly, logs, command, systems[system], *ARGV[command]) for system, command in keys]
    reports = [partial(quickly, logs, "report", systems[system]) for system in NAMES]
    ended = two_at_a_time(starts) + two_at_a_time(reports)
    keys += [(system, "report") for system in NAMES]
    return {key: finish(running) for key, running in zip(keys, ended, strict=True)}


@pytest.mark.parametrize("system", NAMES)
def test_every_record_names_the_system_and_is_kept_as_it_was_printed(
    system: str, systems: dict[str, Path], asked: Asked
) -> None:
    for command in [name for (s, name) in asked if s == system]:
        record = answer(asked[system, command])
        assert (record["command"], record["system"]) == (command, NAMES[system])
        assert (record["run"], record["iteration"]) == (str(systems[system]), 5)
        kept = (systems[system] / "evaluation" / f"{command}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in kept] == [record]


@pytest.mark.parametrize(("system", "command"), [*product(ENCODERS, OF_AN_ENCODER)])
def test_the_encoder_is_named_in_the_record_and_in_the_title(system: str, command: str, asked: Asked) -> None:
    running = asked[system, command]
    assert answer(running)["encoder"] == ENCODERS[system]
    assert f"encoder: {ENCODERS[system]}" in " ".join(running.out.split())


@pytest.mark.parametrize("system", NAMES)
def test_codes_are_by_default_those_of_the_training(system: str, asked: Asked) -> None:
    assert answer(asked[system, "figures"])["codes"] == CODES[system]
    fid = answer(asked[system, "fid"])
    assert fid["codes"] == CODES[system]
    assert f"codes: {CODES[system]}" in asked[system, "fid"].out
    kind = "vae" if system == "factor_vae" else "gan"
    assert fid["kinds"].keys() == {"reference_count", "reference_seed", kind}
    assert fid["kinds"][kind]["fid"] > 0


@pytest.mark.parametrize("system", NAMES)
def test_latents_are_of_c_and_without_a_code_of_s(system: str, asked: Asked) -> None:
    record = answer(asked[system, "latents"])
    assert record["latents"] == [f"{'s' if system == 'gan' else 'c'}{j + 1}" for j in range(10)]
    assert [len(row) for row in record["share_of_range"]] == [3] * 10
    assert ("means_r2" in record) == (system != "gan"), "of the encoder, where there is one"
    if system != "factor_vae":  # whose decodings are one grey after five iterations
        assert max(map(max, record["share_of_range"])) > 0


@pytest.mark.parametrize("system", ENCODERS)
def test_alignment_compares_with_the_sources_and_where_there_is_one_with_the_vae(system: str, asked: Asked) -> None:
    kinds = answer(asked[system, "alignment"])["kinds"]
    expected = {"factor_vae": ["reals", "vae"], "infogan": ["reals", "gan"]}
    assert list(kinds) == expected.get(system, ["reals", "vae", "gan"])
    assert kinds["reals"] == answer(asked["idgan", "alignment"])["kinds"]["reals"], "the same sources for every run"
    assert kinds["reals"]["x"] > 0.9
    assert kinds[list(kinds)[-1]]["x"] < 0.5, "after five iterations"


@pytest.mark.parametrize("system", ENCODERS)
def test_what_an_image_tells_of_its_code_is_in_nats_of_codes_as_in_training(system: str, asked: Asked) -> None:
    """The frozen encoder and its codes are the same for all that have it, and so is their entropy."""
    found, of_idgan = (answer(asked[name, "alignment"])["information"] for name in (system, "idgan"))
    assert (found["codes"], found["samples"]) == (CODES[system], 64)
    if system == "infogan":
        exact = {"mean": pytest.approx(5 * math.log(2 * math.pi * math.e)), "error": 0, "estimate": "closed form"}
        assert found["entropy"] == exact
        assert list(found["kinds"]) == ["gan"]
    elif system != "factor_vae":
        assert found["entropy"] == of_idgan["entropy"]
        assert {kind: found["kinds"][kind] for kind in ("reals", "vae")} == {
            kind: of_idgan["kinds"][kind] for kind in ("reals", "vae")
        }
    shown = found["kinds"]["vae" if system == "factor_vae" else "gan"]
    assert f"{shown['nats']:.2f} ± {shown['error']:.2f}" in " ".join(asked[system, "alignment"].out.split())


def test_the_entropy_of_the_codes_is_estimated_once_for_an_encoder(systems: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(systems["idgan"], tmp_path / "run")
    records = run / "evaluation" / "alignment.jsonl"
    record = json.loads(records.read_text().splitlines()[-1])
    record["information"]["entropy"]["mean"] = 123.0
    records.write_text(json.dumps(record) + "\n")
    again = answer(finish(quickly(tmp_path, "alignment", run, "--samples", 64)))
    assert again["information"]["entropy"]["mean"] == 123
    other = answer(finish(quickly(tmp_path, "alignment", run, "--samples", 48)))
    assert other["information"]["entropy"]["mean"] != 123


@pytest.mark.parametrize("system", NAMES)
def test_figures_have_the_rows_of_the_system(system: str, asked: Asked) -> None:
    """Ten latents in two columns of five; a GAN on a VAE has a row of decodings above each of its own."""
    files = [Path(path) for path in answer(asked[system, "figures"])["files"]]
    sizes = {path.name: Image.open(path).size for path in files if path.suffix != ".pdf"}
    assert [path.name for path in files[-2:]] == ["interpolation.webp", "figures.pdf"]
    row = 2 * 66 + 2 if system in ("cgan", "idgan") else 66 + 2
    expected = {
        "reals.png": (8 * 66 + 2, 8 * 66 + 2),
        "samples.png": (8 * 66 + 2, 8 * 66 + 2),
        "traversals.png": (2 * (117 + 7 * 66 + 2) + 16, 5 * row),
    }
    expected["interpolation.webp"] = (4 * 66 + 2, 68)
    if system == "idgan":  # the one with s
        expected["code_and_nuisance.png"] = (39 + 6 * 66 + 2, 26 + 5 * (66 + 2))
    assert sizes == expected


@pytest.mark.parametrize("system", NAMES)
def test_the_page_has_what_was_measured_and_needs_no_other_file(system: str, asked: Asked) -> None:
    text = Path(answer(asked[system, "report"])["page"]).read_text()
    assert self_contained(text)
    assert text.count("data:image/png;base64,") == (5 if system == "idgan" else 4)
    for word in ("Quality", "Reals and samples", "Traversals", "What each latent moves", "Training"):
        assert f"<h2>{word}</h2>" in text
    for word in ("Disentanglement", "Code alignment"):
        assert (f"<h2>{word}</h2>" in text) == (system in ENCODERS)
    assert f"<h1>{NAMES[system]}: " in text
    if system in ENCODERS:
        assert f"f {ENCODERS[system].replace(chr(39), '&#39;')}. Measured at" in text
    if system != "gan":
        origin = {"prior": "codes from the prior", "posterior": "one for each real"}[CODES[system]]
        assert f"Samples, {origin}" in text


def test_the_q_that_is_measured_is_the_trained_one(systems: dict[str, Path], asked: Asked, tmp_path: Path) -> None:
    run, trained = open_run(systems["infogan"]), newest(systems["infogan"])
    assert isinstance(run.config, GanConfig)
    assert run.q is not None
    untrained = networks.joint_q(run.config, 1).state_dict()
    for name, tensor in run.q.state_dict().items():
        assert torch.equal(tensor, trained[f"q.{name}"])
        assert not torch.equal(tensor, untrained[name])
    one = answer(asked["infogan", "disentanglement"])
    other = answer(finish(quickly(tmp_path, "disentanglement", systems["infogan_again"], "--protocol", "short")))
    assert one["mig"]["information"] != other["mig"]["information"]
    assert one["data"] == other["data"]
    assert one["seed"] == other["seed"]


def test_codes_may_be_asked_for(systems: dict[str, Path], asked: Asked, tmp_path: Path) -> None:
    """InfoGAN's codes from the posterior of its own q, ID-GAN's from the prior."""
    for system, codes in (("infogan", "posterior"), ("idgan", "prior")):
        record = answer(evaluate(tmp_path, "fid", systems[system], "--samples", 64, "--codes", codes))
        assert record["codes"] == codes
        assert record["kinds"]["gan"]["fid"] != answer(asked[system, "fid"])["kinds"]["gan"]["fid"]


@pytest.mark.parametrize(
    ("system", "argv", "words"),
    [
        ("gan", ("disentanglement",), ("a GAN has no encoder", "name a run of another system")),
        ("gan", ("disentanglement", "--protocol", "short"), ("a GAN has no encoder", "fid, latents and figures")),
        ("gan", ("alignment",), ("a GAN has no encoder", "name a run of another system")),
        ("gan", ("fid", "--codes", "prior"), ("--codes: prior", "a GAN without a code", "leave --codes out")),
        ("gan", ("figures", "--codes", "posterior"), ("--codes: posterior", "leave --codes out")),
        ("gan", ("fid", "--of", "gan,vae"), ("--of vae", "no such images", "choose from gan")),
        ("infogan", ("fid", "--of", "vae"), ("--of vae", "no such images", "choose from gan")),
        ("factor_vae", ("fid", "--of", "untrained"), ("--of untrained", "choose from vae")),
    ],
)
def test_what_a_system_does_not_have_is_refused(
    system: str, argv: tuple[str, ...], words: tuple[str, ...], systems: dict[str, Path], tmp_path: Path
) -> None:
    command, *options = argv
    before = sorted(systems[system].rglob("*"))
    refused(processes.command("evaluation", (command, systems[system], *options), tmp_path), systems[system], *words)
    assert sorted(systems[system].rglob("*")) == before
