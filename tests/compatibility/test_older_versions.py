"""What earlier versions wrote goes on, is measured and exported, and loads.

fixtures/v0.1/ was written by the code of v0.1 (make_fixtures.sh there says how): data, runs that were interrupted, and
in after/ what that code itself went on to. Nothing there is ever made again: it stands for what users have on disk.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import load, load_file
from torch import Tensor

import trainer
from data_shards.read.loader import open_dataset
from tests.support import processes
from tests.support.evaluating import answer, quickly
from tests.support.training import TIMING, differences, finish, newest, tensors

FIXTURES = Path(__file__).parent / "fixtures" / "v0.1"
STAGES = {"vae": "vae", "factor_vae": "vae", "idgan": "gan", "gan": "gan"}
"""By the name of a run, the trainer's command for it."""
MIDWAY = {"vae": 64, "factor_vae": 48, "idgan": 96, "gan": 40}
"""Images seen where it was interrupted."""
LAST = {"vae": 120, "factor_vae": 96, "idgan": 160, "gan": 64}
"""And where it is complete. ID-GAN's fade into 64 px ends between the two."""
TOLERANCE = 1e-9  # of float64, relative to the largest number of a tensor
FLOAT32 = 1e-5

# ---- The names of settings ----
RENAMED = {
    "growth.stage_kimg": "growth.phase_kimg",
    "growth.stage_kimg_at": "growth.phase_kimg_at",
    "beta.course": "beta.schedule",
    "optimizer.lr_course": "optimizer.lr_schedule",
    "optimizer_critic.lr_course": "optimizer_critic.lr_schedule",
    "optimizer_g.lr_course": "optimizer_g.lr_schedule",
    "optimizer_d.lr_course": "optimizer_d.lr_schedule",
    "optimizer_q.lr_course": "optimizer_q.lr_schedule",
}
"""Names of v0.1, and those of later. In a run folder of v0.1 the old ones go on to be read, elsewhere they are not."""


class Meaning(NamedTuple):
    """means: what runs without the key did; other: another valid value, which a resume refuses; None: it may change."""

    means: object
    other: object | None


# A setting that v0.1 did not have: its run folders mean what was done before it existed, whatever its default is today.
# A change that adds a setting adds it here, by the command that has it.
ADDED_KEYS: dict[str, dict[str, Meaning]] = {
    "vae": {},
    "gan": {},
}
# A setting that v0.1 had, which is tested alike: so that the test is one while ADDED_KEYS is empty.
HAD_KEYS = {"vae": {"likelihood": Meaning("bernoulli", "gaussian")}, "gan": {}}
SHORT = {"vae": "vae", "gan": "gan"}  # a run of each command


def today(values: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of v0.1, nested or flat, under their present names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        new = RENAMED.get(path, path)[len(prefix) :]
        found[new] = today(value, f"{path}.") if isinstance(value, dict) else value
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {key.path: value}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        deeper = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{name}.") if deeper else {f"{prefix}{name}": value}
    return found


# ---- Copies of what v0.1 wrote ----


def content(path: Path) -> bytes:
    """Of a file of the fixtures, where the larger ones lie compressed."""
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()


def unpack(place: Path, *parts: str) -> Path:
    """Copy folders of the fixtures; `place`."""
    for part in parts:
        for path in (p for p in (FIXTURES / part).rglob("*") if p.is_file()):
            name = path.relative_to(FIXTURES)
            name = name.with_suffix("") if name.suffix == ".gz" else name
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content(FIXTURES / name))
    return place


def unpack_run(place: Path, name: str) -> Path:
    """A run with all that its settings name; `place`, in which its commands run."""
    return unpack(place, "data", "settings", f"runs/{name}", *(["runs/vae"] if name == "idgan" else []))


def command(place: Path, name: str, *argv: object, code: int = 0) -> processes.Running:
    """`python -m NAME ARGV` in a folder, ended with this exit code: old settings name their paths relative to it."""
    args = (str(place), name, [str(a) for a in argv])
    return finish(processes.start(processes.module_in, args, place / "logs"), code)


def at(place: Path, name: str) -> Path:
    """The checkpoint that v0.1 left."""
    return place / "runs" / name / "checkpoints" / f"step-{MIDWAY[name]:012d}"


def read_manifest(step: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((step / "manifest.json").read_text())
    return found


def made_with(name: str) -> dict[str, Any]:
    """How the old code went on, and on what."""
    found: dict[str, Any] = json.loads(content(FIXTURES / "after" / f"{name}.json"))
    return found


def went_on_to(name: str) -> dict[str, Tensor]:
    """All tensors of the old code's last checkpoint."""
    return load(content(FIXTURES / "after" / f"{name}.safetensors"))


Resume = Callable[[str], Path]


@pytest.fixture(scope="module")
def resume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resume]:
    """Run a run of v0.1 to its end, once for all tests, by its own config.yaml, whatever names stand there."""
    places: dict[str, Path] = {}  # FactorVAE's critic has 100 MB in each checkpoint, nearly all of it zero

    def resumed(name: str) -> Path:
        if name not in places:
            place = unpack_run(tmp_path_factory.mktemp(name), name)
            told = command(place, "trainer", STAGES[name], f"runs/{name}/config.yaml").err
            assert f"resuming runs/{name} at {MIDWAY[name]} images" in told
            places[name] = place
        return places[name]

    yield resumed
    for place in places.values():
        shutil.rmtree(place)


# ---- Runs go on ----


def apart(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = TOLERANCE) -> list[str]:
    """Names of the tensors that differ by more than a share of their largest number."""
    assert a.keys() == b.keys()
    assert {name: (t.dtype, t.shape) for name, t in a.items()} == {name: (t.dtype, t.shape) for name, t in b.items()}
    return [n for n in a if not float((a[n] - b[n]).abs().max()) <= tolerance * float(b[n].abs().max())]


@pytest.mark.parametrize("name", STAGES)
def test_a_run_goes_on_to_the_numbers_of_before(name: str, resume: Resume) -> None:
    """Networks, averages, states of the optimizers, the bottleneck's beta and the clock, by their old names."""
    found = newest(resume(name) / "runs" / name)
    assert not apart(found, went_on_to(name))
    assert int(found["images_seen"]) == LAST[name]


@pytest.mark.parametrize("name", STAGES)
def test_and_bit_for_bit_where_all_is_as_it_was(name: str, resume: Resume) -> None:
    run, made = resume(name) / "runs" / name, made_with(name)
    here = read_manifest(run / "checkpoints" / f"step-{LAST[name]:012d}")
    here |= {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    of = ("hardware", "cpu_capability", "threads")
    differs = [f"{n} {made[n]}, here {here[n]}" for n in of if made[n] != here[n]]
    differs += [f"{n} {made['versions'][n]}" for n in ("torch", "numpy") if made["versions"][n] != here["versions"][n]]
    if differs:
        pytest.skip(f"the fixtures were made with {'; '.join(differs)}")
    assert not differences(newest(run), went_on_to(name))


@pytest.mark.parametrize("name", STAGES)
def test_the_ticks_of_before_and_of_now_are_one_row(name: str, resume: Resume) -> None:
    lines = (resume(name) / "runs" / name / "stats.jsonl").read_text().splitlines()
    found = [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]
    wanted = made_with(name)["ticks"]
    assert len(found) == len(wanted) >= 3
    for a, b in zip(found, wanted, strict=True):
        assert a == pytest.approx(b, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("name", STAGES)
def test_every_part_of_a_run_moved_on_the_way(name: str, resume: Resume) -> None:
    """Of what v0.1 itself went on to: so that a resume which loads nothing, or does nothing, is seen."""
    before, after = tensors(at(resume(name), name)), went_on_to(name)
    moved = {part_of(key) for key in apart(before, after)}
    assert moved >= {part_of(key) for key in after if not key.startswith("stats.")}
    assert before["images_seen"] < after["images_seen"]


def part_of(key: str) -> str:
    """A network, one of its averages, or one kind of an optimizer's states; of a plain tensor, its name."""
    words = {"optimizer": 3, "ema": 2}.get(key.partition(".")[0], 1)
    return ".".join(key.replace("_0.", "_0,").split(".")[:words])  # an average's name has a point: sigma_rel_0.1


def test_a_change_of_one_number_would_be_seen() -> None:
    for name, tensor in went_on_to("gan").items():
        other = tensor.clone().flatten()
        other[-1] += 1 if tensor.dtype == torch.int64 else float(tensor.abs().max()) * 1e-6 + 1e-12
        assert apart({name: other.view_as(tensor)}, {name: tensor}) == [name]


@pytest.mark.parametrize("name", STAGES)
def test_the_new_checkpoint_says_the_settings_of_the_old_one(name: str, resume: Resume) -> None:
    """Under their present names; a setting that v0.1 did not have, as v0.1 behaved (see ADDED_KEYS).

    It fails where a setting is added, or renamed, without a word on what it means for the runs that users have.
    """
    place, added = resume(name), ADDED_KEYS[STAGES[name]]
    old = read_manifest(at(place, name))
    new = read_manifest(at(place, name).with_name(f"step-{LAST[name]:012d}"))
    assert new["config"] == today(old["config"]) | {k: m.means for k, m in added.items() if m.other is not None}
    assert new["facts"] == old["facts"]
    before, now = (yaml.safe_load((p / f"runs/{name}/config.yaml").read_text()) for p in (FIXTURES, place))
    assert flat(now) == flat(today(before)) | {k: m.means for k, m in added.items()}


def again(place: Path, name: str, config: str, *overrides: str, code: int = 0) -> str:
    """The command for a run that is asked to go no further than it is; what it tells."""
    argv = (STAGES[name], config, f"schedule.total_kimg={MIDWAY[name] / 1000}", *overrides)
    return command(place, "trainer", *argv, code=code).err


@pytest.mark.parametrize("name", ["vae", "idgan"])
def test_a_users_own_file_in_the_names_of_today_goes_on_too(name: str, tmp_path: Path) -> None:
    place = unpack_run(tmp_path, name)
    values = yaml.safe_load((place / f"settings/{name}.yaml").read_text())
    (place / "mine.yaml").write_text(yaml.safe_dump(today(values), sort_keys=False))
    assert f"runs/{name} is complete: {MIDWAY[name]} images" in again(place, name, "mine.yaml")


@pytest.mark.parametrize("name", ["vae", "idgan"])
def test_a_run_that_went_on_holds_checkpoints_of_either_version(name: str, resume: Resume) -> None:
    """And its config.yaml, written anew, is found to fit both."""
    place, argv = resume(name), ("trainer", STAGES[name], f"runs/{name}/config.yaml")
    assert f"is complete: {LAST[name]} images" in command(place, *argv).err
    listed = command(place, "trainer", "checkpoints", f"runs/{name}").out
    for clock in (MIDWAY[name], LAST[name]):
        assert f"step-{clock:012d}" in listed
    assert listed.count(" valid") == 2
    assert "not usable" not in listed


KEYS = [(stage, key) for table in (HAD_KEYS, ADDED_KEYS) for stage, of in table.items() for key in of]


@pytest.mark.parametrize(("stage", "key"), KEYS)
def test_what_a_run_of_v0_1_means_may_be_said_and_nothing_else(stage: str, key: str, tmp_path: Path) -> None:
    """By an override of its own config.yaml, where an added key does not stand."""
    name, meaning = SHORT[stage], (HAD_KEYS[stage] | ADDED_KEYS[stage])[key]
    place, config = unpack_run(tmp_path, name), f"runs/{name}/config.yaml"
    again(place, name, config, f"{key}={json.dumps(meaning.means)}")
    if meaning.other is None:
        return
    (place / config).write_bytes((FIXTURES / config).read_bytes())  # the start before wrote all keys into it
    told = again(place, name, config, f"{key}={json.dumps(meaning.other)}", code=2)
    assert f"{key}: was {json.dumps(meaning.means)}, now {json.dumps(meaning.other)}" in told


@pytest.mark.parametrize("name", ["vae", "factor_vae", "idgan"])
def test_a_users_own_file_in_old_names_is_refused_with_the_new_ones(name: str, tmp_path: Path) -> None:
    """Only a run folder's config.yaml may have them: nobody wrote it by hand."""
    place = unpack(tmp_path, "settings")
    values = yaml.safe_load((place / f"settings/{name}.yaml").read_text())
    used = [key for key in RENAMED if key in nested(values)]
    assert len(used) >= 2
    told = again(place, name, f"settings/{name}.yaml", code=2)
    for key in used:
        assert key in told
        assert RENAMED[key] in told
    assert "Traceback" not in told


def nested(values: dict[Any, Any], prefix: str = "") -> set[str]:
    """Every key.path of nested settings, of groups too."""
    found = {f"{prefix}{name}" for name in values}
    for name, value in values.items():
        found |= nested(value, f"{prefix}{name}.") if isinstance(value, dict) else set()
    return found


@pytest.mark.parametrize("config", ["settings/gan.yaml", "runs/gan/config.yaml"])
def test_an_override_in_an_old_name_is_refused_with_the_new_one(config: str, tmp_path: Path) -> None:
    """Even on top of a config.yaml that may have it."""
    keys = [key for key in RENAMED if key.startswith(("growth.", "optimizer_g.", "optimizer_d."))]
    values = {"stage_kimg": "1", "stage_kimg_at": "{64: 1}", "lr_course": "[]"}
    overrides = [f"{key}={values[key.rpartition('.')[2]]}" for key in keys]
    told = again(unpack_run(tmp_path, "gan"), "gan", config, *overrides, code=2)
    for key in keys:
        assert key in told
        assert RENAMED[key] in told


# ---- Data ----


def test_shards_are_sound_and_hold_the_same_pixels(tmp_path: Path) -> None:
    place = unpack(tmp_path, "data")
    command(place, "data_shards", "check", "data", "--workers", 1)
    told = command(place, "data_shards", "info", "data", "--json").out
    assert json.loads(told) == json.loads(content(FIXTURES / "after/info.json"))
    for level, hashes in json.loads(content(FIXTURES / "after/pixels.json")).items():
        images = open_dataset(place / "data", int(level)).read_samples(torch.arange(64).numpy())
        assert images.shape == (64, 1, int(level), int(level))
        assert [sha256(image.numpy().tobytes()).hexdigest() for image in images] == hashes


def members(path: Path) -> dict[str, bytes]:
    """The arrays of an index as they lie in the file. How they are packed depends on the version of Python."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_a_set_indexed_anew_has_the_arrays_of_its_index(tmp_path: Path) -> None:
    """In the same order in memory too: a set's hash, which runs remember, covers the file."""
    place = unpack(tmp_path, "data")
    paths = [place / f"data/{level}/index.npz" for level in (64, 128)]
    before = [members(path) for path in paths]
    for path in paths:
        path.unlink()
    command(place, "data_shards", "index", "data")
    assert [members(path) for path in paths] == before


# ---- Evaluation ----


def record(name: str, kind: str) -> dict[str, Any]:
    """What v0.1 measured."""
    found: dict[str, Any] = json.loads(content(FIXTURES / "runs" / name / "evaluation" / f"{kind}.jsonl"))
    return found


def test_fid_is_what_it_was_and_its_record_stands_beside_the_old_one(tmp_path: Path) -> None:
    place, old = unpack_run(tmp_path, "idgan"), record("idgan", "fid")
    new = answer(command(place, "evaluation", "fid", "runs/idgan", "--samples", 32, "--of", "gan,vae"))
    for kind in ("gan", "vae"):
        assert new["kinds"][kind]["fid"] == pytest.approx(old["kinds"][kind]["fid"], rel=1e-3)
    same = ("weights_sha256", "images_seen", "step", "alpha", "ema", "system", "data", "codes")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    lines = (place / "runs/idgan/evaluation/fid.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [old, new]
    assert len(list((place / "data/references").iterdir())) == 1, "the statistics of reals were there already"
    rows = (place / "runs/idgan/evaluation/trajectory.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 + 2


def test_the_page_of_a_run_shows_what_v0_1_measured(tmp_path: Path) -> None:
    place = unpack_run(tmp_path, "idgan")
    page = Path(str(answer(command(place, "evaluation", "report", "runs/idgan"))["page"]))
    text = (place / page).read_text()
    for kind in ("reals", "gan", "vae"):
        assert f"{record('idgan', 'fid')['kinds'][kind]['fid']:.3g}" in text
    for row in record("idgan", "latents")["share_of_range"]:
        for share in row:
            assert f"{share:.0%}" in text
    for word in ("step-000000000096", "AMD EPYC", "trainer gan settings/idgan.yaml", "evaluation fid runs/idgan"):
        assert word in text


def test_metrics_of_an_encoder(tmp_path: Path) -> None:
    place = unpack(tmp_path, "data", "runs/vae")
    found = answer(finish(quickly(place / "logs", "disentanglement", "runs/vae", "--protocol", "short", place=place)))
    assert found["encoder"] == "the beta-VAE of this run"
    assert found["step"] == f"step-{MIDWAY['vae']:012d}"


def ema(place: Path, *argv: object) -> dict[str, Any]:
    return answer(command(place, "evaluation", "ema", "runs/gan", "--sigma-rel", 0.07, *argv))


def test_snapshots_of_averages_make_the_average_that_they_made(tmp_path: Path) -> None:
    place, old = unpack_run(tmp_path, "gan"), record("gan", "ema")
    file = "runs/gan/ema/reconstructed/000000000032-sigma_rel_0.07.safetensors"
    kept = load_file(place / file)
    new = ema(place)
    assert (new["file"], new["at"], new["snapshots"]) == (file, 32, 4)
    assert new["residual"] == pytest.approx(old["residual"], rel=1e-9)
    assert not apart(load_file(place / file), kept)


def test_snapshots_of_before_and_after_a_resume_go_together(resume: Resume) -> None:
    """The settings that snapshots are compared by have other names in the two."""
    place = resume("gan")
    names = [f"{n:012d}-sigma_rel_{s}.safetensors" for n in (16, 32, 48, 64) for s in (0.05, 0.1)]
    assert sorted(path.name for path in (place / "runs/gan/ema").glob("*.safetensors")) == names
    assert ema(place)["snapshots"] == 8
    assert ema(place, "--at", 32, "--out", "again.safetensors")["snapshots"] == 4
    kept = place / "runs/gan/ema/reconstructed/000000000032-sigma_rel_0.07.safetensors"
    assert not apart(load_file(place / "again.safetensors"), load_file(kept))


# ---- Exports ----


def test_a_run_is_exported_as_it_was(tmp_path: Path) -> None:
    place = unpack_run(tmp_path, "idgan")
    command(place, "trainer", "export", "runs/idgan", "out")
    old, new = unpack(tmp_path / "old", "exports") / "exports/idgan", place / "out"
    assert {path.name for path in new.iterdir()} == {path.name for path in old.iterdir()}
    for name in ("generator", "encoder"):
        assert not differences(load_file(new / f"{name}.safetensors"), load_file(old / f"{name}.safetensors"))
    assert not apart(load_file(new / "bank.safetensors"), load_file(old / "bank.safetensors"), FLOAT32)
    before, now = (json.loads((folder / "export.json").read_text()) for folder in (old, new))
    for facts in (before, now):
        del facts["origin"]["versions"]
    assert {name: now[name] for name in before} == before


def test_an_average_in_a_file_of_v0_1_is_exported(tmp_path: Path) -> None:
    place = unpack_run(tmp_path, "gan")
    file = "runs/gan/ema/reconstructed/000000000032-sigma_rel_0.07.safetensors"
    command(place, "trainer", "export", "runs/gan", "out", "--ema", file)
    kept = {name: t.float() for name, t in load_file(place / file).items()}
    assert not differences(load_file(place / "out/generator.safetensors"), kept)


def test_an_export_of_v0_1_loads_and_gives_the_same_images(tmp_path: Path) -> None:
    model = trainer.load(unpack(tmp_path, "exports") / "exports/idgan")
    wanted = load(content(FIXTURES / "after/export.safetensors"))
    images = model.sample(2, seed=1)
    mean, logvar = model.encode(images)
    found = {"images": images, "codes": model.codes(8, seed=1), "mean": mean, "logvar": logvar}
    assert not apart(found, wanted, FLOAT32)
    assert float(images.std()) > 0.01
    assert model.decode(model.codes(1)).shape == (1, 3, 64, 64)


def test_an_export_of_v0_1_is_measured_against_its_statistics_of_reals(tmp_path: Path) -> None:
    """Without the run and the data."""
    place = unpack(tmp_path, "exports", "data/references")
    (reference,) = (place / "data/references").iterdir()
    argv = ("fid", "exports/idgan", "--samples", 32, "--reference", reference.relative_to(place))
    found = answer(command(place, "evaluation", *argv))["kinds"]["gan"]["fid"]
    assert found == pytest.approx(record("idgan", "fid")["kinds"]["gan"]["fid"], rel=1e-2)
