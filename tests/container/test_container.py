"""The two recipes of an image: the same steps, README's own, and nothing that an image must not hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text()
APPTAINER = (CONTAINER / "apptainer.def").read_text()


def section(name: str) -> list[str]:
    """The lines of a section of apptainer.def."""
    text = APPTAINER.split(f"%{name}\n")[1]
    return [line.strip() for line in re.split(r"^%", text, flags=re.MULTILINE)[0].splitlines() if line.strip()]


def test_both_run_the_same_steps() -> None:
    runs = re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)
    environment, *steps = section("post")
    assert steps == [run for run in runs if not run.startswith("useradd")]
    assert environment.removeprefix("export ") in DOCKERFILE.replace("ENV ", "")


def test_both_hold_the_same_files_of_the_project_and_no_data() -> None:
    copied = {
        f"{name} /opt/idgan" + (f"/{name}" if (ROOT / name).is_dir() else "")
        for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }
    files = {" ".join(line.split()) for line in section("files")}
    assert {line.split()[0] for line in files} == {line.split()[0] for line in copied}
    assert all(line.split()[1] == f"/opt/idgan/{line.split()[0]}" for line in files)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages | {"configs", "slurm", "pretrained", "pyproject.toml"} <= {line.split()[0] for line in copied}
    assert not {"data", "runs", "tests"} & {line.split()[0] for line in copied}


def test_they_install_as_the_readme_does() -> None:
    (install,) = re.findall(r"pip install -c .*$", DOCKERFILE, re.MULTILINE)
    assert f"\n{install}\n" in (ROOT / "README.md").read_text()


def test_docker_runs_it_as_a_user() -> None:
    (user,) = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert f"useradd --create-home --uid 1000 {user}" in DOCKERFILE
    assert DOCKERFILE.index("RUN useradd") < DOCKERFILE.index("USER ") < DOCKERFILE.index("CMD ")


def test_the_check_reads_the_steps_from_the_recipes() -> None:
    """Its two readers, run by themselves, give every step."""
    script = (CONTAINER / "check_in_fresh_root.sh").read_text()
    readers = "\n".join(re.findall(r"^(?:runs|post)\(\) .*$", script, re.MULTILINE))
    shown = subprocess.run(
        ["bash", "-c", f"{readers}\nruns; echo --; post"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    runs, post = (part.strip().splitlines() for part in shown.split("--\n"))
    assert runs == re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)
    assert post == section("post")
