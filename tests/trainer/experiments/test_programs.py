"""Why a job failed: what its program printed or left in exit.json, at the end of the command that ran it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from tests.trainer.experiments.test_experiments import TINY, listed
from trainer.experiments import commands, programs, runner
from trainer.experiments.programs import Failed
from trainer.jobs.exit_file import write_exit

Program = Callable[[str], None]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Write the program that `python -m small_program` is, in place of one of this project, which takes seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(source: str) -> None:
        (tmp_path / "small_program.py").write_text(f"import os, sys, time\nsay = sys.stderr.write\n{source}")

    return write


class Watched(io.StringIO):
    """A standard error that makes a file once it has a line."""

    def flush(self) -> None:
        if "working\n" in self.getvalue():
            Path("seen").touch()


def test_the_last_line_of_an_error_is_the_reason_and_all_lines_are_passed_on_at_once(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program goes on when its first line was seen, and ends otherwise after ten seconds."""
    program(
        "say('working\\n'); sys.stderr.flush()\n"
        "end = time.monotonic() + 10\n"
        "while not os.path.exists('seen') and time.monotonic() < end: time.sleep(0.01)\n"
        "say('error: first\\n' if os.path.exists('seen') else sys.exit(3))\n"
        "say(' 3 %\\r\\x1b[2Kerror: \u00e4 disk is full; make room\\n  - no error: at all\\n')\n"
        "sys.exit(2)"
    )
    err = Watched()
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(Failed, match=r"^\u00e4 disk is full; make room$"):
        programs.run_program(["small_program"])
    assert err.getvalue().endswith("\u00e4 disk is full; make room\n  - no error: at all\n")


def test_without_such_a_line_the_exit_code_is_the_reason(program: Program, capfd: pytest.CaptureFixture[str]) -> None:
    program("say('warning: error: no\\n'); sys.exit(5)")
    with pytest.raises(Failed, match=r"^exit code 5 of python -m small_program --fast$"):
        programs.run_program(["small_program", "--fast"])
    program("print('answer'); say('error: that it got over\\n')")
    assert programs.run_program(["small_program"]) == "answer\n"


def test_on_a_terminal_programs_have_one_and_its_lines_end_as_they_did(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("say(f'{sys.stderr.isatty()}\\n50 %\\rerror: no room'); sys.exit(2)")
    reader, end = os.openpty()
    with open(end, "w", newline="") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(Failed, match=r"^no room$"):
            programs.run_program(["small_program"])
        shown = os.read(reader, 1000).decode()
    os.close(reader)
    assert shown == "$ python -m small_program\r\nTrue\r\n50 %\rerror: no room", "the outer one adds each \\r once"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (None, "what it printed"),
        ((2, "data: is\n  - damaged"), "data: is\n  - damaged"),
        ((None, "running"), "what it printed"),
        ((0, "complete"), "what it printed"),
    ],
)
def test_exit_json_gives_the_reason_where_this_attempt_wrote_it(
    written: tuple[int | None, str] | None, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (job,) = listed(only="other")
    job.run.mkdir(parents=True)

    def train(argv: list[str]) -> str:
        if written is not None:
            write_exit(job.run, job.run, *written, command="python -m trainer")
        raise Failed("what it printed")

    monkeypatch.setattr(runner, "run_program", train)
    for older in ("of an older attempt", "data: is\n  - damaged"):
        write_exit(job.run, job.run, 2, older, "python -m trainer")
        assert runner.run_jobs([job], tmp_path / "results") == {"other": reason}


@pytest.mark.parametrize("element", [None, "0.2"])
def test_the_command_ends_with_each_failed_job_and_its_reason(
    element: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also as the element of a job array, which is one job."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))

    def fail(argv: list[str]) -> str:
        if argv[0] == "trainer":
            raise Failed(f"{argv[3]}: cannot be\n  - trained")
        return ""

    monkeypatch.setattr(runner, "run_program", fail)
    with pytest.raises(UserError) as error:
        commands.run("mine.yaml", element=element)
    reason = "  - other: run=runs/full/other: cannot be - trained"
    head, *lines = str(error.value).splitlines()
    assert head == f"{1 if element else 4} of {1 if element else 4} jobs failed; the same command runs them again:"
    assert reason in lines
    if element is None:
        assert lines[-1] == "  - gan: it needs vae, which failed"
