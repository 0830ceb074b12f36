"""What an export's first images measure: recorded once, and found again, or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from evaluation.exports import check
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.evaluating import answer, evaluate, refused
from tests.support.training import finish
from trainer.export import exported_model, model_card


@pytest.fixture(scope="module")
def exported(systems: dict[str, Path], sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of an ID-GAN, with what its images measure."""
    out = tmp_path_factory.mktemp("exported") / "out"
    finish(processes.command("trainer", ["export", systems["idgan"], out], out.parent / "logs"))
    evaluate(out.parent, "check", out, "--record", "--data", sprites)
    return out


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def record_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "check.json").read_bytes())
    return content


def test_its_figures_are_found_again_and_stand_on_its_card(exported: Path, tmp_path: Path) -> None:
    assert answer(evaluate(tmp_path, "check", exported))["holds"] is True
    fid = answer(evaluate(tmp_path, "fid", exported, "--samples", 256, "--of", "gan,vae"))["kinds"]
    recorded = record_of(exported)["kinds"]
    for kind in ("gan", "vae"):  # the command fid has the same images, statistics and features
        assert recorded[kind]["fid"] == pytest.approx(fid[kind]["fid"], rel=1e-3)
        assert recorded[kind]["fidelity"] == pytest.approx(fid[kind]["fidelity"])
    card = (exported / "README.md").read_text()
    assert f"| the generator | FID | {recorded['gan']['fid']:.3f} |" in card
    again = model_card.with_check(card, "out", record_of(exported))
    assert again == card


def test_other_weights_are_found_out(copy: Path, tmp_path: Path) -> None:
    """Also where their hashes agree, as those of a file that was written anew."""
    from safetensors.torch import load_file, save_file

    path = copy / "generator.safetensors"
    tensors = load_file(path)
    save_file({name: tensor + 0.05 for name, tensor in tensors.items()}, path)
    metadata = json.loads((copy / "export.json").read_bytes())
    refused(evaluate(tmp_path, "check", copy, code=2), "generator.safetensors: is missing or damaged (its sha256")
    del metadata["origin"]["files"]
    (copy / "export.json").write_text(json.dumps(metadata))
    running = evaluate(tmp_path, "check", copy, code=2)
    assert "figures are not those recorded" in running.err
    assert "Traceback" not in running.err


def test_another_set_is_not_recorded(copy: Path, tmp_path: Path) -> None:
    before = (copy / "check.json").read_bytes()
    others = make_dsprites(tmp_path / "others", count=96)
    refused(
        evaluate(tmp_path, "check", copy, "--record", "--data", others, code=2), "others: is not the set that", "data:"
    )
    refused(evaluate(tmp_path, "check", copy, "--data", others, code=2), "--data: a check needs no data")
    assert (copy / "check.json").read_bytes() == before


def test_damaged_records_are_named_with_a_remedy(copy: Path, tmp_path: Path) -> None:
    (copy / "reference.safetensors").write_bytes(b"\0" * 100)
    refused(evaluate(tmp_path, "check", copy, code=2), "reference.safetensors: is missing or damaged (its sha256")
    (copy / "check.json").write_text("{}")
    refused(evaluate(tmp_path, "check", copy, code=2), "check.json: is missing or damaged")
    (copy / "check.json").unlink()
    refused(evaluate(tmp_path, "check", copy, code=2), "check.json: is missing", "--record")
    refused(evaluate(tmp_path, "check", tmp_path, code=2), "is no export")


@pytest.mark.parametrize("missing", ["extractor", "images", "kinds", "reference_sha256", "fid", "readings"])
def test_a_record_without_what_is_compared_is_damaged(missing: str, tmp_path: Path) -> None:
    figures = {"fid": 2.0, "readings": {"x": [[0.5, 0.1]]}}
    record = {"images": 256, "extractor": "a", "reference_sha256": "b", "kinds": {"gan": figures}}
    for part in (record, figures):
        part.pop(missing, None)
    (tmp_path / "check.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"check.json: is missing or damaged \('{missing}'\); export the run again"):
        check.read(tmp_path)


@pytest.mark.parametrize("content", [[], None, {"images": 2, "extractor": "a", "reference_sha256": "b", "kinds": []}])
def test_a_record_of_another_form_is_damaged(content: object, tmp_path: Path) -> None:
    (tmp_path / "check.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"check.json: is missing or damaged"):
        check.read(tmp_path)


def test_what_each_figure_may_differ_by() -> None:
    """FID by 5 %, a share and a mean by three standard errors, R^2 by those of a squared correlation."""
    generator = torch.Generator().manual_seed(0)
    readings = torch.rand(check.IMAGES, 1, generator=generator)
    [[mean, error]] = check._mean_and_error(readings)
    assert error == pytest.approx(float(readings.std() / 16))
    figures = {"fid": 2.0, "fidelity": 0.5, "readings": {"x": [[mean, error]]}, "follows": {"x": 0.81}}
    recorded: dict[str, Any] = {"images": 256, "extractor": "a", "kinds": {"gan": figures}}
    found = {d.figure: d for d in check.differences(recorded, recorded)}
    assert [d.holds for d in found.values()] == [True] * 4
    allowed = {name: d.allowed for name, d in found.items()}
    assert allowed["FID"] == pytest.approx(0.1)
    assert allowed["faithful sprites"] == pytest.approx(3 * 0.5 / 16, abs=2e-3)
    assert allowed["mean of x"] == pytest.approx(3 * error, abs=2e-3)
    pairs = torch.randn(2000, check.IMAGES, 2, generator=generator)
    a, b = pairs[..., 0], 0.9 * pairs[..., 0] + 0.19**0.5 * pairs[..., 1]
    centred_a, centred_b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    correlations = (centred_a * centred_b).sum(1) ** 2 / centred_a.square().sum(1) / centred_b.square().sum(1)
    assert allowed["R2 of x to decodings"] == pytest.approx(3 * float(correlations.std()), rel=0.1, abs=0.012)
    for name, value in (("fid", 2.11), ("fid", 1.89), ("fidelity", 0.6)):
        other = {**recorded, "kinds": {"gan": {**figures, name: value}}}
        assert [d.holds for d in check.differences(recorded, other)].count(False) == 1


def test_the_images_are_those_that_the_model_samples(exported: Path) -> None:
    model = exported_model.load(exported)
    from evaluation.inputs.target import of_export

    target = of_export(exported, model, torch.device("cpu"))
    made = check._images(target, "gan")
    assert len(made) == check.IMAGES
    whole = (model.sample(8, check.SEED) * 255).round().to(torch.uint8)
    assert (made[:8].int() - whole.int()).abs().max() <= 1
