"""`evaluation fid`: the same number as clean-fid's, on any number of processes, after any stop; and what it refuses."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from benchmarks.fid import network
from evaluation.factors.factor_network import load_factor_extractor
from evaluation.fid import extractors, passes, references
from evaluation.fid.kid import squared_distance
from evaluation.inputs.run import open_run
from tests.support import processes
from tests.support.evaluating import answer, clean_fid, evaluate, pytorch_fid, random_inception, refused, unmeasured
from tests.support.training import finish
from trainer.checkpoints import published

NUMBERS = ("fid", "kid", "precision", "recall", "density", "coverage", "fidelity", "spectrum", "detail")


def factor_net() -> extractors.FeatureNet:
    return extractors.shipped(load_factor_extractor())


def test_the_number_is_clean_fids_on_the_same_files(copy: Path, tmp_path: Path) -> None:
    """End to end: generation, PNG files, our reading of the weights; more images than the network's 32 features."""
    count = 200
    weights = network(tmp_path, 32)
    argv = ("--samples", count, "--protocol", "clean", "--weights", weights, "--keep-images", tmp_path / "images")
    record = answer(evaluate(tmp_path / "logs", "fid", copy, *argv))
    reals = open_run(copy).reals.at(0, torch.arange(count))
    (tmp_path / "reals").mkdir()
    for i, image in enumerate(reals):
        Image.fromarray(image[0].numpy()).convert("RGB").save(tmp_path / "reals" / f"{i}.png")
    expected = clean_fid(tmp_path / "images" / "gan-posterior-0", tmp_path / "reals", weights)
    found = record["kinds"]["gan"]
    assert found["count"] == record["kinds"]["reference_count"] == count
    assert expected > 1
    assert found["fid"] == pytest.approx(expected, rel=1e-4)
    assert record["extractor"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert json.loads((copy / "evaluation" / "extractors.json").read_bytes()) == {"clean": record["extractor"]}
    assert found["fidelity"] is None


def test_legacy_pytorch_is_the_number_of_the_reference_network(copy: Path, tmp_path: Path) -> None:
    """End to end, on the files that it keeps.

    Takes more than ten seconds: the whole Inception network looks at 48 images, ours and pytorch-fid's.
    """
    weights, count = random_inception(tmp_path / "random.pth"), 12
    argv = ("--samples", count, "--protocol", "legacy_pytorch", "--weights", weights, "--keep-images", tmp_path)
    record = answer(evaluate(tmp_path / "logs", "fid", copy, *argv))
    files = sorted((tmp_path / "gan-posterior-0").glob("*.png"))
    generated = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))[:, None]
    reals = open_run(copy).reals.at(0, torch.arange(count))
    a, b = (pytorch_fid(images.expand(-1, 3, -1, -1), weights).double().numpy() for images in (generated, reals))
    gap, a, b = a.mean(0) - b.mean(0), a - a.mean(0), b - b.mean(0)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()  # the trace of the root, of so few images
    expected = gap @ gap + ((a**2).sum() + (b**2).sum() - 2 * cross) / (count - 1)
    assert record["kinds"]["gan"]["fid"] == pytest.approx(expected, rel=1e-3)
    assert (record["protocol"], record["extractor"]) == (
        "legacy_pytorch",
        hashlib.sha256(weights.read_bytes()).hexdigest(),
    )


def ranks(count: int, argv: tuple[object, ...], folder: Path) -> dict[str, Any]:
    running = processes.ranks(count, "evaluation", argv, folder)
    for one in running:
        finish(one)
    assert [bool(one.out) for one in running] == [True] + [False] * (count - 1), "the main one alone answers"
    return answer(running[0])


def test_any_number_of_processes_gives_the_same_numbers(run: Path, tmp_path: Path) -> None:
    found = []
    for size in (1, 2, 3):
        copied = tmp_path / f"{size}"
        unmeasured(run, copied)
        argv = ("fid", copied, "--samples", 200, "--of", "gan,vae", "--device", "cpu")
        record = ranks(size, argv, tmp_path / "logs")
        assert record["world_size"] == size
        found.append([record["kinds"][kind][name] for kind in ("gan", "vae") for name in NUMBERS])
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[2] == pytest.approx(found[0], rel=1e-6)


def stopped_at(run: Path, number: int, how: int) -> processes.Running:
    """`fid` that gets a signal where it generates its `number`-th block."""
    return processes.start(_stopping, (str(run), number, how), run / "logs")


def _stopping(run: str, number: int, how: int) -> None:
    from evaluation.fid import partial_sums
    from evaluation.fid.passes import features_of_pass as real

    partial_sums.ROUND = 1
    seen = []

    def look(*args: Any) -> Any:
        inner = real(*args)

        def stop(positions: Any) -> Any:
            seen.append(positions)
            if len(seen) == number:
                os.kill(os.getpid(), how)
            return inner(positions)

        return stop

    passes.features_of_pass = look
    processes.module("evaluation", ["fid", run, "--samples", "200", "--device", "cpu"])


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75), (signal.SIGINT, 75)]
)
def test_it_goes_on_from_where_it_was_stopped(how: signal.Signals, code: int, copy: Path, tmp_path: Path) -> None:
    straight = answer(evaluate(tmp_path / "logs", "fid", copy, "--samples", 200))
    assert not list((copy / "evaluation" / "partial").iterdir())
    stopped = stopped_at(copy, 3, how)
    assert stopped.wait() == code, stopped.err
    assert list((copy / "evaluation" / "partial").glob("*.safetensors")), "two blocks are kept"
    assert "Traceback" not in stopped.err
    assert not stopped.out, "a part does not look like a result"
    told = processes.start(_counting, (str(copy),), tmp_path / "logs")
    assert told.wait() == 0, told.err
    *_, record, generated = told.out.splitlines()
    assert int(generated) in (1, 2), "of four blocks; the one under way may have ended"
    resumed = json.loads(record)["kinds"]["gan"]
    assert [resumed[name] for name in NUMBERS] == pytest.approx(
        [straight["kinds"]["gan"][n] for n in NUMBERS], rel=1e-9
    )


def test_a_group_that_all_get_sigterm_goes_on_alone(copy: Path, tmp_path: Path) -> None:
    """As Slurm and the launcher pass it on: each stops in its second block, after one round of both."""
    straight = answer(evaluate(tmp_path / "logs", "fid", copy, "--samples", 200))["kinds"]["gan"]
    port = str(processes.free_port())
    group = [
        processes.start(_stopping, (str(copy), 2, signal.SIGTERM), tmp_path / f"{r}", processes.rank_env(r, 2, port))
        for r in range(2)
    ]
    assert [one.wait() for one in group] == [75, 75], group[0].err + group[1].err
    assert not any(one.out or "Traceback" in one.err for one in group)
    told = processes.start(_counting, (str(copy),), tmp_path / "logs")
    assert told.wait() == 0, told.err
    *_, record, generated = told.out.splitlines()
    assert int(generated) == 2, "of four blocks"
    resumed = json.loads(record)["kinds"]["gan"]
    assert [resumed[name] for name in NUMBERS] == pytest.approx([straight[name] for name in NUMBERS], rel=1e-9)


def _counting(run: str) -> None:
    from evaluation.fid.passes import features_of_pass as real

    seen = []

    def look(*args: Any) -> Any:
        inner = real(*args)
        return lambda positions: (seen.append(positions), inner(positions))[1]

    passes.features_of_pass = look
    processes.module("evaluation", ["fid", run, "--samples", "200", "--device", "cpu"])
    print(len(seen))


def test_several_seeds_give_mean_and_spread(copy: Path, tmp_path: Path) -> None:
    running = evaluate(tmp_path, "fid", copy, "--samples", 64, "--seeds", 3)
    found = answer(running)["kinds"]["gan"]
    single = [answer(evaluate(tmp_path, "fid", copy, "--samples", 64, "--seed", 1, "--reference", reference_of(copy)))]
    each = [numbers["fid"] for numbers in found["by_seed"]]
    assert len(set(each)) == 3
    assert each[1] == pytest.approx(single[0]["kinds"]["gan"]["fid"], rel=1e-9)
    assert found["fid"] == pytest.approx(np.mean(each))
    assert found["spread"]["fid"] == pytest.approx(np.std(each, ddof=1))
    assert f"{np.mean(each):.3g} \u00b1" in running.out


def reference_of(run: Path) -> Path:
    """The one that the run's own number of 64 samples was made with."""
    opened = open_run(run)
    facts = references.identity_of(opened.reals.identity(), factor_net(), 64, 64, 0)
    return references.path_of(facts, opened.reals, run)


def test_both_sources_of_codes_are_two_records(copy: Path, tmp_path: Path) -> None:
    running = evaluate(tmp_path, "fid", copy, "--samples", 64, "--codes", "both")
    records = [json.loads(line) for line in running.out.splitlines() if line.startswith("{")]
    assert [record["codes"] for record in records] == ["prior", "posterior"], "as in training, last"
    assert records[0]["kinds"]["gan"]["fid"] != records[1]["kinds"]["gan"]["fid"]


def test_kept_features_are_those_of_the_numbers(copy: Path, tmp_path: Path) -> None:
    argv = ("fid", copy, "--samples", 150, "--keep-features", "--keep-images", tmp_path / "images")
    record = answer(evaluate(tmp_path / "logs", *argv))
    (folder,) = record["features"]
    features = np.concatenate([np.load(file) for file in sorted(Path(folder).iterdir())])
    files = sorted((tmp_path / "images" / "gan-posterior-0").glob("*.png"))
    assert [file.name for file in files] == [f"{i:06d}.png" for i in range(150)]
    images = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))[:, None]
    expected = factor_net().extract(images, False).features
    assert features == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)
    reals = open_run(copy).reals.at(0, torch.arange(150))
    of_reals = factor_net().extract(reals, False).features.double().numpy()
    subsets = [squared_distance(of_reals, features.astype(np.float64))]  # all 150 in every subset
    assert record["kinds"]["gan"]["kid"] == pytest.approx(subsets[0], rel=1e-3)


def test_the_best_checkpoint_and_the_trajectory(copy: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in published.steps(copy))
    found = [answer(evaluate(tmp_path, "fid", copy, "--samples", 64, "--step", name)) for name in reversed(names)]
    lowest = min(found, key=lambda record: record["kinds"]["gan"]["fid"])
    assert (published.folder(copy) / "best").read_text().strip() == lowest["step"]
    rows = list(csv.DictReader((copy / "evaluation" / "trajectory.csv").open()))
    assert [row["step"] for row in rows] == names
    assert [float(row["fid"]) for row in rows] == [record["kinds"]["gan"]["fid"] for record in reversed(found)]
    again = answer(evaluate(tmp_path, "fid", copy, "--samples", 64, "--step", "best", "--codes", "prior"))
    assert again["step"] == lowest["step"]
    other = next(name for name in names if name != lowest["step"])
    evaluate(tmp_path, "fid", copy, "--samples", 65, "--step", other)
    assert (published.folder(copy) / "best").read_text().strip() == lowest["step"], "one other look does not decide"


def test_images_of_two_checkpoints_do_not_mix(copy: Path, tmp_path: Path) -> None:
    first, second, _ = sorted(path.name for path in published.steps(copy))
    argv = ("fid", copy, "--samples", 64, "--keep-images", tmp_path / "images")
    evaluate(tmp_path / "logs", *argv, "--step", first)
    folder = tmp_path / "images" / "gan-posterior-0"
    kept = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    evaluate(tmp_path / "logs", *argv, "--step", first, "--keep-features")
    refused(processes.command("evaluation", (*argv, "--step", second), tmp_path / "logs"), folder, "has other images")
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == kept


def test_a_held_checkpoint_is_let_go_when_its_evaluation_has_ended(copy: Path, tmp_path: Path) -> None:
    from trainer.checkpoints import evaluation_holds

    first, second, _ = sorted(path.name for path in published.steps(copy))
    for name in (first, second):
        assert evaluation_holds.hold(copy, name)
    evaluate(tmp_path, "fid", copy, "--samples", 64, "--step", first)
    assert evaluation_holds.waiting(copy) == [first, second], "that was not the job that the run submitted"
    evaluate(tmp_path, "fid", copy, "--samples", 64, "--step", first, "--release")
    assert evaluation_holds.waiting(copy) == [second]
    evaluate(tmp_path, "fid", copy, "--samples", 0, "--step", second, "--release", code=2)
    assert evaluation_holds.waiting(copy) == []
    refused(processes.command("evaluation", ("fid", copy, "--release"), tmp_path), "--release", "--step")


def test_an_export_is_evaluated_against_a_reference(sprites: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    finish(processes.command("trainer", ("export", run, out), tmp_path / "logs"))
    refused(processes.command("evaluation", ("fid", out, "--samples", 64), tmp_path / "logs"), out, "--reference FILE")
    made = answer(evaluate(tmp_path / "logs", "reference", sprites, "--samples", 64))
    argv = ("fid", out, "--samples", 64, "--reference", made["file"], "--of", "gan,vae")
    record = answer(evaluate(tmp_path / "logs", *argv))
    images = (trainer.load(out).sample(64) * 255).round().to(torch.uint8)
    features = factor_net().extract(images, False).features.double().numpy()
    reals = factor_net().extract(open_run(run).reals.at(0, torch.arange(64)), False).features.double().numpy()
    expected = scipy_distance(features, reals)
    assert record["kinds"]["gan"]["fid"] == pytest.approx(expected, rel=1e-4)
    assert record["kinds"]["vae"]["fid"] > 0


def scipy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """By the eigenvalues of the product of the covariances."""
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    values = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum()
    return float(gap @ gap + np.trace(s) + np.trace(t) - 2 * values)


def test_weights_that_are_not_there_or_damaged(run: Path, tmp_path: Path) -> None:
    def fid(*argv: object) -> processes.Running:
        return processes.command("evaluation", ("fid", run, "--samples", 64, *argv), tmp_path)

    missing = tmp_path / "none.pt"
    words = (missing, "inception-2015-12-05.pt", "python -m evaluation weights clean", "--weights", "inception.clean")
    refused(fid("--protocol", "clean", "--weights", missing), *words)
    refused(fid("--weights", missing), "--weights", missing, "factor-net is shipped")
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"PK\x03\x04")
    refused(fid("--protocol", "clean", "--weights", broken), broken, "is not the TorchScript Inception")
    named = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({}, named)
    refused(fid("--protocol", "legacy_pytorch", "--weights", named), named, "its name says 6726825d", "damaged")


def test_a_generator_that_has_diverged_or_collapsed_is_named(copy: Path, tmp_path: Path) -> None:
    nan = processes.start(_broken, (str(copy), float("nan")), tmp_path)
    refused(nan, "images that are not finite", "diverged")
    assert not (copy / "evaluation" / "fid.jsonl").exists()
    same = finish(processes.start(_broken, (str(copy), 0.0), tmp_path))
    assert "all gan images are the same" in same.err
    assert "collapsed" in same.err


def _broken(run: str, value: float) -> None:
    from evaluation.inputs import images

    real = images.generate

    def generate(network: Any, s: Any, c: Any) -> Any:
        return real(lambda z: torch.full((len(z), 1, 64, 64), value), s, c)

    images.generate = generate
    processes.module("evaluation", ["fid", run, "--samples", "66", "--device", "cpu"])  # features of a block of 2 round


def test_few_images_on_either_side_are_warned_about(copy: Path, sprites: Path, tmp_path: Path) -> None:
    words = "warning: 100 images are no more than the 128 features: the number means little"
    assert evaluate(tmp_path, "fid", copy, "--samples", 100).err.count(words) == 1
    running = evaluate(tmp_path, "reference", sprites, "--samples", 100)
    assert words in running.err
    argv = ("fid", copy, "--samples", 200, "--reference", answer(running)["file"])
    assert words in evaluate(tmp_path, *argv).err
