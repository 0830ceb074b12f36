"""An export of stage 1, what stage 2 takes of an export, and what evaluation says of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import trainer
from common import shipped
from common.errors import UserError
from data_shards.format import manifest
from evaluation.inputs.run import open_run
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.evaluating import answer, quickly, refused, unmeasured
from tests.support.training import differences, finish, newest, train, train_system
from trainer.checkpoints import published
from trainer.encoders import frozen
from trainer.export import run_parts


def export(run: Path, out: Path, *more: str) -> processes.Running:
    return processes.command("trainer", ["export", run, out, *more], out.parent / "logs")


@pytest.fixture(scope="module")
def exported(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a beta-VAE."""
    out = tmp_path_factory.mktemp("exported") / "out"
    finish(export(vae, out))
    return out


def test_it_encodes_decodes_and_samples(exported: Path, vae: Path) -> None:
    model, run = trainer.load(exported), open_run(vae)
    assert (model.metadata.network, model.metadata.codes, model.metadata.resolution) == (None, "posterior", 64)
    assert model.generator is None
    assert run.vae is not None
    c = torch.randn(3, run.c_dim)
    assert torch.equal(model.decode(c), run.vae.decode(c))
    images = run.data.at(torch.arange(run.data.main.count), run.data.seed).float() / 255
    mean, logvar = run.vae.encoder(images)
    torch.testing.assert_close(model.encode(images), (mean, logvar), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.bank, (mean, logvar), rtol=1e-4, atol=1e-5)
    assert torch.equal(model.sample(4, seed=2), run.vae.decode(model.codes(4, seed=2)))
    assert model.nuisance(4).shape == (4, 0)


def test_stage_2_takes_it_as_it_takes_the_run(exported: Path, vae: Path, sprites: Path, tmp_path: Path) -> None:
    """So it does the export of a GAN on the same VAE, and that of an encoder of one's own."""
    finish(train("gan", sprites, tmp_path / "of_run", 2, vae=vae))
    finish(export(tmp_path / "of_run", tmp_path / "of_gan"))
    for taken in (exported, tmp_path / "of_gan"):
        run = tmp_path / f"on_{taken.name}"
        finish(train("gan", sprites, run, 2, vae=taken))
        assert not differences(newest(tmp_path / "of_run"), newest(run))
        step = published.newest(run)
        assert step is not None
        assert published.read_manifest(step)["facts"]["vae"] == open_run(tmp_path / "of_run").inputs["vae"]


def test_an_export_without_such_an_encoder_is_refused(exported: Path, sprites: Path, tmp_path: Path) -> None:
    for system, words in (("gan", "the export of a GAN which has no code"), ("infogan", "learnt with its generator")):
        finish(train_system(system, sprites, tmp_path / system, 2))
        finish(export(tmp_path / system, tmp_path / f"{system}-out"))
        running = finish(train("gan", sprites, tmp_path / "run", 2, vae=tmp_path / f"{system}-out"), 2)
        assert words in running.err
        assert "python -m trainer vae" in running.err
    running = finish(train("gan", sprites, tmp_path / "run", 2, vae=exported, c_dim=3), 2)
    assert "c_dim: the config has 3, the encoder of" in running.err
    damaged = tmp_path / "damaged"
    shutil.copytree(exported, damaged)
    (damaged / "export.json").write_text("{")
    running = finish(train("gan", sprites, tmp_path / "run", 2, vae=damaged), 2)
    assert "export.json: is missing or damaged" in running.err


def test_the_bank_of_a_large_set_is_a_part_chosen_by_position(vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_run(vae).data
    assert run_parts.bank_images(data).tolist() == list(range(data.main.count))
    monkeypatch.setattr(run_parts, "BANK_IMAGES", 20)
    chosen = run_parts.bank_images(data).tolist()
    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen) == run_parts.bank_images(data).tolist()
    assert chosen != list(range(20))


def test_every_command_measures_an_export_as_its_run(vae: Path, sprites: Path, tmp_path: Path) -> None:
    """With the data elsewhere than at training. Takes more than ten seconds: ten commands."""
    moved, run, out = tmp_path / "moved", tmp_path / "run", tmp_path / "out"
    shutil.copytree(sprites, moved)
    finish(train("gan", sprites, run, 2, vae=vae, s_dim=3))
    finish(export(run, out))
    config = out / "config.yaml"
    config.write_text(config.read_text().replace(str(sprites), "data/gone"))
    for command, key in (
        ("alignment", "kinds"),
        ("latents", "share_of_range"),
        ("control", "factors"),
        ("disentanglement", "mig"),
    ):
        more = ("--samples", 48) if command == "alignment" else ()
        more = ("--protocol", "short") if command == "disentanglement" else more
        of_run = answer(finish(quickly(tmp_path, command, run, *more)))
        of_export = answer(finish(quickly(tmp_path, command, out, "--data", moved, *more)))
        assert of_export[key] == of_run[key], command
        assert (of_export["system"], of_export["images_seen"]) == (of_run["system"], of_run["images_seen"])
    finish(quickly(tmp_path, "figures", out, "--data", moved))
    page = Path(answer(finish(quickly(tmp_path, "report", out, "--data", moved)))["page"]).read_text()
    assert "alignment" in page
    refused(
        quickly(tmp_path, "alignment", out, "--samples", 48),
        "data/gone: the set that it was trained on is not here",
        "--data",
    )
    refused(quickly(tmp_path, "alignment", out, "--step", "2"), "which holds one generator; leave --step out")
    config.unlink()
    refused(quickly(tmp_path, "alignment", out, "--data", moved), "has no config.yaml; export the run again")


def test_a_vaes_export_is_measured(exported: Path, vae: Path, sprites: Path, tmp_path: Path) -> None:
    made = quickly(tmp_path, "reference", sprites, "--samples", 24, "--out", tmp_path / "reals")
    reference = answer(finish(made))["file"]
    fid = answer(finish(quickly(tmp_path, "fid", exported, "--samples", 24, "--reference", reference)))
    assert [kind for kind, numbers in fid["kinds"].items() if isinstance(numbers, dict)] == ["vae"]
    short, run = ("--protocol", "short"), unmeasured(vae, tmp_path / "vae")
    of_run, of_export = (
        answer(finish(quickly(tmp_path, "disentanglement", which, *short))) for which in (run, exported)
    )
    assert of_export["mig"] == of_run["mig"]
    assert of_export["encoder_sha256"] == of_run["encoder_sha256"]


def test_the_card_has_commands_cost_and_what_was_measured(vae: Path, sprites: Path, tmp_path: Path) -> None:
    """Of this checkpoint and this average, nothing else; every figure is a record's."""
    run, out = unmeasured(vae, tmp_path / "run"), tmp_path / "out"
    finish(export(run, tmp_path / "bare"))
    assert "Nothing has been measured of this checkpoint." in (tmp_path / "bare" / "README.md").read_text()
    score = answer(finish(quickly(tmp_path, "disentanglement", run, "--protocol", "short")))["mig"]["score"]
    other = json.loads((run / "evaluation/disentanglement.jsonl").read_text())
    with open(run / "evaluation/disentanglement.jsonl", "a") as stream:
        stream.write(json.dumps(other | {"step": "step-7", "mig": {"protocol": "dlib", "score": 0.77777}}) + "\n")
    finish(train("gan", sprites, tmp_path / "gan", 2, vae=run, s_dim=3))
    fid = answer(finish(quickly(tmp_path, "fid", tmp_path / "gan", "--samples", 24, "--of", "reals,gan,vae")))
    alignment = answer(finish(quickly(tmp_path, "alignment", tmp_path / "gan", "--samples", 48)))
    finish(export(run, out))
    card = (out / "README.md").read_text()
    assert card.partition("---\n\n")[2].startswith("# out\n\nbeta-VAE on dsprites: 64 px; code c of 10 dimensions.")
    assert f"| MIG | dlib | {score:.3f} |" in card
    assert "0.778" not in card
    assert "python -m trainer vae configs/dsprites/beta_vae.yaml" in card
    assert f"python -m data_shards make dsprites --out {sprites}" in card
    assert "hours" in card
    finish(export(tmp_path / "gan", tmp_path / "of_gan"))
    card = (tmp_path / "of_gan" / "README.md").read_text()
    assert card.index("trainer vae") < card.index("trainer gan"), "the commands of both stages"
    for kind, name in (("gan", "the generator"), ("vae", "decodings of its VAE")):
        assert f"| {name} | {fid['kinds'][kind]['fid']:.3f} |" in card
    assert f"network {fid['extractor'][:12]}" in card
    scores = alignment["kinds"]
    assert f"| R^2 of x | {scores['reals']['x']:.3f} | {scores['vae']['x']:.3f} | {scores['gan']['x']:.3f} |" in card
    assert f"| accuracy of shape | {scores['reals']['accuracy']['shape']:.3f} |" in card


def test_the_card_says_what_the_code_holds_where_a_record_does(vae: Path, tmp_path: Path) -> None:
    run = unmeasured(vae, tmp_path / "run")
    held = answer(finish(quickly(tmp_path, "latents", run)))["means_r2"]
    finish(export(run, tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## What the code holds" in card
    assert all(f"| {name} | {share:.3f} |" in card for name, share in held.items())
    older = json.loads((run / "evaluation/latents.jsonl").read_text())
    del older["means_r2"]
    (run / "evaluation/latents.jsonl").write_text(json.dumps(older) + "\n")
    finish(export(run, tmp_path / "of_older"))
    assert "What the code holds" not in (tmp_path / "of_older" / "README.md").read_text()


def test_the_commands_of_a_shipped_encoder_are_found_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("pretrained/dsprites-beta_vae")
    metadata = json.loads((shipped.ROOT / name / "export.json").read_bytes())
    assert len(metadata["origin"]["commands"]) > 1
    assert run_parts._commands_of(name) == metadata["origin"]["commands"]


def test_a_damaged_encoder_is_named(exported: Path, sprites: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "out")
    path = tmp_path / "out" / "encoder.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])  # a weight that is another number is a weight all the same
    for content, words in ((whole[:1000], "its sha256 is not"), (flipped, "its sha256 is not"), (None, "No such file")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(UserError, match=rf"encoder.safetensors: is missing or damaged .*{words}.*export the run"):
            trainer.load(tmp_path / "out")
        if content is not None:
            running = train("gan", sprites, tmp_path / "run", 2, vae=tmp_path / "out")
            refused(running, path, "is missing or damaged", words)


@pytest.mark.parametrize("place", ["elsewhere", "."])
def test_a_shipped_file_says_how_to_restore_it(
    place: str, monkeypatch: pytest.MonkeyPatch, exported: Path, tmp_path: Path
) -> None:
    """In any folder: what was shipped is found by its name, as it stands in the clone's own folder."""
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    shutil.copytree(exported, tmp_path / "pretrained" / "some")
    (tmp_path / place).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    name = Path("pretrained/some")
    assert trainer.load(name).metadata == trainer.load(exported).metadata
    seen = (tmp_path if place != "." else Path()) / name
    for file, read in (("bank.safetensors", trainer.load), ("export.json", frozen.load)):
        path = tmp_path / name / file
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(UserError, match=rf"{seen / file}: .*; restore it with `git checkout -- {seen / file}`, or"):
            read(name)


def test_an_export_of_0_2_0_has_no_hashes(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "out")
    metadata = json.loads((tmp_path / "out/export.json").read_text())
    assert set(metadata["origin"].pop("files")) == {"encoder.safetensors", "bank.safetensors"}
    (tmp_path / "out/export.json").write_text(json.dumps(metadata))
    assert trainer.load(tmp_path / "out").metadata.c_dim == 10
    assert json.loads((exported / "export.json").read_text())["origin"]["system"] == "beta-VAE"


def test_an_export_is_measured_on_another_set_that_is_drawn_alike(exported: Path, tmp_path: Path) -> None:
    """A warning says so. Sprites that were drawn larger and shrunk are refused."""
    others = make_dsprites(tmp_path / "others", count=96)
    shrunk = make_dsprites(tmp_path / "shrunk", count=96, resolutions="128,64")
    measured = finish(quickly(tmp_path, "alignment", exported, "--data", others, "--samples", 48))
    assert "others is another set than the one that" in measured.err
    assert answer(measured)["data"] == manifest.load(others).hash
    refused(quickly(tmp_path, "alignment", exported, "--data", shrunk, "--samples", 48), "data: was")
