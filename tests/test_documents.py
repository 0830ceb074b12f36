"""Every command in README and docs/ runs, the long ones at a tiny setting; every file that they name exists."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import flops
from tests.support import experiments
from tests.support.data_sets import photos
from tests.support.evaluating import small_program
from tests.support.exploring import Server, port_of
from tests.support.training import finish
from trainer.demo import demos
from trainer.demo import run as demo_run

from .support import processes, public_code, replicas
from .support.launchers import launched

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACES = "common|models|data_shards|trainer|evaluation|configs|slurm|benchmarks|tests|docs"
README = (ROOT / "README.md").read_text()
TINY = ["batch_size=16", "schedule.total_kimg=0.032", "schedule.tick_kimg=0.016", "schedule.save_kimg=0.016"]
OF_BENCHMARKS = {
    "benchmarks/step.py": ["--rounds", "1", "--batch", "1"],
    "benchmarks/fid.py": ["--count", "128", "--rounds", "1"],
    "benchmarks/saving.py": ["configs/dsprites/idgan.yaml", "--rounds", "1"],
    "benchmarks/leak_control.py": TINY,
    "benchmarks/startup.py": ["--rounds", "1", "--imports", "0"],
    "benchmarks/sharding.py": ["network.nf_max=128", "resolution=16", "--strategies", "fsdp2"],
}
SPREADS = {"benchmarks/sharding.py"}  # starts processes that train after it has itself: those cannot be forked
SETUP = {". .venv/bin/activate"}
REAL_CONTEXT = multiprocessing.get_context


def commands(page: Path) -> Iterator[str]:
    """The lines of a page's bash blocks, without comments, and its python blocks, each as `python -c CODE`."""
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", page.read_text(), re.DOTALL):
        if language == "python":
            yield shlex.join(["python", "-c", block])
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("  #")[0].strip()
            if line and not line.startswith("#"):
                yield line


def tiny(command: str) -> list[str]:
    """The command's arguments at a size that takes a second."""
    args = shlex.split(command)
    for program, more in OF_BENCHMARKS.items():
        if program in args:
            return [*args, *more]
    for package, sized in (("data_shards", tiny_set), ("trainer", tiny_training), ("evaluation", tiny_evaluation)):
        if package in args:
            return sized(args)
    return args


def tiny_set(args: list[str]) -> list[str]:
    """A set of few images. What its command must have and lacks, or has twice, it lacks or has twice here too."""
    if "make" in args and "dsprites" in args:
        if ("--count" in args) == ("--all" in args):
            return args
        count = "16" if any(a.startswith("1024,") for a in args) else "128"
        return [*without([a for a in args if a != "--all"], "--count"), "--count", count, "--workers", "1"]
    if "make" in args and {"faces", "stacked"} & set(args):
        count = "4" if any(a.startswith("1024,") for a in args) else "64"
        return [*without(args, "--count"), "--count", count, "--workers", "1"]
    return [*args, "--count", "8", "--workers", "1"] if {"shapes3d", "mpi3d", "cars3d"} & set(args) else args


def tiny_training(args: list[str]) -> list[str]:
    """A run of two iterations, a plan or an import of a small network, two images, or an export of a first step."""
    if {"vae", "gan"} & set(args):
        stored = ["ema.snapshot_kimg=0.016"] if any(a.startswith("ema.snapshot_kimg=") for a in args) else []
        thin = (
            ["network.nf=1", "network.nf_max=8"] if any(a.endswith(("/256.yaml", "/1024.yaml")) for a in args) else []
        )
        back = ["--from-step=16"] if "--from-step" in args else []
        return [*without(args, "--from-step"), *TINY, *stored, *thin, *back]
    if "plan" in args:
        return [*args, "resolution=16", "growth=null", "network.nf=4", "checkpointing=null"]
    if "generate" in args:
        return [*without(args, "--seeds"), "--seeds", "0-1"] if "--seeds" in args else args
    if "import" in args:
        return [*args, "network.nf=1", "network.nf_max=8"] if "--vae" in args else args
    return at_first_step(args)


def tiny_evaluation(args: list[str]) -> list[str]:
    """Few samples, of the first step of a tiny run."""
    args = at_first_step(args)
    if "leaks" in args:
        args = [*args, "--iterations", "2"]
    if {"fid", "alignment", "compare", "beside", "reference", "modes", "leaks", "labels"} & set(args):
        return [*without(args, "--samples"), "--samples", "48"]
    if "disentanglement" in args and "--protocol" not in args:
        return [*args, "--protocol", "short"]
    return args


def at_first_step(args: list[str]) -> list[str]:
    """With the first step of a tiny run in the place of a step that a page names."""
    return [*without(args, "--step"), "--step=16"] if "--step" in args else args


def without(args: list[str], option: str) -> list[str]:
    """Arguments without an option and its value."""
    at = args.index(option) if option in args else len(args)
    return args[:at] + args[at + 2 :]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configs, like a fresh clone, folders of photos, and replicas of the published data sets."""
    place = tmp_path_factory.mktemp("workplace")
    for name in ("configs", "benchmarks", "Makefile", "tests", "pyproject.toml"):
        (place / name).symlink_to(ROOT / name)
    public_code.resnet_model(place / "idgan_celeba/chkpts/model.pt", 256, 1, 8, 276)
    public_code.stage_1(place / "dvae_celeba/chkpts/last", public_code.vae(20, 3, 0), 1_000_000)
    photos(place / "PHOTOS", size=(300, 280))
    photos(place / "CIFAR", size=(32, 32))
    replicas.celeba(place / "CELEBA", 2)
    replicas.celeba_hq(place / "CELEBA_HQ", 2)
    replicas.image_list(place / "image_list.txt", [replicas.hq_image(i, 1024) for i in range(2)])
    replicas.chairs(place, 1)
    replicas.cars(place / "CARS", 4)
    for name, array, count in (("3dshapes.h5", "images", 480_000), ("mpi3d_toy.npz", "images", 1_036_800)):
        replicas.black(place / name, array, count)
    replicas.black(place / "cars3d.npz", "imgs", 17_568)
    return place


def execute(place: str, code: str) -> None:
    """What `python -c CODE` does in a folder."""
    os.chdir(place)
    exec(code, {"__name__": "__main__"})


def script(place: str, path: str, argv: list[str]) -> None:
    """What `python PATH ARGV` does in a folder. Its networks are thin, and its own processes are forked as well."""
    os.chdir(place)
    sys.argv = [path, *argv]
    full = flops.Size
    flops.Size = lambda resolution, nf, nf_max, *rest: full(resolution, 4, 16, *rest)  # type: ignore[assignment, misc]
    multiprocessing.get_context = lambda method: REAL_CONTEXT("fork")  # type: ignore[assignment]
    runpy.run_path(path, run_name="__main__")


def serve_in(place: Path, args: list[str]) -> None:
    """What `explore` does: its page is there, and Ctrl-C ends it."""
    running = processes.start(
        processes.module_in, (str(place), args[2], [*args[3:], "--port", "0", "--no-open"]), place / "logs"
    )
    page = Server(running, port_of(running)).ask("GET", "/")
    running.kill(signal.SIGINT)
    finish(running)
    assert page[0] == 200


def program(place: Path, name: str, argv: list[str]) -> processes.Running:
    """Start `python -m NAME ARGV` in a folder, with few images behind what it measures."""
    if name == "trainer" and argv[0] == "experiments":
        return experiments.run(place, *argv[1:])
    return small_program(place, [name, *argv])


def run_in(place: Path, command: str) -> None:
    args = tiny(command)
    if "explore" in args:
        serve_in(place, args)
        return
    if args[:2] == ["python", "-m"]:
        finish(program(place, args[2], args[3:]))
        return
    if args[:2] == ["python", "-c"]:
        finish(processes.start(execute, (str(place), args[2]), place / "logs"))
        return
    if args[0] == "python" and args[1] not in SPREADS:
        finish(processes.start(script, (str(place), args[1], args[2:]), place / "logs"))
        return
    if args[0] in ("accelerate", "torchrun"):
        launch = launched(args, place)
        for rank in processes.ranks(launch.count, launch.module, launch.argv, place / "logs", place):
            finish(rank)
        return
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(args, cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "incomplete",
    [
        "python -m data_shards make dsprites --out data/sprites",
        "python -m data_shards make dsprites --out data/sprites --all --count 9",
        "python -m trainer generate runs/idgan --out images/idgan",
    ],
)
def test_a_tiny_setting_completes_no_command(incomplete: str, tmp_path: Path) -> None:
    """A page's command that is refused is refused here: what it must have is replaced, never added."""
    assert tiny(incomplete) == incomplete.split()
    package, *argv = incomplete.split()[2:]
    assert processes.command(package, argv, tmp_path).wait() == 2


def test_no_two_pages_write_different_images_into_one_folder() -> None:
    """`generate` refuses a folder of another command: who reads one page after the other would meet that."""
    written: dict[str, set[str]] = {}
    for page in PAGES:
        for command in commands(page):
            args = command.split()
            if "generate" in args and "--out" in args:
                written.setdefault(args[args.index("--out") + 1], set()).add(command)
    assert len(written) > 5
    assert {folder: said for folder, said in written.items() if len(said) > 1} == {}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_of_a_page_runs(page: Path, workplace: Path) -> None:
    """Takes more than ten seconds for pages of many commands, each of which really runs."""
    for command in commands(page):
        if command in SETUP:
            continue
        if command.startswith("make "):
            target = command.split()[1]
            done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"
            continue
        if command.startswith(("git clone", "sbatch ", "slurm/")):  # tests/cluster submits the job scripts
            continue
        run_in(workplace, command)


def shown_outputs(page: Path) -> Iterator[tuple[str, str]]:
    """The commands that a page shows as `$ command` with what they print, in blocks of their own."""
    for block in re.findall(r"```text\n(\$ .*?)```", page.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output.rstrip()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(shown_outputs(page))], ids=lambda p: p.name)
def test_a_command_prints_what_its_page_shows(page: Path, tmp_path: Path) -> None:
    """For commands whose output is the same on every machine: those of data_shards, and what is refused."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for command, output in shown_outputs(page):
        _, _, module, *args = shlex.split(command)
        if module != "data_shards" and not output.startswith("error: "):
            continue
        workers = ["--workers", "1"] if {"make", "check"} & set(args) else []
        running = processes.start(processes.module_in, (str(tmp_path), module, [*args, *workers]), tmp_path / "logs")
        assert running.wait() == (2 if output.startswith("error: ") else 0), running.err
        printed = [line for line in (running.out + running.err).splitlines() if "RuntimeWarning" not in line]
        assert without_hashes("\n".join(printed)) == without_hashes(output), (
            command
        )  # runpy warns that the fork server has imported the command before


def without_hashes(text: str) -> str:
    """The hash of a set covers its index, whose bytes depend on the version of Python."""
    return re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)


def commands_of(target: str) -> list[str]:
    """What `make TARGET` runs once the environment is there."""
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith(".venv/bin/python -m")]
    return [line.replace(".venv/bin/python", "python") for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "own_vae"), [("sprites", True), ("sprites", False), ("faces", False), ("growth", False)]
)
def test_every_command_of_the_demos_runs(
    name: demos.Name, own_vae: bool, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes more than ten seconds: up to eight commands, of which one draws pictures of every shipped model."""
    monkeypatch.chdir(workplace)
    target = "demo" if name == "sprites" else f"demo-{name}"
    ((_, _, package, command, started, *_),) = map(shlex.split, commands_of(target))
    assert (package, command, started) == ("trainer", "demo", name)
    chosen = demos.demo(name, own_vae)
    demo_run.copy_exports()
    for argv in demo_run.commands(chosen, [0.032] * len(chosen.trainings)):
        run_in(workplace, shlex.join(["python", "-m", *argv]))
    page = (workplace / chosen.page).read_text()
    words = ("Quality", "Traversals") if name == "growth" else ("Real images", "seconds here", "reached", "Settings")
    for word in words:
        assert word in page
    assert "What trained models make" in (workplace / demos.SHIPPED / "page" / "index.html").read_text()


def test_the_comparison_is_the_small_budget_of_an_experiment_and_its_table() -> None:
    """Which tests/trainer/experiments runs at a tiny budget."""
    asked = ["dsprites_family", "--budget", "small", "--only", "plain-*"]
    steps = [shlex.split(step)[2:] for step in commands_of("compare")]
    assert steps == [["trainer", "experiments", command, *asked] for command in ("run", "table")]


def test_without_a_gpu_its_checks_say_that_they_ran_nothing() -> None:
    """Neither a success nor part of `make test`. The code of the recipe itself stands in make's own words.

    Takes more than ten seconds: two interpreters import torch, and one collects tests.
    """
    make = ["make", "-o", ".venv/installed", "test-gpu"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(make, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    told, left = done.stderr.splitlines()
    assert re.fullmatch(r"Exit: tests/gpu ran nothing: torch \S+ finds no CUDA GPU on this machine", told)
    assert left.endswith("test-gpu] Error 2")
    others = [path for path in (ROOT / "tests").iterdir() if path.name not in ("gpu", "common", "conftest.py")]
    command = [sys.executable, "-m", "pytest", "--collect-only", *(f"--ignore={path}" for path in others)]
    listed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    collected = {name.split("/")[1] for name in re.findall(r"^tests/\S+::", listed, re.MULTILINE)}
    assert collected == {"common"}, "make test, of which all other folders are left out here"


def test_every_linked_file_and_heading_exists() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page: lower case, no punctuation, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_file_that_a_page_names_exists() -> None:
    """Files and folders in backticks, from the project's own folder on."""
    for page in PAGES:
        for name in re.findall(rf"`((?:{PLACES})/[\w./-]*)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.relative_to(ROOT)}: {name}"


def test_the_layout_table_names_what_is_there_and_every_room_of_the_packages() -> None:
    """A row without a name in its first column goes on with the folder above it."""
    named, folder = set(), Path()
    for first, rooms in re.findall(r"^\| (?:`([\w/]+)/`)? ?\| ([^|]*)\|.*\|$", README, re.MULTILINE):
        folder = Path(first) if first else folder
        named |= {folder} | {folder / room for room in re.findall(r"`(\w+)/`", rooms)}
    for path in named:
        assert (ROOT / path).is_dir(), path
    for package in ("common", "models", "data_shards", "trainer", "evaluation"):
        rooms = {path.relative_to(ROOT) for path in (ROOT / package).iterdir() if path.is_dir()}
        assert not {room for room in rooms if room.name != "__pycache__"} - named
